"""Training end to end, resuming, and the error of each kind of bad input."""

import json
import os
import shutil
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training import diffusion, loop
from ernie_vilg_jax.training.step import Setup
from ernie_vilg_jax.training.task import State
from ernie_vilg_jax.training.train import run
from tests.tiny_run import MakeConfig, train

pytestmark = pytest.mark.slow


def leaves(state: State) -> dict[str, np.ndarray]:
    state = {**state, "key": jax.random.key_data(state["key"])}
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def assert_equal(a: State, b: State) -> None:
    a, b = leaves(a), leaves(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def start_from(whole_run: Path, workdir: Path, *targets: str) -> Path:
    for target in targets:
        shutil.copytree(whole_run / target, workdir / target)
    return workdir


def metrics(folder: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


def test_losses_fall_and_everything_is_written(whole_run: Path) -> None:
    autoencoder = metrics(whole_run / "autoencoder", "train/loss")
    assert autoencoder[8] < autoencoder[2]
    for target in ("base", "experts"):
        folder = whole_run / target
        assert list(metrics(folder, "validation/loss_stage_01")) == [8]
        assert metrics(folder, "images_per_second")[8] > 0
        assert (folder / "previews" / "00000008.png").is_file()
        assert any((folder / "tensorboard").iterdir())
        assert sorted(int(path.name) for path in (folder / "checkpoints").iterdir()) == [4, 8]
    assert set(metrics(whole_run / "experts", "train/loss_expert_01")) == {2, 4, 6, 8}


@pytest.mark.parametrize("target", [pytest.param("base", marks=pytest.mark.hosts), "experts"])
def test_4_steps_are_2_and_restore_and_2(target: str, make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    """Parameters, optimizer, EMA, randomness and position in the data: bit for bit."""
    before = ("autoencoder",) if target == "base" else ("autoencoder", "base")
    changes = {"train.checkpoint_every": 2, "train.preview_every": 0, f"phases.{target}.accumulation_steps": 2}
    config = make_config(target, **changes, **{f"phases.{target}.steps": 4})
    workdir = start_from(whole_run, tmp_path / "run", *before)
    at_once = train(config, workdir)
    loss = metrics(workdir / target, "train/loss")[4]
    checkpoints = workdir / target / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["2", "4"]
    shutil.rmtree(checkpoints / "4")
    (workdir / target / "metrics.jsonl").unlink()
    resumed = train(config, workdir)
    assert int(resumed["step"]) == 4
    assert_equal(at_once, resumed)
    assert metrics(workdir / target, "train/loss") == {4: loss}, "step 3 was the first"


def test_experts_begin_as_the_stage_1_average(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    with pytest.raises(loop.Stopped):
        stop_at(workdir, make_config("experts"), steps=1)
    base = read_expert(workdir / "base", "expert_00")["ema"]
    rate = 1.1 * make_config("experts").phases.experts.learning_rate  # one AdamW step moves a number by about the rate
    for name in ("expert_00", "expert_01"):
        expert = read_expert(workdir / "experts", name)["params"]
        for start, now in zip(jax.tree.leaves(base), jax.tree.leaves(expert), strict=True):
            assert np.abs(start - now).max() <= rate


def test_one_stage_1_branches_into_any_number_of_experts(
    make_config: MakeConfig, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    four = {"experts.n": 4, "experts.stages": "3,50,600", "phases.experts.steps": 1}

    step = diffusion.train_step

    def traced(setup: Setup, state: State, batch: dict[str, jax.Array]) -> tuple[State, dict[str, jax.Array]]:
        """A step that changes nothing: to compile one of four experts takes longer than all the rest."""
        after, metrics = jax.eval_shape(partial(step, setup), state, batch)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        return {**state, "step": state["step"] + 1}, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), metrics)

    monkeypatch.setattr(diffusion, "train_step", traced)
    state = train(make_config("experts", **four), workdir)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state["experts"])} == {4}
    with pytest.raises(UserError, match=r"of another config: experts.n \(4 in the checkpoint, 2 now\)"):
        train(make_config("experts"), workdir)


def test_training_one_expert_changes_no_other(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    """Experts trained alone equal those trained together on the same samples: they are independent."""
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    state = train(make_config("experts", **{"experts.train": (1,), "phases.experts.steps": 3}), workdir)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state["experts"]["params"])} == {1}
    saved = checkpointing.find(workdir / "experts")
    assert [name for name in checkpointing.item_names(saved) if name.startswith("expert")] == ["expert_01"]
    text = read_item(workdir / "base", "text_encoder")["ema"]
    for a, b in zip(jax.tree.leaves(text), jax.tree.leaves(state["text_encoder"]["ema"]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_expert_gets_no_gradient_from_anothers_timesteps(
    make_config: MakeConfig, whole_run: Path, tmp_path: Path
) -> None:
    """Corrupt the samples of expert 0 (the first half of the batch): expert 1 must be the same to the last bit."""
    ends = []
    for spoil in (False, True):
        workdir = start_from(whole_run, tmp_path / str(spoil), "autoencoder", "base")
        config = make_config("experts", **{"phases.experts.steps": 2})
        ends.append(run_with_batches(config, workdir, spoil))
    first, second = ends
    for name, index, equal in (("expert 0", 0, False), ("expert 1", 1, True)):
        same = [
            np.array_equal(np.asarray(a)[index], np.asarray(b)[index])
            for a, b in zip(
                jax.tree.leaves(first["experts"]["params"]), jax.tree.leaves(second["experts"]["params"]), strict=True
            )
        ]
        assert all(same) == equal, name


def test_sigterm_saves_and_the_same_command_resumes(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder")
    config = make_config("base", **{"phases.base.steps": 6, "train.checkpoint_every": 0})
    with pytest.raises(loop.Stopped, match="saved step 2"):
        stop_at(workdir, config, steps=2)
    assert int(train(config, workdir)["step"]) == 6


def test_non_finite_loss_names_step_and_records(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder")
    with pytest.raises(loop.NonFinite, match=r"the loss of step 3 is not finite, in 1 records: scenes/\S+;"):
        run_with_batches(make_config("base"), workdir, poison=3)
    assert not list((workdir / "base" / "checkpoints").glob("[0-9]*")), "nothing may be saved after it"


def test_damaged_checkpoint_is_never_a_silent_restart(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    expert = workdir / "base/checkpoints/8/expert_00"
    files = [file for file in expert.rglob("*") if file.is_file() and file.stat().st_size > 2000]
    assert files
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"checkpoint .*base/checkpoints/8 cannot be read .*: it is damaged"):
        train(make_config("base", **{"phases.base.steps": 12}), workdir)
    assert sorted(path.name for path in (workdir / "base/checkpoints").iterdir()) == ["4", "8"]


@pytest.mark.parametrize("item", ["_CHECKPOINT_METADATA", "train", "tokenizer"])
def test_incomplete_checkpoint_is_named(item: str, make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    target = workdir / "base/checkpoints/8" / item
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    with pytest.raises(UserError, match=r"checkpoint .*base/checkpoints/8 "):
        train(make_config("base", **{"phases.base.steps": 12}), workdir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.unet.base_channels": 16}, r"another config: model.unet.base_channels \(8 in the checkpoint, 16 now"),
        ({"diffusion.beta_end": 0.03}, r"another config: diffusion.beta_end \(0.02 in the checkpoint, 0.03 now\)"),
    ],
)
def test_checkpoint_of_another_config(
    changes: dict[str, Any], message: str, make_config: MakeConfig, whole_run: Path, tmp_path: Path
) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    with pytest.raises(UserError, match=message):
        train(make_config("base", **{"phases.base.steps": 12}, **changes), workdir)


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ("base", {}, "base starts from a trained autoencoder, but .* holds no checkpoint"),
        ("experts", {}, "experts starts from a trained base"),
        ("autoencoder", {"data.path": "/nowhere"}, "/nowhere"),
        ("autoencoder", {"model.image_size": 18}, "multiple of 4"),
        ("autoencoder", {"mesh.data": 3}, "needs 3 devices, but there are 1; the nearest that fits: expert=1, data=1"),
    ],
)
def test_failed_starts_are_explained(
    target: str, changes: dict[str, Any], message: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train(make_config(target, **changes), tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts.train": (0, 5)}, r"--config.experts.train=\(0, 5\) must name different stages in \[0, 2\)"),
        ({"phases.experts.batch_size": 9}, "must be a multiple of 2"),
        ({"experts.stages": "0"}, "boundar|stage"),
        ({"experts.stages": "half"}, "half"),
    ],
)
def test_impossible_experts(
    changes: dict[str, Any], message: str, make_config: MakeConfig, whole_run: Path, tmp_path: Path
) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    with pytest.raises(UserError, match=message):
        train(make_config("experts", **changes), workdir)


def test_cached_latents_train_like_encoding_each_batch(
    make_config: MakeConfig, whole_run: Path, tmp_path: Path
) -> None:
    losses = []
    for cached in (False, True):
        workdir = start_from(whole_run, tmp_path / str(cached), "autoencoder")
        train(make_config("base", **{"data.cache_latents": cached, "phases.base.steps": 4}), workdir)
        losses.append(metrics(workdir / "base", "train/loss"))
    for step in (2, 4):
        assert losses[0][step] == pytest.approx(losses[1][step], rel=1e-4)


@pytest.mark.parametrize("target", ["autoencoder", pytest.param("experts", marks=pytest.mark.hosts)])
def test_eight_devices_train_like_one(target: str, make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    """Data and FSDP axes: the same losses as on a single device (of experts on other meshes: test_meshes.py)."""
    losses = []
    for name, mesh in (("one", {}), ("eight", {"mesh.data": 2, "mesh.fsdp": 4})):
        workdir = start_from(whole_run, tmp_path / name, *(("autoencoder", "base") if target == "experts" else ()))
        changes = {f"phases.{target}.steps": 4, f"phases.{target}.batch_size": 16, "train.preview_every": 0}
        config = make_config(target, **mesh, **changes)
        run(config, workdir, jax.devices()[:1] if name == "one" else None)
        losses.append(metrics(workdir / target, "train/loss"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def read_item(folder: Path, item: str) -> Any:
    from orbax.checkpoint import v1 as ocp

    return ocp.load(str(checkpointing.find(folder).absolute()), checkpointable_name=item)


def read_expert(folder: Path, item: str) -> Any:
    return jax.tree.map(np.asarray, read_item(folder, item))


def stop_at(workdir: Path, config: Any, steps: int) -> None:
    """Runs, and sends this process SIGTERM once `steps` steps are done."""
    original, done = loop._checked, []

    def checked(step: int, *args: Any) -> dict[str, float]:
        if step + 1 >= steps and not done:
            done.append(step)
            os.kill(os.getpid(), signal.SIGTERM)
        return original(step, *args)

    assert threading.current_thread() is threading.main_thread()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_checked", checked)
        if steps == 1:  # before anything was checked
            original_to = loop.to_devices
            stopping = lambda *args: (os.kill(os.getpid(), signal.SIGTERM), original_to(*args))[1]  # noqa: E731
            patch.setattr(loop, "to_devices", stopping)
        train(config, workdir)


def run_with_batches(config: Any, workdir: Path, spoil: bool = False, poison: int = 0) -> State:
    """Runs with batches changed before the devices: images, or with `poison` the latents of that step."""
    original, steps = loop.to_devices, [0]

    def changed(batch: dict[str, np.ndarray], *where: Any) -> Any:
        steps[0] += 1
        if spoil:
            half = len(batch["image"]) // 2
            batch = {**batch, "image": np.concatenate([255 - batch["image"][:half], batch["image"][half:]])}
        if steps[0] == poison:
            batch["mean"][2] = np.nan
        return original(batch, *where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "to_devices", changed)
        config.data.cache_latents = bool(poison)
        return train(config, workdir)

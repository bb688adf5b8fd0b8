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
from etils import epath

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.checkpointing.items import read_raw
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.training import diffusion, loop
from ernie_vilg_jax.training.step import Setup
from ernie_vilg_jax.training.task import State
from ernie_vilg_jax.training.train import run
from tests.tiny_run import MakeConfig, train

pytestmark = pytest.mark.slow


def leaves(tree: Any) -> dict[str, np.ndarray]:
    return {jax.tree_util.keystr(path): numbers(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def numbers(leaf: Any) -> np.ndarray:
    key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if key else leaf)


def assert_equal(a: Any, b: Any) -> None:
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
    assert (whole_run / "autoencoder" / "previews" / "00000008.png").is_file()
    assert set(metrics(whole_run / "experts", "train/loss_expert_01")) == {2, 4, 6, 8}


def test_8_steps_are_4_and_restore_and_4(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    """Parameters, optimizer, EMA, randomness and position in the data: bit for bit. (Of the base: test_resume.py.)"""
    workdir = start_from(whole_run, tmp_path, "experts")
    shutil.rmtree(workdir / "experts/checkpoints/8")
    (workdir / "experts/metrics.jsonl").unlink()
    train(make_config("experts"), workdir)
    at_once, resumed = (epath.Path(run / "experts/checkpoints/8") for run in (whole_run, workdir))
    names = checkpointing.item_names(at_once)
    assert {"train", "text_encoder", "expert_00", "expert_01"} <= set(names) == set(checkpointing.item_names(resumed))
    for name in names:
        assert_equal(*(read_raw(path, name) for path in (at_once, resumed)))
    losses = metrics(whole_run / "experts", "train/loss")
    assert metrics(workdir / "experts", "train/loss") == {step: losses[step] for step in (6, 8)}, "step 5 was the first"


def test_experts_begin_as_the_stage_1_average(make_config: MakeConfig, whole_run: Path, tmp_path: Path) -> None:
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    with pytest.raises(loop.Stopped):
        stop_at(workdir, make_config("experts"), steps=1)
    base = read(workdir / "base", "expert_00")["ema"]
    rate = 1.1 * make_config("experts").phases.experts.learning_rate  # one AdamW step moves a number by about the rate
    for name in ("expert_00", "expert_01"):
        expert = read(workdir / "experts", name)["params"]
        for start, now in zip(jax.tree.leaves(base), jax.tree.leaves(expert), strict=True):
            assert np.abs(start - now).max() <= rate


@pytest.mark.proofs
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
    state = train(make_config("experts", **four), workdir, own_programs=True)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state["experts"])} == {4}
    with pytest.raises(UserError, match=r"of another config: experts.n \(4 in the checkpoint, 2 now\)"):
        train(make_config("experts"), workdir)


def test_an_expert_gets_no_gradient_from_anothers_timesteps(
    make_config: MakeConfig, whole_run: Path, tmp_path: Path
) -> None:
    """Corrupt the samples of expert 0 (the first half of the batch): expert 1 must be the same to the last bit."""
    workdir = start_from(whole_run, tmp_path, "autoencoder", "base")
    spoiled = run_with_batches(make_config("experts", **{"phases.experts.steps": 4}), workdir, spoil=True)["experts"]
    for index, equal in enumerate((False, True)):
        path = epath.Path(whole_run / "experts/checkpoints/4")
        trained = checkpointing.read_whole(path, f"expert_{index:02d}")["params"]
        same = jax.tree.map(lambda a, b, index=index: np.array_equal(a[index], b), spoiled["params"], trained)
        assert all(jax.tree.leaves(same)) == equal, f"expert {index}"


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
    workdir = start_from(whole_run, tmp_path, "autoencoder")
    train(make_config("base", **{"data.cache_latents": True, "phases.base.steps": 4}), workdir)
    encoded = metrics(whole_run / "base", "train/loss")
    assert metrics(workdir / "base", "train/loss") == pytest.approx({step: encoded[step] for step in (2, 4)}, rel=1e-4)


@pytest.mark.parametrize(
    ("target", "mesh"),
    [
        pytest.param("autoencoder", {"mesh.data": 2, "mesh.fsdp": 2}, marks=pytest.mark.proofs),
        pytest.param("experts", {"mesh.expert": 2, "mesh.data": 1, "mesh.fsdp": 2}, marks=pytest.mark.hosts),
    ],
)
def test_four_devices_train_like_one(
    target: str, mesh: dict[str, int], make_config: MakeConfig, whole_run: Path, tmp_path: Path
) -> None:
    """The same losses as on a single device (of experts on other meshes: test_meshes.py)."""
    workdir = start_from(whole_run, tmp_path, *(("autoencoder", "base") if target == "experts" else ()))
    run(make_config(target, **mesh, **{f"phases.{target}.steps": 4}), workdir, jax.devices()[:4])
    one = metrics(whole_run / target, "train/loss")
    assert metrics(workdir / target, "train/loss") == pytest.approx({step: one[step] for step in (2, 4)}, rel=1e-4)


def read(folder: Path, item: str) -> Any:
    return checkpointing.read_whole(checkpointing.find(folder), item)


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

"""The states of other optimizers, half-precision averages and the guard: over meshes, in checkpoints, resumed."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.training import optimizer
from tests.tiny_run import MakeConfig, train
from tests.training.test_meshes import a_batch, losses, mesh_of, task_on, tiny

pytestmark = [pytest.mark.slow, pytest.mark.hosts]  # minutes of compilation
KINDS: dict[str, dict[str, Any]] = {
    "adafactor": {"optimizer.name": "adafactor"},
    "muon": {"optimizer.name": "muon", "optimizer.spike_factor": 3.0, "optimizer.ema_dtype": "bfloat16"},
}
MESH = {"expert": 2, "data": 2, "fsdp": 2}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds that a tiny model reaches."""
    monkeypatch.setattr(optimizer, "FACTOR_FROM", 8)
    monkeypatch.setattr(optimizer, "WATCH_AFTER", 2)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_cut_over_a_mesh_and_steps_are_those_of_one_device(kind: str) -> None:
    config = tiny(**KINDS[kind])
    mesh = mesh_of(MESH)
    task = task_on(mesh, config)
    for leaf, sharding in zip(
        jax.tree.leaves(task.abstract["experts"]["opt"]),
        jax.tree.leaves(task.shardings["experts"]["opt"]),
        strict=True,
    ):
        assert leaf.shape[0] == 2 and sharding.spec[0] == "expert", "each group of devices has its own experts'"
        if leaf.ndim == 5 and leaf.shape[-2] % 2 == 0 and kind != "adafactor":
            assert "fsdp" in sharding.spec, leaf.shape
    expected = losses(mesh_of({"data": 1}), config)
    assert np.abs(expected[2].mean() - expected[0].mean()) > 1e-3, "the steps must change something"
    np.testing.assert_allclose(losses(mesh, config), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_four_steps_are_two_a_restore_and_two_more(
    kind: str, whole_run: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    def go(workdir: str, phase: str, steps: int) -> Any:
        never = {f"train.{what}_every": 0 for what in ("preview", "validate", "checkpoint")}
        return train(make_config(phase, **{f"phases.{phase}.steps": steps}, **never, **KINDS[kind]), tmp_path / workdir)

    for workdir in ("whole", "parts"):
        shutil.copytree(whole_run / "autoencoder", tmp_path / workdir / "autoencoder")
    go("parts", "base", 2)
    whole, parts = go("whole", "base", 4), go("parts", "base", 4)
    jax.tree.map(np.testing.assert_array_equal, *map(numbers, (whole, parts)))
    lines = (tmp_path / "parts/base/metrics.jsonl").read_text().splitlines()
    row = [row for line in lines if "train/loss" in (row := json.loads(line))][-1]
    assert ("train/skipped_updates" in row) == (kind == "muon")
    if kind == "muon":
        # Averages in half precision become parameters in float32.
        experts = go("parts", "experts", 1)["experts"]
        dtypes = {name: experts[name]["conv_in"]["kernel"].dtype for name in ("params", "ema")}
        assert dtypes == {"params": jnp.float32, "ema": jnp.bfloat16}


def numbers(state: Any) -> Any:
    return jax.tree.map(
        lambda leaf: np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf),
        state,
    )


def test_a_spike_of_one_expert_is_skipped_in_the_step() -> None:
    """The third step's targets, v, are a thousand times as large: no parameter moves, and the next steps continue."""
    fields = {"optimizer.spike_factor": 3.0, "optimizer.clip_norm": 0.0, "diffusion.prediction_type": "v"}
    mesh, config = mesh_of({"data": 1}), tiny(**fields)
    with jax.set_mesh(mesh):
        task = task_on(mesh, config)
        state, batch = task.init(jax.random.key(0)), a_batch(config, mesh)
        spike = {**batch, "mean": 1000 * batch["mean"]}
        counts, moved = [], []
        for step, given in enumerate((batch, batch, batch, spike, batch)):
            before = np.asarray(state["experts"]["params"]["conv_in"]["kernel"])
            state, metrics = task.train_step(state, given)
            counts.append(int(metrics["skipped_updates"]))
            moved.append(bool(np.any(before != np.asarray(state["experts"]["params"]["conv_in"]["kernel"]))))
            assert int(state["step"]) == step + 1
    assert counts[:3] == [0, 0, 0] and counts[3] == counts[4] >= 2
    assert moved == [True, True, True, False, True]

"""The trace of some steps, and metrics other than the loss."""

import json
import logging
from pathlib import Path

import jax
import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sharding import processes
from ernie_vilg_jax.training import flops, metrics
from ernie_vilg_jax.training.profile import parse_window
from tests.tiny_run import MakeConfig, train


@pytest.mark.parametrize("text", ["", "100", "100:", ":5", "5:5", "9:3", "-1:5", "1:5:9", "a:b", "1.5:3", "²:³"])
def test_a_window_is_two_numbers(text: str) -> None:
    with pytest.raises(UserError, match=r"--profile_steps=.* must be two numbers of steps, the lower first"):
        parse_window(text)
    assert parse_window("100:105") == (100, 105)


@pytest.mark.slow
@pytest.mark.proofs
def test_steps_are_traced_and_measured(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(flops.PEAK_FLOPS, "cpu", 1e12)
    changes = {"phases.autoencoder.steps": 6, "train.log_every": 2, "train.preview_every": 0, "train.validate_every": 0}
    config = make_config("autoencoder", **changes, **{"phases.autoencoder.warmup_steps": 4})
    train(config, tmp_path, profile_steps="2:4")
    folder = tmp_path / "autoencoder" / "profile"
    assert [file.suffixes[-2:] for file in folder.rglob("*.xplane.pb")] == [[".xplane", ".pb"]]
    rows = {}
    for line in (tmp_path / "autoencoder/metrics.jsonl").read_text().splitlines():
        rows.setdefault(json.loads(line)["step"], {}).update(json.loads(line))
    rate = config.phases.autoencoder.learning_rate
    np.testing.assert_allclose([rows[s]["train/learning_rate"] for s in (2, 4, 6)], [rate / 2, rate, rate], rtol=1e-5)
    assert all(0 < row["train/update_ratio"] < 1 for row in rows.values())
    for row in rows.values():
        assert row["mfu"] == pytest.approx(row["tflop_per_second"] / jax.device_count())
        assert row["hfu"] == pytest.approx(row["mfu"]), "nothing is computed twice"
        assert 0 <= row["data_seconds"] <= row["step_seconds"]
    with caplog.at_level(logging.WARNING, "absl"):
        config.phases.autoencoder.steps = 7
        train(config, tmp_path, profile_steps="2:4")
    assert "--profile_steps=2:4: nothing is traced, this run goes from step 6 to 7" in caplog.text


def test_processes_exchange_their_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the others are invented; the exchange is tested with several processes elsewhere."""
    monkeypatch.setattr(processes, "count", lambda: 3)
    others = np.array([[2.0, 0.5], [4.0, 0.1]], np.float32)
    gather = lambda mine: np.stack([np.asarray(mine), *others])  # noqa: E731
    monkeypatch.setattr(metrics.multihost_utils, "process_allgather", gather)
    meter = object.__new__(metrics.Meter)
    meter.read = 2.0
    times = meter._times(3.0, 10)
    assert times == pytest.approx({"step_seconds": 3.0, "data_seconds": 0.5, "step_seconds_spread": 2.0})

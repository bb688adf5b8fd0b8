"""The best checkpoint by a metric is kept, found as RUN/best, and noted again only when it is beaten."""

import json
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from ernie_vilg_jax import checkpointing
from ernie_vilg_jax.checkpointing.best import Best
from ernie_vilg_jax.errors import UserError


def save(folder: Path, values: dict[int, float], keep: int = 1, lower: bool = True) -> list[int]:
    """Saves a checkpoint for each step and tells its loss; returns the steps that are there in the end."""
    saved = checkpointing.Checkpoints(epath.Path(folder), keep, metric="loss", lower=lower)
    for step, value in values.items():
        saved.save(step, {"train": {"step": np.array(step)}}, {"phase": "base"})
        saved.wait()
        saved.best.consider(step, {"loss": value})
    saved.close()
    return checkpointing.steps(epath.Path(folder))


@pytest.mark.parametrize(
    ("values", "lower", "kept"),
    [
        ({1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5}, True, [2, 4]),
        ({1: 3.0, 2: 1.0, 3: 2.0, 4: 2.5}, False, [1, 4]),
        ({1: 3.0, 2: 2.0, 3: 1.0}, True, [3]),
        ({1: 1.0, 2: float("nan"), 3: 1.0}, True, [1, 3]),  # a NaN is never the best, and a tie does not beat
    ],
)
def test_the_best_and_the_newest_are_kept(
    tmp_path: Path, values: dict[int, float], lower: bool, kept: list[int]
) -> None:
    folder = tmp_path / "base" / "checkpoints"
    # The one that was best until the last save goes with the next one.
    assert set(kept) <= set(save(folder, values, lower=lower))
    best = checkpointing.find(tmp_path / "best")
    assert int(best.name) == kept[0]
    assert checkpointing.find(tmp_path / "base" / "best") == best
    assert int(checkpointing.find(tmp_path / "base").name) == kept[-1]


def test_a_resumed_run_remembers_its_best(tmp_path: Path) -> None:
    save(tmp_path / "checkpoints", {1: 1.0, 2: 2.0})
    assert save(tmp_path / "checkpoints", {3: 1.5, 4: 1.7}) == [1, 4]
    assert checkpointing.find(tmp_path / "best").name == "1"


def test_a_best_that_is_gone_or_of_another_metric_is_forgotten(tmp_path: Path) -> None:
    folder = epath.Path(tmp_path / "checkpoints")
    save(tmp_path / "checkpoints", {1: 1.0, 2: 2.0})
    assert Best(folder, "alignment", lower=False).step is None
    (folder / "1").rmtree()
    assert Best(folder, "loss").step is None
    with pytest.raises(UserError, match="no best checkpoint is noted there"):
        checkpointing.find(tmp_path / "best")


@pytest.mark.parametrize("note", ["", "[]", '{"step": "x"}', '{"step": 1}'])
def test_a_damaged_note_is_no_note(tmp_path: Path, note: str) -> None:
    save(tmp_path / "checkpoints", {1: 1.0})
    (tmp_path / "checkpoints" / "best.json").write_text(note)
    assert Best(epath.Path(tmp_path / "checkpoints"), "loss").step is None
    with pytest.raises(UserError, match="no best checkpoint"):
        checkpointing.find(tmp_path / "best")


def test_a_run_that_is_killed_while_it_notes_its_best_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "checkpoints", {1: 2.0})
    best = Best(epath.Path(tmp_path / "checkpoints"), "loss")
    write = type(epath.Path(tmp_path)).write_text

    def half(self: epath.Path, data: str, *arguments: object) -> int:
        write(self, data[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(type(epath.Path(tmp_path)), "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        best.consider(1, {"loss": 1.0})
    assert Best(epath.Path(tmp_path / "checkpoints"), "loss").value == 2.0


def test_a_metric_that_is_not_measured_is_told(tmp_path: Path) -> None:
    best = Best(epath.Path(tmp_path), "fid")
    with pytest.raises(UserError, match="keep_best=fid is not measured: choose from loss, loss_stage_00"):
        best.consider(1, {"loss": 1.0, "loss_stage_00": 2.0})


def test_without_a_metric_nothing_is_noted(tmp_path: Path) -> None:
    Best(epath.Path(tmp_path)).consider(1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_only_one_process_writes_the_note(tmp_path: Path) -> None:
    other = Best(epath.Path(tmp_path), "loss", writes=False)
    other.consider(1, {"loss": 1.0})
    assert (other.step, list(tmp_path.iterdir())) == (1, [])
    Best(epath.Path(tmp_path), "loss").consider(1, {"loss": 1.0})
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 1

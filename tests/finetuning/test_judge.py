"""What counts as better, when to stop, and what is said."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.finetuning import judge
from ernie_vilg_jax.finetuning.judge import KEEP, PATIENCE, Judge, compared, is_enough, read_note, warn
from ernie_vilg_jax.pipeline.prompts import Prompt

BEFORE = {"seen": 0.2, "held_out": 0.4, "old": 0.1, "alignment": 0.8}


def test_the_gain_is_the_mean_share_by_which_the_losses_fell() -> None:
    values = compared({"seen": 0.1, "held_out": 0.3, "old": 0.1, "alignment": 0.8}, BEFORE)
    assert (
        values["gain"] == pytest.approx((0.5 + 0.25) / 2) and values["kept"] == 1 and values["score"] == values["gain"]
    )
    assert compared({"seen": 0.1}, BEFORE)["gain"] == 0.5  # nothing is held out


def test_a_model_that_forgets_is_worse_than_any_that_does_not() -> None:
    good = compared({"seen": 0.199, "held_out": 0.4, "alignment": 0.8 * KEEP}, BEFORE)
    bad = compared({"seen": 0.01, "held_out": 0.01, "alignment": 0.8 * KEEP - 0.01}, BEFORE)
    worse = compared({"seen": 0.01, "held_out": 0.01, "alignment": 0.4}, BEFORE)
    assert good["score"] > 0 > bad["score"] > worse["score"]


def test_without_a_measure_of_images_the_loss_on_old_examples_decides() -> None:
    assert compared({"seen": 0.2, "old": 0.125}, BEFORE | {"alignment": 0.0})["kept"] == pytest.approx(0.8)
    # Images that showed nothing of their prompts before cannot show what is lost.
    hopeless = BEFORE | {"alignment": judge.MEANINGFUL / 2}
    assert compared({"seen": 0.2, "old": 0.125, "alignment": 0.0}, hopeless)["kept"] == pytest.approx(0.8)
    assert "kept" not in compared({"seen": 0.2}, BEFORE)


@pytest.mark.parametrize(
    ("scores", "enough"),
    [
        ([0.1] * PATIENCE, False),
        ([0.1, *[0.1] * PATIENCE], True),
        ([0.1, *[0.0] * (PATIENCE - 1), 0.11], False),
        ([0.3, 0.4, *[0.2] * PATIENCE], True),
        ([0.4, 0.3, *[0.35] * (PATIENCE - 1)], True),
        ([-0.5 + 0.01 * step for step in range(3 * PATIENCE)], False),
        ([], False),
    ],
)
def test_it_is_enough_when_nothing_gets_better(scores: list[float], enough: bool) -> None:
    seen = {0: dict(BEFORE)} | {10 * step: {"score": score} for step, score in enumerate(scores, 1)}
    assert is_enough(seen) is enough


def test_getting_worse_is_told(caplog: pytest.LogCaptureFixture) -> None:
    seen = {0: dict(BEFORE), 10: {"held_out": 0.3}}
    with caplog.at_level(logging.WARNING):
        warn(20, {"held_out": 0.3, "kept": 0.96}, seen)
        assert not caplog.messages
        warn(20, {"held_out": 0.32, "kept": 0.9}, seen)
    forgets, by_heart = caplog.messages
    assert "keeps 90% of what it could do before, less than 95%" in forgets and "--old_share" in forgets
    assert "held-out images of yours rises (0.3200, it was 0.3000)" in by_heart


class Task:
    """Losses that are the state; images whose brightness is."""

    makes_images = True

    def losses(self, state: Any, images: str) -> dict[str, float]:
        return {"loss": 77.0, "loss_stage_00": 4 * state[images], "loss_stage_01": state[images] / 4}

    def images(self, state: Any, words: Any) -> np.ndarray:
        return np.full((len(words[0]), 2, 2, 3), state["brightness"], np.uint8)


def make(folder: Path) -> Judge:
    """A judge without data, as it stands after its construction."""
    found = Judge.__new__(Judge)
    found.folder, found.seen = folder, read_note(folder)
    found._sets = {name: name for name in ("seen", "held_out", "old")}
    found._prompts = (Prompt("1", "a cat", "en"),)
    found._words = np.zeros((1, 2), np.int32), np.ones((1, 2), bool)
    found._scorer = lambda images, prompts: np.array([np.mean(image) / 255 for image in images])  # type: ignore[assignment]
    return found


def test_a_training_that_resumes_goes_on_with_the_measures_of_the_start(tmp_path: Path) -> None:
    start = {"seen": 0.2, "held_out": 0.2, "old": 0.1, "brightness": 255}
    first = make(tmp_path)
    first.begin(Task(), start, 0)
    assert first.seen[0]["seen"] == pytest.approx(0.2)
    scores = first(Task(), {**start, "seen": 0.1}, 10)
    first(Task(), {**start, "seen": 0.05}, 20)
    assert scores["gain"] == pytest.approx(0.25) and scores["alignment"] == 1 and scores["kept"] == 1
    second = make(tmp_path)  # killed at 25, it resumes from 10
    second.begin(Task(), {**start, "seen": 0.1}, 10)
    assert list(second.seen) == [0, 10]
    assert second(Task(), {**start, "brightness": 51}, 20)["kept"] == pytest.approx(0.2)
    assert read_note(tmp_path) == second.seen


def test_without_the_measures_of_the_start_it_does_not_resume(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"judged\.json is missing"):
        make(tmp_path).begin(Task(), {"seen": 0.1}, 10)

"""Images of many prompts: the same ones whatever was there before, and never mixed with those of other settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from etils import epath
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation import making
from ernie_vilg_jax.evaluation.making import Subject
from ernie_vilg_jax.pipeline import Pipeline
from ernie_vilg_jax.pipeline.from_checkpoint import DEMO
from ernie_vilg_jax.pipeline.prompts import Prompt
from ernie_vilg_jax.sharding import processes

PROMPTS = [Prompt(f"p{number}", text, "zh") for number, text in enumerate(["红色的圆形", "蓝色的方形", "绿色的三角形"])]
OPTIONS: dict[str, Any] = {"steps": 2}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, pipe: Pipeline) -> list[int]:
    """The seeds of the calls of the pipeline, each of up to four images."""
    monkeypatch.setattr(making, "BATCH", 4)
    seen: list[int] = []
    make = Pipeline.__call__

    def noting(self: Pipeline, prompts: Any, **options: Any) -> Any:
        seen.append(options["seed"])
        return make(self, prompts, **options)

    monkeypatch.setattr(Pipeline, "__call__", noting)
    return seen


@pytest.fixture
def subject(pipe: Pipeline) -> Subject:
    return Subject("random", epath.Path(DEMO), lambda: pipe, "abc")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: np.asarray(Image.open(file)).tobytes() for file in sorted(folder.glob("*.png"))}


def test_images_are_named_after_ids_and_an_interrupted_call_goes_on(
    subject: Subject, calls: list[int], tmp_path: Path
) -> None:
    made = subject.make(PROMPTS, tmp_path, OPTIONS, each=3, seed=5)
    assert [file.name for file in made.images.files] == [f"p{n}_{k}.png" for n in range(3) for k in range(3)]  # type: ignore[attr-defined]
    assert made.own.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert calls == [5, 6, 7]
    before = contents(tmp_path)
    assert len(set(before.values())) == 9
    for name in ("p1_2.png", "p2_2.png"):
        (tmp_path / name).unlink()
    subject.make(PROMPTS, tmp_path, OPTIONS, each=3, seed=5)
    assert contents(tmp_path) == before
    assert calls == [5, 6, 7, 6, 7]
    subject.make(PROMPTS, tmp_path, OPTIONS, each=3, seed=5)
    assert len(calls) == 5


def test_processes_share_the_calls_and_make_the_same_images(
    subject: Subject, calls: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject.make(PROMPTS, tmp_path / "one", OPTIONS, each=3)
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "wait_for_all", lambda _: None)
    for number in (0, 1):
        calls.clear()
        monkeypatch.setattr(processes, "index", lambda number=number: number)
        subject.make(PROMPTS, tmp_path / "two", OPTIONS, each=3)
        assert calls == [[0, 2], [1]][number]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 1}, "seed was 0 and is 1 now"),
        ({"each": 2}, "num_images was 1 and is 2 now"),
        ({"options": {"steps": 3}}, "steps was 2 and is 3 now"),
        ({"options": {"steps": 2, "guidance_rescale": 0.7}}, "guidance_rescale was None and is 0.7 now"),
        ({"prompts": PROMPTS[:2]}, "prompts was"),
    ],
)
def test_images_of_other_settings_are_not_mixed(
    subject: Subject, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    (tmp_path / "settings.json").parent.mkdir(exist_ok=True)
    arguments: dict[str, Any] = {"prompts": PROMPTS, "options": OPTIONS, "each": 1, "seed": 0}
    make: Callable[..., Any] = lambda prompts, options, **more: subject.make(prompts, tmp_path, options, **more)  # noqa: E731
    make(**arguments)
    with pytest.raises(UserError, match=told):
        make(**{**arguments, **change})


@pytest.mark.parametrize(
    "option", [{"guidance_rescale": 0.7}, {"eta": 0.5}, {"grid": "leading"}, {"negative_prompt": "a"}]
)
def test_an_option_that_is_left_out_later_is_noticed(subject: Subject, tmp_path: Path, option: dict[str, Any]) -> None:
    subject.make(PROMPTS[:1], tmp_path, {**OPTIONS, **option})
    with pytest.raises(UserError, match=f"{next(iter(option))} was .* and is None now"):
        subject.make(PROMPTS[:1], tmp_path, OPTIONS)


def test_candidates_share_a_call(subject: Subject, calls: list[int], tmp_path: Path) -> None:
    class First:
        name = "first"

        def __call__(self, images: Any, prompts: Any) -> np.ndarray:
            return -np.arange(len(images), dtype=float)

    subject.make(PROMPTS, tmp_path, {**OPTIONS, "candidates": 2}, rerank=First())
    assert len(calls) == 2  # of two and one images, two candidates each
    image = Image.open(tmp_path / "p0_0.png")
    image.load()
    assert image.info["rerank"] == "first"


def test_the_demo_by_its_name() -> None:
    assert Subject.of("demo", "resident", None).path == Subject.of(None, "resident", None).path == epath.Path(DEMO)


def test_a_checkpoint_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(UserError, match="--checkpoint=/none: there is no such folder"):
        Subject.of("/none", "resident", None)

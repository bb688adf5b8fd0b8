"""Re-ranking: the best of several candidates is kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import Pipeline
from ernie_vilg_jax.pipeline.rerank import best_of


class Brightness:
    """Prefers bright images."""

    name = "brightness"

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        return np.array([np.asarray(image).mean() for image in images])


class Broken:
    name = "broken"

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Any:
        return self.value


def test_the_best_of_each_group_is_kept_with_its_score() -> None:
    images = [Image.new("RGB", (2, 2), (shade,) * 3) for shade in (10, 30, 20, 50, 40, 60)]
    kept = best_of(images, ["a"] * 3 + ["b"] * 3, 3, Brightness())
    assert [np.asarray(image).mean() for image in kept] == [30, 60]
    assert [image.info for image in kept] == [
        {"rerank": "brightness", "score": 30},
        {"rerank": "brightness", "score": 60},
    ]


@pytest.mark.parametrize("value", [[1.0], [1.0, float("nan")], [[1.0], [2.0]]])
def test_a_scorer_that_returns_something_else_is_told(value: Any) -> None:
    images = [Image.new("RGB", (2, 2)) for _ in range(2)]
    with pytest.raises(UserError, match="rerank=broken: it must return one finite number for each of 2 images"):
        best_of(images, ["a", "a"], 2, Broken(value))


def test_candidates_are_the_images_of_a_longer_call_and_the_best_are_kept(pipe: Pipeline) -> None:
    many = pipe(["一只猫", "a dog"], num_images=4, steps=2)
    kept = pipe(["一只猫", "a dog"], num_images=2, candidates=2, rerank=Brightness(), steps=2)
    assert [image.info["prompt"] for image in kept] == ["一只猫", "一只猫", "a dog", "a dog"]
    assert all(image.info["candidates"] == 2 and image.info["rerank"] == "brightness" for image in kept)
    for place, image in enumerate(kept):
        pair = many[2 * place : 2 * place + 2]
        best = max(pair, key=lambda one: np.asarray(one).mean())
        np.testing.assert_array_equal(np.asarray(image), np.asarray(best))
        assert image.info["number"] == best.info["number"]
    mean = lambda images: np.mean([np.asarray(image).mean() for image in images])  # noqa: E731
    assert mean(kept) > mean(many)  # what re-ranking is for


def test_candidates_without_a_scorer_are_refused_before_anything_is_made(pipe: Pipeline) -> None:
    with pytest.raises(UserError, match="candidates=3: a scorer has to say which of them is best"):
        pipe("一只猫", candidates=3)

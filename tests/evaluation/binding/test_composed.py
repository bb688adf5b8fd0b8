import numpy as np
import pytest

from ernie_vilg_jax.evaluation.binding.composed import COMPOSED_NOUNS, ComposedScenes
from ernie_vilg_jax.evaluation.binding.drawing import ANY, EMPTY, MOST
from ernie_vilg_jax.evaluation.binding.nouns import PALETTE, SHAPE_NOUNS
from ernie_vilg_jax.evaluation.binding.sprites import outside
from ernie_vilg_jax.preparation.sources.scenes import COLOURS


@pytest.fixture(scope="module")
def scenes():
    source = ComposedScenes(SHAPE_NOUNS, seed=3)
    return [source.scene(index) for index in range(60)]


def test_things_have_their_colour_in_their_box(scenes):
    checked = 0
    for scene in scenes:
        for box, noun, colour in zip(scene.boxes, scene.noun, scene.colour, strict=True):
            if noun == EMPTY:
                continue
            left, top, right, bottom = (box * 64).round().astype(int)
            inside = scene.image[top:bottom, left:right].reshape(-1, 3).astype(int)
            distance = np.abs(inside - COLOURS[PALETTE[colour]][1]).max(-1)
            checked += 1
            assert colour > ANY
            assert (distance < 90).mean() > 0.04, (SHAPE_NOUNS[noun].en, PALETTE[colour])
    assert checked > 80


def test_scenes_have_one_to_four_things_and_repeat(scenes):
    assert {int((scene.noun > EMPTY).sum()) for scene in scenes} == set(range(1, MOST + 1))
    again = ComposedScenes(SHAPE_NOUNS, seed=3).scene(7)
    np.testing.assert_array_equal(again.image, scenes[7].image)
    assert not np.array_equal(ComposedScenes(SHAPE_NOUNS, seed=4).scene(7).image, scenes[7].image)


def test_nothing_outside_the_vocabulary_looks_like_something_in_it():
    others = outside(COMPOSED_NOUNS)
    assert others
    assert not {noun.emoji for noun in others} & {noun.emoji for noun in COMPOSED_NOUNS}
    assert "green apple" not in {noun.en for noun in others}

"""The scenes that the checker learns from."""

import numpy as np
import pytest

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.drawing import ANY, EMPTY, SIDE, draw_scene
from ernie_vilg_jax.evaluation.binding.nouns import PALETTE, SHAPE_NOUNS
from ernie_vilg_jax.evaluation.binding.scene_files import RECIPE, Scenes, draw_scenes
from ernie_vilg_jax.evaluation.binding.sprites import NONE, make_sprites
from ernie_vilg_jax.preparation.sources.scenes import COLOURS


@pytest.fixture(scope="module")
def sprites():
    return make_sprites(SHAPE_NOUNS, (), others=False)


@pytest.fixture(scope="module")
def scenes(sprites):
    return [draw_scene(sprites, 0, index) for index in range(200)]


def test_sprites_of_shapes_are_masks(sprites):
    assert sprites.plain.all()
    assert sprites.noun.tolist() == list(range(len(SHAPE_NOUNS)))


def test_a_scene_depends_on_its_seed_and_number_alone(sprites, scenes):
    for index in (3, 150):
        for value, again in zip(scenes[index], draw_scene(sprites, 0, index), strict=True):
            np.testing.assert_array_equal(value, again)
    assert (scenes[3].image != draw_scene(sprites, 1, 3).image).any()


def test_boxes_hold_the_things_and_their_colours(scenes):
    """Within a box of a recognisable thing there are pixels near its colour; outside of all boxes there is ground."""
    checked = 0
    for scene in scenes:
        outside = np.ones((SIDE, SIDE), bool)
        for box, noun, colour in zip(scene.boxes, scene.noun, scene.colour, strict=True):
            if noun == EMPTY:
                assert not box.any()
                continue
            x0, y0, x1, y1 = np.round(box * SIDE).astype(int)
            outside[max(y0 - 2, 0) : y1 + 2, max(x0 - 2, 0) : x1 + 2] = False
            if noun != NONE and colour != ANY:
                inside = scene.image[y0:y1, x0:x1].astype(int)
                distance = np.abs(inside - np.asarray(COLOURS[PALETTE[colour]][1])).max(-1)
                assert distance.min() < 45, (scene.noun, PALETTE[colour])
                checked += 1
        ground = scene.image[outside].astype(int)
        if len(ground):
            assert np.abs(ground - np.median(ground, axis=0)).max() < 60  # JPEG rings a little
    assert checked > 200


def test_scenes_have_all_that_has_to_be_learnt(scenes):
    numbers = {int((scene.noun > EMPTY).sum()) for scene in scenes}
    assert numbers == {1, 2, 3, 4}
    nouns = np.stack([scene.noun for scene in scenes])
    assert set(range(len(SHAPE_NOUNS))) | {NONE, EMPTY} == set(nouns.ravel().tolist())
    same = [len(set(row[row > EMPTY].tolist())) == 1 for row in nouns if (row > EMPTY).sum() > 1]
    assert 0.3 < np.mean(same) < 0.7
    assert 0.02 < (nouns == NONE).sum() / (nouns > EMPTY).sum() < 0.2


def test_files_hold_the_same_scenes_and_refuse_another_recipe(sprites, scenes, tmp_path):
    recipe = {"scenes": 40, "seed": 0, "round_trip": 0.5}
    assert Scenes.open(tmp_path, recipe) is None
    written = draw_scenes(tmp_path, recipe, lambda index: draw_scene(sprites, 0, index), lambda images: 255 - images)
    np.testing.assert_array_equal(written.image[30], scenes[30].image)
    np.testing.assert_array_equal(written.image[3], 255 - scenes[3].image)
    np.testing.assert_array_equal(written.boxes[3], scenes[3].boxes)
    again = Scenes.open(tmp_path, recipe)
    assert again is not None
    np.testing.assert_array_equal(again.noun, written.noun)
    with pytest.raises(UserError, match="scenes of other options"):
        Scenes.open(tmp_path, {**recipe, "seed": 1})
    (tmp_path / RECIPE).unlink()  # an interrupted run
    assert Scenes.open(tmp_path, recipe) is None

"""The checker learns; its losses are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.evaluation.binding import weights
from ernie_vilg_jax.evaluation.binding.drawing import MOST, draw_scene
from ernie_vilg_jax.evaluation.binding.drawn import COMMAND, PARTS, DrawnChecker, overlap
from ernie_vilg_jax.evaluation.binding.network import CELLS, Centres
from ernie_vilg_jax.evaluation.binding.nouns import SHAPE_NOUNS
from ernie_vilg_jax.evaluation.binding.presence import UNSCALED, fit_presence, logistic
from ernie_vilg_jax.evaluation.binding.scene_files import Scenes
from ernie_vilg_jax.evaluation.binding.sprites import make_sprites
from ernie_vilg_jax.evaluation.binding.training import Batch, Settings, degrade, finding_loss, fit, init, loss


@pytest.fixture(scope="module")
def scenes():
    sprites = make_sprites(SHAPE_NOUNS, (), others=False)
    drawn = [draw_scene(sprites, 0, index) for index in range(64)]
    return Scenes(*(np.stack(values) for values in zip(*drawn, strict=True)))


def losses(params, scenes):
    batch = Batch(*(jnp.asarray(value[:32]) for value in (scenes.image, scenes.boxes, scenes.noun, scenes.colour)))
    return jax.jit(lambda p: loss(p, batch, jax.random.key(5), nouns=len(SHAPE_NOUNS)))(params)


@pytest.fixture(scope="module")
def trained(scenes):
    return fit(scenes, len(SHAPE_NOUNS), Settings(batch_size=8, steps=12))


@pytest.mark.slow  # of which compiling takes nearly all
@pytest.mark.proofs
def test_a_few_updates_lower_every_loss_and_repeat_exactly(scenes, trained):
    before, parts = losses(init(jax.random.key(0), len(SHAPE_NOUNS)), scenes)
    after, parts_after = losses(trained, scenes)
    assert after < 0.8 * before
    for name in ("heat", "box", "colour"):
        assert parts_after[name] < parts[name], name
    again = fit(scenes, len(SHAPE_NOUNS), Settings(batch_size=8, steps=12))
    jax.tree.map(np.testing.assert_array_equal, trained, again)
    assert np.isfinite(fit_presence(trained, scenes, count=32)).all()


@pytest.mark.slow
@pytest.mark.proofs
def test_training_goes_on_from_given_weights(scenes, trained):
    after = fit(
        scenes, len(SHAPE_NOUNS), Settings(batch_size=8, steps=1, learning_rate=0.0), trained
    )  # without a change, at rate zero
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), trained, after)


def test_weights_are_read_as_they_were_written(tmp_path):
    params = {**init(jax.random.key(0), len(SHAPE_NOUNS)), "presence": UNSCALED}
    file = tmp_path / "checker.safetensors"
    assert weights.write(file, params, SHAPE_NOUNS) == file.stat().st_size
    read, nouns, _ = weights.read(file, PARTS, COMMAND)
    assert nouns == SHAPE_NOUNS
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, np.asarray(b), rtol=1e-3, atol=1e-4), read, params)
    assert DrawnChecker(file).check([np.zeros((20, 30, 3), np.uint8)], [()])[0].verdicts == ()


def made_centres(boxes):
    """The answer that the labels ask for: high heat at the cells of the centres, exact boxes everywhere."""
    logit = np.full((1, CELLS, CELLS), -8.0, np.float32)
    offset, log_side = np.zeros((1, CELLS, CELLS, 2), np.float32), np.zeros((1, CELLS, CELLS, 2), np.float32)
    middles = [((box[:2] + box[2:]) / 2) for box in boxes]
    for y in range(CELLS):
        for x in range(CELLS):
            cell = (np.array([x, y]) + 0.5) / CELLS
            near = min(range(len(boxes)), key=lambda k: np.square(middles[k] - cell).sum())
            offset[0, y, x] = (middles[near] - cell) * CELLS
            log_side[0, y, x] = np.log(boxes[near][2:] - boxes[near][:2])
    for middle in middles:
        column, row = np.floor(middle * CELLS).astype(int)
        logit[0, row, column] = 8.0
    return Centres(jnp.asarray(logit), jnp.asarray(offset), jnp.asarray(log_side))


def test_the_finding_loss_is_least_at_the_right_answer():
    boxes = np.array([[0.1, 0.1, 0.42, 0.45], [0.55, 0.6, 0.97, 0.8]], np.float32)
    labels = jnp.asarray(np.concatenate([boxes, np.zeros((MOST - 2, 4), np.float32)])[None])
    used = jnp.asarray([[True, True, False, False]])
    right = made_centres(boxes)
    heat, box = finding_loss(right, labels, used)
    assert heat < 0.01 and box < 1e-5
    for wrong in (boxes[:1], boxes + 0.13):
        assert finding_loss(made_centres(wrong), labels, used)[0] > 1
    for wrong in (right._replace(offset=right.offset + 1), right._replace(log_side=right.log_side + 1)):
        assert finding_loss(wrong, labels, used)[1] > 0.1


def test_degraded_images_stay_recognisable_and_differ():
    image = np.zeros((8, 64, 64, 3), np.uint8)
    image[:, 16:48, 16:48] = 255
    degraded = np.asarray(degrade(jnp.asarray(image), jax.random.key(0)))
    assert (degraded[:, 28:36, 28:36].mean((1, 2, 3)) > 0.4).all()
    assert (degraded[:, :6, :6].mean((1, 2, 3)) < -0.4).all()
    assert len({round(float(one.std()), 5) for one in degraded}) > 4


def test_logistic_regression_finds_the_slope_of_known_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=20_000) * 3
    y = rng.random(len(x)) < 1 / (1 + np.exp(-(0.8 * x - 1.5)))
    np.testing.assert_allclose(logistic(x, y), [0.8, -1.5], atol=0.1)
    separable = logistic(np.array([-2.0, -1, 1, 2]), np.array([0, 0, 1, 1], bool))
    assert np.isfinite(separable).all() and separable[0] > 1


@pytest.mark.parametrize(
    ("other", "expected"), [((0, 0, 1, 1), 1), ((0.5, 0, 1.5, 1), 1 / 3), ((2, 2, 3, 3), 0), ((0, 0, 0.5, 0.5), 0.25)]
)
def test_overlap(other, expected):
    assert overlap(np.array([0.0, 0, 1, 1]), np.array(other, float)) == pytest.approx(expected)

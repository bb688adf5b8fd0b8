"""Cut-outs of boxes."""

import jax.numpy as jnp
import numpy as np
import pytest

from ernie_vilg_jax.evaluation.binding.network import CROP, MARGIN, cut_out


def ramp(height, width):
    """A plane: each pixel's centre (x, y), which linear interpolation reproduces exactly."""
    y, x = np.mgrid[:height, :width] + 0.5
    return jnp.asarray(np.stack([x / width, y / height], -1)[None], jnp.float32)


@pytest.mark.parametrize("box", [(0.4, 0.4, 0.6, 0.6), (0.3, 0.35, 0.7, 0.55), (0.3, 0.3, 0.4, 0.7)])
def test_a_cut_out_is_the_square_around_its_box(box):
    out = np.asarray(cut_out(ramp(64, 64), jnp.asarray([box], jnp.float32))[0])
    x0, y0, x1, y1 = box
    side = MARGIN * max(x1 - x0, y1 - y0)
    steps = ((np.arange(CROP) + 0.5) / CROP - 0.5) * side
    np.testing.assert_allclose(out[..., 0], np.broadcast_to((x0 + x1) / 2 + steps, (CROP, CROP)), atol=1e-5)
    np.testing.assert_allclose(out[..., 1], np.broadcast_to((y0 + y1) / 2 + steps, (CROP, CROP)).T, atol=1e-5)


def test_the_border_is_repeated_beyond_the_image():
    image = jnp.ones((1, 64, 64, 3)) * 0.25
    np.testing.assert_allclose(np.asarray(cut_out(image, jnp.asarray([[0.0, 0.0, 1.0, 1.0]]))), 0.25, atol=1e-6)
    corner = np.asarray(cut_out(ramp(64, 64), jnp.asarray([[0.0, 0.0, 0.2, 0.2]]))[0])
    np.testing.assert_allclose(corner[0, 0], 0.5 / 64, atol=1e-5)


def test_a_large_box_is_averaged_not_sampled():
    """A chequerboard of single pixels has to become grey."""
    y, x = np.mgrid[:64, :64]
    board = jnp.asarray(((x + y) % 2)[None, ..., None], jnp.float32)
    out = np.asarray(cut_out(board, jnp.asarray([[0.0, 0.0, 1.0, 1.0]])))
    assert np.abs(out[0, 4:-4, 4:-4] - 0.5).max() < 0.15

"""Inpainting: in the known part of an image, predictions are replaced by those that lead to it.

For x = alpha x0 + sigma e with a known x0, the best network would predict e = (x - alpha x0) / sigma. Every sampler
then ends at x0 in the known part, whatever its path, its history or its fresh noise, and the network sees the known
part as noisy as the rest at each step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ernie_vilg_jax.diffusion.guidance import Predict
from ernie_vilg_jax.diffusion.schedule import Denoised, Schedule


class Known(NamedTuple):
    """The known part of an image, or of each image of a batch: B may be 1."""

    x0: jax.Array
    """[B, h, w, c] float32: its clean latents."""
    where: jax.Array
    """[B, h, w, 1] float32: 1 where they are kept, 0 where they are generated."""


def keeping(predict: Predict, schedule: Schedule, known: Known) -> Predict:
    """`predict`, except where the clean sample is known."""

    def predict_rest(x: jax.Array, t: jax.Array) -> Denoised:
        ours = schedule.denoised(x, known.x0, t, "x0")
        return Denoised(*(jnp.where(known.where > 0, a, b) for a, b in zip(ours, predict(x, t), strict=True)))

    return predict_rest

"""Inpainting: what is known of an image is kept by telling the sampler that it leads there.

For x = alpha x0 + sigma e with a known x0, e = (x - alpha x0) / sigma is what the best network would predict. Every
sampler then ends at x0 there, whatever its path, its memory or its fresh noise, and the network sees the known part as
noisy as the rest at each step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ernie_vilg_jax.diffusion.guidance import Predict
from ernie_vilg_jax.diffusion.schedule import Denoised, Schedule


class Known(NamedTuple):
    """What is known of an image, or of each of a batch: B may be 1."""

    x0: jax.Array
    """[B, h, w, c] float32: its clean latents."""
    where: jax.Array
    """[B, h, w, 1] float32: 1 where they are to be kept, 0 where they are to be made."""


def keeping(predict: Predict, schedule: Schedule, known: Known) -> Predict:
    """`predict`, except for where the clean sample is known."""

    def predict_rest(x: jax.Array, t: jax.Array) -> Denoised:
        ours = schedule.denoised(x, known.x0, t, "x0")
        return Denoised(*(jnp.where(known.where > 0, a, b) for a, b in zip(ours, predict(x, t), strict=True)))

    return predict_rest

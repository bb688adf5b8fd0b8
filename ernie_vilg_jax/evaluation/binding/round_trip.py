"""Images as the autoencoder of a checkpoint renders them: as soft as its samples at best."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.pipeline import Pipeline


def round_trip(pipe: Pipeline) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images uint8 [B, H, W, 3] to the same, encoded and decoded."""
    model, autoencoder = pipe.model, pipe.params.autoencoder
    there_and_back = jax.jit(lambda x: model.decode(autoencoder, model.encode_image(autoencoder, x)))
    return lambda images: to_uint8(there_and_back(images))

"""Images as the autoencoder of a checkpoint renders them: as soft as its samples at best."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from absl import logging

from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.pipeline import Pipeline, load


def round_trip(pipe: Pipeline) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images uint8 [B, H, W, 3] to the same, encoded and decoded."""
    model, autoencoder = pipe.model, pipe.params.autoencoder
    there_and_back = jax.jit(lambda x: model.decode(autoencoder, model.encode_image(autoencoder, x)))
    return lambda images: to_uint8(there_and_back(images))


def quiet_load() -> Pipeline:
    """The demo checkpoint, without the log lines of reading it."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        return load()
    finally:
        logging.set_verbosity(before)

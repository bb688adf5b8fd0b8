"""Latents in a record: the posterior over those of one crop of its image, as `encode` wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ernie_vilg_jax.images import Crop

DTYPES = {name: np.dtype(kind) for name, kind in (("bfloat16", ml_dtypes.bfloat16), ("float32", np.float32))}
"""What moments can be stored in."""


class Latents(NamedTuple):
    """The posterior of one crop.

    Attributes:
      crop: in pixels of an image of the size `whole`.
      whole: width and height.
      mean, log_variance: [h, w, c] of one of DTYPES.
    """

    crop: Crop
    whole: tuple[float, float]
    mean: np.ndarray
    log_variance: np.ndarray

    def pack(self) -> dict[str, Any]:
        """As msgpack knows it."""
        return {
            "crop": list(self.crop),
            "whole": list(self.whole),
            "shape": list(self.mean.shape),
            "dtype": self.mean.dtype.name,
            "mean": self.mean.tobytes(),
            "log_variance": self.log_variance.tobytes(),
        }

    @staticmethod
    def unpack(packed: Mapping[str, Any]) -> Latents:
        """Inverse of `pack`; the arrays cannot be written to. Raises ValueError for anything else."""
        try:
            dtype, shape, (width, height) = DTYPES[packed["dtype"]], packed["shape"], packed["whole"]
            mean, spread = (np.frombuffer(packed[name], dtype).reshape(shape) for name in ("mean", "log_variance"))
            return Latents(Crop(*packed["crop"]), (width, height), mean, spread)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"its latents are not what `encode` writes ({error})") from error

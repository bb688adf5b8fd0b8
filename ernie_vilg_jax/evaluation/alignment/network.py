"""The trained network of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ernie_vilg_jax.data.files import file_sha256
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.alignment.towers import ImageTower, TextTower, tokens
from ernie_vilg_jax.evaluation.binding import weights
from ernie_vilg_jax.evaluation.binding.drawn import DrawnChecker
from ernie_vilg_jax.evaluation.binding.network import SIDE
from ernie_vilg_jax.evaluation.statistics import cosines
from ernie_vilg_jax.tables import ASSETS

WEIGHTS = ASSETS / "evaluation" / "alignment.safetensors"
COMMAND = "ernie_vilg_jax.evaluation.alignment.train"


class AlignmentNetwork:
    """Images and texts of the demo's domain in one space of WIDTH dimensions.

    Attributes:
      name: for reports.
      size: pixels per side that images are judged at.
      nouns: the things that it was trained on.
    """

    name = "alignment"
    size = SIDE

    def __init__(self, path: str | Path = WEIGHTS, checker: DrawnChecker | None = None) -> None:
        """Reads weights that `alignment.train` wrote, for the features of `checker` (default: the committed one)."""
        self._checker = checker or DrawnChecker()
        self._params, self.nouns, stands_on = weights.read(Path(path), ("image", "text"), COMMAND)
        digest = file_sha256(self._checker.file)
        if digest != stands_on:
            raise UserError(f"{path} belongs to another checker than {self._checker.file}: train it again ({COMMAND})")
        self.fingerprint = f"{file_sha256(Path(path))}-{digest}"

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3], any sizes -> unit vectors fp32 [N, WIDTH]."""
        return _images(self._params["image"], self._checker.features(images))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Chinese or English -> unit vectors fp32 [N, WIDTH]."""
        return _texts(self._params["text"], tokens(texts))


class AlignmentScorer:
    """The cosine of image and prompt in the space of an AlignmentNetwork."""

    name = "alignment"

    def __init__(self, path: str | Path = WEIGHTS) -> None:
        self.network = AlignmentNetwork(path)

    def __call__(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """[N] in [-1, 1]; higher is better."""
        return cosines(
            self.network([np.asarray(image.convert("RGB")) for image in images]), self.network.texts(prompts)
        )


def _images(params: Any, features: np.ndarray) -> np.ndarray:
    return _in_batches(lambda x: ImageTower().apply({"params": params}, x), features)


def _texts(params: Any, words: np.ndarray) -> np.ndarray:
    return _in_batches(lambda x: TextTower().apply({"params": params}, x), words)


def _in_batches(function: Any, rows: np.ndarray, size: int = 64) -> np.ndarray:
    """Results of full batches, so that a row's does not depend on the others'."""
    padded = np.pad(rows, [(0, -len(rows) % size), *[(0, 0)] * (rows.ndim - 1)])
    compiled = jax.jit(function)
    parts = [np.asarray(compiled(jnp.asarray(padded[k : k + size]))) for k in range(0, len(padded), size)]
    return np.concatenate([*parts, np.zeros((0, 1) if not parts else (0, parts[0].shape[1]), np.float32)])[: len(rows)]

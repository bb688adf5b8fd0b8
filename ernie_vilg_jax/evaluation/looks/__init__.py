"""Which look an image of the demo's domain has: a style of emoji art, pixel art, watercolour or line drawing.

A prompt names one ("a watercolour of a cat", 一只猫，像素风格), and the metric `style` is the share of images whose
look it is, by a small network that tells the looks of composed scenes apart (`train.py`; how often it is right:
docs/evaluation_binding.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from ernie_vilg_jax.evaluation.binding import weights
from ernie_vilg_jax.evaluation.binding.drawn import at_size
from ernie_vilg_jax.evaluation.binding.network import Block
from ernie_vilg_jax.preparation.sources.composed.vocabulary import LOOKS
from ernie_vilg_jax.tables import ASSETS

WEIGHTS = ASSETS / "evaluation" / "looks.safetensors"
COMMAND = "ernie_vilg_jax.evaluation.looks.train"
KEYS = tuple(LOOKS)
"""The network's class k is the k-th look."""
BATCH = 64


class Network(nn.Module):
    """Images [B, 64, 64, 3] in [-1, 1] -> logits [B, len(KEYS)]."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nn.relu(nn.GroupNorm(8)(nn.Conv(32, (4, 4), (2, 2))(images)))  # 32 x 32
        for channels in (48, 96, 128):  # to 4 x 4
            x = Block(channels, 2)(x)
        # Things are small in some scenes: places where a feature is strong count more.
        strong = jax.nn.softmax(x, axis=(1, 2))
        return nn.Dense(len(KEYS))(nn.LayerNorm()((strong * x).sum((1, 2))))


def look_of(prompt: str) -> str:
    """The key of the look that a prompt names, "" if none: the longest name that it has."""
    text = prompt.lower()
    found = [(len(name), key) for name, key in _names() if _says(text, name)]
    return max(found)[1] if found else ""


def _says(text: str, name: str) -> bool:
    return bool(re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", text)) if name.isascii() else name in text


@cache
def _names() -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), key) for key, look in LOOKS.items() for several in look for name in several)


class Looks:
    """The trained network."""

    def __init__(self, file: str | Path = WEIGHTS) -> None:
        """Reads weights that `train.py` wrote."""
        params, _, _ = weights.read(Path(file), ("looks",), COMMAND)
        self._apply = jax.jit(lambda x: Network().apply({"params": params["looks"]}, x / 127.5 - 1))

    def __call__(self, images: Sequence[np.ndarray]) -> list[str]:
        """The likeliest look of each image, uint8 [H, W, 3]."""
        found: list[str] = []
        for start in range(0, len(images), BATCH):
            part = np.stack([at_size(image) for image in images[start : start + BATCH]])
            padded = np.pad(part, [(0, BATCH - len(part)), (0, 0), (0, 0), (0, 0)])
            found += [KEYS[k] for k in np.asarray(self._apply(padded))[: len(part)].argmax(-1)]
        return found

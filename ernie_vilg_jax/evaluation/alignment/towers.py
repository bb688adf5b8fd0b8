"""Two small networks that map images and texts to one space, trained with InfoNCE (arXiv 1807.03748).

The image tower stands on the frozen features of the binding checker; the text tower reads hashed words and hanzi.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

WIDTH = 128
"""Of the common space."""
BUCKETS = 2048
"""Words and hanzi are numbered by their hash, 1 to BUCKETS - 1; 0 is padding."""
LENGTH = 32
"""Words of a text that are read."""


def tokens(texts: Sequence[str]) -> np.ndarray:
    """Texts -> int32 [N, LENGTH]: each hanzi, number and word in lower case, without its plural s."""
    rows = np.zeros((len(texts), LENGTH), np.int32)
    for row, text in zip(rows, texts, strict=True):
        words = re.findall(r"[a-z]+|\d+|[\u4e00-\u9fff]", unicodedata.normalize("NFKC", text).lower())[:LENGTH]
        for k, word in enumerate(words):
            stem = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
            row[k] = 1 + zlib.crc32(stem.encode()) % (BUCKETS - 1)
    return rows


class ImageTower(nn.Module):
    """Features [B, views, features] -> unit vectors [B, WIDTH]."""

    @nn.compact
    def __call__(self, features: jax.Array, dropout: jax.Array | None = None) -> jax.Array:
        x = features.reshape(len(features), -1)
        if dropout is not None:
            x = x * jax.random.bernoulli(dropout, 0.8, x.shape) / 0.8
        x = nn.gelu(nn.LayerNorm()(nn.Dense(192)(x)))
        return unit(nn.Dense(WIDTH)(x))


class TextTower(nn.Module):
    """Tokens [B, LENGTH] -> unit vectors [B, WIDTH]."""

    @nn.compact
    def __call__(self, words: jax.Array) -> jax.Array:
        there = (words > 0)[..., None]
        x = nn.Embed(BUCKETS, 96)(words) * there
        single = x.sum(1) / jnp.maximum(there.sum(1), 1)
        for _ in range(2):  # which colour goes with which thing, and which thing with "left"
            x = nn.gelu(nn.Conv(128, (5,))(x)) * there
        x = jnp.where(there, x, -1e3).max(1)
        return unit(nn.Dense(WIDTH)(nn.gelu(nn.LayerNorm()(nn.Dense(192)(jnp.concatenate([x, single], -1))))))


def unit(x: jax.Array) -> jax.Array:
    """Scaled to length one."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)

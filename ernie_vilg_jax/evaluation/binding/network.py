"""Two small networks: one finds the things of a scene, whatever they are; one names what a box shows, and its colour.

Found as in CenterNet (arXiv 1904.07850): a heat map of centres with the box's offset and size at each cell. Boxes are
cut out at one size, so that naming is easy to learn: a small thing and a large one look the same.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

SIDE = 64
"""Pixels per side of the images that are judged."""
CELLS = 16
"""Cells per side of the heat map."""
CROP = 32
"""Pixels per side of a cut-out box."""
MARGIN = 1.2
"""Side of the cut-out square over the longer side of its box."""
FEATURES = 192
"""Numbers that describe a cut-out box, from which it is named."""


class Block(nn.Module):
    """Two 3 x 3 convolutions with a skip: [B, h, w, C] -> [B, h / stride, w / stride, channels]."""

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.Conv(self.channels, (3, 3), (self.stride, self.stride), use_bias=False)(x)
        h = nn.relu(nn.GroupNorm(8)(h))
        h = nn.GroupNorm(8)(nn.Conv(self.channels, (3, 3), use_bias=False)(h))
        if self.stride > 1:
            x = nn.avg_pool(x, (2, 2), (2, 2))
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1, 1), use_bias=False)(x)
        return nn.relu(x + h)


class Centres(NamedTuple):
    """Of each cell, fp32: logit that a thing's centre lies in it [B, CELLS, CELLS]; the centre minus the cell's centre,
    in cells [..., 2] (x, y); log of the box's sides as fractions of the image [..., 2]."""

    logit: jax.Array
    offset: jax.Array
    log_side: jax.Array


class Finder(nn.Module):
    """Images [B, SIDE, SIDE, 3] in [-1, 1] -> Centres."""

    @nn.compact
    def __call__(self, images: jax.Array) -> Centres:
        fine = nn.relu(nn.GroupNorm(8)(nn.Conv(32, (8, 8), (4, 4))(images)))  # 16 x 16
        middle = Block(64, 2)(fine)  # 8 x 8
        coarse = Block(96)(Block(96, 2)(middle))  # 4 x 4
        middle = Block(64)(middle + _doubled(nn.Conv(64, (1, 1))(coarse)))
        fine = nn.Conv(48, (1, 1))(fine) + _doubled(nn.Conv(48, (1, 1))(middle))
        fine = nn.relu(nn.GroupNorm(8)(nn.Conv(48, (3, 3))(nn.relu(fine))))
        out = nn.Conv(5, (1, 1), bias_init=_rare)(fine)
        return Centres(out[..., 0], out[..., 1:3], out[..., 3:5])


def _rare(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Most cells hold no centre."""
    del key
    return jnp.zeros(shape, dtype).at[0].set(-3.0)


def _doubled(x: jax.Array) -> jax.Array:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


class Names(NamedTuple):
    """Of each cut-out, fp32: logits of the nouns, the last of which is "none of them" [B, nouns + 1]; logits of the
    colours [B, colours]; features [B, FEATURES]."""

    noun: jax.Array | np.ndarray
    colour: jax.Array | np.ndarray
    features: jax.Array | np.ndarray


class Namer(nn.Module):
    """Cut-outs [B, CROP, CROP, 3] in [-1, 1] -> Names."""

    nouns: int
    colours: int

    @nn.compact
    def __call__(self, crops: jax.Array) -> Names:
        x = nn.relu(nn.GroupNorm(8)(nn.Conv(48, (4, 4), (2, 2))(crops)))  # 16 x 16
        x = Block(96)(Block(96, 2)(x))  # 8 x 8
        x = Block(FEATURES)(Block(FEATURES, 2)(x))  # 4 x 4
        features = x.mean((1, 2))
        # The corners and middle of a shape tell more than the mean of its parts.
        places = nn.relu(nn.Dense(FEATURES)(nn.Conv(32, (1, 1))(x).reshape(x.shape[0], -1)))
        features = nn.LayerNorm()(features + places)
        return Names(nn.Dense(self.nouns + 1)(features), nn.Dense(self.colours)(features), features)


def cut_out(images: jax.Array, boxes: jax.Array) -> jax.Array:
    """Squares around boxes, resized with a triangular filter.

    Args:
      images: [B, H, W, C].
      boxes: x0, y0, x1, y1 in [0, 1]: [B, 4].

    Returns:
      [B, CROP, CROP, C]; beyond the image, its border pixels are repeated.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = MARGIN * jnp.max(boxes[:, 2:] - boxes[:, :2], axis=-1)

    def weights(middle: jax.Array, pixels: int) -> jax.Array:  # [B, CROP, pixels]
        steps = (jnp.arange(CROP) + 0.5) / CROP - 0.5
        at = (middle[:, None] + side[:, None] * steps) * pixels - 0.5
        at = jnp.clip(at, 0, pixels - 1)[..., None]
        width = jnp.maximum(1.0, side * pixels / CROP)[:, None, None]
        near = jnp.maximum(0.0, 1 - jnp.abs(at - jnp.arange(pixels)) / width)
        return near / near.sum(-1, keepdims=True)

    rows, columns = weights(centre[:, 1], images.shape[1]), weights(centre[:, 0], images.shape[2])
    return jnp.einsum("bih,bhwc,bjw->bijc", rows, images, columns)

"""The InceptionV3 of the Fréchet Inception distance: TensorFlow's of 2015-12-05 (arXiv 1512.00567, FID: 1706.08500).

It is not torchvision's InceptionV3: its average pooling leaves the padding out of the mean, and its last block pools by
the maximum. Each convolution has a bias and includes the batch norm that follows it in the published file. Modules are
named as in pytorch-fid and torch-fidelity (https://github.com/mseitzer/pytorch-fid).
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

SIZE = 299
"""Height and width of the images."""

Kernel = int | tuple[int, int]
"""A side, or height and width."""


def _conv(x: jax.Array, name: str, channels: int, kernel: Kernel, stride: int = 1, padding: str = "SAME") -> jax.Array:
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return nn.relu(nn.Conv(channels, sides, (stride, stride), padding, name=name)(x))


def _row(x: jax.Array, name: str, *layers: tuple[int, Kernel]) -> jax.Array:
    """Convolutions NAME_1, NAME_2, ... of (channels, kernel), one after the other."""
    for i, (channels, kernel) in enumerate(layers, start=1):
        x = _conv(x, f"{name}_{i}", channels, kernel)
    return x


def _average(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _halved(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


class MixedA(nn.Module):
    """x [B, 35, 35, C] -> [B, 35, 35, 224 + pool_width]."""

    pool_width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        branches = (
            _conv(x, "branch1x1", 64, 1),
            _row(x, "branch5x5", (48, 1), (64, 5)),
            _row(x, "branch3x3dbl", (64, 1), (96, 3), (96, 3)),
            _conv(_average(x), "branch_pool", self.pool_width, 1),
        )
        return jnp.concatenate(branches, axis=-1)


class MixedB(nn.Module):
    """x [B, 35, 35, 288] -> [B, 17, 17, 768]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        double = _row(x, "branch3x3dbl", (64, 1), (96, 3))
        branches = (
            _conv(x, "branch3x3", 384, 3, 2, "VALID"),
            _conv(double, "branch3x3dbl_3", 96, 3, 2, "VALID"),
            _halved(x),
        )
        return jnp.concatenate(branches, axis=-1)


class MixedC(nn.Module):
    """x [B, 17, 17, 768] -> the same shape; `width` channels within the branches."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, row, column = self.width, (1, 7), (7, 1)
        branches = (
            _conv(x, "branch1x1", 192, 1),
            _row(x, "branch7x7", (n, 1), (n, row), (192, column)),
            _row(x, "branch7x7dbl", (n, 1), (n, column), (n, row), (n, column), (192, row)),
            _conv(_average(x), "branch_pool", 192, 1),
        )
        return jnp.concatenate(branches, axis=-1)


class MixedD(nn.Module):
    """x [B, 17, 17, 768] -> [B, 8, 8, 1280]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        seven = _row(x, "branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)))
        branches = (
            _conv(_conv(x, "branch3x3_1", 192, 1), "branch3x3_2", 320, 3, 2, "VALID"),
            _conv(seven, "branch7x7x3_4", 192, 3, 2, "VALID"),
            _halved(x),
        )
        return jnp.concatenate(branches, axis=-1)


class MixedE(nn.Module):
    """x [B, 8, 8, C] -> [B, 8, 8, 2048]."""

    pool: Literal["average", "max"]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        three = _conv(x, "branch3x3_1", 384, 1)
        double = _row(x, "branch3x3dbl", (448, 1), (384, 3))
        pooled = _average(x) if self.pool == "average" else nn.max_pool(x, (3, 3), (1, 1), "SAME")
        branches = (
            _conv(x, "branch1x1", 320, 1),
            _conv(three, "branch3x3_2a", 384, (1, 3)),
            _conv(three, "branch3x3_2b", 384, (3, 1)),
            _conv(double, "branch3x3dbl_3a", 384, (1, 3)),
            _conv(double, "branch3x3dbl_3b", 384, (3, 1)),
            _conv(pooled, "branch_pool", 192, 1),
        )
        return jnp.concatenate(branches, axis=-1)


class Inception(nn.Module):
    """pixels [B, 299, 299, 3] fp32 in [0, 255] -> [B, 2048] fp32, the mean of the last block ("pool3")."""

    @nn.compact
    def __call__(self, pixels: jax.Array) -> jax.Array:
        x = _conv((pixels - 128) / 128, "Conv2d_1a_3x3", 32, 3, 2, "VALID")
        x = _conv(x, "Conv2d_2a_3x3", 32, 3, padding="VALID")
        x = _halved(_conv(x, "Conv2d_2b_3x3", 64, 3))
        x = _conv(x, "Conv2d_3b_1x1", 80, 1)
        x = _halved(_conv(x, "Conv2d_4a_3x3", 192, 3, padding="VALID"))
        for name, pool_width in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = MixedA(pool_width, name=name)(x)
        x = MixedB(name="Mixed_6a")(x)
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = MixedC(width, name=name)(x)
        x = MixedD(name="Mixed_7a")(x)
        x = MixedE("max", name="Mixed_7c")(MixedE("average", name="Mixed_7b")(x))
        return x.mean((1, 2))

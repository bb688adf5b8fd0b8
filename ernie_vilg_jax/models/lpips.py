"""LPIPS: a perceptual distance of two images, from the features of a VGG16 (arXiv 1801.03924, section 3.1).

    images -> VGG16 -> features after the last ReLU of each of five blocks, each position scaled to length 1
    distance = sum over blocks of the mean over positions of w . (difference of features)^2,  w >= 0 learnt

A pure function of given parameters; nothing here is trained.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of each block."""
# The mean and deviation of ImageNet's pixels, for pixels in [-1, 1] (github.com/richzhang/PerceptualSimilarity).
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


def shapes() -> dict[str, Any]:
    """{"conv_<block>_<i>": {"kernel" [3, 3, in, out], "bias" [out]}, "weight_<block>": [channels]}, all fp32."""
    found: dict[str, Any] = {}
    before = 3
    for block, (channels, count) in enumerate(BLOCKS):
        for i in range(count):
            kernel = jax.ShapeDtypeStruct((3, 3, before, channels), jnp.float32)
            found[f"conv_{block}_{i}"] = {"kernel": kernel, "bias": jax.ShapeDtypeStruct((channels,), jnp.float32)}
            before = channels
        found[f"weight_{block}"] = jax.ShapeDtypeStruct((channels,), jnp.float32)
    return found


def distance(params: Mapping[str, Any], a: jax.Array, b: jax.Array) -> jax.Array:
    """LPIPS [B] of images [B, H, W, 3] in [-1, 1], at least 16 pixels wide and high; 0 if they are equal."""
    count = a.shape[0]
    x = (jnp.concatenate([a, b]) - jnp.asarray(SHIFT)) / jnp.asarray(SCALE)
    total = jnp.zeros(count)
    for block, (_, convolutions) in enumerate(BLOCKS):
        if block:
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        for i in range(convolutions):
            layer = params[f"conv_{block}_{i}"]
            x = jax.lax.conv_general_dilated(
                x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x + layer["bias"])
        # The gradient of a length is infinite at 0, which ReLU can produce.
        square = jnp.square(x).sum(-1, keepdims=True)
        unit = x / (jnp.sqrt(jnp.where(square > 0, square, 1.0)) + 1e-10)
        difference = jnp.square(unit[:count] - unit[count:])
        total += (difference @ params[f"weight_{block}"]).mean((1, 2))
    return total

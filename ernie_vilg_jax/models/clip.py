"""CLIP: images and texts as vectors whose cosine says how well they fit (arXiv 2103.00020, Chinese: 2211.01335)."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from ernie_vilg_jax.models.text_encoder import TextEncoder
from ernie_vilg_jax.models.vision_transformer import VisionTransformer


class Clip(nn.Module):
    """Two encoders, each followed by a projection to `dim` numbers, scaled to length 1.

    `token`: the token that stands for a text: "last" of its mask (CLIP's end of text) or "first" (BERT's [CLS]).
    """

    vision: VisionTransformer
    text: TextEncoder
    dim: int
    token: Literal["first", "last"]

    def setup(self) -> None:
        self.image_projection = nn.Dense(self.dim, use_bias=False)
        self.text_projection = nn.Dense(self.dim, use_bias=False)

    def images(self, pixels: jax.Array) -> jax.Array:
        """pixels [B, H, W, 3] fp32, normalised -> [B, dim] fp32."""
        return _unit(self.image_projection(self.vision(pixels)))

    def texts(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """tokens [B, L] int32, mask [B, L] bool (False on padding, which follows the text) -> [B, dim] fp32."""
        features = self.text(tokens, mask).features
        at = mask.sum(1) - 1 if self.token == "last" else jnp.zeros(len(tokens), jnp.int32)
        return _unit(self.text_projection(features[jnp.arange(len(tokens)), at]))


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

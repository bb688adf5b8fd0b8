"""Joint attention of the U-Net: image positions look at the text and at each other in one softmax.

    queries   image positions                      [B, N, C]
    keys      [K_text ; K_image]                   [B, L + N, C]
    values    [V_text ; V_image]                   [B, L + N, C]

Key words may weigh more (the paper's textual knowledge): a weight on the logits of a key is a scaled key, a weight on
its probability is a scaled value. Either is one multiplication of [B, L, heads, d], so any implementation of attention
works unchanged.

The paper: knowledge-enhanced U-Net; the block around it follows ADM and GLIDE (arXiv 2105.05233, 2112.10741).
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ernie_vilg_jax.models.layers import Dense, GroupNorm

Dtype = jax.typing.DTypeLike
HEAVY = "heavy"
"""Checkpoint name of results that are expensive to recompute: a remat policy may keep them."""


Attention = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""q [B, N, heads, d], k and v [B, M, heads, d], mask [B, 1, 1, M] -> [B, N, heads, d]."""


def plain_attention(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array) -> jax.Array:
    """jax's own, which writes the logits to memory; sharding/splash_attention.py chooses on TPU."""
    dtype = q.dtype
    if q.shape[1] == 1:  # in bf16, XLA's CPU backend cannot compile the gradient of a whole step
        q, k, v = (a.astype(jnp.float32) for a in (q, k, v))
        return jax.nn.dot_product_attention(q, k, v, mask=mask).astype(dtype)
    return jax.nn.dot_product_attention(q, k, v, mask=mask)


def attention_to_text(q: jax.Array, k: jax.Array, mask: jax.Array, length: int) -> jax.Array:
    """The share of its attention that each position gives to each of the first `length` keys, the text's.

    q [B, N, heads, d], k [B, L + N, heads, d], mask [B, 1, 1, L + N] -> [B, N, L] fp32, the mean over heads.
    """
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.float32) / q.shape[-1] ** 0.5
    return jax.nn.softmax(logits, where=mask)[..., :length].mean(axis=1)


class JointAttention(nn.Module):
    """One attention block of the U-Net, with its residual connection.

    Args of the call:
      x: image features [B, h, w, C].
      text: text features [B, L, D].
      mask: which keys may be seen, [B, 1, 1, L + h*w], text first.
      token_weight: [B, L], by which the attention to each token is multiplied; None leaves it as it is.
    `weight_on`: 'logits' multiplies them before the softmax, 'softmax' the probabilities after it (which then no longer
    sum to 1).
    Returns [B, h, w, C] in the compute dtype. C must be a multiple of `head_channels`. Where the collection
    "intermediates" is mutable, it gets "to_text" [B, h, w, L]: see `attention_to_text`.
    """

    head_channels: int = 64
    weight_on: Literal["logits", "softmax"] = "logits"
    attention: Attention = plain_attention
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, text: jax.Array, mask: jax.Array, token_weight: jax.Array | None = None
    ) -> jax.Array:
        b, h, w, c = x.shape
        if c % self.head_channels:
            raise ValueError(f"{c} channels cannot be cut into heads of {self.head_channels} (unet.head_channels)")
        heads = (c // self.head_channels, self.head_channels)

        y = GroupNorm(dtype=self.dtype, name="norm")(x).reshape(b, h * w, c)
        qkv = checkpoint_name(Dense(3 * c, dtype=self.dtype, name="qkv")(y), HEAVY)
        q, k, v = (a.reshape(b, h * w, *heads) for a in jnp.split(qkv, 3, axis=-1))
        text_kv = Dense(2 * c, dtype=self.dtype, name="text_kv")(text)
        text_k, text_v = (a.reshape(b, -1, *heads) for a in jnp.split(text_kv, 2, axis=-1))
        if token_weight is not None:
            # In fp32: bf16 has nothing between 1 and 1.0078, and the paper's weight is 1.01.
            weight = token_weight.astype(jnp.float32)[:, :, None, None]
            if self.weight_on == "logits":
                text_k = (text_k * weight).astype(self.dtype)
            else:
                text_v = (text_v * weight).astype(self.dtype)

        k = jnp.concatenate([text_k, k], axis=1)
        v = jnp.concatenate([text_v, v], axis=1)
        if self.is_mutable_collection("intermediates"):
            # Only on request: apply(..., mutable=["intermediates"]).
            self.sow("intermediates", "to_text", attention_to_text(q, k, mask, text.shape[1]).reshape(b, h, w, -1))
        out = checkpoint_name(self.attention(q, k, v, mask), HEAVY).reshape(b, h, w, c)
        # Zero at the start, so that every block begins as the identity (ADM).
        return x + Dense(c, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(out)

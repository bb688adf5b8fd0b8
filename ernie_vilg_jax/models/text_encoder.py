"""The text encoder: a bidirectional Transformer shared by all experts.

Paper: 24 layers, width 2048, 32 heads, vocabulary 21128, 77 tokens: 1.252B parameters, trained from scratch with the
U-Net. Pre-normalisation is a guess (the paper does not say): it is what trains from scratch without tricks.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

Dtype = Any


class Text(NamedTuple):
    """What the U-Net sees of a prompt: features [B, L, D], mask [B, L] bool (False on padding), pooled [B, D]."""

    features: jax.Array
    mask: jax.Array
    pooled: jax.Array


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and a GELU MLP of 4x width. x [B, L, D], mask [B, 1, 1, L] -> [B, L, D]."""

    num_heads: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        b, length, width = x.shape
        norm = lambda name: nn.LayerNorm(dtype=jnp.float32, name=name)  # noqa: E731
        dense = lambda n, name: nn.Dense(n, dtype=self.dtype, name=name)  # noqa: E731
        y = norm("norm_attn")(x).astype(self.dtype)
        heads = (b, length, self.num_heads, width // self.num_heads)
        q, k, v = (a.reshape(heads) for a in jnp.split(dense(3 * width, "qkv")(y), 3, axis=-1))
        y = jax.nn.dot_product_attention(q, k, v, mask=mask).reshape(b, length, width)
        x = x + dense(width, "out")(y)
        y = norm("norm_mlp")(x).astype(self.dtype)
        return x + dense(width, "mlp_out")(nn.gelu(dense(4 * width, "mlp_in")(y)))


class TextEncoder(nn.Module):
    """tokens [B, L] int32, mask [B, L] bool -> Text. L may be anything up to `max_length`.

    `scan_layers` runs one compiled layer in a loop, over the same parameters: 24 layers then compile like one.
    """

    vocab_size: int = 21128
    max_length: int = 77
    width: int = 2048
    num_layers: int = 24
    num_heads: int = 32
    remat: bool = False
    scan_layers: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array) -> Text:
        if tokens.shape[1] > self.max_length:
            raise ValueError(f"{tokens.shape[1]} tokens, but the text encoder has {self.max_length} positions")
        init = nn.initializers.normal(0.02)
        embed = nn.Embed(self.vocab_size, self.width, embedding_init=init, dtype=self.dtype, name="tokens")
        positions = self.param("positions", init, (self.max_length, self.width))
        x = embed(tokens) + positions[: tokens.shape[1]].astype(self.dtype)
        block = nn.remat(TransformerBlock, prevent_cse=False) if self.remat else TransformerBlock
        attend = mask[:, None, None, :]
        names = [f"layer_{i:02d}" for i in range(self.num_layers)]
        if self.scan_layers and not self.is_initializing():
            x = self._scan(x, attend, [self.variables["params"][name] for name in names])
        else:
            for name in names:
                x = block(self.num_heads, dtype=self.dtype, name=name)(x, attend)
        features = nn.LayerNorm(dtype=jnp.float32, name="norm_out")(x)
        weight = mask[..., None].astype(jnp.float32)
        pooled = (features * weight).sum(1) / jnp.maximum(weight.sum(1), 1.0)
        return Text(features.astype(self.dtype), mask, pooled.astype(self.dtype))

    def _scan(self, x: jax.Array, mask: jax.Array, layers: list[Any]) -> jax.Array:
        layer = TransformerBlock(self.num_heads, dtype=self.dtype, parent=None)

        def body(x: jax.Array, params: Any) -> tuple[Any, None]:
            return layer.apply({"params": params}, x, mask), None

        if self.remat:
            body = jax.checkpoint(body, prevent_cse=False)
        return jax.lax.scan(body, x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers))[0]

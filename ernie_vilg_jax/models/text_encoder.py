"""The text encoder: a bidirectional Transformer shared by all experts.

Paper: 24 layers, width 2048, 32 heads, vocabulary 21128, 77 tokens: 1.252B parameters, trained from scratch with the
U-Net. Pre-normalisation is a guess (the paper does not say): it trains from scratch without tricks.

BERT and ERNIE normalise after each sum (`norm="post"`); their weights can be imported (docs/weights.md).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ernie_vilg_jax.models.layers import Dense

Dtype = jax.typing.DTypeLike


class Text(NamedTuple):
    """What the U-Net sees of a prompt: features [B, L, D], mask [B, L] bool (False on padding), pooled [B, D]."""

    features: jax.Array
    mask: jax.Array
    pooled: jax.Array


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's approximation of GELU (github.com/openai/CLIP)."""
    return x * nn.sigmoid(1.702 * x)


def swiglu(x: jax.Array) -> jax.Array:
    """SiLU of the first half times the second, so an MLP's output layer sees half its width (arXiv 2002.05202)."""
    gate, value = jnp.split(x, 2, axis=-1)
    return nn.silu(gate) * value


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu_tanh": nn.gelu,
    "gelu": partial(nn.gelu, approximate=False),
    "quick_gelu": quick_gelu,
    "relu": nn.relu,
    "swiglu": swiglu,
}


class TransformerBlock(nn.Module):
    """Self-attention and an MLP, each with a residual connection.

    x [B, L, D], mask None or broadcastable to [B, heads, L, L] (True where attended) -> [B, L, D].
    `norm`: "pre" normalises the inputs of the two, "post" each sum (arXiv 1810.04805).
    `layer_scale`: a learnt factor for each channel of what the two add (arXiv 2103.17239).
    """

    num_heads: int
    norm: Literal["pre", "post"] = "pre"
    activation: str = "gelu_tanh"
    mlp_width: int = 0
    norm_epsilon: float = 1e-6
    layer_scale: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        b, length, width = x.shape
        dense = lambda n, name: Dense(n, dtype=self.dtype, name=name)  # noqa: E731
        heads = (b, length, self.num_heads, width // self.num_heads)

        def norm(x: jax.Array, name: str) -> jax.Array:
            return nn.LayerNorm(self.norm_epsilon, dtype=jnp.float32, name=name)(x).astype(self.dtype)

        def scaled(y: jax.Array, name: str) -> jax.Array:
            if not self.layer_scale:
                return y
            return y * self.param(name, nn.initializers.ones, (width,)).astype(self.dtype)

        def attend(y: jax.Array) -> jax.Array:
            q, k, v = (a.reshape(heads) for a in jnp.split(dense(3 * width, "qkv")(y), 3, axis=-1))
            y = jax.nn.dot_product_attention(q, k, v, mask=mask).reshape(b, length, width)
            return scaled(dense(width, "out")(y), "scale_attn")

        def mlp(y: jax.Array) -> jax.Array:
            hidden = dense(self.mlp_width or 4 * width, "mlp_in")(y)
            return scaled(dense(width, "mlp_out")(ACTIVATIONS[self.activation](hidden)), "scale_mlp")

        if self.norm == "post":
            x = norm(x + attend(x), "norm_attn")
            return norm(x + mlp(x), "norm_mlp")
        x = x + attend(norm(x, "norm_attn"))
        return x + mlp(norm(x, "norm_mlp"))


class TextEncoder(nn.Module):
    """tokens [B, L] int32, mask [B, L] bool -> Text. L may be anything up to `max_length`.

    With `norm` "pre" a norm follows the last layer; with "post" the embeddings are normalised instead.
    `mlp_width` 0 is four times the width. `activation` is a key of ACTIVATIONS: "gelu_tanh" approximates "gelu".
    With `causal` a token attends to itself and to those before it.
    `scan_layers` runs one compiled layer in a loop over the same parameters, so 24 layers compile as fast as one.
    """

    vocab_size: int = 21128
    max_length: int = 77
    width: int = 2048
    num_layers: int = 24
    num_heads: int = 32
    norm: Literal["pre", "post"] = "pre"
    activation: str = "gelu_tanh"
    mlp_width: int = 0
    norm_epsilon: float = 1e-6
    causal: bool = False
    remat: bool = False
    scan_layers: bool = False
    dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        for field, known in (("norm", ("pre", "post")), ("activation", tuple(ACTIVATIONS))):
            if getattr(self, field) not in known:
                raise ValueError(
                    f"model.text_encoder.{field}={getattr(self, field)!r} is not one of {', '.join(known)}"
                )
        super().__post_init__()

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array) -> Text:
        if tokens.shape[1] > self.max_length:
            raise ValueError(f"{tokens.shape[1]} tokens, but the text encoder has {self.max_length} positions")
        init = nn.initializers.normal(0.02)
        embed = nn.Embed(self.vocab_size, self.width, embedding_init=init, dtype=self.dtype, name="tokens")
        positions = self.param("positions", init, (self.max_length, self.width))
        x = embed(tokens) + positions[: tokens.shape[1]].astype(self.dtype)
        norm = partial(nn.LayerNorm, self.norm_epsilon, dtype=jnp.float32)
        if self.norm == "post":
            x = norm(name="norm_embed")(x).astype(self.dtype)
        attend = mask[:, None, None, :]
        if self.causal:
            attend = attend & jnp.tri(tokens.shape[1], dtype=bool)
        names = [f"layer_{i:02d}" for i in range(self.num_layers)]
        if self.scan_layers and not self.is_initializing():
            x = self._scan(x, attend, [self.variables["params"][name] for name in names])
        else:
            block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
            for name in names:
                x = block(**self._layer, name=name)(x, attend)
        features = x.astype(jnp.float32) if self.norm == "post" else norm(name="norm_out")(x)
        weight = mask[..., None].astype(jnp.float32)
        pooled = (features * weight).sum(1) / jnp.maximum(weight.sum(1), 1.0)
        return Text(features.astype(self.dtype), mask, pooled.astype(self.dtype))

    @property
    def _layer(self) -> dict[str, Any]:
        fields = ("num_heads", "norm", "activation", "mlp_width", "norm_epsilon", "dtype")
        return {field: getattr(self, field) for field in fields}

    def _scan(self, x: jax.Array, mask: jax.Array, layers: list[Any]) -> jax.Array:
        layer = TransformerBlock(**self._layer, parent=None)

        def body(x: jax.Array, params: Any) -> tuple[Any, None]:
            return layer.apply({"params": params}, x, mask), None

        if self.remat:
            body = jax.checkpoint(body, prevent_cse=False)
        return jax.lax.scan(body, x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers))[0]

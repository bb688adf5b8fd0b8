"""The knowledge-enhanced U-Net: ADM blocks with joint text-image attention.

    x, t, text -> conv_in -> down levels -> middle -> up levels (skips) -> norm, SiLU, conv_out -> prediction

Sizes from the paper: 512 base channels, multipliers (1, 2, 3, 4), 3 residual blocks a level, attention at downsamplings
2, 4 and 8, 64 channels a head: 2.238B parameters (see tests/models/test_sizes.py). That the blocks are ADM's (arXiv
2105.05233) is inferred from this count.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from ernie_vilg_jax.models.attention import HEAVY, Attention, JointAttention, plain_attention
from ernie_vilg_jax.models.convolution import Conv
from ernie_vilg_jax.models.layers import GroupNorm

Dtype = jax.typing.DTypeLike
zeros = nn.initializers.zeros


def timestep_embedding(timesteps: jax.Array, dim: int, max_period: float = 10_000.0) -> jax.Array:
    """Sinusoidal features of `timesteps` [B] (training units, 0..T-1) -> [B, dim] fp32."""
    half = dim // 2
    frequencies = jnp.exp(-jnp.log(max_period) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class ResBlock(nn.Module):
    """ADM residual block: norm, SiLU, (resample), conv; scale-shift by the embedding; norm, SiLU, conv; skip.

    x [B, h, w, C], emb [B, E] -> [B, h', w', channels]; `resample` is '', 'down' (h/2) or 'up' (2h).
    """

    channels: int
    resample: str = ""
    dropout: float = 0.0
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, emb: jax.Array, deterministic: bool) -> jax.Array:
        conv = lambda c, k, name, **kw: Conv(c, (k, k), dtype=self.dtype, name=name, **kw)  # noqa: E731
        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_in")(x))
        if self.resample:
            h, x = (_resample(a, self.resample) for a in (h, x))
        h = checkpoint_name(conv(self.channels, 3, "conv_in")(h), HEAVY)
        scale_shift = nn.Dense(2 * self.channels, dtype=self.dtype, name="emb")(nn.silu(emb))
        scale, shift = jnp.split(scale_shift[:, None, None, :], 2, axis=-1)
        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_out")(h) * (1 + scale) + shift)
        h = nn.Dropout(self.dropout)(h, deterministic=deterministic)
        h = checkpoint_name(conv(self.channels, 3, "conv_out", kernel_init=zeros)(h), HEAVY)
        if x.shape[-1] != self.channels:
            x = conv(self.channels, 1, "skip")(x)
        return x + h


def _resample(x: jax.Array, how: str) -> jax.Array:
    b, h, w, c = x.shape
    if how == "down":
        return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


class UNet(nn.Module):
    """One denoising expert.

    Args of the call:
      x: noisy latents [B, h, w, latent_channels]; h and w must be multiples of 2**(levels - 1).
      timesteps: [B] int, in [0, T).
      text: text features [B, L, D]; text_mask: [B, L] bool, False on padding; pooled: [B, D].
      token_weight: [B, L], by which the attention to each token is multiplied (training only); see `token_weight_on`.
    Returns the prediction [B, h, w, latent_channels] in fp32.

    `remat` keeps only the inputs of blocks for the backward pass and recomputes the rest; `remat_keep` 'heavy' also
    keeps the results of convolutions and projections, and recomputes only what is cheap.
    """

    base_channels: int = 512
    channel_multipliers: tuple[int, ...] = (1, 2, 3, 4)
    num_res_blocks: int = 3
    attention_downsamplings: tuple[int, ...] = (2, 4, 8)
    head_channels: int = 64
    latent_channels: int = 4
    dropout: float = 0.0
    pooled_text: bool = True
    token_weight_on: Literal["logits", "softmax"] = "logits"
    remat: bool = False
    remat_keep: Literal["nothing", "heavy"] = "nothing"
    attention: Attention = plain_attention
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        timesteps: jax.Array,
        text: jax.Array,
        text_mask: jax.Array,
        pooled: jax.Array,
        token_weight: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        smallest = 2 ** (len(self.channel_multipliers) - 1)
        if x.shape[1] % smallest or x.shape[2] % smallest:
            raise ValueError(f"latents of {x.shape[1]}x{x.shape[2]} must be multiples of {smallest} (unet levels)")
        res_class, attention_class = ResBlock, JointAttention
        if self.remat:
            keep = jax.checkpoint_policies.save_only_these_names(HEAVY) if self.remat_keep == "heavy" else None
            # Positions of static arguments count the module itself as 0: (self, x, emb, deterministic).
            res_class = nn.remat(ResBlock, static_argnums=(3,), policy=keep)
            attention_class = nn.remat(JointAttention, policy=keep)

        def res(h: jax.Array, channels: int, name: str, resample: str = "") -> jax.Array:
            block = res_class(channels, resample=resample, dropout=self.dropout, dtype=self.dtype, name=name)
            return block(h, emb, deterministic)

        def attend(h: jax.Array, name: str) -> jax.Array:
            image_mask = jnp.ones((h.shape[0], h.shape[1] * h.shape[2]), bool)
            mask = jnp.concatenate([text_mask, image_mask], axis=1)[:, None, None, :]
            how = {"weight_on": self.token_weight_on, "attention": self.attention}
            block = attention_class(self.head_channels, **how, dtype=self.dtype, name=name)
            return block(h, text, mask, token_weight)

        width = 4 * self.base_channels
        emb = timestep_embedding(timesteps, self.base_channels).astype(self.dtype)
        emb = nn.Dense(width, dtype=self.dtype, name="time_in")(emb)
        emb = nn.Dense(width, dtype=self.dtype, name="time_out")(nn.silu(emb))
        text = text.astype(self.dtype)
        if self.pooled_text:
            emb = emb + nn.Dense(width, dtype=self.dtype, name="pooled")(pooled.astype(self.dtype))

        h = Conv(self.base_channels, (3, 3), dtype=self.dtype, name="conv_in")(x.astype(self.dtype))
        skips = [h]
        last = len(self.channel_multipliers) - 1
        for level, multiplier in enumerate(self.channel_multipliers):
            for i in range(self.num_res_blocks):
                h = res(h, multiplier * self.base_channels, f"down_{level}_res_{i}")
                if 2**level in self.attention_downsamplings:
                    h = attend(h, f"down_{level}_attn_{i}")
                skips.append(h)
            if level < last:
                h = res(h, h.shape[-1], f"down_{level}_resample", "down")
                skips.append(h)

        h = res(h, h.shape[-1], "mid_res_0")
        h = attend(h, "mid_attn")
        h = res(h, h.shape[-1], "mid_res_1")

        for level, multiplier in reversed(list(enumerate(self.channel_multipliers))):
            for i in range(self.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = res(h, multiplier * self.base_channels, f"up_{level}_res_{i}")
                if 2**level in self.attention_downsamplings:
                    h = attend(h, f"up_{level}_attn_{i}")
            if level:
                h = res(h, h.shape[-1], f"up_{level}_resample", "up")

        h = nn.silu(GroupNorm(dtype=self.dtype, name="norm_out")(h))
        # The last layer is fp32: the prediction is compared with unit-variance noise, and bf16 would round at 1/256 of
        # it. On TPU, fp32 without "highest" would still round the factors of products to bf16.
        exact: Any = {"dtype": jnp.float32, "precision": "highest"}
        conv_out = Conv(self.latent_channels, (3, 3), **exact, kernel_init=zeros, name="conv_out")
        return conv_out(h.astype(jnp.float32))

"""The KL autoencoder that turns images into latents (arXiv 2112.10752, appendix G.1), trained first and then frozen.

With `patch_size` 1 the layout is that of Stable Diffusion's AutoencoderKL, and such weights can be imported
(docs/weights.md). A larger patch moves pixels into channels before the first convolution and back after the last one,
because full-resolution convolutions are too expensive for a small machine.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ernie_vilg_jax.models.convolution import Conv
from ernie_vilg_jax.models.layers import Dense, GroupNorm

Dtype = jax.typing.DTypeLike
PRECISIONS = ("default", "high", "highest")


class Posterior(NamedTuple):
    """Diagonal Gaussian over latents: mean and log-variance, each [B, h, w, latent_channels] fp32."""

    mean: jax.Array
    log_variance: jax.Array

    def sample(self, noise: jax.Array) -> jax.Array:
        """A draw, from unit-variance noise of the shape of the mean."""
        return self.mean + jnp.exp(0.5 * self.log_variance) * noise

    def kl(self) -> jax.Array:
        """KL divergence to N(0, 1) of each sample, summed over its latents, in nats: [B]."""
        terms = jnp.square(self.mean) + jnp.exp(self.log_variance) - 1.0 - self.log_variance
        return 0.5 * terms.sum((1, 2, 3))


def _norm(module: Any, name: str) -> GroupNorm:
    """A GroupNorm with the settings of the module around it."""
    fast = not module.two_pass_norm
    return GroupNorm(module.norm_groups, epsilon=1e-6, fast_variance=fast, dtype=module.dtype, name=name)


class Resnet(nn.Module):
    """Norm, SiLU, conv, twice, with a skip: [B, h, w, C] -> [B, h, w, channels]."""

    channels: int
    norm_groups: int = 32
    two_pass_norm: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = partial(_norm, self)
        h = nn.silu(norm("norm_0")(x))
        h = Conv(self.channels, (3, 3), dtype=self.dtype, name="conv_0")(h)
        h = nn.silu(norm("norm_1")(h))
        h = Conv(self.channels, (3, 3), dtype=self.dtype, name="conv_1")(h)
        if x.shape[-1] != self.channels:
            x = Conv(self.channels, (1, 1), dtype=self.dtype, name="skip")(x)
        return x + h


class SelfAttention(nn.Module):
    """Single-head attention over image positions, with its residual connection: [B, h, w, C] -> same."""

    norm_groups: int = 32
    two_pass_norm: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        y = _norm(self, "norm")(x).reshape(b, h * w, 1, c)
        q, k, v = (Dense(c, dtype=self.dtype, name=name)(y) for name in ("query", "key", "value"))
        y = attention_in_pieces(q, k, v).reshape(b, h, w, c)
        return x + Dense(c, dtype=self.dtype, name="out")(y)


def attention_in_pieces(q: jax.Array, k: jax.Array, v: jax.Array, queries: int = 1024) -> jax.Array:
    """Attention [B, N, heads, d] that holds the logits of only `queries` queries at a time, if there are many more.

    At 1024 pixels there are 16,384 positions, and the logits of one image would take 1 GiB.
    """
    positions = q.shape[1]
    if positions <= 4 * queries or positions % queries:
        return jax.nn.dot_product_attention(q, k, v)
    pieces = q.reshape(q.shape[0], -1, queries, *q.shape[2:]).swapaxes(0, 1)
    some = jax.checkpoint(lambda piece: jax.nn.dot_product_attention(piece, k, v))
    return jax.lax.map(some, pieces).swapaxes(0, 1).reshape(q.shape)


class Encoder(nn.Module):
    """Image features at patch resolution -> moments [B, h, w, 2 * latent_channels]."""

    channels: tuple[int, ...]
    num_res_blocks: int
    latent_channels: int
    norm_groups: int = 32
    two_pass_norm: bool = True
    remat: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        settings: Any = {"norm_groups": self.norm_groups, "two_pass_norm": self.two_pass_norm, "dtype": self.dtype}
        res = partial(nn.remat(Resnet) if self.remat else Resnet, **settings)
        h = Conv(self.channels[0], (3, 3), dtype=self.dtype, name="conv_in")(x)
        for level, channels in enumerate(self.channels):
            for i in range(self.num_res_blocks):
                h = res(channels, name=f"down_{level}_res_{i}")(h)
            if level < len(self.channels) - 1:
                # One pixel of padding on the far side only, as in latent diffusion.
                name, pad = f"down_{level}_conv", ((0, 1), (0, 1))
                h = Conv(channels, (3, 3), (2, 2), padding=pad, dtype=self.dtype, name=name)(h)
        h = res(self.channels[-1], name="mid_res_0")(h)
        h = SelfAttention(**settings, name="mid_attn")(h)
        h = res(self.channels[-1], name="mid_res_1")(h)
        h = nn.silu(_norm(self, "norm_out")(h))
        h = Conv(2 * self.latent_channels, (3, 3), dtype=jnp.float32, name="conv_out")(h)
        return Conv(2 * self.latent_channels, (1, 1), dtype=jnp.float32, name="quant")(h)


class Decoder(nn.Module):
    """Latents [B, h, w, latent_channels] -> image features at patch resolution, fp32."""

    channels: tuple[int, ...]
    num_res_blocks: int
    out_channels: int
    latent_channels: int
    norm_groups: int = 32
    two_pass_norm: bool = True
    remat: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, latents: jax.Array) -> jax.Array:
        settings: Any = {"norm_groups": self.norm_groups, "two_pass_norm": self.two_pass_norm, "dtype": self.dtype}
        res = partial(nn.remat(Resnet) if self.remat else Resnet, **settings)
        h = Conv(self.latent_channels, (1, 1), dtype=self.dtype, name="post_quant")(latents)
        h = Conv(self.channels[-1], (3, 3), dtype=self.dtype, name="conv_in")(h)
        h = res(self.channels[-1], name="mid_res_0")(h)
        h = SelfAttention(**settings, name="mid_attn")(h)
        h = res(self.channels[-1], name="mid_res_1")(h)
        for level, channels in reversed(list(enumerate(self.channels))):
            for i in range(self.num_res_blocks + 1):
                h = res(channels, name=f"up_{level}_res_{i}")(h)
            if level:
                h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)
                h = Conv(channels, (3, 3), dtype=self.dtype, name=f"up_{level}_conv")(h)
        h = nn.silu(_norm(self, "norm_out")(h))
        return Conv(self.out_channels, (3, 3), dtype=jnp.float32, name="conv_out")(h)


class Autoencoder(nn.Module):
    """Images [B, H, W, 3] in [-1, 1] <-> latents [B, H/f, W/f, latent_channels], f = `downsampling`.

    `norm_groups`: of every GroupNorm; halved until they divide the channels.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    num_res_blocks: int = 2
    latent_channels: int = 4
    patch_size: int = 1
    norm_groups: int = 32
    two_pass_norm: bool = True
    remat: bool = False
    precision: str = "high"
    dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"model.autoencoder.precision={self.precision!r} must be one of {', '.join(PRECISIONS)}")
        if self.norm_groups < 1:
            raise ValueError(f"model.autoencoder.norm_groups={self.norm_groups} must be at least 1")
        super().__post_init__()

    @property
    def downsampling(self) -> int:
        return self.patch_size * 2 ** (len(self.channels) - 1)

    def setup(self) -> None:
        sizes: dict[str, Any] = {
            name: getattr(self, name) for name in ("latent_channels", "norm_groups", "two_pass_norm", "remat", "dtype")
        }
        self.encoder = Encoder(self.channels, self.num_res_blocks, **sizes)
        self.decoder = Decoder(self.channels, self.num_res_blocks, out_channels=3 * self.patch_size**2, **sizes)

    def encode(self, images: jax.Array) -> Posterior:
        if images.shape[1] % self.downsampling or images.shape[2] % self.downsampling:
            raise ValueError(f"images of {images.shape[1:3]} must be multiples of {self.downsampling} (autoencoder)")
        with jax.default_matmul_precision(self.precision):
            moments = self.encoder(_to_patches(images.astype(self.dtype), self.patch_size))
        mean, log_variance = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return Posterior(mean, jnp.clip(log_variance, -30.0, 20.0))

    def decode(self, latents: jax.Array) -> jax.Array:
        with jax.default_matmul_precision(self.precision):
            return _from_patches(self.decoder(latents.astype(self.dtype)), self.patch_size)

    def __call__(self, images: jax.Array, key: jax.Array) -> tuple[jax.Array, Posterior]:
        """Reconstruction [B, H, W, 3] fp32 through a sampled latent, and the posterior."""
        posterior = self.encode(images)
        return self.decode(posterior.sample(jax.random.normal(key, posterior.mean.shape))), posterior


def _to_patches(x: jax.Array, p: int) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // p, w // p, p * p * c)


def _from_patches(x: jax.Array, p: int) -> jax.Array:
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, p, p, c // p**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * p, w * p, c // p**2)

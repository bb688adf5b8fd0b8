"""The whole model of one config: modules, schedule and stages, and the functions that combine them.

images --encode--> latents --(noise, U-Net experts)--> latents --decode--> images
tokens --text encoder--> Text (features, mask, pooled), seen by every expert
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.diffusion.schedule import Denoised, Kind, Schedule, make_schedule
from ernie_vilg_jax.diffusion.stages import Stages, make_stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.models.attention import plain_attention
from ernie_vilg_jax.models.autoencoder import Autoencoder, Posterior
from ernie_vilg_jax.models.shapes import traced_once
from ernie_vilg_jax.models.text_encoder import Text, TextEncoder
from ernie_vilg_jax.models.unet import UNet
from ernie_vilg_jax.sharding.splash_attention import make_attention


class ModelParams(NamedTuple):
    """The parameters of a trained model that sampling needs."""

    autoencoder: Params  # {"params", "mean" [c], "std" [c]}
    text_encoder: Params
    experts: Sequence[Params]


@dataclasses.dataclass(frozen=True)
class Model:
    """The modules of a config; parameters are arguments, never attributes."""

    autoencoder: Autoencoder
    text_encoder: TextEncoder
    unet: UNet
    schedule: Schedule
    stages: Stages
    image_size: int
    prediction_type: Kind = "epsilon"
    """The U-Net's prediction type."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """[h, w, c] of the latents of a square of `image_size`."""
        return self.latent_shape_of(self.image_size, self.image_size)

    def latent_shape_of(self, height: int, width: int) -> tuple[int, int, int]:
        """[h, w, c] of the latents of an image of so many pixels."""
        factor = self.autoencoder.downsampling
        return height // factor, width // factor, self.autoencoder.latent_channels

    @property
    def remat(self) -> bool:
        """Whether any part is recomputed in the backward pass."""
        return self.autoencoder.remat or self.text_encoder.remat or self.unet.remat

    def without_recomputation(self) -> "Model":
        """The same functions without recomputation in backward passes; for counting, because it may need more memory.

        The autoencoder's attention in pieces is unchanged: it has many positions above 512 pixels only.
        """
        return dataclasses.replace(
            self,
            autoencoder=self.autoencoder.clone(remat=False),
            text_encoder=self.text_encoder.clone(remat=False),
            unet=self.unet.clone(remat=False, attention=plain_attention),
        )

    def init_autoencoder(self, key: jax.Array) -> Params:
        return self.autoencoder.init(key, jnp.zeros((1, self.image_size, self.image_size, 3)), key)["params"]

    def init_text_encoder(self, key: jax.Array) -> Params:
        length = self.text_encoder.max_length
        return self.text_encoder.init(key, jnp.zeros((1, length), jnp.int32), jnp.ones((1, length), bool))["params"]

    def init_unet(self, key: jax.Array) -> Params:
        length, width = self.text_encoder.max_length, self.text_encoder.width
        text = Text(jnp.zeros((1, length, width)), jnp.ones((1, length), bool), jnp.zeros((1, width)))
        return self.unet.init(key, jnp.zeros((1, *self.latent_shape)), jnp.zeros(1, jnp.int32), *text)["params"]

    def abstract_autoencoder(self) -> Params:
        """Shapes of a frozen autoencoder: {"params", "mean" [c], "std" [c]}."""
        channels = jax.ShapeDtypeStruct((self.autoencoder.latent_channels,), jnp.float32)
        return {"params": self._abstract("autoencoder"), "mean": channels, "std": channels}

    def abstract_text_encoder(self) -> Params:
        """Shapes of `init_text_encoder`."""
        return self._abstract("text_encoder")

    def abstract_unet(self) -> Params:
        """Shapes of `init_unet`."""
        return self._abstract("unet")

    def _abstract(self, part: str) -> Params:
        modules = self.autoencoder, self.text_encoder, self.unet
        key = part, *modules, self.image_size
        return traced_once(key, getattr(self, f"init_{part}"))

    def posterior(self, autoencoder: Params, images: jax.Array) -> Posterior:
        """Images [B, H, W, 3], uint8 or in [-1, 1] -> the autoencoder's raw posterior over their latents."""
        images = to_float(images)
        posterior: Any = self.autoencoder.apply({"params": autoencoder["params"]}, images, method=Autoencoder.encode)
        return posterior

    def draw_latents(self, autoencoder: Params, posterior: Posterior, noise: jax.Array | None = None) -> jax.Array:
        """Unit-variance latents [B, h, w, c] fp32: drawn with `noise` [B, h, w, c], else the posterior's mean.

        `autoencoder` is {"params", "mean" [c], "std" [c]}; the last two make each channel zero-mean, unit-variance.
        """
        latents = posterior.mean if noise is None else posterior.sample(noise)
        return (latents - autoencoder["mean"]) / autoencoder["std"]

    def encode_image(self, autoencoder: Params, images: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        """Images [B, H, W, 3] -> unit-variance latents [B, h, w, c] fp32; `noise` as in `draw_latents`."""
        return self.draw_latents(autoencoder, self.posterior(autoencoder, images), noise)

    def decode(self, autoencoder: Params, latents: jax.Array) -> jax.Array:
        """Unit-variance latents [B, h, w, c] -> images [B, H, W, 3] in [-1, 1] fp32."""
        latents = latents * autoencoder["std"] + autoencoder["mean"]
        images: Any = self.autoencoder.apply({"params": autoencoder["params"]}, latents, method=Autoencoder.decode)
        return jnp.clip(images, -1.0, 1.0)

    def encode_text(self, text_encoder: Params, tokens: jax.Array, mask: jax.Array) -> Text:
        """tokens [B, L] int32, mask [B, L] bool -> Text."""
        text: Any = self.text_encoder.apply({"params": text_encoder}, tokens, mask)
        return text

    def prediction(
        self,
        unet: Params,
        x: jax.Array,
        t: jax.Array,
        text: Text,
        *,
        token_weight: jax.Array | None = None,
        dropout: jax.Array | None = None,
    ) -> jax.Array:
        """One expert's prediction, [B, h, w, c] fp32 of `prediction_type`, for noisy latents x at t [B].

        `token_weight` [B, L] and the key `dropout` are for training.
        """
        rngs = None if dropout is None else {"dropout": dropout}
        inputs = {"params": unet}, x, t, *text, token_weight
        prediction: Any = self.unet.apply(*inputs, deterministic=dropout is None, rngs=rngs)
        return prediction

    def predict(self, unet: Params, x: jax.Array, t: jax.Array, text: Text) -> Denoised:
        """(x0, epsilon) [B, h, w, c] fp32 by one expert, for noisy latents x at timesteps t [B], without guidance."""
        return self.schedule.denoised(x, self.prediction(unet, x, t, text), t, self.prediction_type)

    def target(self, latents: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
        """The target of `prediction` for `schedule.add_noise(latents, noise, t)`, [B, h, w, c] fp32."""
        return self.schedule.target(latents, noise, t, self.prediction_type)


def to_float(images: jax.Array) -> jax.Array:
    """uint8 images to [-1, 1] float32; others unchanged. Transfers of images as bytes take a quarter of the time."""
    return images.astype(jnp.float32) / 127.5 - 1.0 if images.dtype == jnp.uint8 else images


def build_model(config: ConfigDict) -> Model:
    """Builds every module of `config`. Raises UserError naming the invalid field."""
    dtype = jnp.dtype(config.dtype)
    model = config.model
    # Checkpoints older than this section do not need it.
    knowledge = config.get("knowledge") or default_config().knowledge
    kernel_from = model.get("attention_kernel_from", default_config().model.attention_kernel_from)
    for field, allowed in (("attention_weight_on", ("logits", "softmax")), ("loss_weight_on", ("error", "residual"))):
        if knowledge[field] not in allowed:
            raise UserError(f"--config.knowledge.{field}={knowledge[field]!r} must be {allowed[0]!r} or {allowed[1]!r}")
    diffusion = default_config().diffusion
    diffusion.update(config.diffusion)  # old checkpoints lack some of its fields
    check_diffusion(diffusion)
    try:
        schedule = make_schedule(
            diffusion.schedule,
            diffusion.num_timesteps,
            diffusion.beta_start,
            diffusion.beta_end,
            diffusion.zero_terminal_snr,
        )
        model = Model(
            # Always fp32: half precision in the autoencoder is known to give black images.
            autoencoder=Autoencoder(**model.autoencoder, dtype=jnp.float32),
            text_encoder=TextEncoder(
                **model.text_encoder,
                vocab_size=config.tokenizer.vocab_size,
                max_length=config.tokenizer.max_length,
                dtype=dtype,
            ),
            unet=UNet(
                **model.unet,
                latent_channels=model.autoencoder.latent_channels,
                token_weight_on=knowledge.attention_weight_on,
                attention=make_attention(kernel_from),
                dtype=dtype,
            ),
            schedule=schedule,
            stages=make_stages(_stages_spec(config.experts.stages), config.experts.n, schedule),
            image_size=model.image_size,
            prediction_type=diffusion.prediction_type,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if model.image_size % model.autoencoder.downsampling:
        factor = model.autoencoder.downsampling
        raise UserError(f"--config.model.image_size={model.image_size} must be a multiple of {factor} (autoencoder)")
    return model


def check_diffusion(section: ConfigDict) -> None:
    """Raises UserError naming fields of `config.diffusion` that are invalid, or cannot be combined."""
    kind, gamma = section.prediction_type, section.min_snr_gamma
    if kind not in get_args(Kind):
        raise UserError(f"--config.diffusion.prediction_type={kind!r} must be one of {', '.join(get_args(Kind))}")
    if section.zero_terminal_snr and kind == "epsilon":
        raise UserError(
            "--config.diffusion.zero_terminal_snr leaves no signal at the last timestep, where noise tells nothing of "
            "the image; add --config.diffusion.prediction_type=v"
        )
    if not 0 <= gamma < math.inf:
        raise UserError(f"--config.diffusion.min_snr_gamma={gamma} must be 0 (off) or above; 5 is usual")
    if gamma and section.zero_terminal_snr:
        raise UserError(
            "--config.diffusion.min_snr_gamma gives the last timestep of zero_terminal_snr, where sampling starts, "
            "the weight 0; leave one of the two out"
        )


def _stages_spec(text: str) -> str | tuple[int, ...]:
    """A name unchanged; "250,500,750" as numbers."""
    if not text[:1].isdigit():
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"experts.stages={text!r} must be a name, or whole numbers such as 250,500,750") from error

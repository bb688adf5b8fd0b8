"""The whole model of one config: modules, schedule and stages, and the few functions that join them.

images --encode--> latents --(noise, U-Net experts)--> latents --decode--> images
tokens --text encoder--> Text (features, mask, pooled), seen by every expert
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.diffusion.guidance import Numbers, guided
from ernie_vilg_jax.diffusion.inpainting import Known, keeping
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.sampling import sample
from ernie_vilg_jax.diffusion.schedule import Schedule, make_schedule
from ernie_vilg_jax.diffusion.stages import Stages, make_stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.models.autoencoder import Autoencoder, Posterior
from ernie_vilg_jax.models.text_encoder import Text, TextEncoder
from ernie_vilg_jax.models.unet import UNet
from ernie_vilg_jax.parallel.attention import make_attention
from ernie_vilg_jax.parallel.batches import Batches, spread
from ernie_vilg_jax.parallel.sampling import make_sampling
from ernie_vilg_jax.parallel.stepping import OnStep, Stepped
from ernie_vilg_jax.parallel.streaming import fetched

Params = Any


class Parts(NamedTuple):
    """What sampling needs of a trained model."""

    autoencoder: Params  # {"params", "mean" [c], "std" [c]}
    text_encoder: Params
    experts: Sequence[Params]


@dataclasses.dataclass(frozen=True)
class System:
    """The modules of a config; parameters are handed in, never held."""

    autoencoder: Autoencoder
    text_encoder: TextEncoder
    unet: UNet
    schedule: Schedule
    stages: Stages
    image_size: int

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """[h, w, c] of one image's latents."""
        side = self.image_size // self.autoencoder.downsampling
        return side, side, self.autoencoder.latent_channels

    def init_autoencoder(self, key: jax.Array) -> Params:
        images = jnp.zeros((1, self.image_size, self.image_size, 3))
        return self.autoencoder.init(key, images, key)["params"]

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
        params = jax.eval_shape(self.init_autoencoder, jax.random.key(0))
        return {"params": params, "mean": channels, "std": channels}

    def posterior(self, autoencoder: Params, images: jax.Array) -> Posterior:
        """Images [B, H, W, 3] in [-1, 1] -> the autoencoder's raw posterior over their latents."""
        posterior: Any = self.autoencoder.apply({"params": autoencoder["params"]}, images, method=Autoencoder.encode)
        return posterior

    def draw_latents(self, autoencoder: Params, posterior: Posterior, key: jax.Array | None = None) -> jax.Array:
        """Unit-variance latents [B, h, w, c] fp32: sampled with `key`, else the posterior's mean.

        `autoencoder` is {"params", "mean" [c], "std" [c]}; the last two make each channel zero-mean, unit-variance.
        """
        latents = posterior.mean if key is None else posterior.sample(key)
        return (latents - autoencoder["mean"]) / autoencoder["std"]

    def encode(self, autoencoder: Params, images: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] -> unit-variance latents [B, h, w, c] fp32; `key` as in `draw_latents`."""
        return self.draw_latents(autoencoder, self.posterior(autoencoder, images), key)

    def decode(self, autoencoder: Params, latents: jax.Array) -> jax.Array:
        """Unit-variance latents [B, h, w, c] -> images [B, H, W, 3] in [-1, 1] fp32."""
        latents = latents * autoencoder["std"] + autoencoder["mean"]
        images: Any = self.autoencoder.apply({"params": autoencoder["params"]}, latents, method=Autoencoder.decode)
        return jnp.clip(images, -1.0, 1.0)

    def read(self, text_encoder: Params, tokens: jax.Array, mask: jax.Array) -> Text:
        """tokens [B, L] int32, mask [B, L] bool -> Text."""
        text: Any = self.text_encoder.apply({"params": text_encoder}, tokens, mask)
        return text

    def predict(
        self,
        unet: Params,
        x: jax.Array,
        t: jax.Array,
        text: Text,
        *,
        token_weight: jax.Array | None = None,
        dropout: jax.Array | None = None,
    ) -> jax.Array:
        """epsilon [B, h, w, c] fp32 of one expert, for noisy latents x at timesteps t [B].

        `token_weight` [B, L] and the key `dropout` are for training.
        """
        rngs = None if dropout is None else {"dropout": dropout}
        inputs = {"params": unet}, x, t, *text, token_weight
        epsilon: Any = self.unet.apply(*inputs, deterministic=dropout is None, rngs=rngs)
        return epsilon

    def denoise(
        self,
        unet: Params,
        x: jax.Array,
        t: jax.Array,
        text: Text,
        shared: tuple[Text, float | jax.Array | Numbers],
        known: Known | None = None,
    ) -> jax.Array:
        """`predict` with guidance; `shared` is the null text and the guidance (`guided` has the rules).

        `known` is what the clean latents are known to be, in inpainting.
        """
        answer = guided(lambda x, t, text: self.predict(unet, x, t, text), text, *shared, self.schedule)
        return answer(x, t) if known is None else keeping(answer, self.schedule, known)(x, t)

    def generate(
        self,
        parts: Parts,
        stages: Stages,
        sampler: Sampler,
        tokens: jax.Array,
        mask: jax.Array,
        null: tuple[jax.Array, jax.Array],
        noise: jax.Array,
        guidance: float | jax.Array | Numbers,
        key: jax.Array,
        known: Known | None = None,
    ) -> jax.Array:
        """Prompts to images, in one program: read, sample with the expert of each stage, decode.

        Args:
          parts: the parameters; parts.experts[i] is in charge of stages' stage i.
          tokens, mask: [B, L] the prompts; null: the same [1, L] of the empty prompt, or [B, L] of negative prompts.
          noise: [B, h, w, c], what the sampler begins with: unit-variance noise, or a picture's latents with noise.
          guidance: as `guided` takes it; the Python number 1 means none (and no second half of the batch).
          key: randomness of stochastic samplers, one or [B].
          known: what of the latents is known, in inpainting.

        Returns:
          [B, H, W, 3] fp32 in [-1, 1].
        """
        text = self.read(parts.text_encoder, tokens, mask)
        null_text = self.read(parts.text_encoder, *null)

        def apply(unet: Params, x: jax.Array, t: jax.Array) -> jax.Array:
            return self.denoise(unet, x, t, text, (null_text, guidance), known)

        return self.decode(parts.autoencoder, sample(parts.experts, apply, stages, sampler, noise, key))


# Compiled once for all generators of a system.
_read = jax.jit(System.read, static_argnums=0)
_decode = jax.jit(System.decode, static_argnums=0)


class Generator:
    """`System.generate` for many batches, in any mode of `parallel.sampling`: reads all prompts, samples, decodes.

    In streamed mode the text encoder and the autoencoder are fetched and freed like the experts, so that no more than
    one of them is on the device beside the latents.

    With `on_step` (not pipelined), the steps are run one by one: see `parallel.stepping`. `look(unet, x, t, text)` is
    then asked before each, and its answers are in `Step.seen`.
    """

    def __init__(
        self,
        system: System,
        mode: str,
        stages: Stages,
        sampler: Sampler,
        *,
        mesh: Mesh | None = None,
        look: Callable[[Params, jax.Array, jax.Array, Text], Any] | None = None,
    ) -> None:
        def predict(unet: Params, x: jax.Array, t: jax.Array, text: tuple[Text, Text | None], shared: Any) -> jax.Array:
            words, negative = text
            null_text, guidance, known = shared
            null_text = null_text if negative is None else negative
            return system.denoise(unet, x, t, words, (null_text, guidance), known)

        def look_at(unet: Params, x: jax.Array, t: jax.Array, text: tuple[Text, Text | None], shared: Any) -> Any:
            return None if look is None else look(unet, x, t, text[0])

        # What is cut over a mesh is gathered by the chips themselves: nothing to overlap.
        prefetch = mesh is None or mesh.shape["fsdp"] == 1
        self.sampling = make_sampling(mode, predict, stages, sampler, mesh=mesh, prefetch=prefetch)
        self.stepped = Stepped(predict, system.schedule, stages, sampler, mesh, mode == "streamed", look_at)
        self.mesh = mesh
        self._hold: Any = partial(fetched, mesh=mesh) if mode == "streamed" else contextlib.nullcontext
        self._read, self._decode = partial(_read, system), partial(_decode, system)

    def __call__(
        self,
        parts: Parts,
        tokens: np.ndarray,
        mask: np.ndarray,
        null: tuple[np.ndarray, np.ndarray],
        noise: jax.Array,
        guidance: float | jax.Array | Numbers,
        keys: jax.Array,
        *,
        known: Known | None = None,
        on_step: OnStep | None = None,
    ) -> np.ndarray:
        """Images [M, b, H, W, 3] fp32 in [-1, 1].

        Args:
          parts: parts.experts as the mode's sampling wants them (`make_sampling`); streamed: all parts are Sources.
          tokens, mask: [M, b, L] the prompts.
          null: the same [1, L] of the empty prompt, or [M, b, L] of negative prompts, one for each picture.
          noise: [M, b, h, w, c], what the sampler begins with; keys: [M] or [M, b].
          guidance: `Guidance.numbers`, or the scale alone, as an array. New numbers compile nothing; what is None in
            `Numbers` is not in the program.
          known: what of the latents is known, of all pictures alike ([1, h, w, ...]), in inpainting.
          on_step: called on the host after each step.
        """
        negative = null[0].ndim == 3
        if self.mesh is not None:
            tokens, mask, noise = spread((tokens, mask, noise), self.mesh)
            null = spread(null, self.mesh) if negative else null
        with self._hold(parts.text_encoder) as params:
            read = lambda tokens, mask: jax.tree.map(  # noqa: E731
                lambda *leaves: jnp.stack(leaves),
                *(self._read(params, *words) for words in zip(tokens, mask, strict=True)),
            )
            text = read(tokens, mask), read(*null) if negative else None
            shared = None if negative else self._read(params, *null), guidance, known
            jax.block_until_ready((text, shared))
        batches = Batches(noise, text, shared, keys)
        if on_step is None:
            return self.decode(parts, self.sampling(parts.experts, batches))
        return self.decode(parts, self.stepped(parts.experts, batches, on_step))

    def decode(self, parts: Parts, latents: Iterable[jax.Array]) -> np.ndarray:
        """Images [M, b, H, W, 3] fp32 in [-1, 1] of M batches of latents [b, h, w, c]."""
        with self._hold(parts.autoencoder) as params:
            return np.stack([np.asarray(self._decode(params, batch)) for batch in latents])


def build_system(config: ConfigDict) -> System:
    """Builds every module of `config`. Raises UserError naming the field that makes no sense."""
    dtype = jnp.dtype(config.dtype)
    model = config.model
    # Checkpoints older than this section have no use for it.
    knowledge = config.get("knowledge") or default_config().knowledge
    kernel_from = model.get("attention_kernel_from", default_config().model.attention_kernel_from)
    for field, allowed in (("attention_weight_on", ("logits", "softmax")), ("loss_weight_on", ("error", "residual"))):
        if knowledge[field] not in allowed:
            raise UserError(f"--config.knowledge.{field}={knowledge[field]!r} must be {allowed[0]!r} or {allowed[1]!r}")
    try:
        schedule = make_schedule(
            config.diffusion.schedule,
            config.diffusion.num_timesteps,
            config.diffusion.beta_start,
            config.diffusion.beta_end,
        )
        system = System(
            # Always fp32: half precision in the autoencoder is what has given others black images.
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
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if model.image_size % system.autoencoder.downsampling:
        factor = system.autoencoder.downsampling
        raise UserError(f"--config.model.image_size={model.image_size} must be a multiple of {factor} (autoencoder)")
    return system


def _stages_spec(text: str) -> str | tuple[int, ...]:
    """A name as it is; "250,500,750" as numbers."""
    if not text[:1].isdigit():
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"experts.stages={text!r} must be a name, or whole numbers such as 250,500,750") from error

"""Prompts to images with a bank of experts: end to end in one program, or in any mode for many batches."""

import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ernie_vilg_jax.diffusion.guidance import Numbers, guided
from ernie_vilg_jax.diffusion.inpainting import Known, keeping
from ernie_vilg_jax.diffusion.loop import sample
from ernie_vilg_jax.diffusion.samplers import Sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.model import Model, ModelParams, Params
from ernie_vilg_jax.models.text_encoder import Text
from ernie_vilg_jax.sampling.inputs import Inputs, OnStep, place
from ernie_vilg_jax.sampling.modes import make_executor
from ernie_vilg_jax.sampling.turns import fetched

Look = Callable[[Params, jax.Array, jax.Array, Text], Any]
"""look(unet, x, t, text) -> pytree, of the current expert: see `Generator`."""


def guided_prediction(
    model: Model,
    unet: Params,
    x: jax.Array,
    t: jax.Array,
    text: Text,
    shared: tuple[Text, float | jax.Array | Numbers],
    known: Known | None = None,
) -> Denoised:
    """`Model.predict` with guidance; `shared` is the null text and the guidance (`guided` has the rules).

    `known` is the known part of the clean latents, in inpainting.
    """
    network = lambda x, t, text: model.prediction(unet, x, t, text)  # noqa: E731
    predict = guided(network, text, *shared, model.schedule, model.prediction_type)
    return predict(x, t) if known is None else keeping(predict, model.schedule, known)(x, t)


def generate(
    model: Model,
    params: ModelParams,
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
    """Prompts to images, in one program: encode, sample with the expert of each stage, decode.

    Args:
      params: the parameters; params.experts[i] is in charge of stages' stage i.
      tokens, mask: [B, L] the prompts; null: the same [1, L] of the empty prompt, or [B, L] of negative prompts.
      noise: [B, h, w, c], the start of sampling: unit-variance noise, or an image's latents with noise.
      guidance: as `guided` takes it; the Python number 1 means none (and no second half of the batch).
      key: randomness of stochastic samplers, one or [B].
      known: the known part of the latents, in inpainting.

    Returns:
      [B, H, W, 3] fp32 in [-1, 1].
    """
    text = model.encode_text(params.text_encoder, tokens, mask)
    null_text = model.encode_text(params.text_encoder, *null)

    def apply(unet: Params, x: jax.Array, t: jax.Array) -> Denoised:
        return guided_prediction(model, unet, x, t, text, (null_text, guidance), known)

    return model.decode(params.autoencoder, sample(params.experts, apply, stages, sampler, noise, key))


def _predict(
    model: Model, unet: Params, x: jax.Array, t: jax.Array, text: tuple[Text, Text | None], shared: Any
) -> Denoised:
    words, negative = text
    null_text, guidance, known = shared
    null_text = null_text if negative is None else negative
    return guided_prediction(model, unet, x, t, words, (null_text, guidance), known)


def _look_at(look: Look, unet: Params, x: jax.Array, t: jax.Array, text: tuple[Text, Text | None], shared: Any) -> Any:
    return look(unet, x, t, text[0])


# Compiled once for all generators of a model.
_encode_text = jax.jit(Model.encode_text, static_argnums=0)
_decode = jax.jit(Model.decode, static_argnums=0)


class Generator:
    """`generate` for many batches, in any mode of `sampling.modes`: encodes all prompts, samples, decodes.

    In streamed mode the text encoder and the autoencoder are fetched and freed like the experts, so that at most one
    of them is on the device beside the latents.

    If it is `watched` (not pipelined), the steps are run one by one: see `sampling.stepwise`. `look(unet, x, t, text)`
    is then called before each, and its results are in `Step.seen`.
    """

    def __init__(
        self,
        model: Model,
        mode: str,
        stages: Stages,
        *,
        mesh: Mesh | None = None,
        look: Look | None = None,
        watched: bool = False,
    ) -> None:
        predict = partial(_predict, model)
        look_at = None if look is None else partial(_look_at, look)
        self.executor = make_executor(mode, predict, stages, mesh=mesh, look=look_at, watched=watched)
        self.mesh = mesh
        self._hold: Any = partial(fetched, mesh=mesh) if mode == "streamed" else contextlib.nullcontext
        self._encode_text, self._decode = partial(_encode_text, model), partial(_decode, model)

    def __call__(
        self,
        params: ModelParams,
        sampler: Sampler,
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
          params: params.experts as the mode's executor takes them (`make_executor`); streamed: all are lazy.
          sampler: how to sample; another of its kind does not recompile, whatever its steps, grid and numbers.
          tokens, mask: [M, b, L] the prompts.
          null: the same [1, L] of the empty prompt, or [M, b, L] of negative prompts, one for each image.
          noise: [M, b, h, w, c], the start of sampling; keys: [M] or [M, b].
          guidance: `Guidance.numbers`, or the scale alone, as an array. New numbers do not recompile; a None in
            `Numbers` is left out of the program.
          known: the known part of the latents, the same for all images ([1, h, w, ...]), in inpainting.
          on_step: called in Python after each step, if it is `watched`.
        """
        negative = null[0].ndim == 3
        if self.mesh is not None:
            tokens, mask, noise = place((tokens, mask, noise), self.mesh)
            null = place(null, self.mesh) if negative else null
        with self._hold(params.text_encoder) as text_encoder:

            def read(tokens: Any, mask: Any) -> Text:
                read = (self._encode_text(text_encoder, *words) for words in zip(tokens, mask, strict=True))
                return jax.tree.map(lambda *leaves: jnp.stack(leaves), *read)

            text = read(tokens, mask), read(*null) if negative else None
            shared = None if negative else self._encode_text(text_encoder, *null), guidance, known
            jax.block_until_ready((text, shared))
        return self.decode(params, self.executor(params.experts, sampler, Inputs(noise, text, shared, keys), on_step))

    def decode(self, params: ModelParams, latents: Iterable[jax.Array]) -> np.ndarray:
        """Images [M, b, H, W, 3] fp32 in [-1, 1] of M batches of latents [b, h, w, c]."""
        with self._hold(params.autoencoder) as autoencoder:
            return np.stack([np.asarray(self._decode(autoencoder, batch)) for batch in latents])

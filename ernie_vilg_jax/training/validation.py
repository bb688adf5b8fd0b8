"""Validation during training: the loss of each stage on fixed images, and previews of fixed prompts."""

import math
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from ernie_vilg_jax.data.loader import FixedExamples, fixed_examples
from ernie_vilg_jax.data.sizes import Size, sizes_of
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.diffusion.loop import sample
from ernie_vilg_jax.diffusion.loss import loss_per_sample
from ernie_vilg_jax.diffusion.samplers import make_sampler
from ernie_vilg_jax.diffusion.schedule import Denoised
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.model import Model, ModelParams, Params
from ernie_vilg_jax.sampling.generator import generate, guided_prediction
from ernie_vilg_jax.sharding import processes, rules
from ernie_vilg_jax.training.adapters import expert_average, scale_of, text_average
from ernie_vilg_jax.training.latents import piece_of, pieces_of
from ernie_vilg_jax.training.task import Batch, State

PREVIEW_STEPS = 25
_SEED = 1


class Validation(NamedTuple):
    """Fixed held-out images with their captions, in pieces sharded over the mesh; and the prompts of the previews.

    Attributes:
      count: images of this size.
      pieces: index of its first image -> piece: image uint8 [b, H, W, 3], tokens and token_mask [b, L], valid [b].
      prompts: tokens, mask [n, L] of the previews, null_tokens, null_mask [1, L] of the empty caption; on all devices.
      others: the same for images of other sizes.
    """

    count: int
    pieces: dict[int, Batch]
    prompts: Batch
    others: "tuple[Validation, ...]" = ()

    @property
    def size(self) -> Size:
        return Size(*self.pieces[0]["image"].shape[1:3])


def make_validation(
    config: ConfigDict, model: Model, tokenizer: Tokenizer, mesh: Mesh, examples: FixedExamples | None = None
) -> Validation:
    """Reads each process's part of the images and puts them onto its devices; by default, held-out ones.

    They have the sizes that the model is trained on; those of an autoencoder are squares.
    """
    if examples is None:
        examples = fixed_examples(config, tokenizer, "holdout", config.train.validation_samples, config.seed)
    prompts = [tokenizer.encode(prompt)[:2] for prompt in config.train.preview_prompts]
    tokens, masks = zip(*(prompts or [tokenizer.encode("")[:2]]), strict=True)
    null_tokens, null_mask = tokenizer.encode("")[:2]
    words = {"tokens": np.stack(tokens), "mask": np.stack(masks)}
    words |= {"null_tokens": null_tokens[None], "null_mask": null_mask[None]}
    placed = processes.to_all(words, rules.replicated(mesh))
    groups = [examples] if config.phase == "autoencoder" else examples.by_size(sizes_of(config))
    names = "image", "tokens", "token_mask"
    found = [Validation(len(group), dict(pieces_of(group, model, mesh, names)), placed) for group in groups]
    return found[0]._replace(others=tuple(found[1:]))


class Validator:
    """Validates the averages (EMA) of a diffusion task's state.

    Args:
      stages: those of the run; the phase `base` has one.
      trained: stage of each expert in the state's bank, in order.
    """

    def __init__(self, config: ConfigDict, model: Model, mesh: Mesh, stages: Stages, trained: tuple[int, ...]) -> None:
        self.config = config
        self.model = model
        self.mesh = mesh
        self.stages = stages
        self.trained = trained
        self.sizes = sizes_of(config)
        self._scale = scale_of(config)
        if stages.n == 1:
            # The U-Net of `base` is tested on every stage of the config.
            self._validated, self._slots = tuple(range(model.stages.n)), (0,) * model.stages.n
        else:
            self._validated, self._slots = trained, tuple(range(len(trained)))

    def losses(self, state: State, validation: Validation) -> dict[str, float]:
        """Unweighted loss on plain captions, for each stage and their mean over timesteps; and that of each size."""
        groups = validation, *validation.others
        each = np.stack([self._losses_of_one_size(state, group) for group in groups])
        losses = np.average(each, axis=0, weights=[max(1, group.count) for group in groups])
        names = [f"loss_stage_{stage:02d}" for stage in self._validated]
        spans = (self.model.stages.ends - self.model.stages.starts)[list(self._validated)]
        mean = lambda losses: float(np.average(losses, weights=spans))  # noqa: E731
        of_sizes = zip(groups, each, strict=True) if len(groups) > 1 else ()
        found = dict(zip(names, losses.tolist(), strict=True))
        return {**found, **{f"loss_{group.size}": mean(row) for group, row in of_sizes}, "loss": mean(losses)}

    def _losses_of_one_size(self, state: State, validation: Validation) -> np.ndarray:
        """Mean over the images, for each stage."""
        total = np.zeros(len(self._validated))
        for start, batch in validation.pieces.items():
            total += np.asarray(self.losses_of(state, batch, np.int32(start), validation.count), np.float64)
        return total / validation.count

    @cached_property
    def losses_of(self) -> Any:
        """Jitted (state, piece, its first index, count) -> the sum of its images' losses in each stage [stages].

        Every image has its own fixed (t, noise), which depend only on its index among `count` (static) images.
        """

        def run(state: State, batch: Batch, start: jax.Array, count: int) -> jax.Array:
            batch = rules.spread(batch)
            latents = rules.spread(self.model.encode_image(state["autoencoder"], batch["image"]))
            text_encoder = rules.gather(text_average(state, self._scale), self.mesh, self.config.dtype)
            text = self.model.encode_text(text_encoder, batch["tokens"], batch["token_mask"])
            places = (start + jnp.arange(latents.shape[0])) % count
            key = jax.random.key(20221015)

            def one(xs: tuple[jax.Array, jax.Array]) -> jax.Array:
                stage, slot = xs
                expert = rules.gather(expert_average(state, slot, self._scale), self.mesh, self.config.dtype)
                low, high = self.model.stages.range_of(stage)
                # Timesteps evenly spaced in the stage; the noise is the same at every call and for every model.
                t = (low + (places + 0.5) / count * (high - low)).astype(jnp.int32)
                noise = jax.random.normal(jax.random.fold_in(key, stage), (count, *latents.shape[1:]))[places]
                noise = rules.spread(noise)
                prediction = self.model.prediction(expert, self.model.schedule.add_noise(latents, noise, t), t, text)
                target = self.model.target(latents, noise, t)
                return loss_per_sample(prediction, target).sum(where=batch["valid"])

            return jax.lax.map(one, (jnp.asarray(self._validated), jnp.asarray(self._slots)))

        return jax.jit(run, static_argnums=3, out_shardings=rules.replicated(self.mesh))

    @property
    def whole(self) -> bool:
        """Whether the state has the expert of every stage, so that it can make images."""
        return len(self.trained) == self.stages.n

    def images(self, state: State, words: tuple[np.ndarray, np.ndarray], validation: Validation) -> np.ndarray:
        """Images [N, H, W, 3] uint8 of prompts: tokens and mask [N, L], the same in every process.

        They have the first of the model's sizes.
        """
        size, found = piece_of(self.model, self.mesh, math.prod(self.sizes[0])), []
        null = {name: validation.prompts[name] for name in ("null_tokens", "null_mask")}
        cut, whole = rules.batch_sharding(self.mesh), rules.replicated(self.mesh)
        for start in range(0, len(words[0]), size):
            rows = np.minimum(np.arange(start, start + size), len(words[0]) - 1)
            prompts = processes.to_all({"tokens": words[0][rows], "mask": words[1][rows]}, cut)
            numbers = processes.to_all(rows, whole)
            found.append(to_uint8(self.sample_piece(state, {**prompts, **null}, numbers, self.sizes[0])))
        return np.concatenate(found)[: len(words[0])]

    def preview(self, state: State, validation: Validation) -> tuple[list[np.ndarray], list[str]]:
        """Images [H, W, 3] uint8 of the preview prompts in each size; none while experts are missing."""
        labels = list(self.config.train.preview_prompts)
        if not self.whole or not labels:
            return [], []
        images = [image for size in self.sizes for image in to_uint8(self.sample(state, validation.prompts, size))]
        return images, labels * len(self.sizes)

    @cached_property
    def sample(self) -> Any:
        """Jitted (state, prompts, size) -> images of them [n, H, W, 3] in [-1, 1]; compiled for each size."""

        sampler = make_sampler("ddim", self.model.schedule, PREVIEW_STEPS, grid="trailing")

        def run(state: State, prompts: Batch, size: Size) -> jax.Array:
            key = jax.random.key(_SEED)
            params = ModelParams(state["autoencoder"], text_average(state, self._scale), self._experts(state))
            words = prompts["tokens"], prompts["mask"]
            null = prompts["null_tokens"], prompts["null_mask"]
            noise = jax.random.normal(key, (words[0].shape[0], *self.model.latent_shape_of(*size)))
            scale = self.config.sample.guidance_scale
            return generate(self.model, params, self.stages, sampler, *words, null, noise, scale, key)

        return jax.jit(run, static_argnums=2, out_shardings=rules.replicated(self.mesh))

    @cached_property
    def sample_piece(self) -> Any:
        """Jitted (state, prompts, numbers [b], size) -> images [b, H, W, 3] in [-1, 1] on all devices.

        Tokens and masks of the prompts are sharded as a batch; the noise of an image depends on its number alone.
        """

        model, mesh, dtype = self.model, self.mesh, self.config.dtype
        sampler = make_sampler("ddim", model.schedule, self.config.evaluation.steps, grid="trailing")

        def run(state: State, prompts: Batch, numbers: jax.Array, size: Size) -> jax.Array:
            shape = model.latent_shape_of(*size)
            keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(_SEED)))(numbers)
            noise = rules.spread(jax.vmap(lambda key: jax.random.normal(key, shape))(keys))
            text_encoder = rules.gather(text_average(state, self._scale), mesh, dtype)
            text = rules.spread(model.encode_text(text_encoder, prompts["tokens"], prompts["mask"]))
            null = model.encode_text(text_encoder, prompts["null_tokens"], prompts["null_mask"])

            def apply(unet: Params, x: jax.Array, t: jax.Array) -> Denoised:
                shared = null, self.config.sample.guidance_scale
                # Each device keeps its images, and gets the whole expert that is in charge.
                return guided_prediction(model, rules.gather(unet, mesh, dtype), rules.spread(x), t, text, shared)

            latents = sample(self._experts(state), apply, self.stages, sampler, noise, jax.random.key(_SEED))
            # Decoded where they are, and only then copied to all devices.
            return rules.spread(model.decode(state["autoencoder"], rules.spread(latents)))

        return jax.jit(run, static_argnums=3, out_shardings=rules.replicated(self.mesh))

    def _experts(self, state: State) -> list[Params]:
        """The averages of a whole bank, in the order of the stages."""
        return [expert_average(state, k, self._scale) for k in range(len(self.trained))]

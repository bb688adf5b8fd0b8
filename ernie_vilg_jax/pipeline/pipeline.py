"""A trained model, ready to use: text to image, image to image, inpainting."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax import images
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.diffusion.inpainting import Known
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.model import Model, ModelParams
from ernie_vilg_jax.pipeline.attention_maps import AttentionMaps, stack, tokens_of
from ernie_vilg_jax.pipeline.request import Request, make_request
from ernie_vilg_jax.pipeline.rerank import Scorer, best_of, check_scorer
from ernie_vilg_jax.pipeline.runner import NOTHING, Decode, Given, Runner
from ernie_vilg_jax.sampling.inputs import Step

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Batches are padded to one of these, so that few programs are compiled."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """The progress of a call, after each step."""

    step: int
    """Steps done: 1, 2, ... `steps`."""
    steps: int
    """Of the whole call. More images than fit a batch are made one batch after the other, each with all its steps."""
    timestep: int
    """The timestep at which the step began, in [0, T)."""
    stage: int
    """The stage of that timestep, and so the expert that did the step."""
    decode: Callable[[], list[Image.Image]]

    def images(self) -> list[Image.Image]:
        """The model's estimate of the clean images at this step. Decoded at each call, and only then."""
        return self.decode()


OnStep = Callable[[Progress], None]
"""Called in Python after each step, in order. An exception in it ends the call."""


class Pipeline:
    """A trained model, ready to use.

    Programs are compiled once for each number of images (padded to one of `BATCH_SIZES`), sampler, grid and number of
    steps left by `strength`, and for each combination of options (with or without guidance, its `rescale` and so on, an
    image, a mask, one negative prompt or many, `on_step`). Other prompts, seeds and guidance values do not recompile.
    """

    def __init__(
        self,
        config: ConfigDict,
        model: Model,
        stages: Stages,
        params: ModelParams,
        tokenizer: Tokenizer,
        *,
        mode: str = "resident",
        mesh: Mesh | None = None,
    ) -> None:
        self.config = config
        self.model = model
        self.stages = stages
        self.params = params
        self.tokenizer = tokenizer
        self.mode = mode
        self.mesh = mesh

    @cached_property
    def runner(self) -> Runner:
        """The runner of the model; made at its first use."""
        return Runner(self.model, self.stages, self.params, self.mode, self.mesh)

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        rerank: Scorer | None = None,
        on_step: OnStep | None = None,
        **options: Any,
    ) -> list[Image.Image]:
        """Images of the prompts: `num_images` of the first, then of the second, and so on.

        Args:
          prompts: Chinese or English. Longer ones than the tokenizer's limit are cut, with a warning that says where.
          rerank: with the option `candidates`, which of them is kept; `evaluation.scorers` has some.
          on_step: called with a `Progress` after each step; not in the pipelined mode, where groups are at different
            steps.
          options: fields of `SamplingParams`, such as num_images, seed, steps or guidance_scale; those that are left
            out, or None, are the checkpoint's.

        Returns:
          PIL images, RGB; `image.info` has the settings of each.

        Raises UserError for an empty prompt or a number out of range.
        """
        return self._make(self._request(prompts, options), rerank=rerank, on_step=on_step)

    def image_to_image(
        self,
        prompts: str | Sequence[str],
        image: Image.Image,
        *,
        strength: float = 0.6,
        rerank: Scorer | None = None,
        on_step: OnStep | None = None,
        **options: Any,
    ) -> list[Image.Image]:
        """Images of the prompts that begin with `image`, noised to the start of the last `strength` of the steps.

        Args:
          image: any mode and size; cropped to its central square and resized to the model's size (`Pipeline.square`).
          strength: above 0, which hardly changes the image, up to 1, which keeps nothing of it. Rounded to whole
            steps; each number of steps is its own program.
          The rest is as in `__call__`.
        """
        request = self._request(prompts, options, strength)
        pixels = images.to_array(self.square(image))
        start = self.runner.encode(pixels)[None] if request.strength < 1 else None
        return self._make(request, given=Given(start), rerank=rerank, on_step=on_step)

    def inpaint(
        self,
        prompts: str | Sequence[str],
        image: Image.Image,
        mask: Image.Image,
        *,
        strength: float = 1.0,
        rerank: Scorer | None = None,
        on_step: OnStep | None = None,
        **options: Any,
    ) -> list[Image.Image]:
        """`image` with the white area of the mask repainted, to match the prompts and the rest.

        Args:
          image: as in `image_to_image`. mask: of the same size; black pixels keep their value exactly, and the edge is
            softened towards the white.
          strength: below 1, the repainted area begins with the image.
          The rest is as in `__call__`.
        """
        request = self._request(prompts, options, strength)
        known, share = self.square(image), images.square_mask(mask, image, self.model.image_size)
        latents = self.runner.encode(images.to_array(known))[None]
        where = images.known_cells(share, self.model.autoencoder.downsampling)[None, ..., None]
        given = Given(latents if request.strength < 1 else None, Known(latents, jnp.asarray(where)))
        made = self._make(request, given=given, rerank=rerank, on_step=on_step)
        pasted = [images.paste(known, one, share) for one in made]
        for one, source in zip(pasted, made, strict=True):
            one.info.update(source.info)
        return pasted

    def attention_maps(self, prompt: str, word: str, *, on_step: OnStep | None = None, **options: Any) -> AttentionMaps:
        """Makes one image of the prompt and records each position's attention to `word` at each step.

        The word must occur in the prompt; `options` are as in `__call__`, for one image. Takes 1.5 times as long.
        """
        if not isinstance(prompt, str):
            raise UserError(f"attention maps are of one prompt, a string, but it is a {type(prompt).__name__}")
        request = self._request(prompt, options)
        if len(request.prompts) > 1:
            raise UserError(f"num_images={len(request.prompts)}: attention maps are made of one picture at a time")
        tokens = tokens_of(self.tokenizer, prompt, word)
        steps: list[Step] = []
        image = self._make(request, on_step=on_step, steps=steps)[0]
        timesteps, stages = (np.array([getattr(step, name) for step in steps]) for name in ("timestep", "stage"))
        maps = stack([step.seen[0] for step in steps], tokens)
        return AttentionMaps(word, tokens, image, timesteps, stages, maps)

    def square(self, image: Image.Image) -> Image.Image:
        """An image as the model sees it: its central square, RGB, at the model's size."""
        return images.square(image, self.model.image_size)

    def _request(self, prompts: str | Sequence[str], options: dict[str, Any], strength: float = 1.0) -> Request:
        schedule = self.model.schedule
        return make_request(self.config.sample, schedule, self.stages, prompts, options, strength=strength)

    def _make(
        self,
        request: Request,
        *,
        given: Given = NOTHING,
        rerank: Scorer | None = None,
        on_step: OnStep | None = None,
        steps: list[Step] | None = None,
    ) -> list[Image.Image]:
        """The images of a request; `steps` gets every step, with the attention of the experts."""
        check_scorer(request.params.candidates, rerank)
        watched = on_step is not None or steps is not None
        if watched and self.mode == "pipelined":
            raise UserError(
                "on_step and attention maps are not offered in the pipelined mode, in which groups of devices are at "
                "different steps; load with mode='streamed' or 'resident'"
            )
        words, negative = self._tokens(request.prompts), self._tokens(request.negative)
        total, each = len(request.prompts), len(request.sampler.timesteps)
        cuts = list(self._cut(total))
        made: list[np.ndarray] = []
        for place, rows in enumerate(cuts):

            def report(step: Step, decode: Decode, place: int = place, rows: np.ndarray = rows) -> None:
                if steps is not None:
                    steps.append(step)
                if on_step is not None:
                    count, done = int(np.sum(rows < total)), place * each + step.index + 1
                    shown = lambda: [Image.fromarray(one) for one in _flat(decode())[:count]]  # noqa: E731
                    on_step(Progress(done, len(cuts) * each, step.timestep, step.stage, shown))

            how = {"on_step": report if watched else None, "attention": steps is not None}
            made += list(_flat(self.runner(request, rows, words, negative, given, **how)))
        finished = [Image.fromarray(pixels) for pixels in made[:total]]
        for number, image in enumerate(finished):
            image.info.update(request.info(number))
        if rerank is None or request.params.candidates == 1:
            return finished
        return best_of(finished, request.prompts, request.params.candidates, rerank)

    def _cut(self, total: int) -> Iterator[np.ndarray]:
        """The numbers [M, b] of the images of one call of a program; those from `total` on are padding."""
        fitting = lambda count: next((size for size in BATCH_SIZES if size >= count), BATCH_SIZES[-1])  # noqa: E731
        if self.mode == "resident":
            start = 0
            while start < total:
                size = fitting(total - start)
                yield np.arange(start, start + size)[None]
                start += size
        else:
            # All batches at once: an expert is fetched once for all of them, and no group waits for images.
            groups = self.mesh.shape["expert"] if self.mesh is not None else 1
            size = fitting(-(-total // groups))
            yield np.arange(-(-total // size) * size).reshape(-1, size)

    def _tokens(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """ids and mask [N, L] of the texts; warns of those that are cut."""
        encoded = {text: self.tokenizer.encode(text) for text in dict.fromkeys(texts)}
        for text, (_, _, cut) in encoded.items():
            if cut:
                limit = self.tokenizer.max_length
                log.warning("prompt %r is longer than %d tokens; the model does not see %r", text[:40], limit, cut)
        ids, masks, _ = zip(*(encoded[text] for text in texts), strict=True)
        return np.stack(ids), np.stack(masks)


def _flat(images: Any) -> np.ndarray:
    """[M, b, H, W, 3] in [-1, 1] -> [M * b, H, W, 3] bytes."""
    return to_uint8(images).reshape(-1, *images.shape[-3:])

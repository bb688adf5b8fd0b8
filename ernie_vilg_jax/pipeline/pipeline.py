"""A trained model, ready to use: text to image, image to image, inpainting."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax import images
from ernie_vilg_jax.data.sizes import Sizes
from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import to_uint8
from ernie_vilg_jax.model import Model, ModelParams
from ernie_vilg_jax.pipeline import familiar, remake
from ernie_vilg_jax.pipeline.attention_maps import AttentionMaps, stack, tokens_of
from ernie_vilg_jax.pipeline.call import read_call
from ernie_vilg_jax.pipeline.given import given_of
from ernie_vilg_jax.pipeline.request import Request, make_request
from ernie_vilg_jax.pipeline.rerank import Scorer, best_of, check_scorer
from ernie_vilg_jax.pipeline.results import Images, OnStep, Progress
from ernie_vilg_jax.pipeline.runner import NOTHING, Decode, Given, Runner
from ernie_vilg_jax.sampling.inputs import Step

BATCH_SIZES = (1, 2, 4, 8, 16)
"""Batches are padded to one of these, so that few programs are compiled."""

log = logging.getLogger(__name__)


class Pipeline:
    """A trained model, ready to use.

    Programs are compiled once for each number of images (padded to one of `BATCH_SIZES`), size of images, sampler and
    combination of options (with or without guidance, its `rescale` and so on, an image, a mask, one negative prompt or
    many, `on_step`). Other prompts, seeds, steps, grids, strengths and guidance values do not recompile.
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
        weights: str = "",
    ) -> None:
        """Joins the parts; `weights` is a name of the parameters that is told in every image, "" tells none."""
        self.config = config
        self.model = model
        self.stages = stages
        self.params = params
        self.tokenizer = tokenizer
        self.mode = mode
        self.mesh = mesh
        self.weights = weights
        self.sizes = Sizes.of(config)

    @cached_property
    def runner(self) -> Runner:
        """The runner of the model; made at its first use."""
        return Runner(self.model, self.stages, self.params, self.mode, self.mesh)

    def __call__(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        rerank: Scorer | None = None,
        on_step: OnStep | None = None,
        **options: Any,
    ) -> Images:
        """Images of the prompts: `num_images` of the first, then of the second, and so on.

        Args:
          prompts: Chinese or English. Longer ones than the tokenizer's limit are cut, with a warning that says where.
            `prompt=` is the same.
          rerank: with the option `candidates`, which of them is kept; `evaluation.scorers` has some.
          on_step: called with a `Progress` after each step; not in the pipelined mode, where groups are at different
            steps.
          options: fields of `SamplingParams`, such as num_images, seed, steps, height or width; those that are left
            out, or None, are the checkpoint's. Only seed=None draws a seed.
            `style`: a name in `pipeline.styles`. `translate`: of prompts that are neither Chinese nor English, a
            translator of `transformers` or a function of a text. `image`, `mask`, `strength`: as in `inpaint`.
            `output_type`: "pil" or "np", the form of `Images.images`.
            Names of diffusers work as well, or raise one sentence (`pipeline.familiar`).

        Returns:
          A list of PIL images, RGB; `image.info` has the settings of each.

        Raises UserError for an empty prompt or a number out of range, and TypeError for an unknown option.
        """
        return self._ask(prompts, options, rerank, on_step)

    def image_to_image(
        self,
        prompts: str | Sequence[str],
        image: Image.Image,
        *,
        strength: float = 0.6,
        rerank: Scorer | None = None,
        on_step: OnStep | None = None,
        **options: Any,
    ) -> Images:
        """Images of the prompts that begin with `image`, noised to the start of the last `strength` of the steps.

        Args:
          image: any mode and size; its middle is cropped and resized to the size of the images (`Pipeline.fitted`): by
            default that of the trained sizes whose shape is nearest to its own.
          strength: above 0, which hardly changes the image, up to 1, which keeps nothing of it. Rounded to whole steps.
          The rest is as in `__call__`.
        """
        images.check("image", image)
        return self._ask(prompts, {"image": image, "strength": strength, **options}, rerank, on_step)

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
    ) -> Images:
        """`image` with the white area of the mask repainted, to match the prompts and the rest.

        Args:
          image: as in `image_to_image`. mask: of the same size; black pixels keep their value exactly, and the edge is
            softened towards the white.
          strength: below 1, the repainted area begins with the image.
          The rest is as in `__call__`.
        """
        images.check("image", image)
        images.check("mask", mask)
        return self._ask(prompts, {"image": image, "mask": mask, "strength": strength, **options}, rerank, on_step)

    def again(
        self,
        source: str | os.PathLike[str] | Image.Image,
        *,
        image: Image.Image | None = None,
        mask: Image.Image | None = None,
        on_step: OnStep | None = None,
        **changes: Any,
    ) -> Image.Image:
        """Remakes an image from the settings inside it, with `changes` of the options.

        Args:
          source: an image of a pipeline, or a PNG that was written with its settings.
          image, mask: those that it was made from, which are not inside it.

        Raises UserError if it has no settings, or was made from an image that is not given. The result is the same to
        one level in 256 if it was made in a larger batch, and exactly the same otherwise. Warns if another model made
        it.
        """
        settings = remake.read(source)
        if settings.weights and self.weights and settings.weights != self.weights:
            log.warning("again: another model made this image (%s, and this is %s)", settings.weights, self.weights)
        given = {"image": image, "mask": mask}
        for name in settings.begun_with:
            if given[name] is None:
                raise UserError(f"{name}: the image was made from one, which is not inside it; give it as {name}=")
        strength = settings.strength or (1.0 if settings.begun_with else None)
        options = {**settings.options, "strength": strength, **given, **changes}
        return self._ask(settings.prompt, options, None, on_step, first=settings.number)[0]

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

    def fitted(self, image: Image.Image, *, height: int = 0, width: int = 0) -> Image.Image:
        """An image as the model sees it in a call with this height and width: cropped centrally, RGB, at that size."""
        image = images.upright("image", image)
        return images.fitted(image, *self.sizes.choose(height, width, image.size))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise familiar.attribute(name)

    def _ask(
        self, prompts: Any, options: Mapping[str, Any], rerank: Scorer | None, on_step: OnStep | None, first: int = 0
    ) -> Images:
        """The images of a call by any name."""
        call = read_call(prompts, options, self.config)
        if call.callback is not None:
            if on_step is not None:
                raise TypeError("callback_on_step_end: on_step is given as well; give one of them")
            on_step = familiar.on_step(self, call.callback)
        image = None if call.image is None else images.upright("image", call.image)
        request = self._request(call.prompts, call.options, image and image.size, call.strength, first)
        given, finish = given_of(image, call.mask, request, self.runner)
        made = [finish(one) for one in self._make(request, given=given, rerank=rerank, on_step=on_step)]
        for one in made:
            one.info.update(call.told(one.info["number"] - first, self.weights))
        return call.deliver(made)

    def _request(
        self,
        prompts: str | Sequence[str],
        options: Mapping[str, Any],
        like: tuple[int, int] | None = None,
        strength: float = 1.0,
        first: int = 0,
    ) -> Request:
        what = self.config.sample, self.model.schedule, self.stages, prompts, options
        return make_request(*what, sizes=self.sizes, like=like, strength=strength, first=first)

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
        stages = tuple(int(stage) for stage in self.stages.stage_of(request.sampler.timesteps))
        cuts = [rows + request.first for rows in self._cut(total)]
        made: list[np.ndarray] = []
        for place, rows in enumerate(cuts):

            def report(step: Step, decode: Decode, place: int = place, rows: np.ndarray = rows) -> None:
                if steps is not None:
                    steps.append(step)
                if on_step is not None:
                    count, done = int(np.sum(rows < request.first + total)), place * each + step.index + 1
                    shown = lambda: [Image.fromarray(one) for one in _flat(decode())[:count]]  # noqa: E731
                    on_step(Progress(done, len(cuts) * each, step.timestep, step.stage, shown, stages))

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

"""Requests to the pipeline: checked, with the config's settings as defaults."""

import dataclasses
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ernie_vilg_jax import checks
from ernie_vilg_jax.data.sizes import Size, Sizes
from ernie_vilg_jax.diffusion.guidance import Guidance
from ernie_vilg_jax.diffusion.samplers import Sampler, make_sampler
from ernie_vilg_jax.diffusion.schedule import Schedule
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sampling_params import SamplingParams, make_params

MOST_IMAGES = 1000
"""Images of one call: more are probably a mistake, and their noise and prompts are in memory at once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """Images to make."""

    prompts: tuple[str, ...]
    """One for each image."""
    negative: tuple[str, ...]
    """One for all images, or one for each; "" is the empty prompt."""
    params: SamplingParams
    guidance: Guidance
    sampler: Sampler
    """With the steps that `strength` leaves."""
    size: Size
    strength: float = 1.0
    """Share of the steps to run; 1 is all of them, from pure noise."""
    first: int = 0
    """Number of the first image; the others follow. The number decides an image's noise."""

    def info(self, number: int) -> dict[str, Any]:
        """The settings of image `number`, counted from 0, for its metadata. Options that are off are left out."""
        told = self.params.told()
        negative = self.negative[number if len(self.negative) > 1 else 0]
        for name in ("num_images", "negative_prompt"):
            told.pop(name, None)
        return {
            "prompt": self.prompts[number],
            "number": self.first + number,
            **({"negative_prompt": negative} if negative else {}),
            **({"strength": self.strength} if self.strength < 1 else {}),
            **{name: list(value) if isinstance(value, tuple) else value for name, value in told.items()},
        }


def make_request(
    settings: Mapping[str, Any],
    schedule: Schedule,
    stages: Stages,
    prompts: str | Sequence[str],
    options: Mapping[str, Any],
    *,
    sizes: Sizes,
    like: tuple[int, int] | None = None,
    strength: float = 1.0,
    first: int = 0,
) -> Request:
    """The request of `prompts` and `options`; `settings` is the section `sample` of a config.

    Args:
      sizes: that the model can make. like: width and height of the image to begin from.

    Raises UserError naming the argument that is invalid, and TypeError for an option that does not exist.
    """
    params = make_params(settings, options)
    if "seed" in options and options["seed"] is None:
        params = dataclasses.replace(params, seed=secrets.randbelow(2**32))
        log.info("seed=%d, drawn at random", params.seed)
    texts = checks.texts("prompt", prompts)
    if not texts:
        raise UserError("prompt: there is none; give one, such as prompt=一只猫")
    if not all(text.strip() for text in texts):
        raise UserError("prompt: one is empty; say what the image should show, such as prompt=一只猫")
    count = params.num_images * params.candidates
    if len(texts) * count > MOST_IMAGES:
        told = f"num_images={params.num_images}" + f", candidates={params.candidates}" * (params.candidates > 1)
        raise UserError(
            f"{told} of {len(texts)} prompts are {len(texts) * count} images, and one call makes at most "
            f"{MOST_IMAGES}; ask for fewer, several times with another seed"
        )
    checks.whole(f"steps={params.steps}", params.steps, 1, stages.num_timesteps)
    strength = _strength(strength)
    size = _size(params, sizes, like)
    told = {} if sizes.trained == (size,) else size._asdict()  # nothing if there is no choice
    params = dataclasses.replace(params, **{"height": 0, "width": 0, **told})
    guidance, sampler = _guidance(params, stages), _sampler(params, schedule, strength)
    negative = params.negative_prompt or ("",)
    if len(negative) not in (1, len(texts)):
        raise UserError(
            f"negative_prompt: {len(negative)} were given for {len(texts)} prompts; give one for all, or one for each"
        )
    if params.guidance_scale == 0 and not params.stage_scales:
        log.warning("guidance_scale=0 makes unconditional images, whatever the prompt; 1 is the model without guidance")
    if any(negative) and guidance.numbers(stages).scale is None:
        log.warning("negative_prompt does nothing at guidance_scale 1; raise the scale")
        negative = ("",)
    if len(set(negative)) == 1:
        negative = negative[:1]
    return Request(
        prompts=tuple(text for text in texts for _ in range(count)),
        negative=tuple(text for text in negative for _ in range(count if len(negative) > 1 else 1)),
        params=params,
        guidance=guidance,
        sampler=sampler,
        size=size,
        strength=strength,
        first=first,
    )


def _size(params: SamplingParams, sizes: Sizes, like: tuple[int, int] | None) -> Size:
    size = sizes.choose(params.height, params.width, like)
    if size not in sizes.trained:
        log.warning(
            "height=%d, width=%d: the model was trained on images of %s; those of another size are often worse",
            *(size.height, size.width, ", ".join(map(str, sizes.trained))),
        )
    return size


def _strength(value: Any) -> float:
    if not checks.is_number(value) or not 0 < value <= 1:
        raise UserError(
            f"strength={value!r} must be a number above 0 (the image as it is) up to 1 (nothing of it is left)"
        )
    return float(value)


def _guidance(params: SamplingParams, stages: Stages) -> Guidance:
    try:
        guidance = Guidance(
            params.guidance_scale,
            params.guidance_interval or None,
            params.guidance_rescale,
            params.dynamic_threshold,
            params.stage_scales,
        )
        guidance.numbers(stages)
    except ValueError as error:
        raise UserError(str(error)) from error
    return guidance


def _sampler(params: SamplingParams, schedule: Schedule, strength: float) -> Sampler:
    how = {"grid": params.grid, "start": strength, **params.of_sampler}
    try:
        return make_sampler(params.sampler, schedule, params.steps, **how)
    except ValueError as error:  # options that this sampler does not have
        raise UserError(str(error)) from error

"""What a person asks for: checked, and with the config's settings where nothing was said."""

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from typing import Any, TypedDict

from ernie_vilg_jax.diffusion.guidance import Guidance
from ernie_vilg_jax.diffusion.samplers import GRIDS, SAMPLERS
from ernie_vilg_jax.diffusion.stages import Stages
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.texts import fault

MOST_IMAGES = 1000
"""Of one call: more are a mistake in a number more often than a wish, and their noise and prompts are held at once."""

log = logging.getLogger(__name__)


class Options(TypedDict, total=False):
    """What all ways to ask for pictures take. What is left out, or None, is the config's (`config.sample`)."""

    num_images: int
    """Pictures of each prompt, 1 by default; they differ in their noise."""
    negative_prompt: str | Sequence[str] | None
    """What the pictures should not show: one for all prompts, or one for each. Takes the place of the empty prompt in
    guidance, and so does nothing at scale 1."""
    seed: int
    """The same seed gives the same pictures, 0 by default; picture k of a call has noise of its own."""
    steps: int | None
    """Denoising steps, 1..T."""
    sampler: str | None
    """A name in `diffusion.samplers.SAMPLERS`."""
    grid: str | None
    """Which timesteps are visited: a name in `diffusion.samplers.GRIDS`; "" is the sampler's own choice."""
    guidance_scale: float | None
    """1 is the plain conditional model, larger follows the prompt more closely."""
    guidance_rescale: float | None
    """0 to 1: how much of the growth in contrast is taken back."""
    guidance_interval: Sequence[int] | None
    """(low, high): guidance only for timesteps low <= t < high; () is everywhere."""
    dynamic_threshold: float | None
    """Percentile at which the estimated x0 is clipped; 0 is off. For pixels rather than latents."""
    stage_scales: Sequence[float] | None
    """A guidance scale for each stage, the least noisy first, in place of guidance_scale; () is the same in all."""


FIELDS = {"guidance_scale": "scale", "guidance_rescale": "rescale", "guidance_interval": "interval"}
"""Option -> field of `Guidance`, where the two differ."""


@dataclass(frozen=True)
class Request:
    """Pictures to be made."""

    prompts: tuple[str, ...]
    """One for each picture."""
    negative: tuple[str, ...]
    """One for all pictures, or one for each; "" is the empty prompt."""
    seed: int
    steps: int
    sampler: str
    grid: str
    guidance: Guidance
    strength: float = 1.0
    """Share of the steps that are taken; 1 is all of them, from pure noise."""

    def info(self, number: int) -> dict[str, Any]:
        """How picture `number` was made, for its metadata. What was not asked for is left out."""
        guidance = self.guidance
        negative = self.negative[number if len(self.negative) > 1 else 0]
        more = {
            "negative_prompt": negative,
            "grid": self.grid,
            "guidance_rescale": guidance.rescale,
            "guidance_interval": list(guidance.interval or ()),
            "dynamic_threshold": guidance.dynamic_threshold,
            "stage_scales": list(guidance.stage_scales),
            "strength": 0.0 if self.strength == 1 else self.strength,
        }
        return {
            "prompt": self.prompts[number],
            "seed": self.seed,
            "number": number,
            "steps": self.steps,
            "sampler": self.sampler,
            "guidance_scale": guidance.scale,
            **{name: value for name, value in more.items() if value},
        }


def make_request(
    settings: Mapping[str, Any],
    stages: Stages,
    prompts: str | Sequence[str],
    options: Options,
    *,
    strength: float = 1.0,
) -> Request:
    """What `prompts` and `options` ask for; `settings` is the section `sample` of a config.

    Raises UserError naming the argument that makes no sense, and TypeError for an option that there is not.
    """
    for name in options:
        if name not in Options.__annotations__:
            near = get_close_matches(name, Options.__annotations__, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(Options.__annotations__)}"
            raise TypeError(f"there is no option {name!r}; {hint}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    texts = _texts("prompts", prompts)
    if not texts:
        raise UserError("there is no prompt; give one, such as --prompt=一只猫")
    if not all(text.strip() for text in texts):
        raise UserError("a prompt is empty; say what the picture should show, such as --prompt=一只猫")
    count = _whole("num_images", given.get("num_images", 1), least=1)
    if len(texts) * count > MOST_IMAGES:
        raise UserError(
            f"num_images={count} of {len(texts)} prompts are {len(texts) * count} pictures, and one call makes at most "
            f"{MOST_IMAGES}; ask for fewer, several times with another seed"
        )
    guidance = _guidance(settings, stages, given)
    negative = _texts("negative_prompt", given.get("negative_prompt", ""))
    if len(negative) not in (1, len(texts)):
        raise UserError(
            f"negative_prompt: {len(negative)} were given for {len(texts)} prompts; give one for all, or one for each"
        )
    if any(negative) and guidance.numbers(stages).scale is None:
        log.warning("negative_prompt does nothing at guidance_scale 1; raise the scale")
        negative = [""]
    if len(set(negative)) == 1:
        negative = negative[:1]
    return Request(
        prompts=tuple(text for text in texts for _ in range(count)),
        negative=tuple(text for text in negative for _ in range(count if len(negative) > 1 else 1)),
        seed=_whole("seed", given.get("seed", 0)),
        steps=_whole("steps", given.get("steps", settings["steps"]), least=1, most=stages.num_timesteps),
        sampler=_name("sampler", given.get("sampler", settings["sampler"]), SAMPLERS),
        grid=_name("grid", given.get("grid", settings["grid"]), {"": None, **GRIDS}),
        guidance=guidance,
        strength=_strength(strength),
    )


def _texts(name: str, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else [value]
    for text in texts:
        if not isinstance(text, str):
            kind = type(text).__name__
            raise UserError(f"{name} must be a string or a list of strings, but holds a {kind}: {text!r}")
        if reason := fault(text):
            raise UserError(f"{name}: {ascii(text)[:60]} is not text, for it holds {reason}; write it again")
    return texts


def _whole(name: str, value: Any, *, least: int | None = None, most: int | None = None) -> int:
    # Sliders of web pages say 4.0.
    if not _is_number(value) or value != int(value):
        raise UserError(f"{name}={value!r} must be a whole number")
    number = int(value)
    if least is not None and number < least:
        raise UserError(f"{name}={number} must be at least {least}")
    if most is not None and number > most:
        raise UserError(f"{name}={number} must be at most {most}, the number of timesteps in training")
    return number


def _name(name: str, value: Any, known: Mapping[str, Any]) -> str:
    if value not in known:
        raise UserError(f"{name}={value!r} is not one of {', '.join(word for word in known if word)}")
    return value


def _strength(value: Any) -> float:
    if not _is_number(value) or not 0 < value <= 1:
        raise UserError(
            f"strength={value!r} must be a number above 0 (the picture as it is) up to 1 (nothing of it is left)"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _guidance(settings: Mapping[str, Any], stages: Stages, given: Mapping[str, Any]) -> Guidance:
    names = ("guidance_scale", "guidance_rescale", "guidance_interval", "dynamic_threshold", "stage_scales")
    changes: dict[str, Any] = {}
    for name in names:
        if name not in given:
            continue
        value = given[name]
        if name in ("guidance_interval", "stage_scales"):
            value = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (None,)
            if name == "guidance_interval" and all(map(_is_number, value)):
                value = tuple(_whole(name, number) for number in value)
        if not all(map(_is_number, value if isinstance(value, tuple) else (value,))):
            what = "numbers, such as (200, 900)" if isinstance(value, tuple) else "a number"
            raise UserError(f"{name}={given[name]!r} must be {what}")
        changes[FIELDS.get(name, name)] = value
    try:
        guidance = Guidance.from_settings(settings, **changes)
        guidance.numbers(stages)
    except ValueError as error:
        options = {field: option for option, field in FIELDS.items()}
        raise UserError(
            re.sub(r"^guidance (\w+): ", lambda found: f"{options.get(found[1], found[1])}: ", str(error))
        ) from error
    return guidance

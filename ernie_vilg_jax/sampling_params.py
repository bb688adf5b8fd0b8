"""The options of sampling: declared once, for the config, the API, the flags and the web page.

A field here is a field of `config.sample`, an option of `Pipeline` and a flag of `sample`; with a `label` it is also a
field of the page. Its help explains it, and `Accepts` has the valid values.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from ernie_vilg_jax import checks
from ernie_vilg_jax.errors import UserError

SAMPLERS = ("ddpm", "ddim", "euler", "heun", "dpmpp_2m", "unipc")
"""Names in `diffusion.samplers.SAMPLERS`; here, where they can be read without importing jax."""
SCHEDULERS = {
    "DDPMScheduler": "ddpm",
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "UniPCMultistepScheduler": "unipc",
}
"""Name in diffusers -> ours; taken for a sampler everywhere."""
MOST_SIDE = 8192
"""Pixels of an image's height and width: more are probably a mistake."""
GRIDS = ("", "trailing", "leading", "uniform", "power", "quadratic", "karras")
"""Names in `diffusion.samplers.GRIDS`; "" is the sampler's own."""


@dataclasses.dataclass(frozen=True)
class Accepts:
    """The valid values of a field, and its presentation.

    Attributes:
      choices: all values; empty if any.
      example: of numbers with commas, in the flag's syntax.
      label: on the web page, English and Chinese; "" leaves the field out there.
      always: whether the metadata of an image include it even if it is the default.
      of_sampler: the one sampler that has it as a field, and gets it if it is not the default; "" if none has.
    """

    help: str
    least: float = -float("inf")
    most: float = float("inf")
    choices: tuple[str, ...] = ()
    example: str = ""
    label: str = ""
    always: bool = False
    of_sampler: str = ""


def _field(default: Any, help: str, **accepts: Any) -> Any:
    return dataclasses.field(default=default, metadata={"accepts": Accepts(help, **accepts)})


@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """Options for sampling images from prompts. Defaults with [N] are the paper's; [?] is our guess."""

    num_images: int = _field(1, "Images of each prompt; they differ in their noise.", least=1)
    candidates: int = _field(
        1, "Images to make for each one that is kept: the best by the scorer of `rerank`.", least=1
    )
    negative_prompt: tuple[str, ...] = _field(
        (),
        "What the images should not show: one text for all prompts, or one for each. It takes the place of the empty "
        "prompt in guidance, and does nothing at guidance_scale 1.",
    )
    seed: int = _field(
        0,
        "The same seed gives the same images; image k of a call has noise of its own. In Python, None draws one.",
        always=True,
    )
    height: int = _field(
        0,
        "Pixels; 0 is the first size that the model was trained on, or with an image the one nearest to its shape.",
        least=0,
        most=MOST_SIDE,
    )
    width: int = _field(0, "As height.", least=0, most=MOST_SIDE)
    steps: int = _field(50, "Denoising steps.", least=1, label="Steps · 步数", always=True)  # [N]
    sampler: str = _field(  # [N]
        "ddim",
        "How a step is made (docs/samplers.md).",
        choices=SAMPLERS,
        label="Sampler · 采样器",
        always=True,
    )
    grid: str = _field(  # [?]
        "", "Which timesteps are visited; the sampler's own choice if empty (trailing for ddim).", choices=GRIDS
    )
    eta: float = _field(
        0.0,
        "Of ddim: how much fresh noise a step adds; 0 is deterministic, 1 as in DDPM.",
        least=0,
        most=1,
        of_sampler="ddim",
    )
    variance: str = _field(
        "small",
        "Of ddpm: the variance of fresh noise, exact for data at one point (small) or for unit-variance data (large).",
        choices=("small", "large"),
        of_sampler="ddpm",
    )
    order: int = _field(2, "Of unipc: the order of the solver.", least=1, most=3, of_sampler="unipc")
    guidance_scale: float = _field(  # best for FID [N]
        2.1,
        "How closely images follow the prompt. 1 is the plain conditional model, and takes half the time.",
        least=0,
        label="Guidance scale · 引导强度",
        always=True,
    )
    # More options of guidance, from later papers (docs/samplers.md), all off.
    guidance_rescale: float = _field(
        0.0, "0 to 1: how much of the contrast that guidance adds is taken back; 0.7 is usual.", least=0, most=1
    )
    guidance_interval: tuple[int, ...] = _field(
        (), "LOW,HIGH: guidance only for timesteps LOW <= t < HIGH; everywhere if empty.", example="100,900"
    )
    dynamic_threshold: float = _field(
        0.0,
        "Percentile at which the estimate of the clean image is clipped; 0 is off. For pixels, not for latents.",
        least=0,
        most=100,
    )
    stage_scales: tuple[float, ...] = _field(
        (),
        "A guidance scale for each stage, the least noisy first, in place of guidance_scale; the same in all if empty.",
        least=0,
        example="2,3,4,5",
    )

    @property
    def of_sampler(self) -> dict[str, Any]:
        """Options that only some samplers have, if not the default."""
        every = {name: getattr(self, name) for name in OF_SAMPLER}
        return {name: value for name, value in every.items() if value != DEFAULTS[name]}

    def told(self) -> dict[str, Any]:
        """The options for an image's metadata: those always included, and those that differ from the default."""
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if ACCEPTS[name].always or value != DEFAULTS[name]
        }


ACCEPTS: Mapping[str, Accepts] = {field.name: field.metadata["accepts"] for field in dataclasses.fields(SamplingParams)}
OF_SAMPLER: Mapping[str, str] = {name: accepts.of_sampler for name, accepts in ACCEPTS.items() if accepts.of_sampler}
"""Field -> the one sampler that has this option."""
DEFAULTS: Mapping[str, Any] = {field.name: field.default for field in dataclasses.fields(SamplingParams)}


def make_params(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> SamplingParams:
    """`settings`, the section `sample` of a config, with `changes` where they are not None.

    If `changes` name a sampler, the options of another sampler in `settings` do not count.

    Raises UserError naming the field and what it takes, and TypeError for a field that does not exist.
    """
    for name in changes:
        if name not in DEFAULTS:
            near = get_close_matches(name, DEFAULTS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(DEFAULTS)}"
            raise TypeError(f"there is no option {name!r}; {hint}")
    given = {name: value for name, value in changes.items() if value is not None}
    # Configs of old checkpoints lack some fields.
    values = {name: settings.get(name, default) for name, default in DEFAULTS.items()}
    if "sampler" in given:
        given["sampler"] = check("sampler", given["sampler"])
        values |= {name: DEFAULTS[name] for name, sampler in OF_SAMPLER.items() if sampler != given["sampler"]}
    values |= given
    return SamplingParams(**{name: check(name, value) for name, value in values.items()})


def check(name: str, value: Any) -> Any:
    """`value`, as the type of the field of that name. Raises UserError if it is invalid."""
    accepts, default, said = ACCEPTS[name], DEFAULTS[name], f"{name}={value!r}"
    if name == "negative_prompt":
        return checks.texts(name, value)
    if isinstance(default, tuple):
        items = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (None,)
        if not all(map(checks.is_number, items)):
            raise UserError(f"{said} must be numbers, such as ({accepts.example.replace(',', ', ')})")
        of = checks.whole if name == "guidance_interval" else checks.number
        return tuple(of(said, item, accepts.least, accepts.most) for item in items)
    if accepts.choices:
        known = SCHEDULERS.get(value, value) if name == "sampler" and isinstance(value, str) else value
        return checks.one_of(said, known, accepts.choices)
    of = checks.whole if isinstance(default, int) else checks.number
    return of(said, value, accepts.least, accepts.most)


def parse(name: str, text: str | Sequence[str]) -> Any:
    """The value of a field's flag; (100, 900) of "100,900". Raises UserError as `check` does."""
    if not isinstance(DEFAULTS[name], tuple) or name == "negative_prompt":
        return check(name, text)
    try:
        return check(name, [float(part) for part in text])
    except ValueError as error:
        raise UserError(
            f"{name}={','.join(text)} must be numbers with commas, such as --{name}={ACCEPTS[name].example}"
        ) from error

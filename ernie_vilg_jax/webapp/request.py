"""Turns values from the page, or from any program that calls its address, into a request, or refuses them.

Nothing is trusted: types, lengths and ranges are checked here, whatever the page itself allows.
"""

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ernie_vilg_jax import checks
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.sampling_params import ACCEPTS, DEFAULTS, SamplingParams, make_params
from ernie_vilg_jax.webapp.options import Choices

PROMPT_LIMIT = 2000
"""Characters of a prompt, and of a negative prompt."""
MOST_IMAGES = 8
SEEDS = 2**32
NO_STYLE = ""
FIELDS = tuple(name for name, accepts in ACCEPTS.items() if accepts.label)
"""Fields of `SamplingParams` that the page offers unchanged."""
LIMITS = {"guidance_scale": (1.0, 20.0)}
"""Limits that are narrower on the page than in `SamplingParams`."""


@dataclass(frozen=True)
class Request:
    """A checked request."""

    prompt: str
    """Including the style."""
    params: SamplingParams


def read_request(
    choices: Choices,
    prompt: Any,
    style: Any = None,
    num_images: Any = None,
    random_seed: Any = None,
    seed: Any = None,
    negative_prompt: Any = None,
    *,
    translate: Callable[[str], str] = str,
    **fields: Any,
) -> Request:
    """The request of these values, of any JSON type; None is the default.

    Args:
      choices: the page's options.
      random_seed: true draws a seed and ignores `seed`.
      translate: applied to the checked prompts before the style is added.
      fields: of `FIELDS`.

    Raises UserError with one sentence for users of the page, not of the program.
    """
    text = _text("The prompt", prompt)
    if not text:
        raise UserError("The prompt is empty: say what the picture should show, such as 一只熊猫")
    look = NO_STYLE if style is None else checks.one_of("The style", style, ("", *choices.styles))
    count = 1 if num_images is None else checks.whole("The number of images", num_images, 1, MOST_IMAGES)
    if random_seed not in (True, False, None) or isinstance(random_seed, (int, float)) != isinstance(random_seed, bool):
        raise UserError("The choice of a random seed must be true or false")
    number = 0 if seed is None or random_seed else checks.whole("The seed", seed, 0, SEEDS - 1)
    negative = _text("The negative prompt", negative_prompt)
    values = {name: _field(choices, name, value) for name, value in fields.items() if value is not None}
    params = make_params(dataclasses.asdict(choices.params), values)
    text, negative = translate(text), translate(negative) if negative else ""
    return Request(
        prompt=choices.styles[look].after(text) if look else text,
        params=dataclasses.replace(
            params,
            num_images=count,
            seed=secrets.randbelow(SEEDS) if random_seed else number,
            negative_prompt=(negative,) if negative and params.guidance_scale > 1 else (),
        ),
    )


def limits(name: str) -> tuple[float, float]:
    """Least and most of a field on the page."""
    return LIMITS.get(name, (ACCEPTS[name].least, ACCEPTS[name].most))


def _field(choices: Choices, name: str, value: Any) -> Any:
    said = f"The {name.replace('_', ' ')}"
    if name == "steps":
        return checks.one_of("The number of steps", checks.whole("The number of steps", value), choices.steps)
    if ACCEPTS[name].choices:
        return checks.one_of(said, value, ACCEPTS[name].choices)
    return (checks.whole if isinstance(DEFAULTS[name], int) else checks.number)(said, value, *limits(name))


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{name} must be text")
    if len(value) > PROMPT_LIMIT:
        raise UserError(f"{name} has {len(value)} characters; at most {PROMPT_LIMIT} are taken")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} holds half a character (a lone surrogate), which is not text") from None
    printable = "".join(letter if letter.isprintable() else " " for letter in value)
    return " ".join(printable.split())

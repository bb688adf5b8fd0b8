"""What arrives from the page, or from any program that talks to its address, made into a request or refused.

Nothing is trusted: types, lengths and ranges are checked here, whatever the page itself would let pass.
"""

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.webapp.options import Choices

PROMPT_LIMIT = 2000
"""Characters of a prompt, and of a negative prompt."""
MOST_IMAGES = 8
MOST_GUIDANCE = 20.0
SEEDS = 2**32
NO_STYLE = ""


@dataclass(frozen=True)
class Request:
    """A checked request."""

    prompt: str
    """With the style."""
    negative_prompt: str
    num_images: int
    seed: int
    steps: int
    guidance_scale: float
    sampler: str


def read_request(
    choices: Choices,
    prompt: Any,
    style: Any = None,
    num_images: Any = None,
    random_seed: Any = None,
    seed: Any = None,
    steps: Any = None,
    guidance_scale: Any = None,
    negative_prompt: Any = None,
    sampler: Any = None,
    *,
    translate: Callable[[str], str] = str,
) -> Request:
    """The request of these values, of any JSON type; None is the default.

    Args:
      choices: what the page offers.
      random_seed: true draws a seed, and `seed` is not looked at.
      translate: what is done with the checked prompts before the style is added.

    Raises UserError with one sentence for people who see the page, not the program.
    """
    text = _text("The prompt", prompt)
    if not text:
        raise UserError("The prompt is empty: say what the picture should show, such as 一只熊猫.")
    look = _one_of("style", style, ("", *choices.styles), NO_STYLE)
    count = _whole("The number of pictures", num_images, 1, MOST_IMAGES, default=1)
    if random_seed not in (True, False, None) or isinstance(random_seed, (int, float)) != isinstance(random_seed, bool):
        raise UserError("The choice of a random seed must be true or false.")
    number = secrets.randbelow(SEEDS) if random_seed else _whole("The seed", seed, 0, SEEDS - 1, default=0)
    scale = _number("The guidance scale", guidance_scale, 1.0, MOST_GUIDANCE, default=choices.default_guidance)
    chosen_steps = _whole("The number of steps", steps, 1, max(choices.steps), default=choices.default_steps)
    chosen_steps = _one_of("number of steps", chosen_steps, choices.steps, choices.default_steps)
    negative = _text("The negative prompt", negative_prompt)
    chosen_sampler = _one_of("sampler", sampler, choices.samplers, choices.default_sampler)
    text, negative = translate(text), translate(negative) if negative else ""
    return Request(
        prompt=choices.styles[look].after(text) if look else text,
        negative_prompt=negative if scale > 1 else "",
        num_images=count,
        seed=number,
        steps=chosen_steps,
        guidance_scale=scale,
        sampler=chosen_sampler,
    )


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{name} must be text.")
    if len(value) > PROMPT_LIMIT:
        raise UserError(f"{name} has {len(value)} characters; at most {PROMPT_LIMIT} are taken.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} holds half a character (a lone surrogate), which is not text.") from None
    printable = "".join(letter if letter.isprintable() else " " for letter in value)
    return " ".join(printable.split())


def _number(name: str, value: Any, least: float, most: float, *, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"{name} must be a number.")
    # Compared before anything is computed: whole numbers in JSON may have thousands of digits.
    if (isinstance(value, float) and math.isnan(value)) or not least <= value <= most:
        raise UserError(f"{name} must be from {least:g} to {most:.15g}.")
    return float(value)


def _whole(name: str, value: Any, least: int, most: int, *, default: int) -> int:
    number = _number(name, value, least, most, default=default)
    if number != int(number):
        raise UserError(f"{name} must be a whole number.")
    return int(number)


def _one_of(name: str, value: Any, known: tuple[Any, ...], default: Any) -> Any:
    if value is None:
        return default
    if not isinstance(value, (str, int)) or value not in known:
        raise UserError(f"There is no such {name}; choose from {', '.join(str(one) for one in known if one)}.")
    return value

"""The request of an image, read from the settings inside it."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from PIL import Image

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import open_image
from ernie_vilg_jax.sampling_params import DEFAULTS

TEXTS = {"prompt", "negative_prompt", "weights", *(name for name, value in DEFAULTS.items() if isinstance(value, str))}
"""Settings whose values are texts, and not JSON."""


class Settings(NamedTuple):
    """How an image was made.

    Attributes:
      number: of the image in its call, which decides its noise.
      begun_with: the images that were given, "image" and "mask".
      weights: the model's, as `Pipeline.weights`; "" if it is not told.
    """

    prompt: str
    number: int
    options: dict[str, Any]
    strength: float | None
    begun_with: tuple[str, ...]
    weights: str


def read(source: str | os.PathLike[str] | Image.Image) -> Settings:
    """The settings of an image of `Pipeline`, or of a PNG that a command or the page wrote.

    Raises UserError if there are none.
    """
    said = "the image" if isinstance(source, Image.Image) else str(source)
    if not isinstance(source, Image.Image):
        try:
            source = open_image(source)
        except ValueError as error:
            raise UserError(f"{said} cannot be read: {error}; give a PNG that was made here") from error
    values = {name: _value(name, value) for name, value in _texts(source).items()}
    if "prompts" in values and "prompt" not in values:
        raise UserError(f"{said} is a grid of images; give one of them, which has its own settings")
    if not isinstance(values.get("prompt"), str) or not isinstance(values.get("seed"), int):
        raise UserError(f"{said} holds no prompt and seed: another program made it, or removed them")
    options = {name: values[name] for name in DEFAULTS if name in values and name not in ("num_images", "candidates")}
    begun = tuple(name for name in ("image", "mask") if name in values)
    number = values.get("number", 0)
    if not isinstance(number, int) or number < 0:
        raise UserError(f"{said}: its number {number!r} must be a whole number from 0 up")
    return Settings(values["prompt"], number, options, values.get("strength"), begun, str(values.get("weights", "")))


def _texts(image: Image.Image) -> Mapping[str, Any]:
    return {str(name): value for name, value in {**image.info, **getattr(image, "text", {})}.items()}


def _value(name: str, value: Any) -> Any:
    """A setting as it was before it was written: texts as they are, all else as JSON."""
    if not isinstance(value, str) or name in TEXTS:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value

"""A call of the pipeline: what is not an option of sampling is taken out of its arguments."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax import checks
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.pipeline import familiar, styles
from ernie_vilg_jax.pipeline.languages import translation
from ernie_vilg_jax.pipeline.results import Images, check_output_type


@dataclass(frozen=True)
class Call:
    """A call, before its options of sampling are checked."""

    prompts: tuple[str, ...]
    """As the model reads them."""
    translated_from: tuple[str, ...]
    """Each as it was given, "" if it was not translated."""
    options: Mapping[str, Any]
    """Fields of `SamplingParams`."""
    image: Any
    """None without."""
    mask: Any
    strength: Any
    callback: Callable[..., Any] | None
    """`callback_on_step_end` of diffusers."""
    output_type: str
    as_tuple: bool
    """`return_dict=False` of diffusers."""

    def told(self, number: int, weights: str) -> dict[str, Any]:
        """What the metadata of image `number` of the call say beside the options of sampling."""
        each = (self.options.get("num_images") or 1) * (self.options.get("candidates") or 1)
        told = {
            "translated_from": self.translated_from[int(number // each)],
            "weights": weights,
            "image": _name(self.image),
            "mask": _name(self.mask),
        }
        return {name: value for name, value in told.items() if value}

    def deliver(self, made: list[Image.Image]) -> Any:
        """The result in the form that was asked for."""
        found = Images(made, self.output_type)
        return (found.images,) if self.as_tuple else found


def read_call(prompts: Any, options: Mapping[str, Any], config: ConfigDict) -> Call:
    """The call with these arguments, by our names or those of diffusers.

    Raises UserError for a value, TypeError for a name.
    """
    found = familiar.ours(options)
    if "prompt" in found:
        if prompts is not None:
            raise TypeError("prompt: prompts is given as well; give one of them")
        prompts = found.pop("prompt")
    image, mask, strength = (found.pop(name, None) for name in ("image", "mask", "strength"))
    for name, value in (("mask", mask), ("strength", strength)):
        if value is not None and image is None:
            raise UserError(f"{name} is for an image to begin from; give one with image=")
    if strength is None:
        strength = 1.0 if image is None or mask is not None else 0.6
    callback, style = found.pop("callback_on_step_end", None), found.pop("style", None)
    translate = translation(found.pop("translate", None))
    output_type = check_output_type(found.pop("output_type", None) or "pil")
    as_tuple = found.pop("return_dict", None) is False
    originals = checks.texts("prompt", () if prompts is None else prompts)
    texts = tuple(translate(text) if text.strip() else text for text in originals)
    changed = tuple(old if new != old else "" for old, new in zip(originals, texts, strict=True))
    if found.get("negative_prompt") is not None:
        negative = checks.texts("negative_prompt", found["negative_prompt"])
        found["negative_prompt"] = tuple(translate(text) if text.strip() else text for text in negative)
    if style is not None:
        look = styles.find(style, config)
        texts = tuple(look.after(text) if text.strip() else text for text in texts)
    return Call(texts, changed, found, image, mask, strength, callback, output_type, as_tuple)


def _name(image: Any) -> str:
    """The name of an image's file, "given" without one, "" without an image."""
    return "" if image is None else os.path.basename(getattr(image, "filename", "")) or "given"

"""Where the model looks for a word: attention of the image's positions to the word's tokens, step by step."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from ernie_vilg_jax.data.tokenizers import Tokenizer
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.model import Model, Params
from ernie_vilg_jax.models.text_encoder import Text


@dataclass(frozen=True)
class AttentionMaps:
    """What `Pipeline.attention_maps` saw while one image was made."""

    word: str
    tokens: tuple[int, ...]
    """Places of the word's tokens in the prompt as the model reads it."""
    image: Image.Image
    """The image that was made."""
    timesteps: np.ndarray
    """[S] int32: where each step began."""
    stages: np.ndarray
    """[S] int32: the stage, and so the expert, of each step."""
    maps: np.ndarray
    """[S, h, w] float32: the share of its attention that each position of the latents gives to the word, in [0, 1];
    the mean over attention blocks and heads."""

    def mean(self, stage: int | None = None) -> np.ndarray:
        """[h, w]: the mean over all steps, or over those of one stage. ValueError where the stage has no step."""
        chosen = self.maps if stage is None else self.maps[self.stages == stage]
        if not len(chosen):
            raise ValueError(f"no step was in stage {stage}; there were steps in {sorted(set(self.stages.tolist()))}")
        return chosen.mean(axis=0)

    def overlay(self, stage: int | None = None) -> Image.Image:
        """The image, dark where the word gets least attention and as it is where it gets most."""
        shown = self.mean(stage)
        contrast = shown.max() - shown.min()
        light = Image.fromarray(np.asarray(255 * (shown - shown.min()) / (contrast or 1), np.uint8))
        light = np.asarray(light.resize(self.image.size, Image.Resampling.BICUBIC), np.float32)[..., None] / 255
        return Image.fromarray(np.asarray(np.asarray(self.image) * (0.15 + 0.85 * light), np.uint8))


def tokens_of(tokenizer: Tokenizer, prompt: str, word: str) -> tuple[int, ...]:
    """Places, in the prompt as the model reads it, of the tokens that stand for `word`, wherever it occurs.

    Raises UserError where the prompt does not hold the word, or is cut before it.
    """
    if not isinstance(word, str) or not word.strip():
        raise UserError(f"word={word!r} must be a word of the prompt {prompt!r}")
    wanted = re.escape(word.strip())
    # Whole words first: "a" is not meant to be that in "square".
    patterns = rf"(?<![a-z0-9]){wanted}(?![a-z0-9])", wanted
    whole, anywhere = ([match.span() for match in re.finditer(one, prompt, re.IGNORECASE)] for one in patterns)
    found = whole or anywhere
    if not found:
        raise UserError(f"word={word!r} is not in the prompt {prompt!r}; name a part of it")
    _, spans = tokenizer.pieces(prompt)
    inside = [
        place + 1  # after the token that begins every prompt
        for place, (start, end) in enumerate(spans)
        if start < end and any(start < last and end > first for first, last in found)
    ]
    seen = [place for place in inside if place < tokenizer.max_length - 1]
    if not seen:
        raise UserError(
            f"the model does not see {word!r}: the prompt is longer than {tokenizer.max_length} tokens; put it earlier"
        )
    return tuple(seen)


def look(model: Model, unet: Params, x: jax.Array, t: jax.Array, text: Text) -> jax.Array:
    """[B, h, w, L] fp32: what each position of x looks at in the text, the mean over attention blocks and heads.

    One more answer of the network, to the prompt alone: guidance does not blur it.
    """
    inputs = {"params": unet}, x, t, *text
    _, seen = model.unet.apply(*inputs, mutable=["intermediates"])
    maps = jax.tree.leaves(seen["intermediates"])
    whole = [jax.image.resize(m, (*x.shape[:3], m.shape[-1]), "linear") for m in maps]
    return jnp.mean(jnp.stack(whole), axis=0)


def stack(maps: Sequence[jax.Array], tokens: tuple[int, ...]) -> np.ndarray:
    """[S, h, w]: the share of the tokens, of `look`'s answers [1, h, w, L] at each step."""
    return np.stack([np.asarray(one[0][..., list(tokens)].sum(-1), np.float32) for one in maps])

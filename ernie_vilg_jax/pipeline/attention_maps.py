"""Attention maps: the attention of the image's positions to a word's tokens, step by step."""

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
    """The attention recorded by `Pipeline.attention_maps` while one image was made."""

    word: str
    tokens: tuple[int, ...]
    """Indices of the word's tokens in the tokenised prompt."""
    image: Image.Image
    """The image."""
    timesteps: np.ndarray
    """[S] int32: the timestep at which each step began."""
    stages: np.ndarray
    """[S] int32: the stage, and so the expert, of each step."""
    maps: np.ndarray
    """[S, h, w] float32: the share of its attention that each position of the latents gives to the word, in [0, 1];
    the mean over attention blocks and heads."""

    def mean(self, stage: int | None = None) -> np.ndarray:
        """[h, w]: the mean over all steps, or over those of one stage. ValueError if the stage has no step."""
        chosen = self.maps if stage is None else self.maps[self.stages == stage]
        if not len(chosen):
            raise ValueError(f"no step was in stage {stage}; there were steps in {sorted(set(self.stages.tolist()))}")
        return chosen.mean(axis=0)

    def overlay(self, stage: int | None = None) -> Image.Image:
        """The image, dark where the word gets least attention and unchanged where it gets most."""
        shown = self.mean(stage)
        contrast = shown.max() - shown.min()
        light = Image.fromarray(np.asarray(255 * (shown - shown.min()) / (contrast or 1), np.uint8))
        light = np.asarray(light.resize(self.image.size, Image.Resampling.BICUBIC), np.float32)[..., None] / 255
        return Image.fromarray(np.asarray(np.asarray(self.image) * (0.15 + 0.85 * light), np.uint8))


def tokens_of(tokenizer: Tokenizer, prompt: str, word: str) -> tuple[int, ...]:
    """Indices in the tokenised prompt of the tokens of `word`, at all its occurrences.

    Raises UserError if the prompt does not contain the word, or is cut before it.
    """
    if not isinstance(word, str) or not word.strip():
        raise UserError(f"word={word!r} must be a word of the prompt {prompt!r}")
    wanted = re.escape(word.strip())
    # Whole words first: "a" should not match inside "square".
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
    """[B, h, w, L] fp32: attention of each position of x to the text, the mean over attention blocks and heads.

    One more call of the network, for the prompt alone, so that guidance does not blur it.
    """
    inputs = {"params": unet}, x, t, *text
    _, seen = model.unet.apply(*inputs, mutable=["intermediates"])
    maps = jax.tree.leaves(seen["intermediates"])
    whole = [jax.image.resize(m, (*x.shape[:3], m.shape[-1]), "linear") for m in maps]
    return jnp.mean(jnp.stack(whole), axis=0)


def stack(maps: Sequence[jax.Array], tokens: tuple[int, ...]) -> np.ndarray:
    """[S, h, w]: the share of the tokens in the results of `look` [1, h, w, L] at each step."""
    return np.stack([np.asarray(one[0][..., list(tokens)].sum(-1), np.float32) for one in maps])

"""How often the right text is among the nearest ones, for images that were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ernie_vilg_jax.evaluation.binding.nouns import Noun
from ernie_vilg_jax.evaluation.binding.sprites import emoji_cut_out, outside
from ernie_vilg_jax.evaluation.features import TextNetwork
from ernie_vilg_jax.preparation.sources.emoji import MISDRAWN

SIDE = 64


class Recall(NamedTuple):
    """Fractions of images whose text is the nearest, or among the five nearest, of `candidates`."""

    first: float
    fifth: float
    images: int
    candidates: int


def recall(network: TextNetwork, images: Sequence[np.ndarray], names: Sequence[str], own: Sequence[int]) -> Recall:
    """Args: images, candidate texts, and the place of each image's own text among them."""
    cosines = unit(network(images)) @ unit(network.texts(names)).T
    rank = (cosines > cosines[np.arange(len(own)), np.asarray(own)][:, None]).sum(1)
    return Recall(float((rank < 1).mean()), float((rank < 5).mean()), len(images), len(names))


def emoji_images(nouns: Sequence[Noun], styles: Sequence[str]) -> tuple[list[np.ndarray], list[int]]:
    """Full-colour art on white, uint8 [SIDE, SIDE, 3], and each one's place in `nouns`; rendered from the registry."""
    images, own = [], []
    for place, noun in enumerate(nouns):
        for style in styles:
            art = None if (style, noun.emoji) in MISDRAWN or not noun.emoji else emoji_cut_out(noun.emoji, style, SIDE)
            if art is not None:
                canvas = Image.new("RGB", (SIDE, SIDE), "white")
                canvas.paste(art.convert("RGB"), (0, 0), art.getchannel("A"))
                images.append(np.asarray(canvas))
                own.append(place)
    return images, own


def word_disjoint(nouns: Sequence[Noun]) -> list[Noun]:
    """Everyday things that share no word or hanzi with `nouns`, and were not shown to the checker as unknown things."""
    words = {word for noun in nouns for word in noun.en.split()}
    hanzi = {character for noun in nouns for character in noun.zh}
    unseen = outside(nouns)[1::2]  # see sprites.make_sprites
    return [noun for noun in unseen if not words & set(noun.en.split()) and not hanzi & set(noun.zh)]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Each row [D] scaled to length one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

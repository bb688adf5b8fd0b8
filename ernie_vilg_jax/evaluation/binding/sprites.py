"""Cut-out art of the things that the checker learns: drawn shapes, recoloured silhouettes and full-colour emoji."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from ernie_vilg_jax.evaluation.binding.nouns import EVERYDAY_NOUNS, Noun
from ernie_vilg_jax.preparation.sources.emoji import MISDRAWN, IconSet, RasterSet, icon_set, render_svg
from ernie_vilg_jax.preparation.sources.scenes import SILHOUETTES, UNSUITED
from ernie_vilg_jax.preparation.sources.shapes import SHAPES, shape_mask

STYLES = ("noto", "fluent-emoji-flat", "fluent-emoji-3d", "twemoji", "fluent-emoji", "emojione")
"""Full-colour styles to learn. The other two, noto-v1 and fxemoji, are kept for measuring."""
SIDE = 64
NONE = -1
"""The noun of art that shows a thing outside the vocabulary."""


@dataclasses.dataclass(frozen=True)
class Sprites:
    """N pieces of art.

    Attributes:
      pixels: uint8 [N, SIDE, SIDE, 4], RGBA, not premultiplied.
      noun: int16 [N], place in the vocabulary, or NONE.
      plain: bool [N], whether it is a mask to be filled with a colour.
    """

    pixels: np.ndarray
    noun: np.ndarray
    plain: np.ndarray


def make_sprites(nouns: Sequence[Noun], styles: Sequence[str], others: bool = True) -> Sprites:
    """Renders the art of a vocabulary.

    Args:
      nouns: the vocabulary.
      styles: the full-colour styles of emoji things.
      others: whether every second everyday thing outside the vocabulary is added, as an example of none of them.
    """
    found: list[tuple[np.ndarray, int, bool]] = []
    for place, noun in enumerate(nouns):
        found += [(pixels, place, plain) for pixels, plain in _art(noun, styles)]
    if others:
        found += [(pixels, NONE, plain) for noun in outside(nouns)[::2] for pixels, plain in _art(noun, styles[:2])]
    pixels, places, plain = zip(*found, strict=True)
    return Sprites(np.stack(pixels), np.asarray(places, np.int16), np.asarray(plain, bool))


def outside(nouns: Sequence[Noun]) -> list[Noun]:
    """The everyday things that are none of `nouns`: neither these emoji nor kinds of them ("a green apple")."""
    names, emoji = {noun.en for noun in nouns}, {noun.emoji for noun in nouns}
    return [noun for noun in EVERYDAY_NOUNS if noun.emoji not in emoji and not names & {noun.en, noun.en.split()[-1]}]


def suits_recolouring(noun: Noun) -> bool:
    """The scenes source's choice: no names with a colour or a portion in them."""
    return bool(noun.countable and noun.measure and not any(word in noun.en for word in UNSUITED))


def _art(noun: Noun, styles: Sequence[str]) -> Iterator[tuple[np.ndarray, bool]]:
    """RGBA [SIDE, SIDE, 4] and whether it is a mask, in every style that has the noun."""
    if not noun.emoji:
        mask = shape_mask(next(key for key, (name, _) in SHAPES.items() if name.en == noun.en), SIDE)
        yield np.asarray(Image.merge("RGBA", [mask] * 4)), True
        return
    for style in (SILHOUETTES, *styles):
        if (style == SILHOUETTES and not suits_recolouring(noun)) or (style, noun.emoji) in MISDRAWN:
            continue
        if (image := emoji_cut_out(noun.emoji, style)) is not None:
            yield np.asarray(image), style == SILHOUETTES


def emoji_cut_out(emoji: str, style: str, side: int = SIDE) -> Image.Image | None:
    """An emoji as RGBA [side, side] on a transparent ground, or None if the style lacks it."""
    art = icon_set(style)
    if (icon := art.find(emoji)) is None:
        return None
    if isinstance(art, RasterSet):
        data = art.bytes(icon)
    else:
        assert isinstance(art, IconSet)
        data = render_svg(art.svg(icon).replace("currentColor", "#111111"), side)
    return Image.open(io.BytesIO(data)).convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)

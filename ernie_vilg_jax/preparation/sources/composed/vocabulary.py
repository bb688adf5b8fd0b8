"""What composed scenes are made of: things, looks, grounds and traits, from the tables in assets/scenes."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from ernie_vilg_jax.preparation.sources.everyday import EVERYDAY
from ernie_vilg_jax.preparation.sources.nouns import Noun
from ernie_vilg_jax.preparation.sources.scenes import COLOURS
from ernie_vilg_jax.preparation.sources.shapes import SHAPES
from ernie_vilg_jax.preparation.sources.styles import STYLES
from ernie_vilg_jax.tables import rows


@dataclasses.dataclass(frozen=True)
class Thing:
    """A thing that scenes show: its noun and what may be done to it.

    Attributes:
      traits: a set of letters, see assets/scenes/things.tsv.
      shape: key of SHAPES for a drawn shape, "" for an emoji.
    """

    noun: Noun
    traits: str
    shape: str = ""

    @property
    def counts(self) -> bool:
        """Whether "three of it" can be said."""
        return self.noun.countable and bool(self.noun.measure) and "n" not in self.traits

    @property
    def takes_colour(self) -> bool:
        return "c" in self.traits or bool(self.shape)


def _everyday(emoji: str) -> Noun:
    concept = EVERYDAY[emoji]
    return Noun(concept.en, concept.zh, concept.measure, emoji, concept.article)


_SMILING_SHAPES = ("circle", "square", "heart", "star", "hexagon")
THINGS: dict[str, Thing] = {
    **{
        name.en: Thing(Noun(name.en, name.zh, name.measure), "s" if key in _SMILING_SHAPES else "", key)
        for key, (name, _) in SHAPES.items()
    },
    **{
        (noun := Noun(own[0], own[1], own[2], emoji) if own else _everyday(emoji)).en: Thing(noun, traits)
        for emoji, traits, *own in rows("scenes/things.tsv")
    },
}
"""English name -> thing."""


class Look(NamedTuple):
    """How a style is named: style phrases, English adjectives, and media ("a watercolour of", 水彩画)."""

    en_styles: tuple[str, ...]
    en_adjectives: tuple[str, ...]
    en_media: tuple[str, ...]
    zh_styles: tuple[str, ...]
    zh_media: tuple[str, ...]


def _split(cell: str) -> tuple[str, ...]:
    return () if cell == "-" else tuple(cell.split("|"))


def _look(key: str, cells: list[str]) -> Look:
    styles, adjectives, media, zh_styles, zh_media = map(_split, cells)
    if key in STYLES:
        styles, zh_styles = (*styles, STYLES[key].en), (*zh_styles, STYLES[key].zh)
    return Look(tuple(dict.fromkeys(styles)), adjectives, media, tuple(dict.fromkeys(zh_styles)), zh_media)


LOOKS: dict[str, Look] = {key: _look(key, cells) for key, *cells in rows("scenes/looks.tsv")}
"""Key -> names. The keys of STYLES are art; the others are operations on images (`effects.py`)."""
ART = tuple(key for key in LOOKS if key in STYLES)
EFFECTS = tuple(key for key in LOOKS if key not in STYLES)


class Ground(NamedTuple):
    """A background: its painter and colours (sRGB), what must not stand on it, and its names."""

    painter: str
    colours: tuple[tuple[int, int, int], ...]
    avoid: frozenset[str]
    en: tuple[str, ...]
    zh_places: tuple[str, ...]
    zh_names: tuple[str, ...]


def _rgb(code: str) -> tuple[int, int, int]:
    value = bytes.fromhex(code)
    return value[0], value[1], value[2]


GROUNDS: dict[str, Ground] = {
    key: Ground(
        painter,
        tuple(map(_rgb, colours.split(","))),
        frozenset(avoid.split(",")) - {"-"},
        *map(_split, (en, places, names)),
    )
    for key, painter, colours, avoid, en, places, names in rows("scenes/grounds.tsv")
}

HEADWEAR: dict[str, tuple[str, str, str]] = {
    "hat": ("🎩", "帽子", "顶"),
    "cap": ("🧢", "鸭舌帽", "顶"),
    "bow": ("🎀", "蝴蝶结", "个"),
    "crown": ("👑", "王冠", "顶"),
}
"""English name -> emoji, Chinese name, measure word. All are coloured."""
FIRE = "🔥"

HUES = tuple(COLOURS)
"""English names of the colours."""
NAMES = frozenset(name for concept in EVERYDAY.values() for name in (concept.en, concept.zh))
"""Of all everyday things, for which "a red apple" and 红苹果 are names of their own."""
EN_SIZES = {"big": ("big", "large"), "small": ("small", "little", "tiny")}
ZH_SIZES = {"big": ("大大", "很大"), "small": ("小小", "很小")}
ZH_SHORT = {"red": "红", "yellow": "黄", "green": "绿", "blue": "蓝", "purple": "紫", "black": "黑"}

"""The things that prompts of composed scenes speak of: nouns in both languages, and colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources.everyday import EVERYDAY
from ernie_vilg_jax.preparation.sources.scenes import COLOURS
from ernie_vilg_jax.preparation.sources.shapes import SHAPES
from ernie_vilg_jax.tables import rows

PALETTE: tuple[str, ...] = tuple(COLOURS)
"""English names of the colours; a network's colour k is the k-th."""


@dataclasses.dataclass(frozen=True)
class Noun:
    """A thing's names. `en` is also its identity: facts name things by it. `emoji` is "" for drawn shapes."""

    en: str
    zh: str
    measure: str = "个"
    emoji: str = ""
    countable: bool = True
    """False for plurals and mass nouns ("grapes"), which take no article and no plural."""

    @property
    def plural(self) -> str:
        """ "red circles", "loaves of bread"."""
        if not self.countable:
            return self.en
        head, of, rest = self.en.partition(" of ")
        return _plural(head) + of + rest


IRREGULAR = {"fish": "fish", "sheep": "sheep", "deer": "deer", "mouse": "mice", "loaf": "loaves", "person": "people"}


def _plural(word: str) -> str:
    for ending, plural in IRREGULAR.items():
        if word.endswith(ending):
            return word[: -len(ending)] + plural
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return f"{word}es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    if word.endswith(("leaf", "wolf", "knife", "scarf")):
        return f"{word.removesuffix('e')[:-1]}ves"
    return f"{word}s"


SHAPE_NOUNS = tuple(Noun(name.en, name.zh, name.measure) for name, _ in SHAPES.values())
EVERYDAY_NOUNS = tuple(Noun(c.en, c.zh, c.measure, c.emoji, c.article) for c in EVERYDAY.values())
COCO_NOUNS = tuple(Noun(en, zh) for en, zh in rows("lexicons/coco.tsv"))
"""What most detectors of photographs know."""


def nouns_named(things: Sequence[str]) -> tuple[Noun, ...]:
    """All drawn shapes, then the named everyday things. Raises UserError for a name that is not in everyday.tsv."""
    known = {noun.en: noun for noun in EVERYDAY_NOUNS}
    if unknown := [thing for thing in things if thing not in known]:
        raise UserError(
            f"{unknown[0]!r} is not an everyday thing: choose among the English names in assets/everyday.tsv"
        )
    return (*SHAPE_NOUNS, *(known[thing] for thing in things))

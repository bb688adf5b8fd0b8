"""The things that prompts of composed scenes speak of: nouns in both languages, and colours."""

from __future__ import annotations

from collections.abc import Sequence

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources.everyday import EVERYDAY
from ernie_vilg_jax.preparation.sources.nouns import Noun
from ernie_vilg_jax.preparation.sources.scenes import COLOURS
from ernie_vilg_jax.preparation.sources.shapes import SHAPES
from ernie_vilg_jax.tables import rows

PALETTE: tuple[str, ...] = tuple(COLOURS)
"""English names of the colours; a network's colour k is the k-th."""

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

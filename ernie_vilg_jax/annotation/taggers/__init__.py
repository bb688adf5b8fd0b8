"""Finds the key words of a caption: nouns, verbs, adjectives, numerals, measure words and pronouns, with their spans.

The paper (https://arxiv.org/abs/2210.15257) puts a token with the part of speech before each key word; this package
finds the key words. docs/parser.md says how well.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ernie_vilg_jax.knowledge.words import Word
from ernie_vilg_jax.registry import build


@runtime_checkable
class Tagger(Protocol):
    def words(self, caption: str) -> list[Word]:
        """The key words of a caption in order, not overlapping. Any string is a caption, an empty one too."""
        ...


TAGGERS: dict[str, str] = {
    "zh": "ernie_vilg_jax.annotation.taggers.chinese:ChineseTagger",
    "en": "ernie_vilg_jax.annotation.taggers.english:EnglishTagger",
    "both": "ernie_vilg_jax.annotation.taggers.bilingual:BilingualTagger",
}
"""Tagger name -> "module:class", imported when used."""


def make_tagger(name: str) -> Tagger:
    """The tagger of that name: `zh`, `en`, or `both`, which chooses by script within a caption."""
    return build("tagger", TAGGERS, name, {})

"""Nouns in both languages, and the noun phrases that captions are made of: number, size, colour."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ernie_vilg_jax.preparation.sources.everyday import with_article

EN_NUMBERS = ("", "one", "two", "three", "four")
ZH_NUMBERS = ("", "一", "两", "三", "四")
IRREGULAR = {
    **{"fish": "fish", "sheep": "sheep", "deer": "deer", "mouse": "mice", "loaf": "loaves", "person": "people"},
    **{"snowman": "snowmen", "die": "dice", "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes"},
    **{"volcano": "volcanoes", "buffalo": "buffaloes"},
}
"""The end of a noun -> the end of its plural."""


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


def english(noun: Noun, words: Sequence[str] = (), number: int = 0) -> str:
    """ "a big red circle", "three red circles".

    Args:
      words: adjectives, in order; empty ones are left out.
      number: 0 gives the article, where the noun takes one.
    """
    phrase = " ".join([*filter(None, words), noun.plural if number > 1 else noun.en])
    if number:
        return f"{EN_NUMBERS[number]} {phrase}"
    return with_article(phrase) if noun.countable else phrase


def chinese(noun: Noun, words: str = "", number: int = 0) -> str:
    """红色的圆形, 三个红色的圆形; `words` stand before the noun as they are; number 0 gives neither number nor
    measure."""
    counted = f"{ZH_NUMBERS[number]}{noun.measure or '个'}" if number else ""
    return f"{counted}{words}{noun.zh}"


def alone(noun: Noun, language: str) -> str:
    """One of a thing, as a prompt of a word or two: "a panda", 一只熊猫."""
    if language == "en":
        return english(noun)
    return chinese(noun, number=1) if noun.measure else noun.zh

"""Classes of Chinese words by the lists, by their form, or by jieba's tag: without the neighbours."""

from __future__ import annotations

import re
from typing import NamedTuple

from ernie_vilg_jax.annotation.taggers import chinese_lists as lists
from ernie_vilg_jax.annotation.taggers.chinese_context import ACTION, ADVERBIAL, ART, BARE, EITHER, LOCALISER, SHAPE

HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
NOUN_TAGS = frozenset(["n", "nr", "ns", "nt", "nz", "nrt", "nrfg", "nw", "ng", "s", "t", "tg", "j", "an"])
_CLASS_OF_TAG = {
    **dict.fromkeys(NOUN_TAGS, "n"),
    **dict.fromkeys(["a", "ag", "b", "z", "i"], "a"),
    **dict.fromkeys(["v", "vg", "vi", "vd", "vq"], "v"),
    **dict.fromkeys(["r", "rr", "rz", "rg"], "r"),
    **{"l": "n", "x": "n", "eng": "n", "vn": ACTION, "m": "m", "f": LOCALISER},
}
_QUALITY = re.compile(r"[0-9]{1,4}[kKpPdD]|[uU]?[hH][dD][rR]?|[fF][hH][dD]")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]+)")


class Piece(NamedTuple):
    """A part of a word of jieba: its text and its class (a part of speech or one of `chinese_context`)."""

    text: str
    kind: str


def foreign(word: str) -> list[Piece]:
    """Digits, Latin words, punctuation, white space: 500ml -> 500 ml."""
    if _QUALITY.fullmatch(word):
        return [Piece(word, "a")]
    quantity = _QUANTITY.fullmatch(word)
    if quantity and quantity[2].lower() in lists.LATIN_UNITS:
        return [Piece(quantity[1], "m"), Piece(quantity[2], "q")]
    if word[0].isdigit():
        return [Piece(word, "m" if word.replace(".", "").isdigit() else "n")]
    return [Piece(word, "n" if word[0].isalpha() else BARE)]


def _list_classes() -> dict[str, str]:
    """One dictionary of all lists; if two lists have a word, the later one wins."""
    classes: dict[str, str] = {}
    for words, kind in (
        (lists.FREE_NOUNS, "n"),
        (lists.SINGLE_VERBS, "v"),
        (lists.NOUN_OR_VERB, EITHER),
        (lists.ADJECTIVES, "a"),
        (lists.ADVERBIAL, ADVERBIAL),
        (lists.VERBS, "v"),
        (lists.NOUNS_TOO, ACTION),
        (lists.ARTS, ART),
        (lists.NOT_COLOURS, "n"),
        (lists.REDUPLICATED_NOUNS, "n"),
        (lists.KEEP, "n"),
        (lists.NUMERALS, "m"),
        (lists.LOCALISERS, LOCALISER),
        (lists.FUNCTION_WORDS, BARE),
        (lists.PRONOUNS, "r"),
    ):
        classes.update(dict.fromkeys(words, kind))
    return classes


LISTED = _list_classes()
"""The class of each word in the lists."""


def guessed(word: str, tag: str) -> str:
    """The class of a word that is in no list: by its form, or else by jieba's tag."""
    end = word[-1]
    if len(word) == 2 and word[0] in lists.ADJECTIVE_CHARACTERS and end in lists.ADJECTIVE_CHARACTERS:
        return "a"
    if len(word) > 1:
        if end == "色":
            return "a"
        if end in "形状" and tag[:1] in "nbaz":
            return SHAPE
        if len(word) > 2 and end in "式型质制级" and tag[:1] in "nbazx":
            return SHAPE
        if word[-1] == word[-2] and (len(word) == 3 or tag in ("z", "a")) and tag[:1] not in "vn":
            return "a"
        if tag == "v":  # jieba calls 披肩 and 擂台 verbs
            return ACTION
    return _CLASS_OF_TAG.get(tag, BARE)

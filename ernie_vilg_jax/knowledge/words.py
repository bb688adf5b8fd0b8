"""The key words of a caption: taggers return them, records hold them, training examples use them."""

import re
from typing import NamedTuple

LANGUAGES = ("zh", "en")
"""Languages of captions."""

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")

PARTS_OF_SPEECH = ("n", "v", "a", "m", "q", "r")
"""Noun, verb, adjective (any attribute: colour, size, state), numeral, measure word, pronoun."""


class Word(NamedTuple):
    """A key word: the characters [start, end) of the original caption, and one of PARTS_OF_SPEECH."""

    start: int
    end: int
    pos: str


def language_of(text: str) -> str:
    """ "zh" when the text has a Han character, else "en"."""
    return "zh" if _HAN.search(text) else "en"

"""The key words of a caption: what taggers return, records hold and training examples are drawn with."""

from typing import NamedTuple

LANGUAGES = ("zh", "en")
"""Those of captions."""

PARTS_OF_SPEECH = ("n", "v", "a", "m", "q", "r")
"""Noun, verb, adjective (any attribute: colour, size, state), numeral, measure word, pronoun."""


class Word(NamedTuple):
    """A key word: the characters [start, end) of the caption as it was given, and one of PARTS_OF_SPEECH."""

    start: int
    end: int
    pos: str

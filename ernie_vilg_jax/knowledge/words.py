"""The key words of a caption: taggers return them, records hold them, training examples use them."""

from typing import NamedTuple

LANGUAGES = ("zh", "en")
"""Languages of captions."""

PARTS_OF_SPEECH = ("n", "v", "a", "m", "q", "r")
"""Noun, verb, adjective (any attribute: colour, size, state), numeral, measure word, pronoun."""


class Word(NamedTuple):
    """A key word: the characters [start, end) of the original caption, and one of PARTS_OF_SPEECH."""

    start: int
    end: int
    pos: str

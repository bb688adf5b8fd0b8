"""Key words of captions in Chinese, English or both: each stretch of a script goes to the tagger of its language."""

from __future__ import annotations

import re

from ernie_vilg_jax.annotation.taggers.chinese import HAN, ChineseTagger
from ernie_vilg_jax.annotation.taggers.english import EnglishTagger
from ernie_vilg_jax.knowledge.words import Word

_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_STRETCH = re.compile(
    "[A-Za-z\u00c0-\u024f][^\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff，。！？；：、（）《》“”]*"
)
_ENGLISH = re.compile(r"\b[a-z\u00df-\u00ff]{3}|[A-Za-z]{2,}[\s,]+[A-Za-z]{2,}")
"""A Latin stretch is English if it has a word in lower case, or two words. `T恤`, `3D` and `OL` stay Chinese."""


class BilingualTagger:
    """The Chinese tagger for Chinese text and the English one for English text, each loaded when first needed."""

    def __init__(self) -> None:
        self._chinese: ChineseTagger | None = None
        self._english: EnglishTagger | None = None

    def words(self, caption: str) -> list[Word]:
        """See `Tagger.words`."""
        if not HAN.search(caption):
            return self._english_words(caption)
        if not _LATIN.search(caption):
            return self._chinese_words(caption)
        found: list[Word] = []
        place = 0
        for match in _STRETCH.finditer(caption):
            start, end = match.span()
            if not _ENGLISH.search(match[0]):
                continue
            found += _moved(self._chinese_words(caption[place:start]), place)
            found += _moved(self._english_words(caption[start:end]), start)
            place = end
        return found + _moved(self._chinese_words(caption[place:]), place)

    def _chinese_words(self, text: str) -> list[Word]:
        if not text:
            return []
        if self._chinese is None:
            self._chinese = ChineseTagger()
        return self._chinese.words(text)

    def _english_words(self, text: str) -> list[Word]:
        if self._english is None:
            self._english = EnglishTagger()
        return self._english.words(text)


def _moved(words: list[Word], by: int) -> list[Word]:
    return [Word(start + by, end + by, pos) for start, end, pos in words] if by else words

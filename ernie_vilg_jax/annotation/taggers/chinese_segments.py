"""The words of a Chinese caption before rules: jieba's dictionary, and for what it does not know its character model.

The model guesses words in rows of single characters without looking at what surrounds them: 雪地靴女 -> 雪地|靴女,
穿白西装 -> 穿白|西装, 一只灰猫 -> 一只|灰猫. Characters that stand alone are cut off such a row first; then a head joins
the word before it: 雪地|靴 -> 雪地靴.
"""

from __future__ import annotations

import re
from typing import Any

from ernie_vilg_jax.annotation.taggers import chinese_lists as lists
from ernie_vilg_jax.annotation.taggers.chinese_words import HAN, LISTED, NOUN_TAGS

_SURROGATES = re.compile("[\ud800-\udfff]")

Token = tuple[str, str]  # a word and jieba's tag
_EDGE: Token = ("", "")


class Segmenter:
    """Cuts captions into words with jieba's tags; `jieba` is an object of rjieba with the lists added."""

    def __init__(self, jieba: Any) -> None:
        self._jieba = jieba

    def tokens(self, caption: str) -> list[Token]:
        """The words of a caption, which together are the caption, or as long where it has lone surrogates."""
        try:
            singles = self._jieba.tag(caption, False)
        except UnicodeEncodeError:  # a lone surrogate, as in truncated strings
            singles = self._jieba.tag(_SURROGATES.sub("\ufffd", caption), False)
        found: list[Token] = []
        row: list[Token] = []
        for token in singles:
            if len(token[0]) == 1 and HAN.match(token[0]):
                row.append(token)
                continue
            if row:
                self._close(found, row, token)
                row = []
            found.append(token)
        if row:
            self._close(found, row, _EDGE)
        return found

    def _close(self, found: list[Token], row: list[Token], after: Token) -> None:
        """Adds the words of a row of single characters to those found before it."""
        characters = "".join(text for text, _ in row)
        if found and characters[0] in lists.COMPOUND_HEADS and _takes_head(*found[-1]):
            found[-1] = (found[-1][0] + characters[0], "n")
            row, characters = row[1:], characters[1:]
        found += row if len(row) < 2 else self._guess(characters, after)

    def _guess(self, row: str, after: Token) -> list[Token]:
        """The words of a row of characters that the dictionary does not join."""
        words = self._jieba.tag(row)
        if any(tag == "nr" and len(text) > 1 and text[0] not in lists.WEARING for text, tag in words):
            return words  # a person's name
        places = sorted(place for place in _cuts(row, after) if 0 < place < len(row))
        parts = [row[start:end] for start, end in zip([0, *places], [*places, len(row)], strict=True)]
        return [word for part in parts for word in self._jieba.tag(part)] if places else words


def _cuts(row: str, after: Token) -> set[int]:
    """Places in a row where a word begins or ends, whatever the character model says."""
    cuts = set()
    for i, character in enumerate(row):
        following = row[i + 1 : i + 2]
        if character in "男女" or (not following and character in lists.SPLIT_OFF and _is_noun(*after)):
            cuts |= {i, i + 1}
        elif character in lists.SPLIT_OFF and following in lists.FREE_NOUNS:
            cuts |= {i, i + 1, i + 2}
        elif character in lists.WEARING and following in lists.SPLIT_OFF:
            cuts |= {i, i + 1}
    return cuts


def _is_noun(word: str, tag: str) -> bool:
    return len(word) > 1 and LISTED.get(word, "n" if tag in NOUN_TAGS else "") == "n"


def _takes_head(word: str, tag: str) -> bool:
    """Whether a head of one character makes one noun with this word."""
    return len(word) == 2 and (word in lists.PURPOSES or _is_noun(word, tag))

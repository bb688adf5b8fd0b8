"""The words of a Chinese caption before rules: jieba's dictionary, and for what it does not know its character model.

The model guesses words in rows of single characters without looking at what surrounds them: 雪地靴女 -> 雪地|靴女,
拿白雨伞 -> 拿白|雨伞. So a head first joins the word before the row (雪地|靴 -> 雪地靴), and characters that stand
alone (女, 白) are cut off what is left.
"""

from __future__ import annotations

import re
from typing import Any

from ernie_vilg_jax.annotation.taggers import chinese_lists as lists
from ernie_vilg_jax.annotation.taggers.chinese_words import HAN, LISTED, NOUN_TAGS

_SURROGATES = re.compile("[\ud800-\udfff]")

MEMORY = 200_000
"""Entries of a cache before it is cleared: captions are cheap because most of their words are cached."""
_DATE_PARTS = "月日号"

Token = tuple[str, str]  # a word and jieba's tag
_EDGE: Token = ("", "")


class Segmenter:
    """Cuts captions into words with jieba's tags; `jieba` is an object of rjieba with the lists added."""

    def __init__(self, jieba: Any) -> None:
        self._jieba = jieba
        self._memory: dict[tuple[Token, ...], list[Token]] = {}

    def tokens(self, caption: str) -> list[Token]:
        """The words of a caption, which together are the caption, or as long where it has lone surrogates."""
        try:
            singles = self._jieba.tag(caption, False)
        except UnicodeEncodeError:  # a lone surrogate, as in truncated strings
            singles = self._jieba.tag(_SURROGATES.sub("\ufffd", caption), False)
        found: list[Token] = []
        row: list[Token] = []
        signs: list[Token] = []  # without the model, jieba cuts 1.5ml and Wi-Fi
        for token in singles:
            if not HAN.search(token[0]):
                if row:
                    self._close(found, row, token)
                    row = []
                signs.append(token)
                continue
            if signs:
                found += self._together(signs)
                signs = []
            if len(token[0]) == 1:
                row.append(token)
                continue
            if row:
                self._close(found, row, token)
                row = []
            found.append(token)
        if row:
            self._close(found, row, _EDGE)
        return found + self._together(signs)

    def _together(self, signs: list[Token]) -> list[Token]:
        """Signs, digits and Latin letters as words."""
        return self._jieba.tag("".join(text for text, _ in signs)) if len(signs) > 1 else signs

    def _close(self, found: list[Token], row: list[Token], after: Token) -> None:
        """Adds the words of a row of single characters to those found before it."""
        key = (*found[-1:], *row, after)
        words = self._memory.get(key)
        if words is None:
            if len(self._memory) >= MEMORY:
                self._memory = {}
            words = self._memory[key] = self._words(found[-1:], row, after)
        found[-1:] = words

    def _words(self, before: list[Token], row: list[Token], after: Token) -> list[Token]:
        """The words of the word before a row, if any, and of the row."""
        if before and (joined := self._joined(*before[0], row[0][0])):
            before, row = joined, row[1:]
        return before + (row if len(row) < 2 else self._guess("".join(text for text, _ in row), after))

    def _joined(self, word: str, tag: str, character: str) -> list[Token] | None:
        """A word and the character after it, where they belong together."""
        if word.isdigit() and character in (_DATE_PARTS if len(word) < 3 else "年"):
            return [(word + character, "t")]  # 2022|年, 2|月, 4|日
        if len(word) != 2:
            return None
        rest = word[1] + character
        kind = LISTED.get(word)
        crosses = word[0] in lists.SPLIT_OFF and kind in ("n", None) and self._jieba.has_word(rest)
        if crosses and _is_noun(*self._jieba.tag(rest, False)[0]):
            return [(word[0], "a"), (rest, "n")]  # 红外|套 -> 红|外套
        if character in lists.COMPOUND_HEADS and (word in lists.PURPOSES or _is_noun(word, tag)):
            return [(word + character, "n")]  # 雪地|靴, 收纳|箱
        if (character == "款" and tag not in ("m", "r")) or (character == "色" and _is_noun(word, tag)):
            return [(word + character, "b")]  # 防尘|款, 糖果|色
        if character == "风" and kind == "a":
            return [(word + character, "n")]  # 温柔|风
        return None

    def _guess(self, row: str, after: Token) -> list[Token]:
        """The words of a row of characters that the dictionary does not join."""
        words, cuts, end = self._jieba.tag(row), _cuts(row, after), 0
        for text, tag in words:
            start, end = end, end + len(text)
            if tag == "nr" and len(text) == 3 and text[0] in lists.SURNAMES:
                cuts = cuts.difference(range(start + 1, end)) | {start, end}  # a person's name: 王小云
        places = sorted(cuts & set(range(1, len(row))))
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
    return cuts


def _is_noun(word: str, tag: str) -> bool:
    return len(word) > 1 and LISTED.get(word, "n" if tag in NOUN_TAGS else "") == "n"

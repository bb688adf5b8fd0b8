"""Key words of Chinese captions: jieba's words and tags (rjieba), then rules.

    caption -> jieba: words with its tags -> each word alone: split or kept, one class per piece (cached)
            -> the row of pieces: classes by their neighbours -> Words

jieba keeps 红帽子, 一只, 趴在 and 窗台上 whole and calls colours nouns; the paper wants 红|帽子, 一|只, 趴, 窗台.
"""

from __future__ import annotations

import re
from typing import Any

from ernie_vilg_jax.annotation.taggers import chinese_lists as lists
from ernie_vilg_jax.annotation.taggers.chinese_context import ADVERBIAL, ART, BARE, LOCALISER, SHAPE, decide
from ernie_vilg_jax.annotation.taggers.chinese_segments import MEMORY, Segmenter
from ernie_vilg_jax.annotation.taggers.chinese_words import HAN, LISTED, NOUN_TAGS, Piece, foreign, guessed
from ernie_vilg_jax.errors import UserError, install
from ernie_vilg_jax.knowledge.words import PARTS_OF_SPEECH, Word

_COUNTED = re.compile(f"(第?[{lists.NUMERAL_CHARACTERS}]+|许多|多|无数)(.*)", re.DOTALL)
_LONGEST = 16


def import_rjieba() -> Any:
    """The module, or an error that says how to install it."""
    try:
        import rjieba
    except ImportError as error:
        raise UserError(f"the Chinese tagger needs the package rjieba: {install('annotate')}") from error
    return rjieba


class ChineseTagger:
    """Tags Chinese text; anything else in a caption is taken as English names or punctuation."""

    def __init__(self) -> None:
        self._jieba = import_rjieba().Jieba()
        for word in sorted(lists.ADJECTIVES | lists.KEEP | lists.VERBS):
            if len(word) > 1:
                self._jieba.add_word(word, self._jieba.suggest_freq(word), None)
        wearing = {verb + attribute for verb in lists.WEARING for attribute in lists.SPLIT_OFF}
        for word in filter(self._jieba.has_word, sorted(wearing.union(lists.BREAK_UP))):
            self._jieba.add_word(word, 0, None)
        self._segmenter = Segmenter(self._jieba)
        self._memory: dict[tuple[str, str], tuple[Piece, ...]] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()  # jieba's dictionary cannot be pickled: a worker process loads its own

    def words(self, caption: str) -> list[Word]:
        """See `Tagger.words`."""
        row: list[list[Any]] = []  # [start, end, text, class]
        place = 0
        for token in self._segmenter.tokens(caption):
            for text, kind in self._memory.get(token) or self._pieces(*token):
                end = place + len(text)
                row.append([place, end, text, kind])
                place = end
        decide(row)
        return [Word(start, end, kind) for start, end, _, kind in row if kind in PARTS_OF_SPEECH]

    def _pieces(self, word: str, tag: str) -> tuple[Piece, ...]:
        if len(self._memory) >= MEMORY:
            self._memory = {}
        pieces = tuple(self._split(word, tag) if HAN.search(word) else foreign(word))
        self._memory[word, tag] = pieces
        return pieces

    # ---- one word, without its neighbours ---------------------------------------------------------------------------

    def _split(self, word: str, tag: str) -> list[Piece]:
        kind = LISTED.get(word)
        if kind is not None:
            return [Piece(word, kind)]
        if len(word) > _LONGEST:
            return [Piece(word, "n")]
        for rule in (
            self._name,
            self._packed,
            self._complement,
            self._recut,
            self._counted,
            self._particle,
            self._localised,
            self._attribute,
            self._verb_object,
            self._halves,
        ):
            if (pieces := rule(word, tag)) is not None:
                return pieces
        return [Piece(word, guessed(word, tag))]

    def _again(self, word: str) -> list[Piece]:
        """Analyses a part of a word."""
        return [piece for part, tag in self._jieba.tag(word, False) for piece in self._split(part, tag)]

    def _known(self, word: str) -> bool:
        return self._jieba.has_word(word)

    def _noun(self, word: str) -> bool:
        """Whether the dictionary or the lists have this as one noun."""
        kind = LISTED.get(word)
        if kind is not None:
            return kind in ("n", ART)
        return len(word) > 1 and self._known(word) and self._jieba.tag(word, False)[0][1] in NOUN_TAGS

    def _name(self, word: str, tag: str) -> list[Piece] | None:
        """白金汉宫, 大西洋, 白俄罗斯, 波罗的海 stay whole; 大城市 does not."""
        if tag not in ("ns", "nr", "nrt", "nz") or len(word) < 3 or not self._known(word):
            return None
        rest = word[1:]
        if self._known(rest) and (rest in lists.KEEP or self._tag(rest) in ("n", "s")):
            return None  # a common noun after an attribute
        foreign = tag == "nrt" or (tag == "ns" and ("的" in rest or self._tag(rest) in ("ns", "nrt")))
        return [Piece(word, "n")] if foreign or word[-1] in lists.PLACE_ENDINGS else None

    def _packed(self, word: str, tag: str) -> list[Piece] | None:
        """双装 -> 双 装, as in 5双装."""
        if word[-1] != "装" or word[:-1] not in lists.MEASURES:
            return None
        return [Piece(word[:-1], "n"), Piece("装", BARE)]

    def _recut(self, word: str, tag: str) -> list[Piece] | None:
        """A word outside the dictionary was guessed from its characters: split it if the parts are known."""
        if self._known(word) or len(word) == 1 or _COUNTED.fullmatch(word):
            return None
        parts = self._jieba.cut(word, False)
        if len(parts) == 1:
            return None
        grammatical = any(LISTED.get(part) in ("-", "r", "m", LOCALISER) for part in parts)
        if grammatical or all(len(part) > 1 for part in parts):
            return self._again(word)
        first, rest = parts[0], word[len(parts[0]) :]
        if (first in lists.SINGLE_VERBS or first in lists.SPLIT_OFF or first in lists.ADJECTIVES) and (
            self._noun(rest) or rest in lists.FREE_NOUNS
        ):
            return self._again(word)
        return None

    def _counted(self, word: str, tag: str) -> list[Piece] | None:
        """一只 -> 一 只; 这只 -> 这 只."""
        if word[0] in lists.DEMONSTRATIVES and word[1:] in lists.MEASURES:
            return [Piece(word[0], "r"), Piece(word[1:], "q")]
        if tag not in ("m", "mq") and word[0] not in "一两三四五六七八九十":
            return None
        match = _COUNTED.fullmatch(word)
        if match is None or (tag not in ("m", "mq") and match[2][:1] not in lists.MEASURES):
            return None
        numeral, rest = match[1], match[2]
        if not rest:
            return [Piece(numeral, "m")]
        for length in (2, 1):
            measure, left = rest[:length], rest[length:]
            if measure in lists.MEASURES and (not left or self._noun(left) or left in lists.FREE_NOUNS):
                return [Piece(numeral, "m"), Piece(measure, "q"), *(self._again(left) if left else [])]
        return None

    def _particle(self, word: str, tag: str) -> list[Piece] | None:
        """弯弯的 -> 弯弯 的; 静静地 -> nothing; 很漂亮 -> 漂亮; 猫和老鼠 -> 猫 和 老鼠."""
        if len(word) > 2 and word[-1] == "的":
            return [*self._split(word[:-1], tag), Piece("的", BARE)]
        if len(word) > 2 and word[-1] == "地" and tag in ("d", "z", "ad"):
            return [Piece(word, BARE)]
        for degree in lists.DEGREES:
            if word.startswith(degree) and word[len(degree) :] in lists.ADJECTIVES:
                return [Piece(degree, BARE), Piece(word[len(degree) :], "a")]
        for particle in "着了的在":
            left, _, right = word.partition(particle)
            if left and right:
                return [*self._split(left, "v"), Piece(particle, BARE), *self._again(right)]
        for joint in "和与":
            left, _, right = word.partition(joint)
            if left and right and (self._noun(left) or left in lists.FREE_NOUNS) and self._noun(right):
                return [*self._again(left), Piece(joint, BARE), *self._again(right)]
        return None

    def _complement(self, word: str, tag: str) -> list[Piece] | None:
        """趴在 -> 趴 在; 漂浮着 -> 漂浮 着."""
        stem, end = word[:-1], word[-1]
        if (
            not stem
            or end not in lists.COMPLEMENTS
            or (tag[:1] in "ns" and (stem not in lists.SINGLE_VERBS or stem in lists.PLACE_CHARACTERS))
        ):
            return None
        if (
            end == "着"
            or stem in lists.SINGLE_VERBS
            or stem in lists.VERBS
            or (tag == "v" and self._tag(stem)[:1] == "v")
        ):
            return [Piece(stem, "v"), Piece(end, BARE)]
        return None

    def _localised(self, word: str, tag: str) -> list[Piece] | None:
        """窗台上 -> 窗台 上."""
        stem, end = word[:-1], word[-1]
        if end not in lists.LOCALISER_ENDINGS or word in lists.WHOLE_PLACES:
            return None
        if (stem in lists.PLACE_CHARACTERS and tag not in ("d", "c", "v")) or (len(stem) > 1 and self._noun(stem)):
            return [*(self._split(stem, "n") if len(stem) > 1 else [Piece(stem, "n")]), Piece(end, LOCALISER)]
        return None

    def _attribute(self, word: str, tag: str) -> list[Piece] | None:
        """红帽子 -> 红 帽子; 黑白照片 -> 黑白 照片."""
        whole = len(word) == 3 and self._known(word)  # 折叠椅 is a word, 红色椅 is not
        for length in range(min(4, len(word) - 1), 2 if whole else 1, -1):
            if word[:length] in lists.ADJECTIVES and (self._noun(word[length:]) or word[length:] in lists.FREE_NOUNS):
                return [Piece(word[:length], "a"), *self._split(word[length:], "n")]
        first, rest = word[0], word[1:]
        if first not in lists.SPLIT_OFF or tag[:1] not in "naibzvx":
            return None
        if rest in lists.FREE_NOUNS:
            return [Piece(first, "a"), Piece(rest, "n")]
        if len(rest) > 1 and (self._noun(rest) or rest in lists.ADJECTIVES):
            return [Piece(first, "a"), *self._split(rest, "n")]
        return None

    def _verb_object(self, word: str, tag: str) -> list[Piece] | None:
        """打电话 -> 打 电话; words that are one, such as 散步, are in the list of verbs."""
        first, rest = word[0], word[1:]
        if first not in (lists.SINGLE_VERBS if tag[:1] in "vlixa" else lists.NEVER_NOUNS):
            return None
        if rest in lists.OBJECTS or (len(rest) > 1 and self._noun(rest)):
            return [Piece(first, "v"), *self._split(rest, "n")]
        return None

    def _halves(self, word: str, tag: str) -> list[Piece] | None:
        """生日蛋糕 -> 生日 蛋糕; 阳光充足 -> 阳光 充足."""
        if not 4 <= len(word) <= 6 or tag not in ("n", "nr", "nz", "l"):
            return None
        left, right = word[:2], word[2:]
        if not (self._known(left) and self._known(right)):
            return None
        halves = [*self._split(left, self._tag(left)), *self._split(right, self._tag(right))]
        if halves[0].kind == halves[-1].kind == "v":
            return halves
        if halves[0].kind in ("n", "a", SHAPE) and halves[-1].kind in ("n", "a", "v", ADVERBIAL, ART):
            return halves
        return None

    def _tag(self, word: str) -> str:
        return self._jieba.tag(word, False)[0][1]

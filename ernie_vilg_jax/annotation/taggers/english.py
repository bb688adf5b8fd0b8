"""Key words of English captions: the dictionary of textblob's PatternTagger, then rules.

    caption -> words -> each word alone: its likely class, or its candidates (cached)
            -> the row of words, clause by clause: participles, third persons, measure words -> Words

The dictionary comes inside textblob (94,000 words, each with its most frequent tag); nothing of nltk's data is needed.
textblob's own rules were made for newspapers, but captions such as `a man riding` have no finite verb.
"""

from __future__ import annotations

import re
from typing import Any

from ernie_vilg_jax.annotation.taggers import english_lists as lists
from ernie_vilg_jax.annotation.taggers.english_context import (
    ADVERB,
    BARE,
    BASE,
    BE,
    DETERMINER,
    END,
    GENITIVE,
    ING,
    MODAL,
    NOUN_OR_ADJECTIVE,
    PAST,
    PLACE,
    PREPOSITION,
    RARELY,
    RELATIVE,
    THIRD,
    decide,
)
from ernie_vilg_jax.errors import UserError, install
from ernie_vilg_jax.knowledge.words import PARTS_OF_SPEECH, Word

_TOKEN = re.compile(
    r"(?P<word>[^\W_]+(?:[-'’&.][^\W_]+)*)|(?P<space>\s+|[\"“”*_#~`^]+)|(?P<mark>[^\w\s])",
)
_CLITIC = re.compile(r"(?i)(.+?)(['’](?:s|re|ve|ll|d|m))$")
_NUMBER = re.compile(r"[0-9][0-9.,]*(?:st|nd|rd|th)?")
_QUALITY = re.compile(r"(?i)[0-9]{1,4}[kdp]|[0-9]+mp|u?hdr?|hdr")
_MEMORY = 200_000


def import_dictionary() -> dict[str, str]:
    """word -> its most frequent Penn Treebank tag."""
    try:
        from textblob.en import lexicon
    except ImportError as error:
        raise UserError(f"the English tagger needs the package textblob: {install('annotate')}") from error
    lexicon.load()
    return dict(dict.items(lexicon))


class EnglishTagger:
    """Tags English text."""

    def __init__(self) -> None:
        self._dictionary = import_dictionary()
        self._memory: dict[str, str] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return type(self), ()  # a worker process reads the dictionary itself: it has several megabytes

    def words(self, caption: str) -> list[Word]:
        """See `Tagger.words`."""
        row: list[list[Any]] = []  # [start, end, lower-case text, class]
        for match in _TOKEN.finditer(caption):
            kind = match.lastgroup
            if kind == "space":
                continue
            start, end = match.span()
            text = match[0]
            if kind == "mark":
                row.append([start, end, text, END if text not in "'’/&-" else BARE])
                continue
            if ("'" in text or "’" in text) and (clitic := _CLITIC.fullmatch(text)):
                cut = start + len(clitic[1])
                self._append(row, start, cut, clitic[1])
                row.append([cut, end, "'s", _clitic(row[-1][3], clitic[2])])
                continue
            self._append(row, start, end, text)
        decide(row)
        return [Word(start, end, kind) for start, end, _, kind in row if kind in PARTS_OF_SPEECH]

    def _append(self, row: list[list[Any]], start: int, end: int, text: str) -> None:
        kind = self._memory.get(text)
        if kind is None:
            if len(self._memory) >= _MEMORY:
                self._memory = {}
            kind = self._memory[text] = self._class(text)
        row.append([start, end, text.lower().replace("’", "'"), kind])

    # ---- one word, without its neighbours ---------------------------------------------------------------------------

    def _class(self, text: str) -> str:
        word = text.lower().replace("’", "'")
        if (kind := _LISTED.get(word)) is not None:
            return kind
        if _QUALITY.fullmatch(word):
            return "a"
        if word[0].isdigit():
            return "m" if _NUMBER.fullmatch(word) else ("a" if "-" in word else "n")
        if "-" in word:
            return self._hyphenated(word)
        tag = self._tag(text, word)
        if word.endswith("ing") and len(word) > 4 and tag in (None, "VBG", "NN", "JJ"):
            return ING if tag != "JJ" or self._verb(word[:-3]) else "a"
        if tag is None:
            return self._unknown(word)
        if tag == "NNS" or tag == "VBZ":
            base = self._singular(word)
            if tag == "VBZ" or base in lists.VERBS:
                return THIRD
            return RARELY if self._dictionary.get(base + "ing") == "VBG" else "n"
        if tag in ("VB", "VBP"):
            return BASE if word not in lists.NOUNS else "n"
        if tag[:2] == "NN":
            return BASE if word in lists.VERBS else "n"
        return _CLASS_OF_TAG.get(tag, BARE)

    def _tag(self, text: str, word: str) -> str | None:
        tag = self._dictionary.get(word)
        if tag is None:
            tag = self._dictionary.get(text) or self._dictionary.get(word.capitalize())
        return tag

    def _verb(self, stem: str) -> bool:
        tags = (self._dictionary.get(stem), self._dictionary.get(stem + "e"))
        return stem in lists.VERBS or stem + "e" in lists.VERBS or "VB" in tags or "VBP" in tags

    def _singular(self, word: str) -> str:
        for end, new in (("ies", "y"), ("es", ""), ("s", "")):
            if word.endswith(end) and (word[: -len(end)] + new) in lists.VERBS:
                return word[: -len(end)] + new
        return word.removesuffix("s")

    def _hyphenated(self, word: str) -> str:
        first = word.partition("-")[0]
        last = word.rpartition("-")[2]
        if last in lists.ATTRIBUTE_ENDS or last.endswith("ed") or first in lists.ATTRIBUTE_STARTS:
            return "a"
        kind, head = self._class(last), self._class(first)
        if kind in ("a", PAST, NOUN_OR_ADJECTIVE) or (kind == ING and last not in lists.NOUNS_IN_ING):
            return "a"
        if head == "m" and kind == "m":
            return "m"
        if head in ("a", "m", PREPOSITION) and kind in ("n", BASE, THIRD, RARELY) and not word.endswith("s"):
            return "a"
        return "n"

    def _unknown(self, word: str) -> str:
        """A word that the dictionary lacks: by its ending."""
        known = self._dictionary
        if word.endswith("ed") and len(word) > 4:
            return PAST
        if word.endswith("ly") and len(word) > 4:
            return ADVERB
        if word.endswith("s") and not word.endswith("ss") and self._singular(word) in lists.VERBS:
            return THIRD
        if word.endswith(_ADJECTIVE_SUFFIXES) and len(word) > 5:
            return "a"
        if word.endswith("y") and len(word) > 4:
            stem = word[:-1]
            stems = (stem, stem + "e", stem[:-1] if stem[-1] == stem[-2] else stem)
            if not word.endswith(("ty", "gy", "cy", "phy", "my", "ey")) and any(known.get(s) == "NN" for s in stems):
                return "a"
        if word.endswith("er") and known.get(word[:-2]) == "JJ":
            return "a"
        if word.endswith("est") and known.get(word[:-3]) == "JJ":
            return "a"
        return "n"


_ADJECTIVE_SUFFIXES = (
    "ous", "ful", "less", "able", "ible", "ical", "ish", "esque", "istic", "ional", "ular", "ific", "atic", "etic",
)  # fmt: skip
_CLASS_OF_TAG = {
    **dict.fromkeys(["JJ", "JJR", "JJS", "NN|JJ", "JJ|NP"], "a"),
    **dict.fromkeys(["VBD", "VBN"], PAST),
    **dict.fromkeys(["RB", "RBR", "RBS"], ADVERB),
    **dict.fromkeys(["IN", "TO"], PREPOSITION),
    **dict.fromkeys(["PRP", "PRP$"], "r"),
    **dict.fromkeys(["FW", "SYM", "UH", "LS", "NNP", "NNPS"], "n"),
    "CD": "m",
    "VBG": ING,
    "MD": MODAL,
    "DT": DETERMINER,
    "WDT": RELATIVE,
    "WP": RELATIVE,
    "WRB": RELATIVE,
    "EX": BARE,
    "CC": BARE,
}


def _list_classes() -> dict[str, str]:
    """One dictionary of all lists; if two lists have a word, the later one wins."""
    classes: dict[str, str] = {}
    for words, kind in (
        (lists.ADJECTIVES, "a"),
        (lists.NOUNS, "n"),
        (lists.NOUNS & lists.VERBS, BASE),
        (frozenset(f"{word}s" for word in lists.NOUNS & lists.VERBS), THIRD),
        (lists.RARELY_VERBS, RARELY),
        (lists.NOUN_OR_ADJECTIVE, NOUN_OR_ADJECTIVE),
        (lists.NOUNS_IN_ING, ING),
        (lists.ALWAYS_ADJECTIVES, "a"),
        (lists.NUMERALS, "m"),
        (lists.BARE, BARE),
        (lists.BARE_OR_ADJECTIVE, PLACE),
        (lists.PREPOSITIONS, PREPOSITION),
        (lists.DETERMINERS, DETERMINER),
        (lists.POSSESSIVES | lists.PRONOUNS | lists.DEMONSTRATIVES, "r"),
        (lists.MODALS, MODAL),
        (lists.AUXILIARIES, BE),
        (frozenset(["to"]), PREPOSITION),
        (frozenset(["who", "which", "whose"]), RELATIVE),
    ):
        classes.update(dict.fromkeys(words, kind))
    return classes


_LISTED = _list_classes()


def _clitic(before: str, clitic: str) -> str:
    """The class of 's: after a noun a genitive, after a pronoun a form of be; 'll and 'd are modals."""
    if clitic[1:].lower() in ("ll", "d"):
        return MODAL
    return BE if before in ("r", BARE, RELATIVE) else GENITIVE

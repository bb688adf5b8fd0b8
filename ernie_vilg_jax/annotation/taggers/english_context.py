"""Classes of English words that depend on their neighbours: participles, third persons, measure words.

A row is a list of words [start, end, lower-case text, class]; a class is a part of speech or a constant below.
"""

from __future__ import annotations

from typing import Any

from ernie_vilg_jax.annotation.taggers import english_lists as lists

BARE, DETERMINER, PREPOSITION, END = "-", "d", "p", "."
BE, MODAL, RELATIVE, ADVERB, GENITIVE = "b", "o", "w", "R", "'"
NOUN_OR_ADJECTIVE, ING, PAST, THIRD, RARELY, BASE, PLACE = "A", "G", "D", "Z", "Y", "B", "l"
"""Classes that the neighbours decide: orange; holding; parked; walks; lights; walk; left."""

_EDGE: list[Any] = [0, 0, "", END]
_OPENS_OBJECT = frozenset([DETERMINER, "r", "m"])
_NOUNISH = frozenset(["n", BASE, THIRD, RARELY])
_ATTRIBUTIVE = frozenset(["a", NOUN_OR_ADJECTIVE, PLACE, "m"])
_PASSED = frozenset(["a", NOUN_OR_ADJECTIVE, ING, PAST, PLACE, ADVERB])


def decide(row: list[list[Any]]) -> None:
    """Settles, from left to right and in place, the classes that depend on the neighbours."""
    finite = False  # whether this clause has its verb
    for i, item in enumerate(row):
        text, kind = item[2], item[3]
        before, after = _before(row, i), row[i + 1] if i + 1 < len(row) else _EDGE
        if kind in (END, RELATIVE) or text in ("and", "while", "as"):
            finite = False
        elif kind == BE:
            finite = True
        elif kind == NOUN_OR_ADJECTIVE:
            item[3] = "n" if before[3] == "n" else _noun_or_adjective(row, i, text, after)
        elif kind == PLACE:
            attributive = before[3] in (DETERMINER, PREPOSITION, "r", "m", "a", END) and before[2] != "than"
            attribute = "n" if after[2] in ("view", "views") else "a"
            item[3] = attribute if after[3] in _NOUNISH and attributive else BARE
        elif kind == ING:
            item[3] = _ing(row, i, text, before, after)
        elif kind == PAST:
            item[3] = _past(row, i, before, after)
            finite = finite or item[3] == "v"
        elif kind in (THIRD, RARELY):
            item[3] = _third(kind, before, after, finite)
            finite = finite or item[3] == "v"
        elif kind == BASE:
            item[3] = _base(row, i, text, before, after, finite)
            finite = finite or item[3] == "v"
        elif (
            (text == "top" and after[2] == "of" and before[2] in ("on", "at"))  # on top of
            or (text in _HEIGHTS and after[3] == PREPOSITION and before[3] == "v")  # soaring high above
        ):
            item[3] = BARE
        elif text in lists.DEMONSTRATIVES:
            item[3] = RELATIVE if text == "that" and before[3] == "n" and after[3] not in _NOUNISH else "r"
            finite = finite and item[3] == "r"
        elif text == "like" and before[3] in ("r", "n") and before[2] in lists.PLURAL_SUBJECTS:
            item[3] = "v"
        if item[3] == "n" and after[2] == "of" and (text in lists.MEASURES or text in lists.PLURAL_MEASURES):
            item[3] = "q"


def _before(row: list[list[Any]], i: int) -> list[Any]:
    """The previous word, skipping adverbs."""
    i -= 1
    while i >= 0 and row[i][3] == ADVERB:
        i -= 1
    return row[i] if i >= 0 else _EDGE


def _head_follows(row: list[list[Any]], i: int) -> bool:
    """Whether a noun follows after nothing but attributes."""
    for item in row[i + 1 : i + 6]:
        if item[3] in _NOUNISH:
            return True
        if item[3] not in _PASSED and item[2] not in ("and", ","):
            return False
        if item[3] == ING and item[2] in lists.NOUNS_IN_ING:
            return True
    return False


def _noun_or_adjective(row: list[list[Any]], i: int, text: str, after: list[Any]) -> str:
    """orange, silver: attribute where a noun follows."""
    if text == "silver" and after[2] in lists.GROUND_HEADS:
        return "n"
    if after[3] in (*_NOUNISH, "a", NOUN_OR_ADJECTIVE, PAST, ING):
        return "a" if after[3] in _NOUNISH or _head_follows(row, i) else "n"
    if after[2] in ("and", ",") and _head_follows(row, i) and i + 2 < len(row) and row[i + 2][3] in _ATTRIBUTIVE:
        return "a"
    return "n"


def _ing(row: list[list[Any]], i: int, text: str, before: list[Any], after: list[Any]) -> str:
    """holding, smiling, fishing: noun by the lists, attribute before a noun, verb otherwise."""
    if after[2] in lists.PURPOSE_IN_ING.get(text, ()):
        return "n"
    if text in lists.NOUNS_IN_ING:
        if text in ("painting", "drawing") and (before[2] in lists.PICTURE_MEDIA or after[2] in ("of", "style")):
            return "n"
        takes_object = after[3] in _OPENS_OBJECT or (after[3] in ("a", NOUN_OR_ADJECTIVE) and _head_follows(row, i))
        verbal = (before[3] == BE and text not in lists.NEVER_VERBS) or (before[3] == "n" and takes_object)
        if text in lists.ACTIVITIES:
            verbal = before[3] in ("n", BE, "r")
        return "v" if verbal and text not in lists.NEVER_VERBS else "n"
    head = _head_follows(row, i)
    if before[3] == BE or before[3] == "v":
        return "v" if before[3] == BE or not head or after[3] in _OPENS_OBJECT else "a"
    if before[3] in ("n", "q") or before[2] in lists.OBJECT_PRONOUNS:
        return "v"
    if before[3] in (DETERMINER, "r", "m", "a", NOUN_OR_ADJECTIVE, GENITIVE):
        return "a" if head else "v" if before[3] in ("m", "r") or after[3] in (PREPOSITION, *_OPENS_OBJECT) else "n"
    if head and text not in lists.TRANSITIVE_IN_ING:
        return "a"
    return "v"


def _past(row: list[list[Any]], i: int, before: list[Any], after: list[Any]) -> str:
    """parked, broken: attribute before a noun, verb after one."""
    head = after[3] in (*_NOUNISH, *_PASSED) and _head_follows(row, i)
    if before[3] == BE:
        return "v"
    if before[3] in ("n", "r") and before[2] not in lists.POSSESSIVES:
        return "v"
    if head:
        return "a"
    if before[3] == MODAL or before[3] == RELATIVE or after[3] in (PREPOSITION, *_OPENS_OBJECT):
        return "v"
    return "a"


def _third(kind: str, before: list[Any], after: list[Any], finite: bool) -> str:
    """walks, lights: the verb of a clause whose subject stands right before it, or a plural."""
    if before[3] == RELATIVE or (
        before[3] == "r" and before[2] in ("he", "she", "it", "everyone", "someone", "this", "that")
    ):
        return "v"
    if before[3] != "n" or _plural(before[2]) or finite:
        return "v" if before[2] == "and" and after[3] in _OPENS_OBJECT and kind == THIRD else "n"
    if kind == RARELY:
        return "v" if after[3] in (DETERMINER, "r") or (after[3] == "n" and after[2].endswith("s")) else "n"
    return "v"


def _base(row: list[list[Any]], i: int, text: str, before: list[Any], after: list[Any], finite: bool) -> str:
    """walk, play: nouns unless there are clear signs of a verb."""
    open_after = after[3] in (PREPOSITION, DETERMINER, "r", END, ADVERB, "m", "n", "a", BARE)
    if before[3] == MODAL and open_after:
        return "v"
    if before[2] == "to":
        place = i > 1 and row[i - 2][2] in ("next", "close", "due")
        return "n" if place or text not in lists.VERBS or (after[3] == END and text == "work") else "v"
    if before[2] in lists.PLURAL_SUBJECTS or before[3] == RELATIVE:
        return "v" if open_after else "n"
    if before[3] == "n" and after[3] in (DETERMINER, "r") and not finite:
        return "v"
    plural = before[3] == "n" and _plural(before[2])
    if plural and not finite and after[3] in (PREPOSITION, DETERMINER, "r", "a", "m", ADVERB, "n", THIRD, RARELY):
        return "v" if text in lists.VERBS else "n"
    if plural and after[3] == END and not finite and text in lists.VERBS:
        return "v"
    return "n"


def _plural(noun: str) -> bool:
    """Whether the noun looks like more than one."""
    if noun in lists.IRREGULAR_PLURALS or noun.endswith("men"):
        return True
    return noun.endswith("s") and not noun.endswith(("ss", "us", "is")) and noun != "lens"


_HEIGHTS = frozenset(["high", "low", "deep", "close", "wide", "straight"])

"""Classes of Chinese pieces that depend on their neighbours: 把 (hold, or a handful), 画 (draw, or a picture).

A row is a list of pieces [start, end, text, class]; a class is a part of speech or one of the constants below.
"""

from __future__ import annotations

from typing import Any

from ernie_vilg_jax.annotation.taggers import chinese_lists as lists

BARE = "-"
LOCALISER, SHAPE, EITHER, ADVERBIAL, ACTION, ART = "f", "s", "t", "e", "V", "N"
"""Classes that the neighbours decide: place after a noun; X形; one character, noun or verb; adjective that is an
adverb before a verb; verb that is a noun after 的; noun that is a verb before 着."""

_THINGS = frozenset(["n", ART, EITHER])
_VERBAL = frozenset(["v", ACTION])
_OBJECT_START = frozenset(["n", "m", "r", "a", SHAPE])


def decide(row: list[list[Any]]) -> None:
    """Settles, from left to right and in place, the classes that depend on the neighbours."""
    last = len(row) - 1
    for i, item in enumerate(row):
        text, kind = item[2], item[3]
        before = row[i - 1] if i else _EDGE
        after = row[i + 1] if i < last else _EDGE
        if text == "们" and before[3] == "n":
            before[1], item[3] = item[1], BARE
        elif (
            text in lists.MEASURES
            and _counts(row, i)
            and (text not in lists.WEAK_MEASURES or after[3] in _THINGS or after[3] in ("a", "v", ADVERBIAL, SHAPE))
        ):
            item[3] = "q"
        elif kind == "n" and (
            (text in lists.SPLIT_OFF and (after[3] in _THINGS or after[3] == "a"))
            or (before[2] in _DEGREES and text not in lists.KEEP)
        ):
            item[3] = "a"
        elif kind == "n" and (after[2] == "着" or (before[2] == "正在" and after[3] in ("n", BARE))):
            item[3] = "v"
        elif text == "圆" and before[2] == "的" and _ends(after):
            item[3] = "n"
        elif kind == BARE and text in _VERBS_AT_TIMES and after[2] in _AFTER_VERBS and before[3] != "v":
            item[3] = "v"
        elif kind == SHAPE:
            item[3] = "a" if after[2] == "的" or after[3] in _THINGS or after[3] in ("a", ADVERBIAL) else "n"
        elif kind in ("a", ADVERBIAL) and after[2] in ("地", "着"):
            item[3] = BARE if after[2] == "地" else "v"
        elif text in ("下", "过") and (after[2] in lists.ASPECTS or (before[3] == after[3] == "n" and text == "过")):
            item[3] = "v"
        elif kind == ADVERBIAL:
            item[3] = BARE if after[3] in _VERBAL and before[2] != "的" else "a"
        elif kind == ACTION:
            nominal = after[3] == LOCALISER or (_ends(after) and (before[2] == "的" or before[3] in ("q", "a")))
            item[3] = "n" if nominal else "v"
        elif kind == ART:
            item[3] = "v" if after[2] in lists.ASPECTS else "n"
        elif kind == EITHER:
            verbal = (
                after[2] in lists.COMPLEMENTS
                or after[2] == "得"
                or (after[3] in _OBJECT_START and before[2] != "的" and before[3] not in ("q", "a"))
            )
            item[3] = "v" if verbal else "n"


_DEGREES = frozenset(["很", "非常", "十分", "极", "极其", "更", "更加", "太", "挺", "相当", "比较", "格外", "特别"])
_VERBS_AT_TIMES = frozenset("倒掉住见开透像叫")
_AFTER_VERBS = frozenset("满进着了在过入出下起")
_EDGE: list[Any] = [0, 0, "", BARE]


def _ends(item: list[Any]) -> bool:
    """Whether a phrase ends before this piece."""
    return item[3] in (BARE, LOCALISER) and item[2] not in lists.ASPECTS and item[2] != "的"


def _counts(row: list[list[Any]], i: int) -> bool:
    """Whether a measure word at i has its numeral before it, perhaps with 大 or 小 between (一大片)."""
    if i == 0:
        return False
    before = row[i - 1]
    if before[3] == "m" or before[2] in lists.DEMONSTRATIVES:
        return True
    return i > 1 and before[2] in ("大", "小", "整", "长") and row[i - 2][3] == "m"

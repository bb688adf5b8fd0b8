"""Prompts of composed scenes, in Chinese and English, read as facts.

"a red circle to the right of a blue square", 两个红色的圆形, "three yellow ducks", 红色的猫在狗的左边,
从左到右是红色的圆形、蓝色的星星和绿色的爱心. "a" and 一个 state no number; "one", "exactly two", 只有一个 do. Sizes,
styles and grounds of composed scenes are read over: no fact speaks of them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.evaluation.binding.facts import Fact, Mention, facts_from
from ernie_vilg_jax.evaluation.binding.nouns import COCO_NOUNS, EVERYDAY_NOUNS, PALETTE, SHAPE_NOUNS, Noun
from ernie_vilg_jax.preparation.sources.composed.vocabulary import EN_SIZES, GROUNDS, LOOKS, ZH_SIZES
from ernie_vilg_jax.preparation.sources.scenes import COLOURS

ZH_COLOURS = {zh: en for en, (zh, _) in COLOURS.items()} | {
    **{"白色": "white", "橘色": "orange", "橘黄色": "orange", "粉红色": "pink", "褐色": "brown", "咖啡色": "brown"},
    **{"红": "red", "橙": "orange", "黄": "yellow", "绿": "green", "蓝": "blue", "紫": "purple", "粉": "pink"},
    **{"棕": "brown", "黑": "black", "白": "white"},
}
EN_COLOURS = {colour: colour for colour in (*COLOURS, "white")}
NUMBERS = {
    **{"1": 1, "2": 2, "3": 3, "4": 4, "one": 1, "two": 2, "three": 3, "four": 4},
    **{"一": 1, "二": 2, "两": 2, "三": 3, "四": 4},
}
ARTICLES = ("a", "an", "the", "some", "一")
EXACTLY = ("exactly ", "only ", "just ", "只有", "仅有", "正好", "恰好")

EN_RELATIONS = {
    **{"to the left of": "left", "on the left of": "left", "left of": "left"},
    **{"to the right of": "right", "on the right of": "right", "right of": "right"},
    **{"above": "above", "over": "above", "on top of": "above"},
    **{"below": "below", "under": "below", "beneath": "below", "underneath": "below"},
}
ZH_RELATIONS = {
    f"{side}{word}": relation
    for side, relation in (("左", "left"), ("右", "right"), ("上", "above"), ("下", "below"))
    for word in ("边", "侧", "方", "面")
}
ORDERS = {"from left to right": "left", "from top to bottom": "above", "从左到右": "left", "从上到下": "above"}
FRAMES = (
    r"an? (?:picture|drawing|image|photo) of (.+)",
    r"there (?:is|are) (.+)",
    r"一[幅张](.+)的(?:图画|图片|画|照片)",
    r"(?:图中|画面上|画面中)?有(.+)",
)


class _Grammar(NamedTuple):
    english: re.Pattern[str]
    chinese: re.Pattern[str]
    noun: dict[str, str]
    """Any of its names -> `Noun.en`."""


def facts_of(prompt: str, nouns: Sequence[Noun] = (*SHAPE_NOUNS, *EVERYDAY_NOUNS, *COCO_NOUNS)) -> tuple[Fact, ...]:
    """What a prompt says.

    Args:
      prompt: Chinese or English, of the grammar above.
      nouns: the things that it may name.

    Raises UserError if it is not of this grammar, or names something else.
    """
    grammar = _grammar(tuple(nouns))
    text = unicodedata.normalize("NFKC", prompt).lower().strip().rstrip(".。!！").strip()
    text = re.sub(r"\s+", " ", text)
    text = _undecorated(text)
    for frame in FRAMES:
        if match := re.fullmatch(frame, text):
            text = match[1]
    for words, relation in ORDERS.items():
        if match := re.fullmatch(rf"{words}(?:依次是|依次为|是|有|:)?\s*(.+)|(.+?),?\s*{words}", text):
            return facts_from(_list(match[1] or match[2], grammar, prompt), relation)
    if related := _related(text, grammar, prompt):
        return related
    return facts_from(_list(text, grammar, prompt))


def understood(prompt: str, nouns: Sequence[Noun]) -> tuple[Fact, ...]:
    """The facts of a prompt; () if it is not of the grammar, or has a colour that the drawn checker does not know."""
    try:
        facts = facts_of(prompt, nouns)
    except UserError:
        return ()
    return facts if {fact.colour for fact in facts} <= {"", *PALETTE} else ()


def _undecorated(text: str) -> str:
    """Without what no fact speaks of: the style, the medium and the ground of a composed scene."""
    for look in LOOKS.values():
        for name in (*look.en_styles, *look.zh_styles):
            text = re.sub(rf"\s*,\s*{re.escape(name.lower())}$", "", text)
        for name in look.en_media:
            text = re.sub(rf"^an? {re.escape(name.lower())} of ", "", text)
        for name in look.zh_media:
            text = re.sub(rf"^(?:一幅)?(.+)的{re.escape(name)}$", r"\1", text)
    for ground in GROUNDS.values():
        for name in ground.en:
            text = re.sub(rf",? {re.escape(name)}$", "", text)
        for name in ground.zh_places:
            text = re.sub(rf"^{re.escape(name)}[有,]", "", text)
        for name in ground.zh_names:
            text = re.sub(rf",背景是{re.escape(name)}$", "", text)
    return text


def _related(text: str, grammar: _Grammar, prompt: str) -> tuple[Fact, ...]:
    """The facts of "A above B", A在B的上方 or B的上方是A, or ()."""
    words = "|".join(sorted(map(re.escape, EN_RELATIONS), key=len, reverse=True))
    if match := re.fullmatch(
        r"(左|上)[边面]是(.+),(?:右|下)[边面]是(.+)|(.+)在(左|上)[边面],(.+)在(?:右|下)[边面]", text
    ):
        first, second = match[2] or match[4], match[3] or match[6]
        relation = "left" if (match[1] or match[5]) == "左" else "above"
    elif match := re.fullmatch(rf"(.+?)(?: is| are)? ({words}) (.+)", text):
        first, relation, second = match[1], EN_RELATIONS[match[2]], match[3]
    elif match := re.fullmatch(rf"(.+?)在(.+?)的?({'|'.join(ZH_RELATIONS)})", text):
        first, second, relation = match[1], match[2], ZH_RELATIONS[match[3]]
    elif match := re.fullmatch(rf"(?:在)?(.+?)的({'|'.join(ZH_RELATIONS)})[是有](.+)", text):
        second, relation, first = match[1], ZH_RELATIONS[match[2]], match[3]
    elif match := re.fullmatch(r"(.+) (?:on the left|at the top) and (.+) (?:on the right|at the bottom)", text):
        first, second, relation = match[1], match[2], "left" if text.endswith("right") else "above"
    else:
        return ()
    return facts_from([_mention(first, grammar, prompt), _mention(second, grammar, prompt)], relation)


def _list(text: str, grammar: _Grammar, prompt: str) -> list[Mention]:
    if _match(text, grammar):  # a bow and arrow
        return [_mention(text, grammar, prompt)]
    parts = re.split(r"\s*(?:,|、)\s*(?:and |和)?| and |和|与|跟", text)
    return [_mention(part, grammar, prompt) for part in parts]


def _match(text: str, grammar: _Grammar) -> re.Match[str] | None:
    return grammar.english.fullmatch(text.strip()) or grammar.chinese.fullmatch(text.strip())


def _mention(text: str, grammar: _Grammar, prompt: str) -> Mention:
    match = _match(text, grammar)
    if match is None:
        raise UserError(
            f"prompt {prompt!r} is not understood at {text.strip()!r}: use things of the vocabulary, with a colour, a "
            'number up to four and one relation, as in "a red circle to the left of two blue squares"'
        )
    number = NUMBERS.get(match["number"] or "", 0)
    if match["number"] in ARTICLES and not match["exactly"]:
        number = 0
    colour = {**ZH_COLOURS, **EN_COLOURS}.get(match["colour"] or "", "")
    return Mention(grammar.noun[match["noun"]], colour, number)


@lru_cache(maxsize=16)
def _grammar(nouns: tuple[Noun, ...]) -> _Grammar:
    names: dict[str, str] = {}
    for noun in reversed(nouns):  # the first of two with one name stands
        names |= {noun.en.lower(): noun.en, noun.plural.lower(): noun.en, noun.zh.lower(): noun.en}

    def choice(words: Sequence[str]) -> str:
        return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))

    exactly, numbers = choice(EXACTLY), choice((*NUMBERS, *ARTICLES))
    measures = choice(tuple({noun.measure for noun in nouns if noun.measure} | {"个", "只"}))
    english = choice(
        [word for words in (*EN_SIZES.values(), *(look.en_adjectives for look in LOOKS.values())) for word in words]
    )
    english = english.lower()
    chinese = choice(
        [word for words in (*ZH_SIZES.values(), *(look.zh_styles for look in LOOKS.values())) for word in words]
    )
    chinese = chinese.lower()
    # The colour is lazy (??): a red apple is one name, where there is such a name.
    noun = f"(?P<noun>{choice(tuple(names))})"
    return _Grammar(
        re.compile(
            rf"(?P<exactly>{exactly})?(?:(?P<number>{numbers}) )?(?:(?:{english})"
            rf")??(?:(?P<colour>{choice(tuple(EN_COLOURS))}) )??{noun}"
        ),
        re.compile(
            rf"(?P<exactly>{exactly})?(?:(?P<number>{numbers})\s?(?:{measures}))?(?:(?:{chinese})的)??"
            rf"(?:(?P<colour>{choice(tuple(ZH_COLOURS))})的?)??{noun}"
        ),
        names,
    )

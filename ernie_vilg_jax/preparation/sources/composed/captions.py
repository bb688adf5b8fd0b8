"""Captions of composed scenes: sentences in both languages that are true of a plan, varied in words, order and length.

Colours, numbers, traits and relations are always said; size, look and ground only sometimes. The sentences are read
back by `evaluation.binding.grammar`, but for those with a trait or a rider.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from ernie_vilg_jax.preparation.sources.composed.plans import Part, Plan
from ernie_vilg_jax.preparation.sources.composed.vocabulary import (
    ART,
    EN_SIZES,
    GROUNDS,
    HEADWEAR,
    LOOKS,
    NAMES,
    THINGS,
    ZH_SHORT,
    ZH_SIZES,
)
from ernie_vilg_jax.preparation.sources.everyday import with_article
from ernie_vilg_jax.preparation.sources.nouns import chinese, english
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, RELATIONS

EN_RELATIONS = {
    "left": ("to the left of", "to the left of", "on the left of", "left of"),
    "right": ("to the right of", "to the right of", "on the right of", "right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under", "beneath"),
}
ZH_RELATIONS = {
    "left": ("左边", "左边", "左侧", "左面"),
    "right": ("右边", "右边", "右侧", "右面"),
    "above": ("上方", "上面", "上边"),
    "below": ("下方", "下面", "下边"),
}
EN_SIDES = {
    "left": ("on the left", "on the right"),
    "above": ("at the top", "at the bottom"),
}
ZH_SIDES = {"left": ("左边", "右边"), "above": ("上面", "下面")}
ORDERS = {"left": ("from left to right", "从左到右"), "above": ("from top to bottom", "从上到下")}


def captions(plan: Plan, draw: random.Random, count: int) -> dict[str, list[str]]:
    """Up to `count` different sentences of each language: "zh", "en"."""
    found: dict[str, list[str]] = {}
    for language, sentence in (("zh", _chinese), ("en", _english)):
        found[language] = list(dict.fromkeys(sentence(plan, draw) for _ in range(count)))
    return found


def plain_caption(plan: Plan, language: str, *, style: bool) -> str:
    """One caption that says neither size nor ground, and the look only if `style`; the same each time."""
    parts = tuple(dataclasses.replace(part, size="") for part in plan.parts)
    bare, draw = dataclasses.replace(plan, parts=parts), random.Random(str(plan))
    if language == "zh":
        sentence, _ = _chinese_core(bare, draw, "", counted=True)
        return f"{sentence}，{LOOKS[plan.look].zh_styles[0]}" if style else sentence
    sentence, _ = _english_core(bare, draw, "")
    return f"{sentence}, {LOOKS[plan.look].en_styles[0]}" if style else sentence


def _said_look(plan: Plan, draw: random.Random) -> bool:
    """Effects are named mostly, art sometimes; not if shapes are drawn beside it, which have no style."""
    if plan.look in ART and any(THINGS[part.thing].shape for part in plan.parts):
        return False
    return draw.random() < (0.35 if plan.look in ART else 0.8)


def _said_ground(plan: Plan, draw: random.Random) -> bool:
    return draw.random() < (0.08 if plan.ground == "white" else 0.65)


# English


def _english(plan: Plan, draw: random.Random) -> str:
    look = LOOKS[plan.look] if _said_look(plan, draw) else None
    adjective = ""
    simple = len(plan.parts) == 1 and not plan.parts[0].size and not plan.parts[0].colour
    if look and look.en_adjectives and simple and draw.random() < 0.5:
        adjective, look = draw.choice(look.en_adjectives), None
    sentence, clause = _english_core(plan, draw, adjective)
    if _said_ground(plan, draw):
        where = draw.choice(GROUNDS[plan.ground].en)
        sentence += f"{'' if len(plan.parts) == 1 and draw.random() < 0.7 else ','} {where}"
    if look and look.en_media and not clause and draw.random() < 0.5:
        return f"{with_article(draw.choice(look.en_media))} of {sentence}"
    if look:
        return f"{sentence}, {draw.choice(look.en_styles)}"
    chance = draw.random()
    if not clause and chance < 0.12:
        return f"{draw.choice(('a picture', 'an image', 'a drawing'))} of {sentence}"
    if not clause and chance < 0.2:
        first = plan.parts[0]
        plural = first.number > 1 or not THINGS[first.thing].noun.countable
        return f"there {'are' if plural and first.thing not in MASSES else 'is'} {sentence}"
    return sentence


MASSES = ("bacon", "popcorn", "sushi")


def _english_core(plan: Plan, draw: random.Random, adjective: str) -> tuple[str, bool]:
    """The sentence without look and ground, and whether it is a clause with a verb."""
    phrases = [_english_part(part, draw, adjective) for part in plan.parts]
    if len(phrases) == 1:
        return phrases[0], False
    if plan.relation == "on":
        first, second = phrases
        return f"{first} {draw.choice(('on', 'riding', 'sitting on', 'on top of'))} {second}", False
    if not plan.relation:
        draw.shuffle(phrases)
        return _listed(phrases, ", ", " and "), False
    if len(phrases) == 3:
        order = ORDERS[plan.relation][0]
        listed = _listed(phrases, ", ", " and ")
        return draw.choice((f"{listed}, {order}", f"{listed} {order}", f"{order}: {listed}")), True
    parts, relation = list(plan.parts), plan.relation
    form = draw.random()
    if form < 0.2:
        if relation in ("right", "below"):
            phrases, relation = phrases[::-1], RELATIONS[relation][2]
        sides = EN_SIDES[relation]
        return f"{phrases[0]} {sides[0]} and {phrases[1]} {sides[1]}", False
    if form < 0.55:
        phrases, parts, relation = phrases[::-1], parts[::-1], RELATIONS[relation][2]
    words = draw.choice(EN_RELATIONS[relation])
    if form > 0.85:
        plural = parts[0].number > 1 or not THINGS[parts[0].thing].noun.countable
        verb = "are" if plural and parts[0].thing not in MASSES else "is"
        return f"{phrases[0]} {verb} {words} {phrases[1]}", True
    return f"{phrases[0]} {words} {phrases[1]}", False


def _english_part(part: Part, draw: random.Random, adjective: str) -> str:
    noun = THINGS[part.thing].noun
    size = draw.choice(EN_SIZES[part.size]) if part.size and draw.random() < 0.85 else ""
    before, after = "", ""
    if part.trait == "smile":
        before, after = draw.choice((("smiling", ""), ("smiling", ""), ("", " with a smiling face")))
    elif part.trait == "fire":
        before, after = draw.choice((("", " on fire"), ("", " on fire"), ("burning", ""), ("", " in flames")))
    elif part.trait:
        worn = with_article(f"{part.trait_colour} {part.trait}")
        after = f" {draw.choice(('with', 'with', 'wearing'))} {worn}"
    number = part.number if part.number > 1 else 0
    return english(noun, (size, before, adjective, part.colour), number) + after


def _listed(phrases: Sequence[str], comma: str, last: str) -> str:
    return f"{comma.join(phrases[:-1])}{last}{phrases[-1]}"


# Chinese


def _chinese(plan: Plan, draw: random.Random) -> str:
    look = LOOKS[plan.look] if _said_look(plan, draw) else None
    inner = ""
    if look and len(plan.parts) == 1 and draw.random() < 0.4:
        inner, look = f"{draw.choice(look.zh_styles)}的", None
    grounded = _said_ground(plan, draw)
    ground = GROUNDS[plan.ground]
    exists = grounded and not plan.relation and draw.random() < 0.6
    sentence, clause = _chinese_core(plan, draw, inner, counted=exists or None)
    if exists:
        sentence = f"{draw.choice(ground.zh_places)}有{sentence}"
    elif grounded and draw.random() < 0.5:
        sentence = f"{draw.choice(ground.zh_places)}，{sentence}"
    elif grounded:
        sentence = f"{sentence}，背景是{draw.choice(ground.zh_names)}"
    if look:
        if look.zh_media and not clause and not grounded and draw.random() < 0.5:
            return f"{draw.choice(('一幅', ''))}{sentence}的{draw.choice(look.zh_media)}"
        return f"{sentence}，{draw.choice(look.zh_styles)}"
    if not grounded and not clause:
        chance = draw.random()
        if chance < 0.1:
            return f"一{draw.choice('幅张')}{sentence}的{draw.choice(('图画', '图片'))}"
        if chance < 0.2:
            return f"{draw.choice(('图中', '画面上'))}有{sentence}"
    return sentence


def _chinese_core(plan: Plan, draw: random.Random, inner: str, counted: bool | None) -> tuple[str, bool]:
    """The sentence without look and ground, and whether it is more than a noun phrase. `counted`: None = either."""
    one = draw.random() < 0.6 if counted is None else counted
    short = draw.random()
    phrases = [_chinese_part(part, draw, one, short, inner) for part in plan.parts]
    if len(phrases) == 1:
        return phrases[0], False
    if plan.relation == "on":
        first, second = phrases
        rider = _chinese_part(plan.parts[0], draw, False, short, "")
        return draw.choice(((f"{first}骑在{second}上", True), (f"骑着{second}的{rider}", False)))
    if not plan.relation:
        draw.shuffle(phrases)
        return _listed(phrases, "、", draw.choice("和和与")), False
    if len(phrases) == 3:
        order = ORDERS[plan.relation][1]
        listed = _listed(phrases, "、", "和")
        return draw.choice((f"{order}是{listed}", f"{order}依次是{listed}", f"{listed}，{order}")), True
    relation = plan.relation
    form = draw.random()
    if form < 0.2:
        if relation in ("right", "below"):
            phrases, relation = phrases[::-1], RELATIONS[relation][2]
        sides = ZH_SIDES[relation]
        a, b = phrases
        return draw.choice((f"{sides[0]}是{a}，{sides[1]}是{b}", f"{a}在{sides[0]}，{b}在{sides[1]}")), True
    if form < 0.55:
        phrases, relation = phrases[::-1], RELATIONS[relation][2]
    side = draw.choice(ZH_RELATIONS[relation])
    if form > 0.85:
        return f"{phrases[1]}的{side}{draw.choice('是有')}{phrases[0]}", True
    return f"{phrases[0]}在{phrases[1]}{draw.choice('的 ').strip()}{side}", True


def _chinese_part(part: Part, draw: random.Random, one: bool, short: float, inner: str) -> str:
    """`one`: with number and measure also for a single thing; `short` < 0.4, 0.6: the colour in two characters,
    in one."""
    noun = THINGS[part.thing].noun
    size = f"{draw.choice(ZH_SIZES[part.size])}的" if part.size and draw.random() < 0.85 else ""
    trait = ""
    if part.trait == "smile":
        trait = draw.choice(("微笑的", "微笑着的", "带着笑脸的"))
    elif part.trait == "fire":
        trait = draw.choice(("着火的", "着火的", "燃烧的", "起火的"))
    elif part.trait:
        trait = f"戴着{_chinese_colour(part.trait_colour, HEADWEAR[part.trait][1], short)}的"
    coloured = _chinese_colour(part.colour, noun.zh, short) if part.colour else noun.zh
    words = f"{size}{trait}{inner}{coloured.removesuffix(noun.zh)}"
    number = part.number if part.number > 1 else int(one and bool(noun.measure))
    return chinese(noun, words, number)


def _chinese_colour(colour: str, noun: str, short: float) -> str:
    if short < 0.2 and colour in ZH_SHORT and f"{ZH_SHORT[colour]}{noun}" not in NAMES and len(noun) < 4:
        return f"{ZH_SHORT[colour]}{noun}"
    name = COLOURS[colour][0]
    return f"{name}{noun}" if short < 0.5 else f"{name}的{noun}"

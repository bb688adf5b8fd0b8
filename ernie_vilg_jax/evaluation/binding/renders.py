"""Renders with known content, to measure a checker with: their facts, and facts that they do not show.

Shapes and silhouettes are scenes of the scenes source; counted things and full-colour art are placed here, rendered at
the size that they have in the image. Render i depends on (seed, i) alone; no render is a training scene.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from ernie_vilg_jax.evaluation.binding.facts import Fact, Mention, facts_from
from ernie_vilg_jax.evaluation.binding.nouns import PALETTE, Noun
from ernie_vilg_jax.evaluation.binding.sentences import INVERSE
from ernie_vilg_jax.evaluation.binding.sprites import emoji_cut_out, suits_recolouring
from ernie_vilg_jax.preparation.sources.emoji import MISDRAWN
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, GROUNDS, SILHOUETTES, SceneSource
from ernie_vilg_jax.preparation.sources.shapes import SHAPES, shape_mask

SIDE = 64
LOOKS = ("shapes", "silhouettes", "art")
MOST = 4


@dataclasses.dataclass(frozen=True)
class Render:
    """uint8 [SIDE, SIDE, 3] and what it shows."""

    image: np.ndarray
    mentions: tuple[Mention, ...]
    relation: str = ""

    @property
    def facts(self) -> tuple[Fact, ...]:
        return facts_from(self.mentions, self.relation)


def scenes(
    look: str, nouns: Sequence[Noun], styles: Sequence[str], seed: int, count: int, least: int = 1
) -> list[Render]:
    """Scenes of `least` (1 or 2) to three different things; those of "art" have no colours and at most two things."""
    if look == "art":
        return [_art_scene(nouns, styles, seed, index, least) for index in range(count)]
    source = SceneSource(SIDE, 1, seed, "shapes" if look == "shapes" else "emoji")
    known = {noun.en for noun in nouns}
    found: list[Render] = []
    index = 0
    while len(found) < count:
        plan = source.plan(index)
        if len(plan.things) >= least and all(thing.noun.en in known for thing in plan.things):
            image = Image.open(io.BytesIO(source.record(index).image)).convert("RGB")
            mentions = tuple(Mention(thing.noun.en, thing.colour) for thing in plan.things)
            found.append(Render(np.asarray(image), mentions, plan.relation))
        index += 1
    return found


def counted(look: str, nouns: Sequence[Noun], styles: Sequence[str], seed: int, index: int) -> Render:
    """One to four equal things, in a colour unless `look` is "art"."""
    rng = np.random.default_rng((seed, index, 1))
    number = 1 + index % MOST
    noun, style = _drawn_noun(look, nouns, styles, rng)
    colour = "" if look == "art" else PALETTE[rng.integers(len(PALETTE))]
    canvas = Image.new("RGB", (SIDE, SIDE), GROUNDS[rng.integers(len(GROUNDS))])
    side = rng.uniform(*((0.4, 0.7) if number == 1 else (0.3, 0.44) if number == 2 else (0.26, 0.4)))
    cells = rng.permutation(4)[:number]
    for cell in cells:
        room = 1.0 if number == 1 else 0.5
        left, top = (0.0 if number == 1 else 0.5 * (cell % 2)), (0.0 if number == 1 else 0.5 * (cell // 2))
        x, y = left + rng.uniform(0.02, room - side - 0.02), top + rng.uniform(0.02, room - side - 0.02)
        _put(canvas, noun, style, colour, (x, y, side))
    return Render(np.asarray(canvas), (Mention(noun.en, colour, number),))


def _art_scene(nouns: Sequence[Noun], styles: Sequence[str], seed: int, index: int, least: int) -> Render:
    rng = np.random.default_rng((seed, index, 2))
    canvas = Image.new("RGB", (SIDE, SIDE), "white")
    first = _drawn_noun("art", nouns, styles, rng)
    if least == 1 and rng.random() < 0.4:
        side = rng.uniform(0.5, 1.0)
        _put(canvas, *first, "", (rng.uniform(0, 1 - side), rng.uniform(0, 1 - side), side))
        return Render(np.asarray(canvas), (Mention(first[0].en),))
    second = first
    while second[0] == first[0]:
        second = _drawn_noun("art", nouns, styles, rng)
    relation = str(rng.choice(["left", "right", "above", "below"]))
    for place, (noun, style) in enumerate((first, second)):
        side = rng.uniform(0.36, 0.47)
        behind = place == 0 if relation in ("right", "below") else place == 1
        along, across = 0.5 * behind + rng.uniform(0.01, 0.49 - side), 0.5 - side / 2 + rng.uniform(-0.12, 0.12)
        x, y = (along, across) if relation in ("left", "right") else (across, along)
        _put(canvas, noun, style, "", (x, y, side))
    return Render(np.asarray(canvas), (Mention(first[0].en), Mention(second[0].en)), relation)


def _drawn_noun(look: str, nouns: Sequence[Noun], styles: Sequence[str], rng: np.random.Generator) -> tuple[Noun, str]:
    """A noun of a look, and the style that it is drawn in."""
    suited = [noun for noun in nouns if bool(noun.emoji) == (look != "shapes")]
    while True:
        noun = suited[rng.integers(len(suited))]
        style = "" if look == "shapes" else SILHOUETTES if look == "silhouettes" else str(rng.choice(list(styles)))
        if look == "silhouettes" and not suits_recolouring(noun):
            continue
        if look == "shapes" or ((style, noun.emoji) not in MISDRAWN and _cut_out(noun.emoji, style, 8) is not None):
            return noun, style


def _put(canvas: Image.Image, noun: Noun, style: str, colour: str, place: tuple[float, float, float]) -> None:
    """Draws a thing at left, top and side, in fractions of the image."""
    x, y, side = place
    pixels = round(side * SIDE)
    at = (round(x * SIDE), round(y * SIDE))
    if not noun.emoji:
        key = next(key for key, (name, _) in SHAPES.items() if name.en == noun.en)
        canvas.paste(COLOURS[colour][1], at, shape_mask(key, pixels))
        return
    art = _cut_out(noun.emoji, style, pixels)
    assert art is not None
    canvas.paste(COLOURS[colour][1] if colour else art.convert("RGB"), at, art.getchannel("A"))


@lru_cache(maxsize=20_000)
def _cut_out(emoji: str, style: str, side: int) -> Image.Image | None:
    return emoji_cut_out(emoji, style, side)


def near_miss(fact: Fact, facts: Sequence[Fact], nouns: Sequence[Noun], rng: np.random.Generator) -> Fact:
    """A false fact about the same scene: another noun, the colour of the other thing, the inverse relation, or another
    number."""
    if fact.kind == "relation":
        return dataclasses.replace(fact, relation=INVERSE[fact.relation])
    if fact.kind == "count":
        return dataclasses.replace(fact, number=int(rng.choice([n for n in range(1, MOST + 1) if n != fact.number])))
    if fact.kind == "object":
        shown = {other.noun for other in facts}
        absent = [noun.en for noun in nouns if noun.en not in shown]
        return dataclasses.replace(fact, noun=absent[rng.integers(len(absent))])
    own = {other.colour for other in facts if other.kind == "colour" and other.noun == fact.noun}
    rest = [other.colour for other in facts if other.kind == "colour" and other.colour not in own]
    rest = rest or [colour for colour in PALETTE if colour not in own]
    return dataclasses.replace(fact, colour=rest[rng.integers(len(rest))])


def surely_false(fact: Fact, facts: Sequence[Fact]) -> bool:
    """Whether a fact about another scene is false of the scene with `facts`, with no need to look at places."""
    shown = {other.noun for other in facts}
    if fact.kind == "relation":
        return not {fact.noun, fact.other} <= shown
    if fact.kind == "colour":
        own = {(other.noun, other.colour) for other in facts if other.kind == "colour"}
        return fact.noun not in shown or (any(n == fact.noun for n, _ in own) and (fact.noun, fact.colour) not in own)
    if fact.kind == "count":
        return fact.noun not in shown or any(
            other.kind == "count" and other.noun == fact.noun and other.number != fact.number for other in facts
        )
    return fact.noun not in shown

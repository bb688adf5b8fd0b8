"""Plans of composed scenes: what stands where, in which colour, number, size and look. No pixels.

A plan is drawn from a random generator and from which style has which art; its units say which combinations it shows,
so that whole combinations can be held out of training.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence

from ernie_vilg_jax.preparation.sources.composed.layout import Place, place_groups
from ernie_vilg_jax.preparation.sources.composed.sprites import has_art
from ernie_vilg_jax.preparation.sources.composed.vocabulary import (
    ART,
    EFFECTS,
    GROUNDS,
    HEADWEAR,
    HUES,
    NAMES,
    THINGS,
)
from ernie_vilg_jax.preparation.sources.scenes import RELATIONS

KINDS: dict[str, float] = {
    **{"single": 0.27, "count": 0.17, "related": 0.27, "beside": 0.08, "groups": 0.05, "ordered": 0.07, "list": 0.05},
    "ride": 0.04,
}
"""Kind of scene -> its share.

single: one thing, perhaps with a trait. count: two to four equal ones. related: two with a relation. beside: two, of
which nothing is said. groups: the same with more than one of a kind. ordered, list: three in an order, or of which none
is said. ride: one on top of another.
"""


@dataclasses.dataclass(frozen=True)
class Part:
    """Some equal things.

    Attributes:
      thing: key of THINGS.
      colour: of COLOURS, or "" for the art's own.
      size: "big", "small" or "" (unsaid).
      trait: "smile", "fire", one of HEADWEAR, or "".
      trait_colour: of the headwear.
      places: of each, (left, top, side) in fractions of the image.
    """

    thing: str
    colour: str = ""
    number: int = 1
    size: str = ""
    trait: str = ""
    trait_colour: str = ""
    places: tuple[Place, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """A scene.

    Attributes:
      kind: of KINDS.
      parts: one to three.
      relation: of each part to the next: of RELATIONS, "on" (rides), or "".
      look: key of LOOKS, which captions may name.
      art: the style of the emoji in it.
      ground: key of GROUNDS.
    """

    kind: str
    parts: tuple[Part, ...]
    relation: str
    look: str
    art: str
    ground: str

    @property
    def units(self) -> list[str]:
        """The combinations that it shows, for the split: (colour, thing), (number, thing), (look, thing), (trait,
        thing), and two things with their relation."""
        found: dict[str, None] = {}
        for part in self.parts:
            if part.colour:
                found[f"colour/{part.colour}-{part.thing}"] = None
            if part.number > 1:
                found[f"count/{part.number}-{part.thing}"] = None
            if not (THINGS[part.thing].shape and self.look in ART):
                found[f"look/{self.look}-{part.thing}"] = None
            if part.trait:
                found[f"trait/{part.trait}-{part.thing}"] = None
        for first, second in itertools.pairwise(self.parts):
            found[pair_unit(first.thing, self.relation, second.thing)] = None
        return list(found)


def pair_unit(first: str, relation: str, second: str) -> str:
    """The unit of two things; "a left of b" and "b right of a" are the same."""
    if relation in ("right", "below"):
        first, relation, second = second, RELATIONS[relation][2], first
    if not relation:
        first, second = sorted((first, second))
    return f"pair/{first}-{relation or 'beside'}-{second}"


class Planner:
    """Draws plans of some things in some looks."""

    def __init__(self, things: Sequence[str], looks: Sequence[str]) -> None:
        """`things`: of THINGS, at least three. `looks`: of LOOKS, at least one of them art."""
        self._things = list(things)
        self._art = [look for look in looks if look in ART]
        self._effects = [look for look in looks if look in EFFECTS]
        self._shapes = [t for t in things if THINGS[t].shape]
        self._emoji = [t for t in things if not THINGS[t].shape]
        self._with = {letter: [t for t in things if letter in THINGS[t].traits] for letter in "chfsrm"}
        self._countable = [t for t in things if THINGS[t].counts]

    def plan(self, draw: random.Random) -> Plan:
        """One plan; equal states of `draw` give equal plans."""
        kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "ride" and not (self._with["r"] and self._with["m"]):
            kind = "related"
        relation = ""
        if kind == "ride":
            parts, relation = self._ride(draw), "on"
        elif kind == "single":
            parts = [self._trait(self._part(draw, self._thing(draw)), draw)]
        elif kind == "count":
            parts = [dataclasses.replace(self._part(draw, self._counted(draw)), number=draw.choice((2, 2, 3, 3, 4)))]
        else:
            number = 3 if kind in ("ordered", "list") else 2
            things = self._several(draw, number)
            parts = [self._part(draw, thing) for thing in things]
            if kind == "groups":
                parts[draw.randrange(2)] = self._more(draw)
                parts = self._distinct(parts, draw)
            if kind == "ordered":
                relation = draw.choice(("left", "above"))
            elif kind == "related" or (kind == "groups" and draw.random() < 0.5):
                relation = draw.choice(tuple(RELATIONS))
        emoji = [noun.emoji for part in parts if (noun := THINGS[part.thing].noun).emoji]
        art = draw.choice([style for style in self._art if all(has_art(each, style) for each in emoji)] or [""])
        if not art:  # no style has all of them
            return self.plan(draw)
        look = draw.choice(self._effects) if self._effects and draw.random() < 0.3 else art
        if kind != "ride":
            parts = self._sized(parts, kind, draw)
        ground = self._ground(parts, look, draw)
        placed = place_groups(draw, [(part.number, part.size) for part in parts], relation)
        parts = [dataclasses.replace(part, places=places) for part, places in zip(parts, placed, strict=True)]
        return Plan(kind, tuple(parts), relation, look, art, ground)

    def _thing(self, draw: random.Random) -> str:
        pool = self._shapes if self._shapes and (not self._emoji or draw.random() < 0.3) else self._emoji
        return draw.choice(pool)

    def _counted(self, draw: random.Random) -> str:
        while True:
            if (thing := self._thing(draw)) in self._countable:
                return thing

    def _several(self, draw: random.Random, number: int) -> list[str]:
        """Different things; a third of the time shapes alone. Sometimes two of one kind, told apart by colour."""
        shapes = len(self._shapes) >= 3 and draw.random() < 0.35
        found: list[str] = []
        while len(found) < number:
            thing = draw.choice(self._shapes) if shapes else self._thing(draw)
            if thing not in found:
                found.append(thing)
        return found

    def _part(self, draw: random.Random, thing: str) -> Part:
        coloured = THINGS[thing].shape or (THINGS[thing].takes_colour and draw.random() < 0.6)
        return Part(thing, self._colour(draw, thing) if coloured else "")

    def _colour(self, draw: random.Random, thing: str) -> str:
        """Not one with which the name is another thing's ("a red apple" and "a yellow star" are emoji)."""
        return draw.choice([hue for hue in HUES if f"{hue} {thing}" not in NAMES])

    def _more(self, draw: random.Random) -> Part:
        return dataclasses.replace(self._part(draw, self._counted(draw)), number=draw.choice((2, 2, 3)))

    def _distinct(self, parts: list[Part], draw: random.Random) -> list[Part]:
        while parts[0].thing == parts[1].thing:
            parts[1] = self._part(draw, self._thing(draw))
        return parts

    def _trait(self, part: Part, draw: random.Random) -> Part:
        """A third of the things that can have one get a trait."""
        letters = [letter for letter in "hfs" if letter in THINGS[part.thing].traits]
        if not letters or draw.random() < 0.55:
            return part
        letter = draw.choice(letters)
        if letter == "h":
            return dataclasses.replace(
                part, colour="", trait=draw.choice(tuple(HEADWEAR)), trait_colour=draw.choice(HUES)
            )
        return dataclasses.replace(part, trait={"f": "fire", "s": "smile"}[letter])

    def _ride(self, draw: random.Random) -> list[Part]:
        rider = draw.choice(self._with["r"])
        mount = draw.choice([thing for thing in self._with["m"] if thing != rider])
        return [Part(rider), Part(mount)]

    def _sized(self, parts: list[Part], kind: str, draw: random.Random) -> list[Part]:
        """Sizes of a fifth of the scenes: of one thing, or opposite ones of two."""
        if kind == "single" and draw.random() < 0.3:
            return [dataclasses.replace(parts[0], size=draw.choice(("big", "small")))]
        if kind in ("related", "beside") and draw.random() < 0.2:
            sizes = draw.choice((("big", "small"), ("small", "big")))
            return [dataclasses.replace(part, size=size) for part, size in zip(parts, sizes, strict=True)]
        return parts

    def _ground(self, parts: Sequence[Part], look: str, draw: random.Random) -> str:
        """White in four of ten scenes; for line drawings always."""
        if look == "outline" or draw.random() < 0.4:
            return "white"
        used = {part.colour or "art" for part in parts} | {part.trait_colour for part in parts}
        if any(part.trait == "fire" for part in parts):
            used |= {"red", "orange"}
        fit = [key for key, ground in GROUNDS.items() if not used & ground.avoid]
        return draw.choice(fit)

"""What a prompt says about a scene, as facts that can be judged one by one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ernie_vilg_jax.preparation.sources.scenes import RELATIONS, Plan

KINDS = ("object", "colour", "relation", "count")


@dataclasses.dataclass(frozen=True)
class Fact:
    """One statement.

    Attributes:
      kind: "object": there is a `noun`. "colour": there is one of that colour. "relation": a `noun` is `relation` of
        an `other`. "count": there are exactly `number` of them.
      noun: its English name (`nouns.Noun.en`).
      colour: an English name; with a relation only if `noun` and `other` are the same.
      number: of a count; of a colour, how many at least (0 = one).
      relation: "left", "right", "above" or "below".
      other, other_colour: the second thing of a relation.
    """

    kind: str
    noun: str
    colour: str = ""
    number: int = 0
    relation: str = ""
    other: str = ""
    other_colour: str = ""

    def __str__(self) -> str:
        first, second = (f"{c} {n}".strip() for c, n in ((self.colour, self.noun), (self.other_colour, self.other)))
        if self.kind == "relation":
            return f"{first} {RELATIONS[self.relation][1]} {second}"
        return {"object": first, "colour": first, "count": f"{self.number} x {first}"}[self.kind]


class Mention(NamedTuple):
    """A thing as a prompt names it: colour "" and number 0 are unsaid."""

    noun: str
    colour: str = ""
    number: int = 0


def facts_from(mentions: Sequence[Mention], relation: str = "") -> tuple[Fact, ...]:
    """The facts of a scene.

    Args:
      mentions: its things.
      relation: of each thing to the next, or "".
    """
    facts = [Fact("object", noun) for noun in dict.fromkeys(mention.noun for mention in mentions)]
    facts += [Fact("colour", m.noun, m.colour, max(m.number, 0)) for m in mentions if m.colour]
    for first, second in itertools.pairwise(mentions) if relation else ():
        same = first.noun == second.noun
        colours = (first.colour, second.colour) if same else ("", "")
        facts.append(Fact("relation", first.noun, colours[0], 0, relation, second.noun, colours[1]))
    numbers: dict[str, int] = {}
    for mention in mentions:  # "two red circles and one blue circle" are three circles
        if mention.number:
            numbers[mention.noun] = numbers.get(mention.noun, 0) + mention.number
    uncounted = {mention.noun for mention in mentions if not mention.number}
    facts += [Fact("count", noun, number=number) for noun, number in numbers.items() if noun not in uncounted]
    return tuple(dict.fromkeys(facts))


def facts_of_plan(plan: Plan) -> tuple[Fact, ...]:
    """The facts of a scene of the scenes source."""
    return facts_from([Mention(thing.noun.en, thing.colour) for thing in plan.things], plan.relation)


def things_of(facts: Iterable[Fact]) -> set[str]:
    """The nouns that facts name."""
    return {noun for fact in facts for noun in (fact.noun, fact.other) if noun}

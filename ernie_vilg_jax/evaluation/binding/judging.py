"""From the things that are seen in an image to the probability of facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ernie_vilg_jax.evaluation.binding.facts import Fact

CLEAR = 0.06
"""Distance of two centres along a relation's axis, as a fraction of the image, from which on it holds."""
BLUR = 0.015
"""Width of the transition there."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """One thing in an image.

    Attributes:
      box: x0, y0, x1, y1 in [0, 1].
      score: probability that a thing is there.
      nouns: English name -> probability, of those that matter; the rest to 1 is "none of these".
      colours: English name -> probability.
    """

    box: tuple[float, float, float, float]
    score: float
    nouns: Mapping[str, float]
    colours: Mapping[str, float]

    def __str__(self) -> str:
        noun = max(self.nouns, key=self.nouns.__getitem__, default="")
        if not noun or self.nouns[noun] < 0.5:
            return "something unrecognisable"
        return noun

    @property
    def centre(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    def matches(self, noun: str, colour: str = "") -> float:
        """Probability that it is such a thing."""
        tint = self.colours.get(colour, 0.0) if colour else 1.0
        return self.score * self.nouns.get(noun, 0.0) * tint


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A fact and the probability that an image shows it."""

    fact: Fact
    probability: float

    @property
    def true(self) -> bool:
        return self.probability >= 0.5


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The verdicts on one image, and what was seen in it."""

    verdicts: tuple[Verdict, ...]
    seen: tuple[Seen, ...]

    @property
    def probability(self) -> float:
        """That of the least probable fact: facts of a prompt depend on each other, so they are not multiplied."""
        return min((verdict.probability for verdict in self.verdicts), default=1.0)

    @property
    def all_right(self) -> bool:
        return self.probability >= 0.5


def judge(seen: Sequence[Seen], facts: Sequence[Fact]) -> Judgement:
    """The verdicts on an image in which `seen` was seen."""
    verdicts = tuple(Verdict(fact, probability(seen, fact)) for fact in facts)
    return Judgement(verdicts, tuple(seen))


def probability(seen: Sequence[Seen], fact: Fact) -> float:
    """Of one fact, in [0, 1], with the things taken as independent."""
    first = np.asarray([thing.matches(fact.noun, fact.colour) for thing in seen])
    if fact.kind == "count":
        return float(_numbers(first)[fact.number]) if fact.number <= len(first) else 0.0
    if fact.kind in ("object", "colour"):
        return float(max(0.0, 1 - _numbers(first)[: max(fact.number, 1)].sum()))
    second = [thing.matches(fact.other, fact.other_colour) for thing in seen]
    pairs = [
        first[i] * second[j] * _stands(seen[i].centre, seen[j].centre, fact.relation)
        for i in range(len(seen))
        for j in range(len(seen))
        if i != j
    ]
    return float(max(pairs, default=0.0))


def _numbers(chances: np.ndarray) -> np.ndarray:
    """Probability that 0, 1, ... n of n independent things match: the Poisson binomial distribution, [n + 1]."""
    result = np.ones(1)
    for chance in chances:
        result = np.convolve(result, [1 - chance, chance])
    return result


def _stands(first: tuple[float, float], second: tuple[float, float], relation: str) -> float:
    """In [0, 1]: whether the first centre is on that side of the second."""
    axis, sign = {"left": (0, 1), "right": (0, -1), "above": (1, 1), "below": (1, -1)}[relation]
    ahead = sign * (second[axis] - first[axis])
    return float(1 / (1 + np.exp(-np.clip((ahead - CLEAR) / BLUR, -50, 50))))

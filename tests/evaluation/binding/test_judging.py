"""Probabilities of facts from the things that are seen."""

import itertools

import numpy as np
import pytest

from ernie_vilg_jax.evaluation.binding.facts import Fact
from ernie_vilg_jax.evaluation.binding.judging import Judgement, Seen, Verdict, judge, probability


def seen(noun, x=0.5, y=0.5, score=1.0, sure=1.0, colour="red", tint=1.0):
    box = (x - 0.1, y - 0.1, x + 0.1, y + 0.1)
    return Seen(box, score, {noun: sure}, {colour: tint})


def chance(things, ask):
    """The probability by listing all outcomes: each thing matches or not."""
    total = 0.0
    for outcome in itertools.product((0, 1), repeat=len(things)):
        weight = np.prod([p if there else 1 - p for p, there in zip(things, outcome, strict=True)])
        total += weight * ask(sum(outcome))
    return total


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_counts_and_presence_equal_the_sum_over_outcomes(number):
    rng = np.random.default_rng(number)
    chances = rng.uniform(size=(3, 3))
    things = [seen("cat", score=a, sure=b, tint=c) for a, b, c in chances]
    plain, red = chances[:, 0] * chances[:, 1], chances.prod(1)
    cases = {
        Fact("count", "cat", number=number): chance(plain, lambda n: n == number),
        Fact("object", "cat"): chance(plain, lambda n: n >= 1),
        Fact("colour", "cat", "red"): chance(red, lambda n: n >= 1),
        Fact("colour", "cat", "red", number): chance(red, lambda n: n >= number),
        Fact("object", "dog"): 0.0,
        Fact("colour", "cat", "blue"): 0.0,
    }
    for fact, expected in cases.items():
        assert probability(things, fact) == pytest.approx(expected), fact


@pytest.mark.parametrize(
    ("side", "place"), [("left", (0.2, 0.5)), ("right", (0.8, 0.5)), ("above", (0.5, 0.2)), ("below", (0.5, 0.8))]
)
def test_relations_follow_the_centres(side, place):
    things = [seen("dog"), seen("cat", *place, score=0.9)]
    for asked in ("left", "right", "above", "below"):
        expected = 0.9 if asked == side else 0.0
        assert probability(things, Fact("relation", "cat", relation=asked, other="dog")) == pytest.approx(
            expected, abs=0.02
        )
    assert probability(things, Fact("relation", "cat", relation=side, other="bus")) == 0


def test_a_thing_is_not_beside_itself():
    fact = Fact("relation", "cat", "red", 0, "left", "cat", "blue")
    both = Seen((0, 0, 1, 1), 1.0, {"cat": 1.0}, {"red": 0.5, "blue": 0.5})
    assert probability([both], fact) == 0
    pair = [seen("cat", 0.2), seen("cat", 0.8, colour="blue")]
    assert probability(pair, fact) > 0.9
    assert probability(pair[::-1], fact) > 0.9
    assert probability([seen("cat", 0.8), seen("cat", 0.2, colour="blue")], fact) < 0.1


def test_an_image_is_as_right_as_its_least_probable_fact():
    facts = [Fact("object", "cat"), Fact("colour", "cat", "red")]
    judged = judge([seen("cat", score=0.9, tint=0.5)], facts)
    assert judged.probability == pytest.approx(0.45)
    assert [verdict.true for verdict in judged.verdicts] == [True, False]
    assert not judged.all_right
    assert Judgement((Verdict(facts[0], 0.5),), ()).all_right


def test_an_empty_image_shows_nothing():
    facts = [
        Fact("object", "cat"),
        Fact("count", "cat", number=1),
        Fact("relation", "cat", relation="left", other="dog"),
    ]
    assert [verdict.probability for verdict in judge([], facts).verdicts] == [0, 0, 0]


def test_something_without_a_likely_noun_is_unrecognisable():
    assert str(seen("cat", sure=0.4)) == "something unrecognisable"
    assert str(seen("cat", sure=0.6)) == "cat"

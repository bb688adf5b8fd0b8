"""Orders and sides are balanced, and no rater can tell from them which model is which."""

from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest

from ernie_vilg_jax.evaluation.study.design import Design, Side, Trial


def design(**options) -> Design:
    values = {"items": range(10, 34), "models": (1, 2, 3), "categories": ["a", "b"] * 12, **options}
    return Design(**values)


def judged(trials: list[Trial]) -> list[tuple[int, frozenset[int]]]:
    return [(one.item, frozenset((one.left.model, one.right.model))) for one in trials if one.kind == "study"]


def test_every_rater_judges_every_comparison_once():
    for rater in range(4):
        found = judged(design().trials(rater))
        assert len(found) == len(set(found)) == 24 * 3


@pytest.mark.parametrize("rater", range(6))
def test_each_model_is_on_the_left_as_often_as_on_the_right(rater: int):
    for pair in combinations((1, 2, 3), 2):
        mine = [one for one in design().trials(rater) if {one.left.model, one.right.model} == set(pair)]
        mine = [one for one in mine if one.kind == "study"]
        assert sum(one.left.model == pair[0] for one in mine) == len(mine) / 2


def test_two_raters_see_each_comparison_in_both_orders():
    for each in (0, 17):
        even, odd = (design(each=each).trials(rater) for rater in (4, 5))
        sides = [{(one.item, one.left, one.right) for one in trials if one.kind == "study"} for trials in (even, odd)]
        assert {(item, right, left) for item, left, right in sides[0]} == sides[1]


def test_orders_and_sides_differ_between_raters_and_seeds_and_are_reproducible():
    assert design().trials(3) == design().trials(3)
    found = [design(seed=seed).trials(rater) for seed in (0, 1) for rater in (0, 1, 2)]
    assert len({tuple(trials) for trials in found}) == 6
    assert len({tuple(judged(trials)) for trials in found}) == 6


@pytest.mark.parametrize("each", [1, 5, 17, 50, 71, 72, 100])
def test_comparisons_are_shared_out_evenly(each: int):
    counts: Counter[tuple[int, frozenset[int]]] = Counter()
    counts.update({(item, frozenset(pair)): 0 for item in range(10, 34) for pair in combinations((1, 2, 3), 2)})
    for rater in range(0, 40, 2):
        found = judged(design(each=each).trials(rater))
        assert len(found) == len(set(found)) == min(each, 72)
        for one in found:
            counts[one] += 1
        assert max(counts.values()) - min(counts.values()) <= 1


def test_an_order_says_nothing_of_sides():
    """The share of left sides at each place, over many raters, is a half within chance."""
    left = np.array(
        [[one.left.model == 1 for one in design(models=(1, 2), check_every=0).trials(r)] for r in range(400)]
    )
    assert np.abs(left.mean(0) - 0.5).max() < 0.12


def test_checks_show_one_side_of_another_category_and_are_spread():
    trials = design(check_every=10).trials(1)
    places = [place for place, one in enumerate(trials) if one.kind == "check"]
    assert len(places) == 7 and all(5 <= after - before <= 17 for before, after in pairwise(places))
    sides = Counter()
    for rater in range(30):
        for one in design(check_every=10).trials(rater):
            if one.kind == "check":
                right = {"left": one.left, "right": one.right}[one.expected[0]]
                wrong = one.right if right == one.left else one.left
                assert right.item == one.item and right.model == wrong.model and one.expected[1] == ""
                assert (wrong.item - right.item) % 2 == 1, "of the same category"
                sides[one.expected[0]] += 1
    assert min(sides.values()) > 70


def test_without_checks_and_with_practice():
    example = Trial("practice", 0, Side(0, 0), Side(1, 0), ("left", "same"))
    trials = design(check_every=0, practice=[example]).trials(0)
    assert trials[0] == example and {one.kind for one in trials[1:]} == {"study"}


def test_few_comparisons_have_a_check_too():
    assert [one.kind for one in design(items=(1, 2), categories=("", ""), each=2).trials(0)].count("check") == 1

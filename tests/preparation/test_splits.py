"""Which records are held out."""

import itertools
from collections.abc import Sequence

import pytest

from ernie_vilg_jax.preparation import splits
from ernie_vilg_jax.preparation.splits import Split

Pairs = Sequence[tuple[str, str]]


def split_of(*sources: Pairs, fraction: float, parts: int = 2) -> Split:
    """The split of sources of (id, concept), summarised in parts as the passes do."""
    summaries = []
    for pairs in sources:
        joined = splits.Summary(fraction)
        for part in range(parts):
            one = splits.Summary(fraction)
            for pair in pairs[part::parts]:
                one.add(*pair)
            joined.join(one.plain())
        summaries.append(joined)
    return splits.decide(summaries, fraction, lambda number: sources[number])


def concepts(count: int) -> Pairs:
    return [(str(number), f"c{number}") for number in range(count)]


def held(split: Split, pairs: Pairs) -> set[str]:
    return {id for id, concept in pairs if split.holds_out(id, concept)}


def test_the_split_of_a_unit_does_not_change_when_others_are_added():
    few = held(split_of(concepts(50), fraction=0.2), concepts(50))
    many = held(split_of(concepts(100), fraction=0.2), concepts(100))
    assert few == many & {str(number) for number in range(50)}
    assert 5 < len(many) < 40


@pytest.mark.parametrize("parts", [1, 3])
def test_a_small_source_still_holds_one_concept_out_and_fraction_zero_none(parts: int):
    small = [("1", "a"), ("2", "b"), ("3", "c")]
    found = split_of(small, fraction=0.001, parts=parts)
    assert len(held(found, small)) == 1
    assert min(small, key=lambda pair: splits.fraction_of(f"split:{pair[1]}"))[0] in held(found, small)
    assert not held(split_of(small, fraction=0.0, parts=parts), small)


def test_each_small_source_holds_one_out_unless_an_earlier_one_has_its_concept():
    first, second, third = ([(name + unit, unit) for unit in units] for name, *units in ("xab", "yab", "zcd"))
    found = split_of(first, second, third, fraction=1e-9)
    assert len(held(found, first)) == len(held(found, second)) == len(held(found, third)) == 1
    assert len(found.units) == 2
    assert [found.has_unit(unit) for unit in sorted(found.units)] == [True, True]


def test_a_joint_concept_is_held_out_with_any_of_its_units():
    toy = [("1", "a"), ("2", "b"), ("3", "a+b"), ("4", "c")]
    found = split_of(toy, fraction=0.01)
    (unit,) = found.units
    assert held(found, toy) == {"a": {"1", "3"}, "b": {"2", "3"}, "c": {"4"}}[unit]


@pytest.mark.parametrize(
    ("count", "fraction", "out"), [(40, 0.1, range(1, 12)), (2, 0.9, [1]), (3, 1e-9, [1]), (9, 0.0, [0])]
)
@pytest.mark.parametrize("concept", ["toy/one caption", "a+b", "held out by its hash 3"])
def test_of_records_of_one_concept_single_ones_are_held_out(
    count: int, fraction: float, out: Sequence[int], concept: str, caplog: pytest.LogCaptureFixture
):
    alike = [(str(number), concept) for number in range(count)]
    found = held(split_of(alike, fraction=fraction), alike)
    assert len(found) in out
    assert ("cannot be split by concept" in caplog.text) == (fraction > 0)
    if fraction:
        assert f"and {len(found)} of them are held out" in caplog.text
    in_order = sorted((id for id, _ in alike), key=lambda id: splits.fraction_of(f"split:{id}"))
    assert found == set(in_order[: len(found)])


def test_a_single_record_is_reported(caplog: pytest.LogCaptureFixture):
    alone = [("1", "a")]
    assert not held(split_of(alone, fraction=0.5), alone)
    assert "there is one record, so none is held out" in caplog.text


@pytest.mark.parametrize(("shards", "holdout"), [(8, 1), (8, 3), (3, 8), (1, 1), (10, 4)])
def test_the_bins_that_a_holdout_shard_reads_cover_its_records(shards: int, holdout: int):
    """`Gather` reads whole bins of train shards; the same arithmetic as there."""
    for id in map(str, range(500)):
        place = splits.shard_fraction(id)
        number = int(place * holdout)
        bins = range(number * shards // holdout, -(-(number + 1) * shards // holdout))
        assert int(place * shards) in bins
    assert len(set(itertools.chain(map(splits.shard_fraction, map(str, range(500)))))) == 500

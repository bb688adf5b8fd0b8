"""Which records are held out."""

from collections.abc import Sequence

import pytest

from ernie_vilg_jax.preparation import splits
from ernie_vilg_jax.preparation.sources import Key


def test_the_split_of_a_unit_does_not_change_when_others_are_added():
    few = splits.held_out_units([[f"c{n}" for n in range(50)]], 0.2)
    many = splits.held_out_units([[f"c{n}" for n in range(100)]], 0.2)
    assert few == many & {f"c{n}" for n in range(50)}
    assert 5 < len(many) < 40


def test_a_small_source_still_holds_one_concept_out_and_fraction_zero_none():
    assert len(splits.held_out_units([["a", "b", "c"]], 0.001)) == 1
    assert splits.held_out_units([["a"]], 0.001) == set()
    assert splits.held_out_units([["a", "b"]], 0.0) == set()


def test_a_joint_concept_is_held_out_with_any_of_its_units():
    class Toy:
        name = "toy"

        def keys(self) -> list[Key]:
            return [Key("1", "a"), Key("2", "b"), Key("3", "a+b"), Key("4", "c")]

    plan, held = splits.plan_shards([Toy()], 0.01, 1)  # type: ignore[list-item]
    out = {slot.id for name, slots in plan.items() if name.startswith("holdout") for slot in slots}
    assert len(held) == 1
    assert out == {"a": {"1", "3"}, "b": {"2", "3"}, "c": {"4"}}[next(iter(held))]


class Alike:
    """Records of one concept."""

    name = "toy"

    def __init__(self, count: int, concept: str = "toy/one caption") -> None:
        self._count, self._concept = count, concept

    def keys(self) -> list[Key]:
        return [Key(str(number), self._concept) for number in range(self._count)]


@pytest.mark.parametrize(
    ("count", "fraction", "out"), [(40, 0.1, range(1, 12)), (2, 0.9, [1]), (3, 1e-9, [1]), (9, 0.0, [0])]
)
@pytest.mark.parametrize("concept", ["toy/one caption", "a+b", "held out by its hash 3"])
def test_of_records_of_one_concept_single_ones_are_held_out(
    count: int, fraction: float, out: Sequence[int], concept: str, caplog: pytest.LogCaptureFixture
):
    plan, held = splits.plan_shards([Alike(count, concept)], fraction, 2)  # type: ignore[list-item]
    sizes = {
        split: sum(len(slots) for name, slots in plan.items() if name.startswith(split)) for split in ("train", "hold")
    }
    assert sizes["hold"] in out and sizes["train"] == count - sizes["hold"] and not held
    assert ("cannot be split by concept" in caplog.text) == (fraction > 0)
    again = splits.plan_shards([Alike(count, concept)], fraction, 2)  # type: ignore[list-item]
    assert again[0] == plan


def test_a_single_record_is_reported(caplog: pytest.LogCaptureFixture):
    splits.plan_shards([Alike(1)], 0.1, 2)  # type: ignore[list-item]
    assert "there is one record, so none is held out" in caplog.text

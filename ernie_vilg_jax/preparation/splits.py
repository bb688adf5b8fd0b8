"""The split, shard and position of each record: a function of its id and concept alone, without randomness.

Which concepts are held out is a hash of each, so that no list of them is needed. Only the exceptions, for small data,
need to know all records; `Summary` collects what they need, part by part.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import logging


def fraction_of(text: str) -> float:
    """A uniform number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def shard_fraction(id: str) -> float:
    """Where a record lies among all shards of its split: [k/n, (k+1)/n) is shard k of n."""
    return fraction_of(f"shard:{id}")


def order_in_shard(id: str) -> tuple[float, str]:
    """What the records of one source in a shard are sorted by."""
    return fraction_of(f"order:{id}"), id


def units(concept: str) -> list[str]:
    """The split units in a record's concept."""
    return concept.split("+")


def _place(name: str) -> float:
    return fraction_of(f"split:{name}")


def is_held_out(unit: str, fraction: float) -> bool:
    """Whether a unit's hash is below the holdout fraction."""
    return _place(unit) < fraction


@dataclasses.dataclass(frozen=True)
class Split:
    """Which records are held out.

    Attributes:
      fraction: units whose hash is below are held out.
      units: more that are, each to have one of a source whose hashes are all above.
      single: records are held out by the hash of their id instead; of them also `also`, but not `never`.
    """

    fraction: float
    units: frozenset[str] = frozenset()
    single: bool = False
    also: str = ""
    never: str = ""

    def holds_out(self, id: str, concept: str) -> bool:
        if not self.single:
            return any(map(self.has_unit, units(concept)))
        return id != self.never and (id == self.also or is_held_out(id, self.fraction))

    def has_unit(self, unit: str) -> bool:
        """Whether the unit is held out."""
        return not self.single and (is_held_out(unit, self.fraction) or unit in self.units)


@dataclasses.dataclass
class Summary:
    """What the exceptions need to know of the records of a source; `plain` and `join` for many processes.

    Attributes:
      records, held: all, and those with a unit whose hash is below the fraction.
      ids: those whose own hash is below it.
      low_unit, high_unit, low_id, high_id: [hash, name] of the lowest and highest.
    """

    fraction: float
    records: int = 0
    held: int = 0
    ids: int = 0
    low_unit: list[Any] = dataclasses.field(default_factory=list)
    high_unit: list[Any] = dataclasses.field(default_factory=list)
    low_id: list[Any] = dataclasses.field(default_factory=list)
    high_id: list[Any] = dataclasses.field(default_factory=list)

    def add(self, id: str, concept: str) -> None:
        named = [[_place(unit), unit] for unit in units(concept)]
        own = [_place(id), id]
        self._join(1, min(named)[0] < self.fraction, own[0] < self.fraction, [min(named), max(named), own, own])

    def plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def join(self, other: Mapping[str, Any]) -> None:
        """Adds the `plain` summary of another part."""
        if other["records"]:
            ends = [other[name] for name in ("low_unit", "high_unit", "low_id", "high_id")]
            self._join(other["records"], other["held"], other["ids"], ends)

    def _join(self, records: int, held: int, ids: int, ends: Sequence[list[Any]]) -> None:
        self.records += records
        self.held += held
        self.ids += ids
        self.low_unit = min(self.low_unit or ends[0], ends[0])
        self.high_unit = max(self.high_unit, ends[1])
        self.low_id = min(self.low_id or ends[2], ends[2])
        self.high_id = max(self.high_id, ends[3])


def decide(summaries: Sequence[Summary], fraction: float, read: Callable[[int], Iterable[tuple[str, str]]]) -> Split:
    """The split: by concept, with at least one unit of each source that has two or more.

    If that would leave a split empty, as for records of one concept, single records are held out instead: at least one,
    and not all.

    Args:
      summaries: of each source.
      read: number of a source -> id and concept of its records, again; only read if a source is small.
    """
    split = Split(fraction)
    if fraction <= 0:
        return split
    for number, mine in enumerate(summaries):
        if mine.records and not mine.held and mine.low_unit != mine.high_unit:
            found = split.units and any(split.units.intersection(units(concept)) for _, concept in read(number))
            if not found:
                split = dataclasses.replace(split, units=split.units | {mine.low_unit[1]})
    records, held = sum(mine.records for mine in summaries), sum(mine.held for mine in summaries)
    some_train = (
        held < records
        if not split.units
        else any(not split.holds_out(*record) for number in range(len(summaries)) for record in read(number))
    )
    return split if (held or split.units) and some_train else _single(summaries, fraction, records)


def _single(summaries: Sequence[Summary], fraction: float, records: int) -> Split:
    if records < 2:
        logging.warning("there is one record, so none is held out, and training has nothing to validate with: add some")
        return Split(0.0)
    count = sum(mine.ids for mine in summaries)
    logging.warning(
        "the %d records cannot be split by concept, and %d of them are held out, whatever they show",
        *(records, min(max(count, 1), records - 1)),
    )
    lowest = min(mine.low_id for mine in summaries if mine.records)[1]
    highest = max(mine.high_id for mine in summaries if mine.records)[1]
    return Split(fraction, single=True, also=lowest, never=highest if count >= records else "")

"""The split, shard and position of each record: a function of its id and concept alone, without randomness."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

from absl import logging

from ernie_vilg_jax.data import records
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Source

HOLDOUT_SHARDS = 1


def _fraction(text: str) -> float:
    """A uniform number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def units(concept: str) -> list[str]:
    """The split units in a record's concept."""
    return concept.split("+")


def is_held_out(unit: str, fraction: float) -> bool:
    """Whether a unit's hash is below the holdout fraction."""
    return _fraction(f"split:{unit}") < fraction


def held_out_units(per_source: Sequence[Sequence[str]], fraction: float) -> set[str]:
    """The units whose hash is below `fraction`; at least one of each source with two or more units.

    Hashes are of the unit alone, so a unit stays in its split when data is added.
    """
    held: set[str] = set()
    if fraction <= 0:
        return held
    for concepts in per_source:
        mine = sorted({unit for concept in concepts for unit in units(concept)}, key=lambda u: _fraction(f"split:{u}"))
        chosen = [unit for unit in mine if is_held_out(unit, fraction)]
        if not chosen and not held.intersection(mine) and len(mine) > 1:
            chosen = mine[:1]
        held.update(chosen)
    return held


def _held_out_records(ids: Sequence[str], fraction: float) -> set[str]:
    """Single records, for when concepts would hold out none or all; at least one, and not all."""
    if len(ids) < 2:
        logging.warning("there is one record, so none is held out, and training has nothing to validate with: add some")
        return set()
    mine = sorted(ids, key=lambda id: _fraction(f"split:{id}"))
    count = sum(_fraction(f"split:{id}") < fraction for id in mine)
    chosen = set(mine[: min(max(count, 1), len(mine) - 1)])
    logging.warning(
        "the %d records cannot be split by concept, and %d of them are held out, whatever they show",
        len(ids),
        len(chosen),
    )
    return chosen


@dataclasses.dataclass(frozen=True)
class Slot:
    """The place of one record."""

    source: int
    index: int
    id: str


def plan_shards(sources: Sequence[Source], fraction: float, num_shards: int) -> tuple[dict[str, list[Slot]], set[str]]:
    """File name -> slots in file order (grouped by source, hash order inside), and the held-out units.

    If that would leave a split empty, as for records of one concept, single records are held out instead.
    """
    keys = [source.keys() for source in sources]
    seen: set[str] = set()
    for source, mine in zip(sources, keys, strict=True):
        if not mine:
            raise UserError(f"source {source.name!r} has no records: check its options")
        for key in mine:
            if key.id in seen:
                raise UserError(f"source {source.name!r}: the record id {key.id!r} occurs twice; ids must be unique")
            seen.add(key.id)
    held = held_out_units([[key.concept for key in mine] for mine in keys], fraction)
    out = {key.id for mine in keys for key in mine if held.intersection(units(key.concept))}
    if fraction > 0 and len(out) in (0, len(seen)):
        held, out = set(), _held_out_records(sorted(seen), fraction)
    shards: dict[str, list[Slot]] = {
        records.shard_name(split, number, total): []
        for split, total in (("train", num_shards), ("holdout", HOLDOUT_SHARDS))
        for number in range(total)
    }
    for source_number, mine in enumerate(keys):
        for index, key in enumerate(mine):
            split, total = ("holdout", HOLDOUT_SHARDS) if key.id in out else ("train", num_shards)
            number = int(_fraction(f"shard:{key.id}") * total)
            shards[records.shard_name(split, number, total)].append(Slot(source_number, index, key.id))
    for slots in shards.values():
        slots.sort(key=lambda slot: (slot.source, _fraction(f"order:{slot.id}"), slot.id))
    return shards, held

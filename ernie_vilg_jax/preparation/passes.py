"""The three passes of preparation, each cut into units that any process can do.

    Scatter   part of a source -> its records, in bins by shard          a file of a part
    Match     hashes of images that may be near each other -> ids of near duplicates      (only with that filter)
    Gather    bin of a shard, of all parts -> the shard, in its own order

Every record is read and checked once. Nothing holds more than the rows of a part (id, concept, place) or of a shard.
The files between the passes lie in `.progress/` of the output, so they need as much room again as the records.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ernie_vilg_jax.data import records
from ernie_vilg_jax.data.files import sealed_json
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.preparation import binned, splits
from ernie_vilg_jax.preparation.filters import Filters, bands, near, perceptual_hash
from ernie_vilg_jax.preparation.folders import Folder, open_folder
from ernie_vilg_jax.preparation.progress import PROGRESS
from ernie_vilg_jax.preparation.sources import Source, make_source
from ernie_vilg_jax.preparation.sources.findings import Findings
from ernie_vilg_jax.preparation.work import Report

PARTS, MATCHES = f"{PROGRESS}/parts", f"{PROGRESS}/matches"
HELD_LISTED = 10_000
"""Held-out units that a manifest lists."""
_REPORT = 256
"""Records between two reports."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What all passes need; small and picklable.

    Attributes:
      sources: their options, as JSON.
      parts: (number of the source, name of the part), in order.
      fingerprint: of the output.
    """

    output: str
    fingerprint: str
    sources: str
    image_size: int
    parts: tuple[tuple[int, str], ...]
    fraction: float
    shards: int
    holdout_shards: int
    filters: Filters

    @property
    def part_names(self) -> list[str]:
        return [f"{number:08d}" for number in range(len(self.parts))]

    @property
    def shard_names(self) -> list[str]:
        splits = (("train", self.shards), ("holdout", self.holdout_shards))
        return [records.shard_name(split, number, total) for split, total in splits for number in range(total)]


@functools.lru_cache(maxsize=2)
def _sources(options: str, image_size: int) -> list[Source]:
    return [make_source(one, size=image_size) for one in json.loads(options)]


class _Pass:
    """What the passes have in common as `Work`."""

    job: Job
    counters: ClassVar[tuple[str, ...]] = ("records",)
    progress: ClassVar[tuple[str, ...]] = ()
    folder: ClassVar[str] = PROGRESS

    @property
    def output(self) -> str:
        return self.job.output

    def load(self) -> None:
        _sources(self.job.sources, self.job.image_size)

    def size(self, name: str) -> int:
        return 1

    def note(self, name: str) -> str:
        return f"{self.folder}/{name}.json"

    def done(self, name: str, **note: Any) -> dict[str, Any]:
        """Writes the note of a finished unit."""
        result = {"fingerprint": self.job.fingerprint, **note}
        open_folder(self.output).write(self.note(name), sealed_json(result))
        return result


@dataclasses.dataclass(frozen=True)
class Scatter(_Pass):
    """Reads a part of a source.

    Notes: findings of the source, the filters' counts, the summary for the split, bytes of the files.
    """

    job: Job
    counters: ClassVar[tuple[str, ...]] = ("records", "dropped")
    folder: ClassVar[str] = PARTS

    @file_errors()
    def do(self, name: str, report: Report) -> dict[str, Any]:
        job, target = self.job, open_folder(self.output)
        number, part = job.parts[int(name)]
        source = _sources(job.sources, job.image_size)[number]
        findings, summary, counts = Findings(), splits.Summary(job.fraction), Counter[str]()
        rows: list[binned.Row] = []
        hashes: list[binned.Row] = []
        with target.scratch() as scratch:
            with (scratch / "data").open("wb") as data:
                for record in self._kept(source.read(part, findings), counts, report):
                    shard = int(splits.shard_fraction(record.id) * job.shards)
                    rows.append(binned.append(data, record.pack(), shard, [record.id, record.concept]))
                    summary.add(record.id, record.concept)
                    if job.filters.near_duplicates:
                        value = perceptual_hash(record.image)
                        found = [(number, *splits.order_in_shard(record.id)), shard]
                        hashes += [binned.Row(band % job.shards, [band, value, *found]) for band in bands(value)]
            binned.write(scratch / name, rows, job.shards, scratch / "data")
            files = {name: (scratch / name).stat().st_size}
            target.put(scratch / name, f"{PARTS}/{name}")
            if hashes:
                binned.write(scratch / "hashes", hashes, job.shards)
                files[f"{name}.hashes"] = (scratch / "hashes").stat().st_size
                target.put(scratch / "hashes", f"{PARTS}/{name}.hashes")
        return self.done(name, findings=findings.plain(), counts=dict(counts), summary=summary.plain(), files=files)

    def _kept(self, found: Iterator[Record], counts: Counter[str], report: Report) -> Iterator[Record]:
        """The records that the filters keep."""
        reported = 0
        for record in found:
            if not any(record.caption_count().values()):
                raise UserError(f"record {record.id!r} has no caption in zh or en")
            counts["read"] += 1
            kept = self.job.filters.keep(record, counts)
            if kept is not None:
                counts["kept"] += 1
                yield kept
            if counts["read"] % _REPORT == 0:
                report({"records": counts["kept"] - reported, "dropped": _REPORT - counts["kept"] + reported})
                reported = counts["kept"]


@dataclasses.dataclass(frozen=True)
class Match(_Pass):
    """Finds near duplicates among the hashes of one bin; writes their ids, in bins by shard."""

    job: Job
    folder: ClassVar[str] = MATCHES

    @file_errors()
    def do(self, name: str, report: Report) -> dict[str, Any]:
        target, number = open_folder(self.output), int(name)
        groups: dict[int, list[Any]] = {}
        for part in self.job.part_names:
            if target.size(f"{PARTS}/{part}.hashes"):
                found, *_ = binned.read_rows(target, f"{PARTS}/{part}.hashes", number, number + 1)
                for band, value, order, shard, *_ in found:
                    groups.setdefault(band, []).append((tuple(order), value, shard))
        doubles: set[tuple[str, int]] = set()
        for group in groups.values():
            group.sort()
            found = [group[position] for position in near([value for _, value, _ in group])]
            doubles.update((order[-1], shard) for order, _, shard in found)
        with target.scratch() as scratch:
            rows = [binned.Row(shard, [id]) for id, shard in sorted(doubles)]
            binned.write(scratch / name, rows, self.job.shards)
            files = {name: (scratch / name).stat().st_size}
            target.put(scratch / name, f"{MATCHES}/{name}")
        return self.done(name, files=files)


@dataclasses.dataclass(frozen=True)
class Gather(_Pass):
    """Writes a shard. Notes: its entry of the manifest, held-out units."""

    job: Job
    split: splits.Split

    @file_errors()
    def do(self, name: str, report: Report) -> dict[str, Any]:
        target = open_folder(self.output)
        with target.scratch() as scratch:
            rows, doubles = self._rows(target, name, scratch)
            rows.sort(key=lambda row: (row.source, *splits.order_in_shard(row.id)))
            for one, other in itertools.pairwise(rows):
                if one.id == other.id:
                    source = _sources(self.job.sources, self.job.image_size)[other.source].name
                    raise UserError(f"source {source!r}: the record id {one.id!r} occurs twice; ids must be unique")
            entry = records.write_shard(scratch / name, _read(scratch / "data", rows))
            target.put(scratch / name, name)
        report({"records": entry["records"]})
        held: set[str] = set()
        if name.startswith("holdout-"):
            held = {unit for row in rows for unit in splits.units(row.concept) if self.split.has_unit(unit)}
        if self.job.filters.near_duplicates:
            entry["near_duplicates"] = doubles
        return self.done(name, entry=entry, held=sorted(held)[: HELD_LISTED + 1])

    def _rows(self, target: Folder, name: str, scratch: Path) -> tuple[list[_Found], int]:
        """The rows of the shard, their bytes copied into the file "data", and the number of near duplicates."""
        job, (split, number, total) = self.job, _shard_of(name)
        first = number * job.shards // total
        last = math.ceil((number + 1) * job.shards / total)
        doubles = self._doubles(target, first, last)
        rows: list[_Found] = []
        dropped = 0
        with (scratch / "data").open("wb") as data:
            for part, (source, _) in zip(job.part_names, job.parts, strict=True):
                file = f"{PARTS}/{part}"
                found, start, stop = binned.read_rows(target, file, first, last)
                mine = [row for row in found if self._belongs(row, split, number, total)]
                if not mine:
                    continue
                whole = target.read_range(file, start, stop) if len(mine) == len(found) else None
                place = start
                wanted = {row[0] for row in mine}
                for row in found:
                    id, concept, length, _ = row
                    if id in wanted and id in doubles:
                        dropped += 1
                    elif id in wanted:
                        at = place - start
                        piece = whole[at : at + length] if whole else target.read_range(file, place, place + length)
                        rows.append(_Found(source, id, concept, data.tell(), length))
                        data.write(binned.checked(piece, row, file))
                    place += length
        return rows, dropped

    def _belongs(self, row: Sequence[Any], split: str, number: int, total: int) -> bool:
        id, concept, *_ = row
        if self.split.holds_out(id, concept) != (split == "holdout"):
            return False
        return int(splits.shard_fraction(id) * total) == number

    def _doubles(self, target: Folder, first: int, last: int) -> set[str]:
        if not self.job.filters.near_duplicates:
            return set()
        names = [f"{MATCHES}/{number:08d}" for number in range(self.job.shards)]
        return {row[0] for name in names for row in binned.read_rows(target, name, first, last)[0]}


@dataclasses.dataclass(frozen=True)
class _Found:
    """A record of a shard, and the place of its bytes."""

    source: int
    id: str
    concept: str
    offset: int
    length: int


def _read(file: Path, rows: Sequence[_Found]) -> Iterator[Record]:
    with file.open("rb") as data:
        for row in rows:
            data.seek(row.offset)
            yield Record.unpack(data.read(row.length))


def _shard_of(name: str) -> tuple[str, int, int]:
    """("train", 3, 8) of "train-00003-of-00008.array_record"."""
    split, number, _, total = name.split(".")[0].split("-")
    return split, int(number), int(total)


def id_and_concept(target: Folder, job: Job, source: int) -> Iterator[tuple[str, str]]:
    """Those of all records of a source, from the files of the first pass."""
    for name, (number, _) in zip(job.part_names, job.parts, strict=True):
        if number == source:
            for id, concept, *_ in binned.all_rows(target, f"{PARTS}/{name}", job.shards):
                yield id, concept

"""The shards of a prepared directory: which are there already, and the passes that make the others."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from ernie_vilg_jax.data.files import sealed_json
from ernie_vilg_jax.data.manifests import MANIFEST
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.folders import SCRATCH, Folder, intact
from ernie_vilg_jax.preparation.passes import HELD_LISTED, PARTS, Gather, Job, Match, Scatter, id_and_concept
from ernie_vilg_jax.preparation.progress import PROGRESS, sealed_note, whole_note
from ernie_vilg_jax.preparation.runners import run
from ernie_vilg_jax.preparation.sources import Source
from ernie_vilg_jax.preparation.sources.findings import Findings
from ernie_vilg_jax.preparation.splits import Summary, decide
from ernie_vilg_jax.preparation.work import Work
from ernie_vilg_jax.progress import Progress


@dataclasses.dataclass(frozen=True)
class Made:
    """The shards of a directory.

    Attributes:
      entries: name -> entry of the manifest, in order.
      held_out: the units, up to `HELD_LISTED` of them; none if there are more.
      counts: what the filters read, kept and dropped.
    """

    entries: dict[str, dict[str, Any]]
    held_out: list[str]
    counts: dict[str, int]


def make_shards(
    target: Folder,
    job: Job,
    sources: Sequence[Source],
    manifest: Mapping[str, Any] | None,
    workers: int,
    beam: str | None,
) -> Made:
    """Makes the shards that are not there already. Returns all their notes, and what the filters dropped."""
    if manifest is not None and manifest["fingerprint"] != job.fingerprint:
        logging.warning("%s was prepared from other settings or inputs: all its shards are made again", job.output)
    notes = _kept_shards(target, job, manifest)
    _clear(target, job, notes)
    started, kept = time.monotonic(), len(notes)

    def do(work: Work, names: Sequence[str], what: str) -> dict[str, Any]:
        progress = Progress(len(names), what)
        return run(work, [name for name in names], workers, beam, progress)

    missing = [name for name in job.shard_names if name not in notes]
    counts: Mapping[str, int] = (manifest or {}).get("filters", {}).get("counts", {})
    made = 0
    if missing or (job.filters and manifest is None):
        scatter = Scatter(job)
        parts = {name: note for name in job.part_names if (note := _kept_unit(target, job, scatter, name))}
        parts |= do(scatter, [name for name in job.part_names if name not in parts], "parts")
        summaries, counts = _joined(job, sources, parts)
        if job.filters.near_duplicates:
            matches = [f"{number:08d}" for number in range(job.shards)]
            match = Match(job)
            do(match, [name for name in matches if not _kept_unit(target, job, match, name)], "pieces of hashes")
        split = decide(summaries, job.fraction, lambda number: id_and_concept(target, job, number))
        found = do(Gather(job, split), missing, "shards")
        made = sum(note["entry"]["records"] for note in found.values())
        notes |= found
    seconds = max(time.monotonic() - started, 1e-9)
    logging.info(
        "%d records made in %.1f s (%.0f/s); %d of %d shards were there already",
        *(made, seconds, made / seconds, kept, len(job.shard_names)),
    )
    return _made(job, {name: notes[name] for name in job.shard_names}, counts)


def _made(job: Job, notes: Mapping[str, dict[str, Any]], counts: Mapping[str, int]) -> Made:
    entries = {name: note["entry"] for name, note in notes.items()}
    held: set[str] = set()
    for note in notes.values():
        if len(held) <= HELD_LISTED:
            held.update(note["held"])
    if len(held) > HELD_LISTED:
        logging.info("more than %d concepts are held out, so the manifest does not list them", HELD_LISTED)
        held = set()
    counts = dict(counts)
    if job.filters.near_duplicates:
        counts["near_duplicates"] = sum(entry["near_duplicates"] for entry in entries.values())
    if job.filters:
        kept, read = sum(entry["records"] for entry in entries.values()), counts.get("read", 0)
        dropped = {name: count for name, count in sorted(counts.items()) if name not in ("read", "kept")}
        logging.info("filters: %d of %d records are kept; dropped: %s", kept, read, dropped or "none")
        counts["kept"] = kept
    return Made(entries, sorted(held), dict(sorted(counts.items())))


def _joined(
    job: Job, sources: Sequence[Source], parts: Mapping[str, dict[str, Any]]
) -> tuple[list[Summary], Counter[str]]:
    """The summaries of the sources and the counts of the filters; reports what was found in the sources."""
    summaries = [Summary(job.fraction) for _ in sources]
    findings = [Findings() for _ in sources]
    counts: Counter[str] = Counter()
    read: Counter[int] = Counter()
    for name, (number, _) in zip(job.part_names, job.parts, strict=True):
        note = parts[name]
        summaries[number].join(note["summary"])
        findings[number].join(note["findings"])
        counts.update(note["counts"])
        read[number] += note["counts"].get("read", 0)
    for number, source in enumerate(sources):
        if place := source.place():
            findings[number].report(place)
        if not read[number]:
            raise UserError(f"source {source.name!r} has no records: check its options")
        if not summaries[number].records:
            raise UserError(
                f"config.data.filters drop all {read[number]} records of source {source.name!r} ({dict(counts)}): "
                "loosen them"
            )
    return summaries, counts


def _kept_unit(target: Folder, job: Job, work: Scatter | Match, name: str) -> dict[str, Any] | None:
    """The note of a unit that an earlier run finished with this fingerprint, and whose files are there; or None."""
    if target.size(work.note(name)) is None:
        return None
    note = sealed_note(target.read(work.note(name)))
    if note is None or note.get("fingerprint") != job.fingerprint:
        return None
    there = all(target.size(f"{work.folder}/{file}") == size for file, size in note["files"].items())
    return note if there else None


def _kept_shards(target: Folder, job: Job, manifest: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The notes of the shards that an earlier run finished with this fingerprint and that are still intact."""
    notes: dict[str, dict[str, Any]] = {}
    if manifest is not None and manifest["fingerprint"] == job.fingerprint:
        for entry in (entry for split in manifest["splits"].values() for entry in split["shards"]):
            held = manifest["held_out"] if entry["file"].startswith("holdout-") else []
            notes[entry["file"]] = {"fingerprint": job.fingerprint, "entry": entry, "held": held}
    for file in target.names(f"{PROGRESS}/*.array_record.json"):
        if note := whole_note(target.read(file)):
            notes[file.removeprefix(f"{PROGRESS}/").removesuffix(".json")] = note
    return {
        name: note
        for name in job.shard_names
        if (note := notes.get(name))
        and note["fingerprint"] == job.fingerprint
        and "held" in note  # not in a run that an earlier version left unfinished
        and note["entry"]["file"] == name
        and intact(target, note["entry"])
    }


def _clear(target: Folder, job: Job, notes: Mapping[str, dict[str, Any]]) -> None:
    """Makes the output an unfinished run of this job: deletes what is not kept, the manifest first."""
    for name, note in notes.items():
        target.write(f"{PROGRESS}/{name}.json", sealed_json(note))
    target.delete(MANIFEST)
    for name in [*target.names("*.array_record"), *target.names(".*.partial")]:
        if name not in notes:
            target.delete(name)
    target.delete_folder(SCRATCH)
    kept = [*job.part_names, *(f"{name}.hashes" for name in job.part_names)]
    for name in target.names(f"{PARTS}/*"):
        if name.removeprefix(f"{PARTS}/").removesuffix(".json") not in kept:
            target.delete(name)

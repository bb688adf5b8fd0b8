"""Adds key words, objects, mentions and more captions to all records of a prepared directory.

    input shard --annotate_shard--> shard of the same name, same order of records, note in .progress/
    all notes -----------------> rejected.jsonl, copies of tokenizer/ LICENCES.md preview.png, manifest.json (last)

Shards are independent: this process, worker processes or Apache Beam annotate them, with the same bytes each way. A
shard whose note has the fingerprint of this run (of input, settings and tools) is kept, so that a killed run resumes
and ends with the same bytes. Input and output may be URLs (gs://bucket/data).
"""

from __future__ import annotations

import glob
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax import checks
from ernie_vilg_jax.annotation.shard import (
    KEEP,
    Job,
    Settings,
    damaged,
    note_name,
    rejected_name,
    tool_versions,
)
from ernie_vilg_jax.config import flat
from ernie_vilg_jax.data import tokenizers
from ernie_vilg_jax.data.files import digest, seal, sealed_json
from ernie_vilg_jax.data.manifests import MANIFEST, parse_manifest
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.paths import inside, is_url, url_file_system
from ernie_vilg_jax.preparation.folders import SCRATCH, Folder, intact, open_folder, path_sha256
from ernie_vilg_jax.preparation.progress import PROGRESS, split_summaries, whole_note
from ernie_vilg_jax.preparation.runners import run
from ernie_vilg_jax.progress import Progress

REJECTED = "rejected.jsonl"
_JOB = f"{PROGRESS}/annotation.json"
_MANY_REJECTED = 0.05


@file_errors()
def annotate(
    source: str,
    output: str,
    settings: Settings | None = None,
    *,
    workers: int = 1,
    beam: str | None = None,
    on_error: str = "reject",
) -> dict[str, Any]:
    """Writes (or finishes, or finds complete) an annotated directory and returns its manifest.

    Args:
      source: prepared (or annotated) directory or URL.
      output: directory or URL to write.
      settings: the tools and their options.
      workers: processes; 1 is this one.
      beam: flags of an Apache Beam pipeline, which then annotates the shards instead.
      on_error: what to do with a record that cannot be annotated: "reject" sets it aside, "stop" ends the run.
    """
    settings = settings or Settings()
    _check(settings, source, output, workers)
    manifest = _read_input(source)
    job = make_job(source, output, settings, manifest, on_error)
    target = open_folder(output)
    target.create()
    before, notes = _found(target, job)
    if before is not None and before["fingerprint"] == job.fingerprint and len(notes) == len(job.shards):
        _copy_companions(open_folder(source), target)
        target.delete_folder(PROGRESS)
        logging.info("%s is complete already; nothing to do", output)
        return before
    _clear(target, job, notes)
    progress = Progress(sum(entry["records"] for entry in job.shards.values()))
    for name in notes:
        progress.kept(job.shards[name]["records"])
    missing = [name for name in job.shards if name not in notes]
    notes |= run(job, missing, workers, beam, progress)
    logging.info("%s; %d of %d shards were there already", progress.summary(), len(notes) - len(missing), len(notes))
    return _finish(target, job, manifest, {name: notes[name] for name in job.shards})


def _check(settings: Settings, source: str, output: str, workers: int) -> None:
    from ernie_vilg_jax.annotation.captioners import CAPTIONERS
    from ernie_vilg_jax.annotation.detectors import DETECTORS
    from ernie_vilg_jax.annotation.taggers import TAGGERS
    from ernie_vilg_jax.annotation.translators import TRANSLATORS

    known = {"tagger": TAGGERS, "detector": [KEEP, *DETECTORS], "captioner": CAPTIONERS, "translator": TRANSLATORS}
    for tool, names in known.items():
        name = getattr(settings, tool)
        if name or tool in ("tagger", "detector"):
            checks.one_of(f"--{tool}={name}", name, names)
    settings.plain()  # raises for options that are not JSON
    for flag, place in (("input", source), ("output", output)):
        if is_url(place):
            url_file_system(place, f"--{flag}=")
    if workers < 1:
        raise UserError(f"--workers={workers} must be at least 1")
    if inside(output, source):
        raise UserError(f"--output={output} is --input or lies inside it: give another folder")


def _read_input(source: str) -> dict[str, Any]:
    folder = open_folder(source)
    fix = "give a folder that `python -m ernie_vilg_jax.prepare` finished"
    if folder.size(MANIFEST) is None:
        raise UserError(f"--input={source} holds no {MANIFEST}: {fix}")
    manifest = parse_manifest(folder.read(MANIFEST), f"the {MANIFEST} of --input={source}", fix)
    if "encoding" in manifest:
        raise UserError(f"--input={source} has latents in place of images: annotate the data before they are encoded")
    for shard in (shard for split in manifest["splits"].values() for shard in split["shards"]):
        if folder.size(shard["file"]) != shard["bytes"]:
            raise damaged(source, shard["file"])
    names = [name for name in tokenizers.FILES if folder.size(f"tokenizer/{name}") is not None]
    found = tokenizers.tokenizer_sha256({name: folder.read(f"tokenizer/{name}") for name in names})
    if manifest.get("tokenizer", {}).get("fingerprint", found) != found:
        raise UserError(f"the tokenizer of --input={source} is missing, damaged or another one: {fix}")
    return manifest


def make_job(source: str, output: str, settings: Settings, manifest: Mapping[str, Any], on_error: str) -> Job:
    """The job with its fingerprint: of the input's bytes, the settings, the tools, and the files that options name."""
    shards = {shard["file"]: shard for split in manifest["splits"].values() for shard in split["shards"]}
    versions = tool_versions(settings)
    fingerprint = digest(
        {
            "input": [manifest["fingerprint"], [[name, entry["sha256"]] for name, entry in shards.items()]],
            "settings": settings.plain(),
            "files": [
                path_sha256(Path(path))
                for tool in ("detector", "captioner", "translator")
                for path in _paths(settings.options(tool))
            ],
            "versions": versions,
        }
    )
    return Job(source, output, settings, fingerprint, versions, shards, on_error)


def _paths(options: Mapping[str, Any]) -> Iterator[str]:
    """The files and folders of this machine in the options, in order."""
    for _, value in sorted(flat(options).items()):
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield from sorted(glob.glob(os.path.expanduser(text)))


def _found(target: Folder, job: Job) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
    """The manifest in the output, if any, and the notes of its shards that this job can keep."""
    manifest = None
    if target.size(MANIFEST) is not None:
        where = f"the {MANIFEST} of --output={job.output}"
        manifest = parse_manifest(target.read(MANIFEST), where, "choose another folder, or delete that one first")
    started = target.size(_JOB) is not None
    if not started and "annotation" not in (manifest or {}) and (manifest or target.names("*.array_record")):
        raise UserError(f"--output={job.output} holds records that are not annotated ones: choose another folder")
    earlier, notes = _notes(target, manifest), {}
    if any(note["fingerprint"] != job.fingerprint for note in earlier.values()):
        logging.warning("%s is of other settings, tools or input: all its shards are made again", job.output)
    for name in job.shards:
        note = earlier.get(name)
        if note is None or not _valid(target, job, note):
            continue
        if note["rejected"] and job.on_error == "stop":
            row = note["rejected"][0]
            raise UserError(
                f"an earlier run set record {row['position']} of shard {row['shard']} aside ({row['reason']}): "
                "fix it in its source, or keep it aside with --on_error=reject"
            )
        notes[name] = note
    return manifest, notes


def _notes(target: Folder, manifest: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The notes of the output, or for a finished one the equivalent notes from its manifest."""
    notes: dict[str, dict[str, Any]] = {}
    if manifest is not None and "annotation" in manifest:
        rows = _rejected(target)
        for entry in (entry for split in manifest["splits"].values() for entry in split["shards"]):
            name = entry["file"]
            notes[name] = {
                "fingerprint": manifest["fingerprint"],
                "entry": entry,
                **manifest["annotation"]["shards"][name],
                "rejected": [row for row in rows if row["shard"] == name],
            }
    for file in target.names(f"{PROGRESS}/*.array_record.json"):
        if note := whole_note(target.read(file)):
            notes[note["entry"]["file"]] = note
    return notes


def _rejected(target: Folder) -> list[dict[str, Any]]:
    """The rows of the records set aside; none if the file is damaged, so that their shards are made again."""
    data = target.read(REJECTED) if target.size(REJECTED) is not None else b""
    try:
        rows = [json.loads(line) for line in data.splitlines()]
        return [{**row, "shard": str(row["shard"])} for row in rows]
    except (ValueError, KeyError, TypeError):
        return []


def _valid(target: Folder, job: Job, note: Mapping[str, Any]) -> bool:
    """Whether a note is of this job, and its files are intact."""
    return (
        note["fingerprint"] == job.fingerprint
        and len(note["rejected"]) == note["counts"].get("rejected", 0)
        and intact(target, note["entry"])
        and (not (aside := note["rejected_file"]) or aside["file"] == rejected_name(note["entry"]["file"]))
        and (not aside or intact(target, aside))
    )


def _clear(target: Folder, job: Job, notes: Mapping[str, dict[str, Any]]) -> None:
    """Makes the output an unfinished run of this job: deletes what is not kept, the manifest first."""
    for name, note in notes.items():
        target.write(note_name(name), sealed_json(note))
    target.write(_JOB, sealed_json({"fingerprint": job.fingerprint, "settings": job.settings.plain()}))
    target.delete(MANIFEST)
    kept = {note["entry"]["file"] for note in notes.values()}
    kept |= {note["rejected_file"]["file"] for note in notes.values() if note["rejected_file"]}
    kept |= {_JOB, *map(note_name, notes)}
    for name in [*target.names("*.array_record"), *target.names(".*.partial"), *target.names(f"{PROGRESS}/*")]:
        if name not in kept:
            target.delete(name)
    target.delete_folder(SCRATCH)


def _copy_companions(source: Folder, target: Folder) -> None:
    """Copies the files that the loader and users need beside the shards, including the tokenizer."""
    for name in [*source.names("tokenizer/*"), *source.names("LICENCES.md"), *source.names("preview.png")]:
        data = source.read(name)
        if target.size(name) != len(data) or target.read(name) != data:
            target.write(name, data)


def _finish(
    target: Folder, job: Job, manifest: Mapping[str, Any], notes: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Writes the files of the whole directory; the manifest last."""
    counts: Counter[str] = Counter()
    for note in notes.values():
        counts.update(note["counts"])
    total = sum(entry["records"] for entry in job.shards.values())
    rejected = [row for note in notes.values() for row in note["rejected"]]
    if counts["records"] + len(rejected) != total:
        raise AssertionError(f"{counts['records']} annotated + {len(rejected)} rejected records of {total}")
    target.delete(REJECTED)
    if rejected:
        lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rejected]
        target.write(REJECTED, ("\n".join(lines) + "\n").encode())
    _copy_companions(open_folder(job.input), target)
    entries = {name: note["entry"] for name, note in notes.items()}
    result = {
        **manifest,
        "fingerprint": job.fingerprint,
        "splits": split_summaries(entries, manifest["splits"]),
        "annotation": {
            "fingerprint": job.fingerprint,
            "input": manifest["fingerprint"],
            "settings": job.settings.plain(),
            "versions": dict(job.versions),
            "read": total,
            "rejected": len(rejected),
            "counts": dict(sorted(counts.items())),
            "shards": {
                name: {"counts": note["counts"], "rejected_file": note["rejected_file"]} for name, note in notes.items()
            },
        },
    }
    result = seal(result)
    target.write(MANIFEST, sealed_json(result))
    target.delete_folder(PROGRESS)
    logging.info(
        "%d records read = %d annotated + %d rejected; %d words, %d objects, %d mentions",
        *(total, counts["records"], len(rejected), counts["words"], counts["objects"], counts["mentions"]),
    )
    if rejected:
        first = rejected[0]
        log = logging.error if len(rejected) > _MANY_REJECTED * total else logging.warning
        log(
            "%d records (%.1f%%) were set aside, see %s/%s; the first: %s",
            *(len(rejected), 100 * len(rejected) / total, job.output, REJECTED),
            f"record {first['position']} of {first['shard']}, {first['reason']}",
        )
    return result

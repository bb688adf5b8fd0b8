"""Annotates one shard, in a worker of any driver, from the settings alone.

The records are processed in batches, so that only a few decoded images are in memory at a time. Those that cannot be
annotated are set aside with their original bytes, or stop the run. A note written last marks the shard as done.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from ernie_vilg_jax.annotation.batch import Item, Tools, annotate_batch
from ernie_vilg_jax.data import records
from ernie_vilg_jax.data.files import digest, file_sha256, sealed_json
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.preparation.folders import open_folder
from ernie_vilg_jax.preparation.progress import PROGRESS
from ernie_vilg_jax.preparation.work import Report

RECIPE = 1
"""Increased when annotation itself (not the taggers, see `tool_versions`) gives other records."""

PACKAGE = Path(__file__).parents[1]
RULES = (
    *("annotation/taggers", "annotation/detectors", "annotation/captioners.py", "annotation/mentions.py"),
    *("knowledge/words.py", "assets/lexicons"),
)
"""The code and the lists of this package that affect the annotation of a record."""

BATCH = 16
"""Records per call of a detector, captioner or translator."""

KEEP = "records"
"""Not a detector: the existing objects of the records stay."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of annotation. Options are JSON objects as text, so that settings can be compared and hashed."""

    tagger: str = "both"
    detector: str = KEEP
    detector_options: str = "{}"
    captioner: str = ""
    captioner_options: str = "{}"
    translator: str = ""
    translator_options: str = "{}"

    def options(self, tool: str) -> dict[str, Any]:
        """The options of "detector", "captioner" or "translator"."""
        flag, text = f"--{tool}_options", getattr(self, f"{tool}_options")
        try:
            options = json.loads(text or "{}")
        except ValueError as error:
            raise UserError(f'{flag}={text!r} is no JSON ({error}): write e.g. \'{{"model": "DIR"}}\'') from error
        if not isinstance(options, dict):
            raise UserError(f'{flag}={text!r} must be a JSON object: write e.g. \'{{"model": "DIR"}}\'')
        return options

    def plain(self) -> dict[str, Any]:
        """For the manifest, options parsed."""
        plain = dataclasses.asdict(self)
        return plain | {f"{tool}_options": self.options(tool) for tool in ("detector", "captioner", "translator")}


@dataclasses.dataclass(frozen=True)
class Job:
    """The inputs of a worker, and how it does its work (see `Work`); small and picklable.

    Attributes:
      input, output: folders.
      fingerprint: of input, settings and tools.
      versions: of the tools on the machine that made the job (`tool_versions`); a worker with others refuses it.
      shards: name -> entry in the input's manifest.
      on_error: "reject" or "stop".
    """

    input: str
    output: str
    settings: Settings
    fingerprint: str
    versions: Mapping[str, str]
    shards: Mapping[str, Mapping[str, Any]]
    on_error: str = "reject"
    counters: ClassVar[tuple[str, ...]] = ("records", "rejected", "words", "objects")
    progress: ClassVar[tuple[str, ...]] = ("records", "rejected")

    def load(self) -> None:
        load_tools(self.settings)

    def do(self, name: str, report: Report) -> dict[str, Any]:
        return annotate_shard(self, name, report)

    def size(self, name: str) -> int:
        return self.shards[name]["records"]

    def note(self, name: str) -> str:
        return note_name(name)


def tool_versions(settings: Settings) -> dict[str, str]:
    """Versions of the packages that affect the records, and a digest of our own rules."""
    packages = ["rjieba", "textblob", "nltk"]
    if settings.detector != KEEP or settings.captioner or settings.translator:
        packages += ["pillow", "transformers", "tokenizers", "torch"]
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    files = [file for name in RULES for file in [PACKAGE / name, *(PACKAGE / name).rglob("*")]]
    ours = [file for file in files if file.suffix in (".py", ".txt", ".tsv")]
    rules = {file.relative_to(PACKAGE).as_posix(): file_sha256(file) for file in ours}
    return versions | {"rules": digest([rules, RECIPE])}


@functools.lru_cache(maxsize=1)
def load_tools(settings: Settings) -> Tools:
    """Loads taggers and models; once per process."""
    from ernie_vilg_jax.annotation.captioners import make_captioner
    from ernie_vilg_jax.annotation.detectors import make_detector
    from ernie_vilg_jax.annotation.taggers import make_tagger
    from ernie_vilg_jax.annotation.translators import make_translator

    tagger = make_tagger(settings.tagger)
    tagger.words("一只猫 a cat")  # a missing package fails here, not at the first record
    detector = captioner = translator = None
    if settings.detector != KEEP:
        detector = make_detector(settings.detector, **settings.options("detector"))
    if settings.captioner:
        captioner = make_captioner(settings.captioner, **settings.options("captioner"))
    if settings.translator:
        translator = make_translator(settings.translator, **settings.options("translator"))
    return Tools(tagger, detector, captioner, translator, captioner_name=settings.captioner)


@file_errors()
def annotate_shard(job: Job, name: str, report: Report | None = None) -> dict[str, Any]:
    """Writes the annotated shard, then the note that marks it as finished.

    Returns:
      The note: fingerprint; entry (of the shard, for the manifest); counts; rejected (rows of rejected.jsonl);
      rejected_file (entry of the records set aside, or None).
    """
    if tool_versions(job.settings) != job.versions:
        raise UserError(
            f"a worker has other versions of the taggers or models ({tool_versions(job.settings)}) than the machine "
            f"that started the run ({dict(job.versions)}): install the same packages on both"
        )
    tools = load_tools(job.settings)
    source, target, expected = open_folder(job.input), open_folder(job.output), job.shards[name]
    with target.scratch() as scratch, source.local(name) as file:
        if file.stat().st_size != expected["bytes"] or file_sha256(file) != expected["sha256"]:
            raise damaged(job.input, name)
        work = _Shard(job, name, tools, scratch, report or (lambda counts: None))
        try:
            entry = records.write_shard(scratch / name, work.annotated(file))
        finally:
            rejected_file = work.close()
        if entry["records"] + len(work.rejected) != expected["records"]:
            raise AssertionError(f"{name}: {entry['records']} + {len(work.rejected)} of {expected['records']} records")
        if rejected_file:
            target.put(scratch / rejected_file["file"], rejected_file["file"])
        target.put(scratch / name, name)
    note = {
        "fingerprint": job.fingerprint,
        "entry": entry,
        "counts": dict(sorted(work.counts.items())),
        "rejected": work.rejected,
        "rejected_file": rejected_file,
    }
    target.write(note_name(name), sealed_json(note))
    return note


def note_name(shard: str) -> str:
    return f"{PROGRESS}/{shard}.json"


def rejected_name(shard: str) -> str:
    return f"rejected-{shard}"


def damaged(folder: str, name: str) -> UserError:
    return UserError(
        f"shard {name} of --input={folder} is missing or damaged (not the bytes that its manifest states): "
        f"make it again with the command that made {folder}, it redoes damaged shards only"
    )


class _Shard:
    """The records of one shard, the counts, and the records set aside."""

    def __init__(self, job: Job, name: str, tools: Tools, scratch: Path, report: Report) -> None:
        self._job, self._name, self._tools, self._scratch, self._report = job, name, tools, scratch, report
        self.counts: Counter[str] = Counter()
        self.rejected: list[dict[str, Any]] = []
        self._writer: Any = None

    def annotated(self, file: Path) -> Iterator[Record]:
        total = self._job.shards[self._name]["records"]
        if not total:
            return
        for batch in _batches(file, total):
            before = Counter(self.counts)
            annotate_batch(batch, self._tools)
            for item in batch:
                if item.reason:
                    self._set_aside(item)
                else:
                    self._count(item)
                    yield item.known
            self._report(self.counts - before)

    def _set_aside(self, item: Item) -> None:
        from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

        identity = item.record.id if item.record else ""
        if self._job.on_error == "stop":
            raise UserError(
                f"record {item.position} of shard {self._name} ({identity or 'no id'}) cannot be annotated: "
                f"{item.reason}; fix it in its source, or set such records aside with --on_error=reject"
            )
        if self._writer is None:
            file = self._scratch / rejected_name(self._name)
            self._writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
        self._writer.write(item.data)
        row = {"shard": self._name, "position": item.position, "id": identity, "reason": item.reason}
        self.rejected.append(row)
        self.counts["rejected"] += 1

    def close(self) -> dict[str, Any] | None:
        """Finishes the file of records set aside and returns its entry."""
        if self._writer is None:
            return None
        self._writer.close()
        file = self._scratch / rejected_name(self._name)
        return {"file": file.name, "bytes": file.stat().st_size, "sha256": file_sha256(file)}

    def _count(self, item: Item) -> None:
        counts, record, salient = self.counts, item.known, set(item.salient)
        counts["records"] += 1
        counts["objects"] += len(record.objects)
        counts["objects.salient"] += len(salient)
        counts["translated"] += bool(record.translated)
        for kind, parsed in (("captions", record.parsed), ("generated", record.generated)):
            for language, entries in parsed.items():
                counts[f"{kind}.{language}"] += len(entries)
                for entry in entries:
                    counts["words"] += len(entry["words"])
                    counts.update(f"words.{language}.{pos}" for _, _, pos in entry["words"])
                    counts["mentions"] += len(entry["mentions"])
                    # What training appends to the caption: salient objects that it does not name.
                    counts["objects.to_append"] += len(salient - set(entry["mentions"]))


def _batches(file: Path, total: int) -> Iterator[list[Item]]:
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    reader = array_record_module.ArrayRecordReader(str(file))
    try:
        for start in range(0, total, BATCH):
            positions = list(range(start, min(start + BATCH, total)))
            yield [Item(p, data) for p, data in zip(positions, reader.read(positions), strict=True)]
    finally:
        reader.close()

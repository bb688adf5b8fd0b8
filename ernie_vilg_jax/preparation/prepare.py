"""Builds a prepared directory: decides split and shard of every record, writes shards, tokenizer, licences, manifest.

    sources --keys--> split by concept --> shard by id --> record --> train-*.array_record, holdout-*.array_record
                                                                      tokenizer/  LICENCES.md  preview.png
                                                                      manifest.json (written last)

A shard depends only on the sources' fingerprints and the split settings. Each finished shard leaves a note in
`.progress/`; a later run with the same fingerprint keeps it, so a killed run resumes and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax.config import plain
from ernie_vilg_jax.data import records
from ernie_vilg_jax.data.files import digest, file_sha256, seal, sealed_json
from ernie_vilg_jax.data.manifests import MANIFEST, SCHEMA, read_manifest
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.data.tokenizers import tokenizer_files, tokenizer_sha256
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.grid import labelled_grid
from ernie_vilg_jax.images import cut_square, decode_image, draw_crop, encode_png
from ernie_vilg_jax.paths import local, write_atomically
from ernie_vilg_jax.preparation.progress import PROGRESS, split_summaries, whole_note
from ernie_vilg_jax.preparation.sources import Licence, Source, make_source
from ernie_vilg_jax.preparation.splits import Slot, plan_shards
from ernie_vilg_jax.preparation.vocabulary import chosen_tokenizer, prepare_tokenizer
from ernie_vilg_jax.progress import Progress


def source_settings(config: Any) -> dict[str, Any]:
    """The settings that affect the records, as plain JSON values; kept in the manifest, compared by the loader."""
    return {
        "sources": [_options(source) for source in make_sources(config)],
        "holdout_fraction": float(config.data.holdout_fraction),
    }


def _options(source: Any) -> dict[str, Any]:
    """A source's options, defaults included, so that spelling one out changes nothing."""
    options = {f.name: getattr(source, f.name) for f in dataclasses.fields(source) if f.init}
    return {"name": source.name, **plain(options)}


def _defaults(source: Any) -> dict[str, Any]:
    """The default options of a source, without those that have no default; the loader compares with them."""
    fields = dataclasses.fields(source)
    usual = {f.name: f.default for f in fields if f.init and f.default is not dataclasses.MISSING}
    options = _options(dataclasses.replace(source, **usual))
    return {name: value for name, value in options.items() if name == "name" or name in usual}


def make_sources(config: Any) -> list[Source]:
    """The sources of a config; their names must differ."""
    if not config.data.sources:
        raise UserError("config.data.sources is empty: name at least one source, e.g. dict(name='scenes', count=1000)")
    sources = [make_source(plain(options), size=config.model.image_size) for options in config.data.sources]
    for name, count in Counter(source.name for source in sources).items():
        if count > 1:
            raise UserError(f"config.data.sources lists {name!r} {count} times: give each source once")
    return sources


@file_errors()
def prepare(config: Any, output: str | Path, *, own_data: bool = False) -> dict[str, Any]:
    """Writes (or finishes, or finds complete) a prepared directory and returns its manifest.

    Args:
      config: see configs/; `data.sources`, `data.holdout_fraction`, `data.num_shards`, `model.image_size`, `tokenizer`.
      output: directory to write.
      own_data: the sources are the user's instead of the config's, so the loader does not compare them with the config
        of the training.
    """
    directory = local(output, "output")
    if config.data.num_shards < 1:
        raise UserError(f"config.data.num_shards={config.data.num_shards} must be at least 1")
    if not 0 <= config.data.holdout_fraction < 1:
        raise UserError(f"config.data.holdout_fraction={config.data.holdout_fraction} must be in [0, 1)")
    sources = make_sources(config)
    settings = source_settings(config)
    fingerprints = {source.name: source.fingerprint() for source in sources}
    fingerprint = digest(
        {
            "schema": SCHEMA,
            "sources": list(fingerprints.items()),
            "holdout_fraction": settings["holdout_fraction"],
            "num_shards": int(config.data.num_shards),
        }
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output={directory} cannot be made a folder ({error.strerror}): choose another") from error
    before = read_manifest(directory) if (directory / MANIFEST).exists() else None
    if before is not None and "annotation" in before:
        raise UserError(
            f"--output={directory} holds annotated records: `python -m ernie_vilg_jax.annotate` makes them again, "
            "prepare into another folder"
        )
    if before is not None and before["settings"] == settings and _complete(directory, before, fingerprint, config):
        logging.info("%s is complete already; nothing to do", directory)
        return before
    given = chosen_tokenizer(config.tokenizer)  # before hours of work, if its path is wrong
    (directory / PROGRESS).mkdir(exist_ok=True)
    shards, held = plan_shards(sources, settings["holdout_fraction"], config.data.num_shards)
    entries = _write_shards(directory, sources, shards, fingerprint, before)
    tokenizer = prepare_tokenizer(config, directory, entries, given)
    _write_licences(directory, sources)
    _write_preview(directory, entries)
    manifest = {
        "schema": SCHEMA,
        "fingerprint": fingerprint,
        "settings": settings,
        "source_defaults": {source.name: _defaults(source) for source in sources},
        "own_data": own_data,
        "sources": [
            {
                "name": source.name,
                "fingerprint": fingerprints[source.name],
                "licences": [dataclasses.asdict(licence) for licence in source.licences()],
            }
            for source in sources
        ],
        "splits": split_summaries(entries),
        "held_out": sorted(held),
        "tokenizer": tokenizer,
    }
    manifest = seal(manifest)
    write_atomically(directory / MANIFEST, sealed_json(manifest))
    shutil.rmtree(directory / PROGRESS)
    for split, summary in manifest["splits"].items():
        logging.info("%s: %d records, captions %s", split, summary["records"], summary["captions"])
    return manifest


def _complete(directory: Path, manifest: Mapping[str, Any], fingerprint: str, config: Any) -> bool:
    """Whether a finished directory is up to date: its tokenizer must not change during a training."""
    names = [shard["file"] for split in manifest["splits"].values() for shard in split["shards"]]
    return (
        all(_finished(directory, name, fingerprint, manifest) for name in names)
        and manifest["tokenizer"].get("settings") == plain(config.tokenizer)
        and manifest["tokenizer"].get("fingerprint") == tokenizer_sha256(tokenizer_files(directory / "tokenizer"))
    )


def _finished(
    directory: Path, name: str, fingerprint: str, manifest: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The entry of a shard that an earlier run finished with this fingerprint and that is still intact, or None."""
    note = directory / PROGRESS / f"{name}.json"
    entry = None
    if note.exists():
        saved = whole_note(note.read_bytes())
        entry = saved["entry"] if saved and saved["fingerprint"] == fingerprint else None
    elif manifest is not None and manifest["fingerprint"] == fingerprint:
        found = [s for split in manifest["splits"].values() for s in split["shards"] if s["file"] == name]
        entry = found[0] if found else None
    file = directory / name
    if entry is None or entry["file"] != name or not file.exists() or file.stat().st_size != entry["bytes"]:
        return None
    return entry if file_sha256(file) == entry["sha256"] else None


def _write_shards(
    directory: Path,
    sources: Sequence[Source],
    shards: Mapping[str, list[Slot]],
    fingerprint: str,
    manifest: Mapping[str, Any] | None,
) -> dict[str, dict[str, Any]]:
    if manifest is not None and manifest["fingerprint"] != fingerprint:
        logging.warning("%s was prepared from other settings or inputs: all its shards are made again", directory)
    entries: dict[str, dict[str, Any]] = {}
    for name in shards:
        if (entry := _finished(directory, name, fingerprint, manifest)) is not None:
            entries[name] = entry
            _write_note(directory, name, fingerprint, entry)
    (directory / MANIFEST).unlink(missing_ok=True)  # from here until the end the directory is incomplete
    for stale in [*directory.glob("*.array_record"), *directory.glob(".*.partial")]:
        if stale.name not in entries:
            stale.unlink()
    progress = Progress(sum(len(slots) for slots in shards.values()))
    kept = len(entries)
    for entry in entries.values():
        progress.kept(entry["records"])
    for name, slots in shards.items():
        if name not in entries:
            entries[name] = records.write_shard(directory / name, _make(sources, slots, progress))
            _write_note(directory, name, fingerprint, entries[name])
    logging.info("%s; %d of %d shards were there already", progress.summary(), kept, len(shards))
    return {name: entries[name] for name in shards}


def _write_note(directory: Path, name: str, fingerprint: str, entry: dict[str, Any]) -> None:
    note = {"fingerprint": fingerprint, "entry": entry}
    write_atomically(directory / PROGRESS / f"{name}.json", sealed_json(note))


def _make(sources: Sequence[Source], slots: Sequence[Slot], progress: Progress) -> Iterator[Record]:
    for slot in slots:
        record = sources[slot.source].record(slot.index)
        if not any(record.caption_count().values()):
            raise UserError(f"record {record.id!r} has no caption in zh or en")
        progress.made()
        yield record


def _write_licences(directory: Path, sources: Sequence[Source]) -> None:
    lines = ["# Licences of the works in these records", "", "| work | licence | author | where |", "|---|---|---|---|"]
    unique: dict[Licence, None] = {licence: None for source in sources for licence in source.licences()}
    lines += [f"| {w.work} | {w.licence} | {w.author} | {w.url} |" for w in unique]
    lines += ["", "Works under CC-BY require that this attribution accompanies copies and adaptations of them.", ""]
    write_atomically(directory / "LICENCES.md", "\n".join(lines).encode())


PREVIEW_SIZE = 96
"""Pixels of an image in `preview.png`."""


def _write_preview(directory: Path, entries: Mapping[str, dict[str, Any]], *, count: int = 64) -> None:
    """`preview.png`: images from all train shards as the loader crops them, with a caption of each language."""
    shards = {name: entry["records"] for name, entry in entries.items() if name.startswith("train-")}
    total, first, chosen = sum(shards.values()), 0, []
    if not total:
        return
    wanted = sorted({place * total // count for place in range(count)})
    for name, size in shards.items():
        here = [place - first for place in wanted if first <= place < first + size]
        chosen += records.read_shard(directory / name, here)
        first += size
    from PIL import Image

    found = [decode_image(record.image) for record in chosen]
    cut = [cut_square(image, draw_crop(image.width, image.height, None), PREVIEW_SIZE) for image in found]
    labels = ["\n".join(texts[0][:60] for texts in record.captions.values() if texts) for record in chosen]
    sheet = labelled_grid([Image.fromarray(pixels) for pixels in cut], labels, columns=8, cell=PREVIEW_SIZE)
    write_atomically(directory / "preview.png", encode_png(sheet))

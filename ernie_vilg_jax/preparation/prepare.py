"""Builds a prepared directory, here or behind a URL: records in shards, tokenizer, licences, manifest.

    sources --Scatter--> records in bins --Match--> near duplicates --Gather--> train-*.array_record, holdout-*
                                                                                tokenizer/  LICENCES.md  preview.png
                                                                                manifest.json (written last)

The passes (passes.py) are cut into parts and shards, which this process, worker processes or Apache Beam do, with the
same bytes each way. A shard depends only on the sources' fingerprints and the settings. Each finished unit leaves a
note in `.progress/`; a later run with the same fingerprint keeps it, so a killed run resumes and ends with the same
bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax.config import plain
from ernie_vilg_jax.data.files import digest, seal, sealed_json
from ernie_vilg_jax.data.manifests import MANIFEST, SCHEMA, parse_manifest
from ernie_vilg_jax.data.tokenizers import FILES, tokenizer_sha256
from ernie_vilg_jax.errors import UserError, file_errors
from ernie_vilg_jax.paths import is_url, url_file_system
from ernie_vilg_jax.preparation.companions import write_licences, write_preview
from ernie_vilg_jax.preparation.filters import Filters
from ernie_vilg_jax.preparation.folders import Folder, intact, open_folder
from ernie_vilg_jax.preparation.passes import Job
from ernie_vilg_jax.preparation.progress import PROGRESS, split_summaries
from ernie_vilg_jax.preparation.shards import make_shards
from ernie_vilg_jax.preparation.sources import Source, make_source
from ernie_vilg_jax.preparation.vocabulary import chosen_tokenizer, prepare_tokenizer


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
def prepare(
    config: Any, output: str | Path, *, own_data: bool = False, workers: int = 1, beam: str | None = None
) -> dict[str, Any]:
    """Writes (or finishes, or finds complete) a prepared directory and returns its manifest.

    Args:
      config: see configs/; `data.sources`, `data.filters`, `data.holdout_fraction`, `data.num_shards`,
        `data.holdout_shards`, `model.image_size`, `tokenizer`.
      output: directory or URL to write.
      own_data: the sources are the user's instead of the config's, so the loader does not compare them with the config
        of the training.
      workers: processes; 1 is this one.
      beam: flags of an Apache Beam pipeline, which then does the work instead.
    """
    if workers < 1:
        raise UserError(f"--workers={workers} must be at least 1")
    _check(config)
    place = _place(output)
    sources, settings = make_sources(config), source_settings(config)
    fingerprints = {source.name: source.fingerprint() for source in sources}
    job = _job(config, place, sources, settings, fingerprints)
    target = open_folder(job.output)
    target.create()
    before = _manifest_in(target, job.output)
    if before is not None and before["settings"] == settings and _complete(target, before, job.fingerprint, config):
        logging.info("%s is complete already; nothing to do", output)
        return before
    given = chosen_tokenizer(config.tokenizer)  # before hours of work, if its path is wrong
    made = make_shards(target, job, sources, before, workers, beam)
    manifest = {
        "schema": SCHEMA,
        "fingerprint": job.fingerprint,
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
        "splits": split_summaries(made.entries),
        "held_out": made.held_out,
        "tokenizer": prepare_tokenizer(config, target, made.entries, given),
    }
    if job.filters:
        manifest["filters"] = {"settings": plain(dataclasses.asdict(job.filters)), "counts": made.counts}
    write_licences(target, sources)
    write_preview(target, made.entries, whole=not is_url(job.output))
    manifest = seal(manifest)
    target.write(MANIFEST, sealed_json(manifest))
    target.delete_folder(PROGRESS)
    for split, summary in manifest["splits"].items():
        logging.info("%s: %d records, captions %s", split, summary["records"], summary["captions"])
    return manifest


def _place(output: str | Path) -> str:
    if is_url(output):
        url_file_system(str(output), "--output=")  # a missing package is named before the sources are read
        return str(output)
    return str(Path(output).expanduser())


def _check(config: Any) -> None:
    for name in ("num_shards", "holdout_shards"):
        if config.data.get(name, 1) < 1:
            raise UserError(f"config.data.{name}={config.data[name]} must be at least 1")
    if not 0 <= config.data.holdout_fraction < 1:
        raise UserError(f"config.data.holdout_fraction={config.data.holdout_fraction} must be in [0, 1)")


def _job(
    config: Any,
    output: str,
    sources: Sequence[Source],
    settings: Mapping[str, Any],
    fingerprints: Mapping[str, str],
) -> Job:
    filters, holdout_shards = Filters.of(config.data.get("filters", {})), int(config.data.get("holdout_shards", 1))
    content = {
        "schema": SCHEMA,
        "sources": list(fingerprints.items()),
        "holdout_fraction": settings["holdout_fraction"],
        "num_shards": int(config.data.num_shards),
    }
    # Left out where they change nothing, so that data of earlier versions stay as they are.
    if holdout_shards > 1:
        content["holdout_shards"] = holdout_shards
    if filters:
        content["filters"] = dataclasses.asdict(filters)
    return Job(
        output=output,
        fingerprint=digest(content),
        sources=json.dumps([plain(options) for options in config.data.sources]),
        image_size=int(config.model.image_size),
        parts=tuple((number, part) for number, source in enumerate(sources) for part in source.parts()),
        fraction=settings["holdout_fraction"],
        shards=int(config.data.num_shards),
        holdout_shards=holdout_shards,
        filters=filters,
    )


def _manifest_in(target: Folder, output: str) -> dict[str, Any] | None:
    """The manifest of an earlier run in the output."""
    if target.size(MANIFEST) is None:
        return None
    fix = f"delete {output} and run the command that made it again"
    manifest = parse_manifest(target.read(MANIFEST), f"{output}/{MANIFEST}", fix)
    if "annotation" in manifest:
        raise UserError(
            f"--output={output} holds annotated records: `python -m ernie_vilg_jax.annotate` makes them again, "
            "prepare into another folder"
        )
    return manifest


def _complete(target: Folder, manifest: Mapping[str, Any], fingerprint: str, config: Any) -> bool:
    """Whether a finished directory is up to date: its tokenizer must not change during a training."""
    if manifest["fingerprint"] != fingerprint or manifest["tokenizer"].get("settings") != plain(config.tokenizer):
        return False
    names = [name for name in FILES if target.size(f"tokenizer/{name}") is not None]
    found = tokenizer_sha256({name: target.read(f"tokenizer/{name}") for name in names})
    entries = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    return manifest["tokenizer"].get("fingerprint") == found and all(intact(target, entry) for entry in entries)

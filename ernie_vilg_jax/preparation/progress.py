"""Code shared by the passes that write shards: the folder of notes, the summary of splits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ernie_vilg_jax.data.files import sealed

PROGRESS = ".progress"
"""Folder inside the output with one note per finished shard; gone once the manifest is written."""


def sealed_note(data: bytes) -> dict[str, Any] | None:
    """The note of a finished unit in the bytes of its file; None for a damaged one, whose unit is done again."""
    try:
        note = json.loads(data)
        return note if "digest" in note and sealed(note) else None
    except (ValueError, TypeError, RecursionError):
        return None


def whole_note(data: bytes) -> dict[str, Any] | None:
    """The same for a finished shard."""
    note = sealed_note(data)
    try:
        return note if note and note["entry"]["file"] else None
    except (KeyError, TypeError):
        return None


def split_summaries(
    entries: Mapping[str, dict[str, Any]], splits: Iterable[str] = ("train", "holdout")
) -> dict[str, Any]:
    """The manifest's "splits" from the entries of all shards: records, by source, captions, and the entries."""
    summaries: dict[str, Any] = {}
    for split in splits:
        mine = [entry for name, entry in entries.items() if name.startswith(f"{split}-")]
        by_source: Counter[str] = Counter()
        captions: Counter[str] = Counter()
        for entry in mine:
            by_source.update(dict(entry["sources"]))
            captions.update(entry["captions"])
        summaries[split] = {
            "records": sum(entry["records"] for entry in mine),
            "by_source": dict(by_source),
            "captions": dict(captions),
            "shards": mine,
        }
    return summaries

"""Code shared by the passes that write shards: the folder of notes, the count of records, the summary of splits."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from absl import logging

from ernie_vilg_jax.data.files import sealed

PROGRESS = ".progress"
"""Folder inside the output with one note per finished shard; gone once the manifest is written."""

_REPORT_SECONDS = 5.0


def whole_note(data: bytes) -> dict[str, Any] | None:
    """The note of a finished shard in the bytes of its file; None for a damaged one, whose shard is made again."""
    try:
        note = json.loads(data)
        return note if "digest" in note and sealed(note) and note["entry"]["file"] else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


class Progress:
    """Counts records and reports rate and time left every few seconds."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._made = total, 0, 0
        self._start = self._last = time.monotonic()

    def kept(self, count: int) -> None:
        """Counts records of an earlier run."""
        self._done += count

    def made(self, count: int = 1) -> None:
        self._done += count
        self._made += count
        now = time.monotonic()
        if now - self._last >= _REPORT_SECONDS:
            self._last = now
            rate = self._made / (now - self._start)
            left = (self._total - self._done) / rate if rate else float("inf")
            logging.info(
                "%d of %d records (%.0f%%), %.0f/s, %.0f s left",
                self._done,
                self._total,
                100 * self._done / self._total,
                rate,
                left,
            )

    def summary(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        return f"{self._made} records made in {seconds:.1f} s ({self._made / seconds:.0f}/s)"


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

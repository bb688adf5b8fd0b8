"""Shards for the loader, wherever they lie: on a disk, in a bucket that ArrayRecord reads itself, or in local copies.

ArrayRecord's reader fetches single records of gs:// objects by their ranges (its wheels for Linux on x86), so that
nothing is copied. Other URLs are copied when one of their records is first read, into a folder that keeps the
copies last used.

Order and shards are global: a process reads its rows from all shards. So a copy pays only if the folder holds about all
of them; with less room every shard is copied again and again, and data in gs:// are better read in place.
"""

from __future__ import annotations

import bisect
import contextlib
import fcntl
import hashlib
import itertools
import os
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ernie_vilg_jax.data.files import file_sha256
from ernie_vilg_jax.errors import UserError, file_error, file_errors, first_line
from ernie_vilg_jax.paths import cache_folder, discard, is_url, url_file_system

GIGABYTE = 10**9
ROOM = "ERNIE_VILG_JAX_COPIES_GB"
"""Environment variable: gigabytes of this machine's disk for copies of shards, in `paths.cache_folder`; unset: none."""


def open_shards(folder: str, shards: Sequence[Mapping[str, Any]]) -> Any:
    """The records of shards by position, as bytes; see `ShardReader` for those behind a URL."""
    if not is_url(folder):
        from grain import sources

        return sources.ArrayRecordDataSource([f"{folder}/{shard['file']}" for shard in shards])
    return ShardReader(folder, shards, copies_here())


def copies_here() -> Copies | None:
    """The copies that ROOM allows."""
    room = os.environ.get(ROOM, "")
    try:
        limit = float(room or 0)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e9:
        raise UserError(f"{ROOM}={room} is not a number of gigabytes")
    return Copies(int(limit * GIGABYTE)) if limit else None


class ShardReader:
    """The records of shards as bytes, by position; picklable, for worker processes. Shards are opened when first read.

    The same interface as `grain.sources.ArrayRecordDataSource`, which opens every file to count its records.
    """

    def __init__(self, folder: str, shards: Sequence[Mapping[str, Any]], copies: Copies | None = None) -> None:
        """
        Args:
          folder: a path or URL.
          shards: their entries in the manifest.
          copies: where shards behind a URL are copied; None: they are read in place, which only gs:// can be.
        """
        if is_url(folder) and copies is None and not folder.startswith("gs://"):
            raise UserError(
                f"config.data.path={folder}: only gs:// is read in place; give the room for copies on this machine, "
                f"e.g. {ROOM}=500"
            )
        self._folder, self._shards, self._copies = folder.rstrip("/"), list(shards), copies
        self._ends = list(itertools.accumulate(shard["records"] for shard in shards))
        self._readers: list[Any] = [None] * len(self._shards)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, position: int) -> bytes:
        position = int(position)
        if not 0 <= position < len(self):
            raise IndexError(position)
        number = bisect.bisect_right(self._ends, position)
        inside = position - (self._ends[number - 1] if number else 0)
        return self._reader(number).read([inside])[0]

    def _reader(self, number: int) -> Any:
        with self._lock:
            if self._readers[number] is None:
                self._readers[number] = _open(self._file(self._shards[number]), self._shards[number])
            return self._readers[number]

    def _file(self, shard: Mapping[str, Any]) -> str:
        place = f"{self._folder}/{shard['file']}"
        return str(self._copies.fetch(place, shard)) if self._copies and is_url(place) else place

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_readers": [None] * len(self._shards), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _open(file: str, shard: Mapping[str, Any]) -> Any:
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    try:
        # Records are read in random order, so that reading ahead would fetch what is not needed.
        reader = array_record_module.ArrayRecordReader(file, options="readahead_buffer_size:0")
        found = reader.num_records()
        if not reader.ok():
            raise OSError("no such object, or no right to read it")
    except Exception as error:  # the reader's C++ errors surface as several types
        remedy = f"check the URL and this machine's rights to it; with {ROOM} copies are read instead"
        raise file_error(error, file) or UserError(
            f"the shard {file} cannot be read ({first_line(error)}): {remedy if is_url(file) else 'make it again'}"
        ) from error
    if found != shard["records"]:
        raise UserError(f"the shard {file} holds {found} records, but the manifest says {shard['records']}")
    return reader


class Copies:
    """Local copies of files behind URLs, up to `limit` bytes together: those not used for longest go first.

    Processes of one machine share them. A copy that another process still has open goes when that closes it, as the
    file system keeps it until then.
    """

    def __init__(self, limit: int, folder: Path | None = None) -> None:
        self._limit, self._folder = limit, folder or cache_folder() / "shards"

    def fetch(self, url: str, entry: Mapping[str, Any]) -> Path:
        """The copy of a file, made if it is missing. Raises UserError if its bytes are not those of its manifest entry.

        Args:
          url: of the file.
          entry: has `file`, `bytes` and `sha256`.
        """
        name = f"{hashlib.sha256(entry['sha256'].encode()).hexdigest()[:16]}-{entry['file']}"
        file = self._folder / name
        if entry["bytes"] > self._limit:
            raise UserError(
                f"{ROOM}={self._limit / GIGABYTE:g} has no room for {url} ({entry['bytes']} bytes): give more"
            )
        with file_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked(f".{name}.lock"):
                if not (file.exists() and file.stat().st_size == entry["bytes"]):
                    self._copy(url, file, entry)
                os.utime(file)
        return file

    def _copy(self, url: str, file: Path, entry: Mapping[str, Any]) -> None:
        with self._locked(".lock"):
            self._make_room(entry["bytes"])
        temporary = self._folder / f".{uuid.uuid4().hex}.partial"
        try:
            try:
                url_file_system(url, "the shard ").get_file(url, str(temporary))
            except Exception as error:  # of any type, by the storage's client
                raise file_error(error, file) or UserError(
                    f"{url} cannot be reached ({first_line(error)}): check the URL and this machine's rights to it"
                ) from error
            if file_sha256(temporary) != entry["sha256"]:
                raise UserError(f"{url} is damaged or another file: its sha256 is not what the manifest says")
            temporary.replace(file)
        finally:
            discard(temporary)

    def _make_room(self, wanted: int) -> None:
        """Deletes the copies not used for longest."""
        found = sorted(
            (file.stat().st_mtime, file.stat().st_size, file)
            for file in self._folder.iterdir()
            if not file.name.startswith(".")
        )
        used = sum(size for _, size, _ in found)
        for _, size, file in found:
            if used + wanted <= self._limit:
                return
            logging.log_first_n(
                logging.WARNING,
                "copies of shards do not fit %.0f GB, so that they are copied again and again: give more room with "
                "%s, or unset it to read gs:// in place",
                1,
                *(self._limit / GIGABYTE, ROOM),
            )
            discard(file)
            used -= size

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self._folder / name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

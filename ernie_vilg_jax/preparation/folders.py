"""A folder of files, on this machine or behind a URL such as gs://bucket/data: only what `prepare` and `annotate` need.

Files appear atomically: here by renaming, in object stores because they show an object once it is closed. Shards are
written by C++ that needs local files, so `local` and `scratch` provide some; for a folder of this machine
nothing is copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ernie_vilg_jax.data.files import file_sha256
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.paths import is_url, write_atomically
from ernie_vilg_jax.preparation.progress import PROGRESS

SCRATCH = f"{PROGRESS}/work"
"""Folder in which workers on this machine write; leftovers of killed ones are deleted at the next start."""


class Folder(Protocol):
    """Names are paths inside the folder, with "/"."""

    def create(self) -> None: ...

    def names(self, pattern: str) -> list[str]:
        """Files that match a pattern such as ".progress/*.json"; no folders."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes, or None if there is no such file."""
        ...

    def read(self, name: str) -> bytes: ...

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of a file."""
        ...

    def write(self, name: str, data: bytes) -> None: ...

    def put(self, file: Path, name: str) -> None:
        """Moves a file of `scratch` here."""
        ...

    def delete(self, name: str) -> None:
        """Deletes a file, if it exists."""
        ...

    def delete_folder(self, name: str) -> None:
        """Deletes a folder with its content, if it exists."""
        ...

    def local(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A file to read on this machine."""
        ...

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """An empty temporary folder on this machine."""
        ...


class LocalFolder:
    """A folder of this machine, or of a file system that its machines share."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def create(self) -> None:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--output={self._path} cannot be made a folder ({error.strerror}): choose another"
            ) from error

    def names(self, pattern: str) -> list[str]:
        return sorted(file.relative_to(self._path).as_posix() for file in self._path.glob(pattern) if file.is_file())

    def size(self, name: str) -> int | None:
        file = self._path / name
        return file.stat().st_size if file.exists() else None

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        with (self._path / name).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), stop - start, start)

    def write(self, name: str, data: bytes) -> None:
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, data)

    def put(self, file: Path, name: str) -> None:
        (self._path / name).parent.mkdir(parents=True, exist_ok=True)
        file.replace(self._path / name)

    def delete(self, name: str) -> None:
        if (self._path / name).exists():  # otherwise a finished run on a read-only disk would fail
            (self._path / name).unlink()

    def delete_folder(self, name: str) -> None:
        if (self._path / name).exists():
            shutil.rmtree(self._path / name)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        yield self._path / name

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        parent = self._path / SCRATCH  # the same file system, so that `put` is a renaming
        parent.parent.mkdir(parents=True, exist_ok=True)
        parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as name:
            yield Path(name)


def open_folder(path: str) -> Folder:
    """The folder at a path or URL; it need not exist."""
    if not is_url(path):
        return LocalFolder(path)
    from ernie_vilg_jax.preparation.url_folder import UrlFolder

    return UrlFolder(path)


def intact(folder: Folder, entry: Mapping[str, Any]) -> bool:
    """Whether a file exists with the size and, if reading it needs no transfer, the sha256 of its entry."""
    if folder.size(entry["file"]) != entry["bytes"]:
        return False
    if not isinstance(folder, LocalFolder):
        return True
    with folder.local(entry["file"]) as file:
        return file_sha256(file) == entry["sha256"]


def path_sha256(path: Path) -> str:
    """sha256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {file_sha256(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()

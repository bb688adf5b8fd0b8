"""Folders behind URLs, through fsspec: gs:// with gcsfs, s3:// with s3fs."""

from __future__ import annotations

import contextlib
import posixpath
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ernie_vilg_jax.errors import UserError, file_error, first_line
from ernie_vilg_jax.paths import url_file_system


class UrlFolder:
    """A folder in an object store, or in another file system that fsspec knows."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._system: Any = url_file_system(self._url, "the URL ")
        self._root = self._system._strip_protocol(self._url)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Turns errors of the storage's client into one sentence: no bucket, no permission, no connection."""
        try:
            yield
        except Exception as error:
            raise file_error(error) or UserError(
                f"{self._url}/{name} cannot be reached ({first_line(error)}): check the URL and this machine's "
                "rights to it, then run the same command again"
            ) from error

    def create(self) -> None:
        """Nothing: object stores have no folders."""

    def names(self, pattern: str) -> list[str]:
        with self._reaching(pattern):
            try:
                found = self._system.find(self._at(posixpath.dirname(pattern)), maxdepth=1)
            except FileNotFoundError:
                return []
        names = [posixpath.relpath(file, self._root) for file in found]
        return sorted(name for name in names if Path(name).match(pattern))

    def size(self, name: str) -> int | None:
        with self._reaching(name):
            try:
                info = self._system.info(self._at(name))
            except FileNotFoundError:
                return None
        return None if info["type"] == "directory" else info["size"]

    def read(self, name: str) -> bytes:
        with self._reaching(name):
            return self._system.cat_file(self._at(name))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        with self._reaching(name):
            return self._system.cat_file(self._at(name), start=start, end=stop) if stop > start else b""

    def write(self, name: str, data: bytes) -> None:
        with self._reaching(name):
            self._system.pipe_file(self._at(name), data)

    def put(self, file: Path, name: str) -> None:
        with self._reaching(name):
            self._system.put_file(str(file), self._at(name))
        file.unlink()

    def delete(self, name: str) -> None:
        with self._reaching(name), contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._at(name))

    def delete_folder(self, name: str) -> None:
        with self._reaching(name), contextlib.suppress(FileNotFoundError):
            self._system.rm(self._at(name), recursive=True)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with self.scratch() as folder:
            copy = folder / Path(name).name
            with self._reaching(name):
                self._system.get_file(self._at(name), str(copy))
            yield copy

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)

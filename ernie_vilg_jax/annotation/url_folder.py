"""Folders behind URLs, through Apache Beam's file systems. The only module that imports apache_beam."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ernie_vilg_jax.errors import UserError, file_error, first_line

__all__ = ["Metrics", "PipelineOptions", "UrlFolder", "beam"]

_disabled = logging.root.manager.disable
logging.disable(logging.WARNING)  # it warns about Google clients, which only some runners need
try:
    import apache_beam as beam
    from apache_beam.io.filesystem import BeamIOError, CompressionTypes
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.metrics.metric import Metrics
    from apache_beam.options.pipeline_options import PipelineOptions
except ImportError as error:
    raise UserError(
        "--beam, and folders behind URLs, need the package apache-beam: pip install 'ernie_vilg_jax[annotate]'"
    ) from error
finally:
    logging.disable(_disabled)


_PLAIN = CompressionTypes.UNCOMPRESSED


class UrlFolder:
    """A folder in an object store or another file system that Apache Beam knows."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            FileSystems.get_filesystem(self._url)
        except ValueError as error:
            raise UserError(
                f"Apache Beam cannot open {url}: check its scheme, or install what it needs, e.g. "
                "pip install 'apache-beam[gcp]' for gs://"
            ) from error

    def _at(self, name: str) -> str:
        return f"{self._url}/{name}"

    @contextlib.contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Turns errors of the storage's client into one sentence: no bucket, no permission, no connection."""
        try:
            yield
        except Exception as error:
            raise file_error(error) or UserError(
                f"{self._at(name)} cannot be reached ({first_line(error)}): check the URL and this machine's "
                "rights to it, then run the same command again"
            ) from error

    def create(self) -> None:
        with contextlib.suppress(BeamIOError, OSError):  # object stores have no folders, and it may exist
            FileSystems.mkdirs(self._url)

    def _match(self, pattern: str) -> dict[str, int]:
        with self._reaching(pattern):
            found = FileSystems.match([self._at(pattern)])[0].metadata_list
        return {file.path.removeprefix(f"{self._url}/"): file.size_in_bytes for file in found}

    def names(self, pattern: str) -> list[str]:
        return sorted(self._match(pattern))

    def size(self, name: str) -> int | None:
        return self._match(name).get(name)

    def read(self, name: str) -> bytes:
        with self._reaching(name), FileSystems.open(self._at(name), compression_type=_PLAIN) as file:
            return file.read()

    def write(self, name: str, data: bytes) -> None:
        with self._reaching(name), FileSystems.create(self._at(name), compression_type=_PLAIN) as file:
            file.write(data)

    def put(self, file: Path, name: str) -> None:
        with (
            self._reaching(name),
            file.open("rb") as source,
            FileSystems.create(self._at(name), compression_type=_PLAIN) as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)

    def delete(self, name: str) -> None:
        if files := [self._at(found) for found in self.names(name)]:
            with self._reaching(name):
                FileSystems.delete(files)

    def delete_folder(self, name: str) -> None:
        self.delete(f"{name}/**")
        self.delete(name)

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        with self.scratch() as folder:
            copy = folder / Path(name).name
            with (
                self._reaching(name),
                FileSystems.open(self._at(name), compression_type=_PLAIN) as source,
                copy.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
            yield copy

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)

"""Parquet files with the bytes of images, as in Hugging Face's datasets: one example per row.

Columns have the names of the folder source ("zh", "en", "caption" or "text", "concept", "objects"), in any case. The
image is bytes, or bytes and path together.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.errors import UserError, first_line
from ernie_vilg_jax.preparation.sources import pairs
from ernie_vilg_jax.preparation.sources.archives import ArchiveSource, fetched
from ernie_vilg_jax.preparation.sources.findings import NO_CAPTION, NO_IMAGE, Findings
from ernie_vilg_jax.preparation.sources.tables import CAPTION_KEYS

_FIELDS = (*CAPTION_KEYS, "concept", "objects")


class _File:
    """An open file, and the images of the row group that was read last, because the next record is probably there."""

    def __init__(self, name: str, local: Path) -> None:
        self.name, self.opened = name, _open(name, local)
        self._group, self._images = -1, []

    def image(self, row: int, column: str) -> Any:
        group, index = _locate(self.opened.metadata, row)
        if group != self._group:
            rows = _read(self.opened, self.name, group, [column])
            self._group, self._images = group, [_bytes(row[column], self.name) for row in rows]
        return self._images[index]


@dataclasses.dataclass
class ParquetSource(ArchiveSource):
    """Images in a column of Parquet files. `image` names the column."""

    image: str = "image"
    name: str = dataclasses.field(default="parquet", init=False)
    suffix: ClassVar[str] = ".parquet"

    @contextlib.contextmanager
    def opened(self, part: str) -> Iterator[_File]:
        with fetched(self.files[part]) as local:
            yield _File(self.files[part], local)

    def examples(self, part: str, opened: _File, findings: Findings) -> Iterator[pairs.Example]:
        for number, (row, image) in enumerate(self._rows(opened.name, opened.opened)):
            id = f"{part}/{number:08d}"
            fields = pairs.read_fields(row, f"{opened.name}, row {number + 1}")
            if image is None:
                findings.mismatch(NO_IMAGE, id)
            elif not fields.captions:
                findings.mismatch(NO_CAPTION, id)
            else:
                yield self.example(id, (opened, number), fields)

    def _rows(self, file: str, opened: Any) -> Iterator[tuple[Mapping[str, Any], bytes | None]]:
        """(fields by their names in lower case, image) of each row."""
        columns = {}
        for name in opened.schema_arrow.names:
            if name.lower() in _FIELDS and columns.setdefault(name.lower(), name) != name:
                raise UserError(f"{file}: there are columns {columns[name.lower()]!r} and {name!r}; rename one")
        if self.image not in opened.schema_arrow.names or not columns.keys() & set(CAPTION_KEYS):
            raise UserError(
                f"{file}: it needs the column {self.image!r} and one of {', '.join(CAPTION_KEYS)}, and has "
                f"{', '.join(opened.schema_arrow.names)[:200]}; name the former with the source's option `image`, "
                "rename the latter"
            )
        for group in range(opened.num_row_groups):
            table = _read(opened, file, group, [*columns.values(), self.image])
            for row in table:
                yield {field: row[name] for field, name in columns.items()}, _bytes(row[self.image], file)

    def image_of(self, place: tuple[_File, int]) -> tuple[str, bytes]:
        file, row = place
        return f"the image of row {row + 1} in {file.name}", file.image(row, self.image)

    def fingerprint(self) -> str:
        options = [self.image, self.on_mismatch, self.short_side, self.licence]
        return digest({"parquet": self.hashes(), "options": options})


def _open(file: str, local: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(local)
    except pyarrow.ArrowException as error:
        raise UserError(f"{file} is not a whole parquet file ({first_line(error)}); get it again") from error


def _read(opened: Any, file: str, group: int, columns: list[str]) -> list[dict[str, Any]]:
    import pyarrow

    try:
        return opened.read_row_group(group, columns=columns).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({first_line(error)}); get it again") from error


def _bytes(value: Any, file: str) -> bytes | None:
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path"):
            raise UserError(f"{file}: its images are paths such as {value['path']!r:.80}; it has to hold their bytes")
        value = value.get("bytes")
    if value is not None and not isinstance(value, bytes):
        raise UserError(f"{file}: its images are {type(value).__name__}, and have to be the bytes of PNG, JPEG or WebP")
    return value


def _locate(metadata: Any, row: int) -> tuple[int, int]:
    """(row group, index in it) of a row of a file."""
    for group in range(metadata.num_row_groups):
        if row < metadata.row_group(group).num_rows:
            return group, row
        row -= metadata.row_group(group).num_rows
    raise IndexError(row)

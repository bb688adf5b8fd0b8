"""Parquet files with the bytes of images, as in Hugging Face's datasets: one example per row.

Columns have the names of the folder source ("zh", "en", "caption" or "text", "concept", "objects"), in any case. The
image is bytes, or bytes and path together.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Key, pairs
from ernie_vilg_jax.preparation.sources.archives import find_archives, hashes
from ernie_vilg_jax.preparation.sources.tables import CAPTION_KEYS

_FIELDS = (*CAPTION_KEYS, "concept", "objects")


@dataclasses.dataclass(frozen=True)
class _Example:
    id: str
    file: str
    row: int
    captions: dict[str, list[str]]
    concept: str
    objects: list[dict[str, Any]]


@dataclasses.dataclass
class ParquetSource(pairs.Options):
    """Images in a column of Parquet files; `path` as `find_archives` takes it. `image` names the column."""

    image: str = "image"
    name: str = dataclasses.field(default="parquet", init=False)

    @functools.cached_property
    def _files(self) -> dict[str, str]:
        return find_archives(self.name, self.path, ".parquet")

    @functools.cached_property
    def _opened(self) -> dict[str, Any]:
        return {file: _open(file) for file in self._files}

    @functools.cached_property
    def _images(self) -> Any:
        """(file, row group) -> its images, the smallest unit of reading; cached, because nearby records share one."""
        return functools.lru_cache(maxsize=4)(self._read_images)

    def _read_images(self, file: str, group: int) -> list[Any]:
        return [_bytes(row[self.image], file) for row in _read(self._opened[file], file, group, [self.image])]

    @functools.cached_property
    def _examples(self) -> list[_Example]:
        problems: dict[str, list[str]] = {pairs.NO_IMAGE: [], pairs.NO_CAPTION: [], pairs.UNDECODABLE: []}
        examples = []
        for file, name in self._files.items():
            for number, (row, image) in enumerate(self._rows(file)):
                id = f"{name}/{number:08d}"
                fields = pairs.read_fields(row, f"{file}, row {number + 1}")
                if image is None:
                    problems[pairs.NO_IMAGE].append(id)
                elif not fields.captions:
                    problems[pairs.NO_CAPTION].append(id)
                elif self.on_mismatch == "skip" and not pairs.is_decodable(image):
                    problems[pairs.UNDECODABLE].append(id)
                else:
                    concept = pairs.concept_of(self.name, fields.concept, fields.captions)
                    found = (f"{self.name}/{id}", file, number, fields.captions, concept, fields.objects)
                    examples.append(_Example(*found))
        pairs.report(self.path, problems, self.on_mismatch, "complete or remove them")
        pairs.check_captions(self.path, [example.captions for example in examples])
        return examples

    def _rows(self, file: str) -> Iterator[tuple[Mapping[str, Any], bytes | None]]:
        """(fields by their names in lower case, image) of each row."""
        opened = self._opened[file]
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

    def keys(self) -> Sequence[Key]:
        return [Key(example.id, example.concept) for example in self._examples]

    def record(self, index: int) -> Record:
        example = self._examples[index]
        group, place = _locate(self._opened[example.file].metadata, example.row)
        return pairs.make_record(
            self.name,
            example.id,
            f"the image of row {example.row + 1} in {example.file}",
            self._images(example.file, group)[place],
            example.captions,
            example.concept,
            licence=self.licence,
            short_side=self.short_side,
            objects=example.objects,
        )

    def fingerprint(self) -> str:
        options = [self.image, self.on_mismatch, self.short_side, self.licence]
        return digest({"parquet": hashes(self._files), "options": options})


def _open(file: str) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise UserError(f"{file} is not a whole parquet file ({_first(error)}); get it again") from error


def _read(opened: Any, file: str, group: int, columns: list[str]) -> list[dict[str, Any]]:
    import pyarrow

    try:
        return opened.read_row_group(group, columns=columns).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({_first(error)}); get it again") from error


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


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

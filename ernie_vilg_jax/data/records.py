"""The record format: one image with its captions, packed as msgpack in ArrayRecord shards beside a manifest.

A prepared directory holds `train-00000-of-00008.array_record` ..., `holdout-...`, `manifest.json`, `LICENCES.md`
and `tokenizer/`. Inside a shard, records are grouped by source (in the order of the manifest), so that the loader
knows which positions belong to which source without an index file; the loader shuffles globally anyway.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgpack

from ernie_vilg_jax.data.files import file_sha256
from ernie_vilg_jax.data.manifests import check_shards, read_manifest, redo
from ernie_vilg_jax.data.remote import open_shards
from ernie_vilg_jax.errors import UserError, file_error, file_errors, first_line
from ernie_vilg_jax.images import decode_image
from ernie_vilg_jax.knowledge.words import LANGUAGES
from ernie_vilg_jax.paths import discard, reach

_REQUIRED = ("id", "image", "captions", "concept", "source")


@dataclasses.dataclass(frozen=True)
class Record:
    """One example.

    Attributes:
      id: unique name, e.g. "emoji/noto/1f43c".
      image: encoded PNG, JPEG or WebP.
      captions: language ("zh", "en") -> alternatives; at least one language has one.
      concept: the unit of the train/holdout split. Several units are joined by "+": the record is held out if any of
        them is.
      source: name of the source it came from.
      keywords: language -> words.
      style: language -> phrase for the look of the image, or empty.
      objects: the objects in the image: {"name": {language: name}, "box": [x0, y0, x1, y1] in [0, 1], "score": float}.
      licence: SPDX identifier, or "" when unknown.
      width, height: pixels.

    Added by `annotate`, empty before:
      parsed: language -> for each caption of that language {"words": [[start, end, part of speech], ...], "mentions":
        [index of an object that the caption names, ...]}.
      generated: language -> a captioner's captions, {"text", "words", "mentions", "by"} each.
      translated: languages whose captions were machine-translated.

    Put in place of `image`, which is then empty, by `encode`:
      latents: one for each crop (`data/latents.py`).
    """

    id: str
    image: bytes
    captions: Mapping[str, list[str]]
    concept: str
    source: str
    keywords: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    style: Mapping[str, str] = dataclasses.field(default_factory=dict)
    objects: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    licence: str = ""
    width: int = 0
    height: int = 0
    parsed: Mapping[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    generated: Mapping[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    translated: list[str] = dataclasses.field(default_factory=list)
    latents: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def pack(self) -> bytes:
        """The record as msgpack, its fields in the order of the class (so equal records are equal bytes)."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if not self.latents:
            del values["latents"]
        packed = msgpack.packb(values)
        assert packed is not None
        return packed

    @staticmethod
    def unpack(data: bytes) -> Record:
        """Inverse of `pack`. Raises ValueError when the bytes are not a record."""
        try:
            fields = msgpack.unpackb(data)
        except Exception as error:  # msgpack raises many unrelated types on damaged bytes
            raise ValueError(f"not msgpack ({error})") from error
        if not isinstance(fields, dict) or any(name not in fields for name in _REQUIRED):
            raise ValueError("not a record: required fields are missing")
        known = {f.name for f in dataclasses.fields(Record)}
        return Record(**{name: value for name, value in fields.items() if name in known})

    def size(self) -> tuple[int, int]:
        """Width and height of the image in pixels. Raises ValueError if they are not stated and cannot be found."""
        if self.width > 0 and self.height > 0:
            return self.width, self.height
        return decode_image(self.image).size

    def caption_count(self) -> dict[str, int]:
        return {language: len(self.captions.get(language, ())) for language in LANGUAGES}


def shard_name(split: str, number: int, total: int) -> str:
    return f"{split}-{number:05d}-of-{total:05d}.array_record"


def write_shard(path: Path, records: Iterable[Record]) -> dict[str, Any]:
    """Writes one shard under a temporary name, then renames it.

    Returns:
      The shard's entry for the manifest: file, records, bytes, sha256, sources {name: records, in file order} and
      captions {language: count}.
    """
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    temporary = path.with_name(f".{path.name}.partial")
    discard(temporary)
    sources: dict[str, int] = {}
    captions: dict[str, int] = dict.fromkeys(LANGUAGES, 0)
    try:
        with file_errors(path):
            writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1")
            try:
                for record in records:
                    if record.source not in sources:
                        sources[record.source] = 0
                    elif next(reversed(sources)) != record.source:
                        raise AssertionError("records of one source must be adjacent in a shard")
                    sources[record.source] += 1
                    for language, count in record.caption_count().items():
                        captions[language] += count
                    writer.write(record.pack())
            finally:
                writer.close()
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        entry = {
            "file": path.name,
            "records": sum(sources.values()),
            "bytes": temporary.stat().st_size,
            "sha256": file_sha256(temporary),
            "sources": [[name, count] for name, count in sources.items()],
            "captions": captions,
        }
        with file_errors():
            temporary.replace(path)
    finally:
        discard(temporary)  # on a full disk it would block the next attempt
    return entry


class RecordSource:
    """Random access to the records of one split, for Grain. Picklable, for worker processes.

    `source[i]` is a `Record`; `source.positions` maps a source's name to the positions of its records.
    """

    def __init__(self, path: str | Path, split: str, *, verify: bool = True) -> None:
        """`verify`: see `check_shards`."""
        self._directory = reach(path, "config.data.path")
        self.split = split
        self._shards = [shard for shard in check_shards(path, split, verify=verify) if shard["records"]]
        if not self._shards:
            raise UserError(
                f"split {split!r} of {path} is empty: prepare more records or raise config.data.holdout_fraction"
            )
        try:
            self._reader: Any = open_shards(str(self._directory), self._shards)
            length = len(self._reader)
        except UserError:
            raise
        except Exception as error:  # the reader's C++ errors surface as several types
            fix = redo(self._directory, read_manifest(path))
            raise file_error(error) or UserError(
                f"a shard of split {split!r} in {path} is corrupt ({first_line(error)}): {fix}"
            ) from error
        if length != len(self):
            fix = redo(self._directory, read_manifest(path))
            raise UserError(
                f"the shards of split {split!r} in {path} hold {length} records, but the manifest says {len(self)}: "
                f"{fix}"
            )

    def __len__(self) -> int:
        return sum(shard["records"] for shard in self._shards)

    def __repr__(self) -> str:
        return f"RecordSource({str(self._directory)!r}, {self.split!r})"

    def locate(self, index: int) -> tuple[str, int]:
        """(shard file, position inside it) of a record."""
        for shard in self._shards:
            if index < shard["records"]:
                return str(self._directory / shard["file"]), index
            index -= shard["records"]
        raise IndexError(index)

    def __getitem__(self, index: int) -> Record:
        index = int(index)
        try:
            return Record.unpack(self._reader[index])
        except (IndexError, UserError):
            raise
        except Exception as error:  # ValueError of unpack, or the reader's C++ errors
            shard, position = self.locate(index)
            fix = redo(self._directory, read_manifest(str(self._directory)))
            raise file_error(error, shard) or UserError(
                f"shard {shard} is corrupt at record {position} ({first_line(error)}): {fix}"
            ) from error

    @property
    def positions(self) -> dict[str, list[tuple[int, int]]]:
        """Source name -> [start, stop) ranges of positions."""
        ranges: dict[str, list[tuple[int, int]]] = {}
        start = 0
        for shard in self._shards:
            for name, count in shard["sources"]:
                ranges.setdefault(name, []).append((start, start + count))
                start += count
        return ranges

    @property
    def sized(self) -> dict[tuple[int, int], dict[str, list[tuple[int, int]]]] | None:
        """(height, width) -> the same for the records whose latents are of images of that size.

        None if the records have images.
        """
        if not all("sizes" in shard for shard in self._shards):
            return None
        found: dict[tuple[int, int], dict[str, list[tuple[int, int]]]] = {}
        start = 0
        for shard in self._shards:
            for height, width, name, count in shard["sizes"]:
                found.setdefault((height, width), {}).setdefault(name, []).append((start, start + count))
                start += count
        return found


def open_split(path: str | Path, split: str, *, verify: bool = True, images: bool = False) -> RecordSource:
    """Opens "train" or "holdout" of a prepared directory after checking manifest and shards (see `check_shards`).

    With `images`, raises UserError for records that have latents in their place.
    """
    source = RecordSource(path, split, verify=verify)
    if images and source.sized is not None:
        raise UserError(
            f"the {split} records of {path} have latents in place of images: take the data that were encoded, or the "
            "split holdout"
        )
    return source


def read_shard(path: Path, positions: Sequence[int] | None = None) -> Iterator[Record]:
    """The records of one shard at these positions, by default all in order."""
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    reader = array_record_module.ArrayRecordReader(str(path))
    try:
        for position in range(reader.num_records()) if positions is None else positions:
            yield Record.unpack(reader.read([position])[0])
    finally:
        reader.close()

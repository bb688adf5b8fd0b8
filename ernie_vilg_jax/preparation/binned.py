"""A file of rows and bytes that are grouped in bins, of which a reader fetches one without reading the others.

    places [bins + 1] x 2 uint64 | rows, bin by bin, each msgpack | bytes of the rows, in the same order

So an exchange between many writers (a file each) and many readers (a bin each) needs no memory for all of it, on disks
and in buckets. A row is a short list; its last two items are the length and the checksum of its bytes, if any.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgpack

from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.folders import Folder

_PLACE = struct.Struct("<QQ")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row and the place of its bytes in the file that they were written to first."""

    bin: int
    values: Sequence[Any]
    offset: int = 0
    length: int = 0
    checksum: int = 0


def append(file: BinaryIO, data: bytes, bin: int, values: Sequence[Any]) -> Row:
    """Writes the bytes of a row at the end of `file`."""
    offset = file.tell()
    file.write(data)
    return Row(bin, values, offset, len(data), zlib.crc32(data))


def write(path: Path, rows: Sequence[Row], bins: int, source: Path | None = None) -> None:
    """Writes the file; `source` is what `append` wrote."""
    rows = sorted(rows, key=lambda row: row.bin)  # stable: inside a bin as given
    packed: list[bytes] = [b""] * bins
    grouped: list[list[Row]] = [[] for _ in range(bins)]
    for row in rows:
        grouped[row.bin].append(row)
    for number, mine in enumerate(grouped):
        if mine:
            found = [[*row.values, row.length, row.checksum] for row in mine]
            packed[number] = msgpack.packb(found) or b""
    start = (bins + 1) * _PLACE.size
    data = start + sum(map(len, packed))
    with path.open("wb") as file:
        for number in range(bins):
            file.write(_PLACE.pack(start, data))
            start += len(packed[number])
            data += sum(row.length for row in grouped[number])
        file.write(_PLACE.pack(start, data))
        file.writelines(packed)
        if source is not None:
            with source.open("rb") as read:
                for row in rows:
                    read.seek(row.offset)
                    file.write(read.read(row.length))


def read_rows(folder: Folder, name: str, first: int, last: int) -> tuple[list[list[Any]], int, int]:
    """The rows of the bins [first, last), and where their bytes start and end."""
    places = folder.read_range(name, first * _PLACE.size, (last + 1) * _PLACE.size)
    found = list(_PLACE.iter_unpack(places))
    if len(found) != last + 1 - first:
        raise damaged(name)
    (start, data), (stop, end) = found[0], found[-1]
    rows: list[list[Any]] = []
    if stop > start:
        unpacker = msgpack.Unpacker()
        unpacker.feed(folder.read_range(name, start, stop))
        for group in unpacker:
            rows += group
    if sum(row[-2] for row in rows) != end - data:
        raise damaged(name)
    return rows, data, end


def checked(data: bytes, row: Sequence[Any], name: str) -> bytes:
    """The bytes of a row. Raises UserError if they are not those that were written."""
    if len(data) != row[-2] or zlib.crc32(data) != row[-1]:
        raise damaged(name)
    return data


def damaged(name: str) -> UserError:
    return UserError(f"{name} in the output is damaged: delete that file and run the same command again")


def all_rows(folder: Folder, name: str, bins: int) -> Iterator[list[Any]]:
    """The rows of all bins, bin by bin."""
    for number in range(bins):
        yield from read_rows(folder, name, number, number + 1)[0]

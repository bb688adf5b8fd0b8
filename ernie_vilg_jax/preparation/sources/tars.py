"""Webdataset-style tars: the files of one example share their name up to the first dot.

  shard-000.tar:  0001.jpg  0001.txt  0002.png  0002.zh.txt  0002.en.txt  0003.webp  0003.json

.txt (or .caption) has one caption per line (language by its characters, or by .zh.txt or .en.txt), .json an object with
the names of the folder source ("zh", "en", "caption" or "text", "concept", "objects"). A caption in both counts once.

An example is identified by its tar and the path in it. A tar that is truncated, or has duplicates, is an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tarfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ernie_vilg_jax import texts
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import pairs
from ernie_vilg_jax.preparation.sources.archives import ArchiveSource, fetched
from ernie_vilg_jax.preparation.sources.findings import NO_CAPTION, NO_IMAGE, UNREAD, Findings
from ernie_vilg_jax.preparation.sources.pairs import Fields

_TEXTS = {"txt": "caption", "caption": "caption", "zh.txt": "zh", "en.txt": "en"}
"""Extensions of captions, and the language of each."""
_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class _Member:
    """Bytes inside an uncompressed tar, so that reading one needs no scan; `tar` is its name for messages."""

    tar: str
    file: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclasses.dataclass
class TarSource(ArchiveSource):
    """Examples in tars."""

    name: str = dataclasses.field(default="tars", init=False)
    suffix: ClassVar[str] = ".tar"

    def opened(self, part: str) -> contextlib.AbstractContextManager[Path]:
        return fetched(self.files[part])

    def examples(self, part: str, opened: Path, findings: Findings) -> Iterator[pairs.Example]:
        tar = self.files[part]
        for inner, members in _groups(tar, opened).items():
            id = f"{part}/{inner}"
            pairs.check_name(id, tar)
            image = _image(members)
            fields = _fields(members)
            unread = [e for e in members if f".{e.rpartition('.')[2]}" in pairs.OTHER_SUFFIXES]
            if image is None:
                if fields.captions:
                    findings.mismatch(UNREAD if unread else NO_IMAGE, f"{id}.{(unread or [''])[0]}".rstrip("."))
            elif not fields.captions:
                findings.mismatch(NO_CAPTION, id)
            else:
                yield self.example(id, image, fields)

    def image_of(self, place: _Member) -> tuple[str, bytes]:
        return f"{place.name} in {place.tar}", place.read()

    def fingerprint(self) -> str:
        return digest({"tars": self.hashes(), "options": [self.on_mismatch, self.short_side, self.licence]})


def _groups(tar: str, local: Path) -> dict[str, dict[str, _Member]]:
    """Path of an example in the tar -> extension -> member, in the order of the tar.

    Raises UserError if the tar is truncated, or two members are the same file of an example.
    """
    groups: dict[str, tuple[str, dict[str, _Member]]] = {}
    end = 0
    try:
        with tarfile.open(local, "r:") as file:
            for info in file:
                end = max(end, file.offset)
                path = info.name.removeprefix("./")
                folder, _, base = path.rpartition("/")
                stem, dot, extension = base.partition(".")
                if not info.isfile() or not stem or not dot:
                    continue
                if info.sparse is not None:
                    raise UserError(f"{tar}: {info.name!a} is a sparse file; pack the tar without --sparse")
                inner = f"{folder}/{stem}" if folder else stem
                # macOS decomposes characters in names, so an image and its captions may be spelt differently.
                _, members = groups.setdefault(unicodedata.normalize("NFC", inner), (inner, {}))
                if (other := members.get(extension.lower())) is not None:
                    raise UserError(
                        f"{tar}: {other.name!a} and {info.name!a} are the same file of one example; remove one of them"
                    )
                members[extension.lower()] = _Member(tar, local, info.name, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise UserError(f"{tar} is not a whole, uncompressed tar ({error}): decompress or fetch it again") from error
    _check_end(tar, local, end)
    return dict(groups.values())


def _check_end(tar: str, local: Path, end: int) -> None:
    """Raises UserError unless nothing but zeros follows the last member, and at least a block of them.

    `tarfile` takes the end of a file for the end of the tar, so it does not detect truncation.
    """
    with local.open("rb") as file:
        file.seek(end)
        mark = file.read(_BLOCK)
        if len(mark) < _BLOCK or any(mark):
            raise UserError(
                f"{tar} is not a whole, uncompressed tar (no end mark follows its members): fetch or pack it again"
            )
        while block := file.read(1 << 20):
            if any(block):
                raise UserError(
                    f"{tar} goes on after its end mark, as tars do that were joined with cat: keep them as single files"
                )


def _image(members: dict[str, _Member]) -> _Member | None:
    """The image of an example: 1.jpg rather than 1.depth.png. UserError if it is ambiguous."""
    images = {e: member for e, member in members.items() if f".{e.rpartition('.')[2]}" in pairs.IMAGE_SUFFIXES}
    plain = {e: member for e, member in images.items() if "." not in e}
    found = list((plain or images).values())
    if len(found) > 1:
        raise UserError(
            f"{found[0].tar}: {found[0].name!a} and {found[1].name!a} are images of one example: keep one, or give "
            "each a name of its own"
        )
    return found[0] if found else None


def _fields(members: dict[str, _Member]) -> Fields:
    """The fields of the .json, with the captions of the .txt."""
    fields = Fields()
    if "json" in members:
        where = f"{members['json'].name} in {members['json'].tar}"
        try:
            row = texts.parse_json(texts.decode(members["json"].read(), where))
            if not isinstance(row, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise UserError(f"{where}: not JSON that can be used ({error}); correct it there") from error
        fields = pairs.read_fields(row, where)
    for extension, key in _TEXTS.items():
        if extension in members:
            lines = texts.lines(
                texts.decode(members[extension].read(), f"{members[extension].name} in {members[extension].tar}")
            )
            pairs.join_captions(fields.captions, pairs.sort_captions({key: lines}))
    return fields

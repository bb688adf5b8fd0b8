"""Webdataset-style tars: the files of one example share their name up to the first dot.

  shard-000.tar:  0001.jpg  0001.txt  0002.png  0002.zh.txt  0002.en.txt  0003.webp  0003.json

.txt (or .caption) has one caption per line (language by its characters, or by .zh.txt or .en.txt), .json an object with
the names of the folder source ("zh", "en", "caption" or "text", "concept", "objects"). A caption in both counts once.

An example is identified by its tar and the path in it. A tar that is truncated, or has duplicates, is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import tarfile
import unicodedata
from collections.abc import Sequence
from typing import Any

from ernie_vilg_jax import texts
from ernie_vilg_jax.data.files import digest
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Key, pairs
from ernie_vilg_jax.preparation.sources.archives import find_archives, hashes
from ernie_vilg_jax.preparation.sources.pairs import Fields

_TEXTS = {"txt": "caption", "caption": "caption", "zh.txt": "zh", "en.txt": "en"}
"""Extensions of captions, and the language of each."""
_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class _Member:
    """Bytes inside an uncompressed tar, so that reading one needs no scan."""

    tar: str
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        with open(self.tar, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclasses.dataclass(frozen=True)
class _Example:
    id: str
    image: _Member
    captions: dict[str, list[str]]
    concept: str
    objects: list[dict[str, Any]]


@dataclasses.dataclass
class TarSource(pairs.Options):
    """Examples in tars; `path` as `find_archives` takes it."""

    name: str = dataclasses.field(default="tars", init=False)

    @functools.cached_property
    def _tars(self) -> dict[str, str]:
        return find_archives(self.name, self.path, ".tar")

    @functools.cached_property
    def _examples(self) -> list[_Example]:
        kinds = (pairs.NO_IMAGE, pairs.UNREAD, pairs.NO_CAPTION, pairs.UNDECODABLE)
        problems: dict[str, list[str]] = {kind: [] for kind in kinds}
        examples = []
        for tar, name in self._tars.items():
            for inner, members in _groups(tar).items():
                id = f"{name}/{inner}"
                pairs.check_name(id, tar)
                image = _image(members)
                fields = _fields(members)
                unread = [e for e in members if f".{e.rpartition('.')[2]}" in pairs.OTHER_SUFFIXES]
                if image is None:
                    if fields.captions:
                        problems[pairs.UNREAD if unread else pairs.NO_IMAGE].append(
                            f"{id}.{(unread or [''])[0]}".rstrip(".")
                        )
                elif not fields.captions:
                    problems[pairs.NO_CAPTION].append(id)
                elif self.on_mismatch == "skip" and not pairs.is_decodable(image.read()):
                    problems[pairs.UNDECODABLE].append(id)
                else:
                    concept = pairs.concept_of(self.name, fields.concept, fields.captions)
                    examples.append(_Example(f"{self.name}/{id}", image, fields.captions, concept, fields.objects))
        pairs.report(self.path, problems, self.on_mismatch, "complete or remove them")
        pairs.check_captions(self.path, [example.captions for example in examples])
        return examples

    def keys(self) -> Sequence[Key]:
        return [Key(example.id, example.concept) for example in self._examples]

    def record(self, index: int) -> Record:
        example = self._examples[index]
        return pairs.make_record(
            self.name,
            example.id,
            f"{example.image.name} in {example.image.tar}",
            example.image.read(),
            example.captions,
            example.concept,
            licence=self.licence,
            short_side=self.short_side,
            objects=example.objects,
        )

    def fingerprint(self) -> str:
        return digest({"tars": hashes(self._tars), "options": [self.on_mismatch, self.short_side, self.licence]})


def _groups(tar: str) -> dict[str, dict[str, _Member]]:
    """Path of an example in the tar -> extension -> member, in the order of the tar.

    Raises UserError if the tar is truncated, or two members are the same file of an example.
    """
    groups: dict[str, tuple[str, dict[str, _Member]]] = {}
    end = 0
    try:
        with tarfile.open(tar, "r:") as file:
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
                members[extension.lower()] = _Member(tar, info.name, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise UserError(f"{tar} is not a whole, uncompressed tar ({error}): decompress or fetch it again") from error
    _check_end(tar, end)
    return dict(groups.values())


def _check_end(tar: str, end: int) -> None:
    """Raises UserError unless nothing but zeros follows the last member, and at least a block of them.

    `tarfile` takes the end of a file for the end of the tar, so it does not detect truncation.
    """
    with open(tar, "rb") as file:
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

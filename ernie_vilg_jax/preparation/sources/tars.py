"""Webdataset-style tars: the files of one example share their name up to the first dot.

  shard-000.tar:  0001.jpg  0001.txt  0002.png  0002.zh.txt  0002.en.txt  0003.webp  0003.json

.txt holds one caption a line (language by its characters unless .zh.txt or .en.txt says it), .json an object with the
names of the folder source ("zh", "en", "caption" or "text", "concept", "objects").
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ernie_vilg_jax.data.files import digest, file_sha256
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.sources import Key, pairs


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
    """Examples in tars; `path` is a tar or a glob of tars."""

    name: str = dataclasses.field(default="tars", init=False)

    @functools.cached_property
    def _tars(self) -> list[str]:
        found = sorted(glob.glob(str(Path(self.path).expanduser()), recursive=True))
        if not self.path or not found:
            raise UserError(f"source 'tars': path={self.path!r} matches no file")
        return found

    def _groups(self) -> dict[str, dict[str, _Member]]:
        """Example id -> extension -> member, in the order of the tars."""
        groups: dict[str, dict[str, _Member]] = {}
        for tar in self._tars:
            try:
                with tarfile.open(tar, "r:") as file:
                    for info in file:
                        folder, _, base = info.name.removeprefix("./").rpartition("/")
                        stem, dot, extension = base.partition(".")
                        if info.isfile() and stem and dot:
                            inner = f"{folder}/{stem}" if folder else stem
                            member = _Member(tar, info.name, info.offset_data, info.size)
                            groups.setdefault(f"{Path(tar).stem}/{inner}", {})[extension.lower()] = member
            except tarfile.TarError as error:
                raise UserError(
                    f"{tar} is not a whole, uncompressed tar ({error}): decompress or fetch it again"
                ) from error
        return groups

    @functools.cached_property
    def _examples(self) -> list[_Example]:
        problems: dict[str, list[str]] = {
            "captions without an image": [],
            "images without a caption": [],
            "images that cannot be decoded": [],
        }
        examples = []
        for id, members in self._groups().items():
            image = next((m for e, m in members.items() if f".{e.rpartition('.')[2]}" in pairs.IMAGE_SUFFIXES), None)
            fields, captions = self._captions(members)
            if image is None:
                if captions:
                    problems["captions without an image"].append(id)
            elif not captions:
                problems["images without a caption"].append(id)
            elif self.on_mismatch == "skip" and not pairs.decodable(image.read()):
                problems["images that cannot be decoded"].append(id)
            else:
                concept = pairs.concept_of(self.name, fields, captions)
                examples.append(_Example(f"{self.name}/{id}", image, captions, concept, pairs.objects_of(fields)))
        pairs.report(self.path, problems, self.on_mismatch, "complete or remove them")
        return examples

    def _captions(self, members: dict[str, _Member]) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """The fields of the .json, and captions of .json and .txt together."""
        fields: dict[str, Any] = {}
        try:
            if "json" in members:
                fields = json.loads(members["json"].read())
                if not isinstance(fields, dict):
                    raise ValueError("not an object")
            captions = pairs.sort_captions(fields)
            for extension, key in (("txt", "caption"), ("zh.txt", "zh"), ("en.txt", "en")):
                if extension in members:
                    lines = members[extension].read().decode("utf-8-sig").splitlines()
                    for language, texts in pairs.sort_captions({key: lines}).items():
                        captions.setdefault(language, []).extend(texts)
        except ValueError as error:
            member = next(m for e, m in members.items() if e in ("json", "txt", "zh.txt", "en.txt"))
            raise UserError(f"{member.tar}: the captions beside {member.name} cannot be read ({error})") from error
        return fields, captions

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
        hashes = [[Path(tar).name, file_sha256(Path(tar))] for tar in self._tars]
        return digest({"tars": hashes, "options": [self.on_mismatch, self.short_side, self.licence]})

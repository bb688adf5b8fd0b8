"""Webdataset-style tars: the files of one example share their name up to the first dot.

  shard-000.tar:  0001.jpg  0001.txt  0002.png  0002.zh.txt  0002.en.txt  0003.webp  0003.json

.txt (or .caption) holds one caption a line (language by its characters unless .zh.txt or .en.txt says it), .json an
object with the names of the folder source ("zh", "en", "caption" or "text", "concept", "objects"). Where both have the
same caption, it counts once.

An example is known by its tar and the path in it. A tar that is not whole, or says something twice, is an error.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ernie_vilg_jax.preparation.sources import pairs

_TEXTS = {"txt": "caption", "caption": "caption", "zh.txt": "zh", "en.txt": "en"}
"""Extensions of captions, and what each says of their language."""
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

"""Parquet files with the bytes of images, as Hugging Face's datasets are kept: one example a row.

Columns have the names of the folder source ("zh", "en", "caption" or "text", "concept", "objects"), in any case. The
image is bytes, or bytes and path together.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ernie_vilg_jax.preparation.sources import pairs
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

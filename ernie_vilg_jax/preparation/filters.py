"""Which pairs are kept: by size, shape, captions, and near duplicates of other images."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ernie_vilg_jax.config import plain
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import decode_image

DISTANCE = 3
"""Bits of 64 in which the hashes of near duplicates may differ."""
BANDS = DISTANCE + 1
"""Pieces of a hash: two hashes that differ in at most `DISTANCE` bits agree in one of them."""


@dataclasses.dataclass(frozen=True)
class Filters:
    """`config.data.filters`; the defaults keep everything.

    Attributes:
      min_side: pixels of the shorter side, at least.
      max_aspect: longer side over shorter side, at most; 0 = any.
      min_characters, max_characters: of a caption; 0 = any. Captions outside are dropped.
      forbidden: regular expressions; captions with a match are dropped. A pair without any caption left is dropped.
      near_duplicates: drop a pair whose image is nearly that of another (a perceptual hash of 64 bits, at most
        `DISTANCE` of them different): of two, the one that comes later in the order of
        sources and, in a source, of a hash of ids.
    """

    min_side: int = 0
    max_aspect: float = 0.0
    min_characters: int = 0
    max_characters: int = 0
    forbidden: tuple[str, ...] = ()
    near_duplicates: bool = False

    @staticmethod
    def of(settings: Mapping[str, Any] | ConfigDict) -> Filters:
        """Raises UserError for unknown or invalid settings."""
        given = plain(settings) if settings else {}
        known = [field.name for field in dataclasses.fields(Filters)]
        for name in given:
            if name not in known:
                raise UserError(f"config.data.filters has no {name!r}: it has {', '.join(known)}")
        filters = Filters(**{**given, "forbidden": tuple(given.get("forbidden", ()))})
        for name in ("min_side", "max_aspect", "min_characters", "max_characters"):
            if getattr(filters, name) < 0:
                raise UserError(f"config.data.filters.{name}={getattr(filters, name)} must be at least 0")
        if 0 < filters.max_aspect < 1:
            raise UserError(
                f"config.data.filters.max_aspect={filters.max_aspect} keeps nothing: it is longer over shorter side, "
                "so give at least 1"
            )
        if 0 < filters.max_characters < filters.min_characters:
            raise UserError(
                f"config.data.filters: max_characters={filters.max_characters} is below "
                f"min_characters={filters.min_characters}, so no caption is kept"
            )
        for pattern in filters.forbidden:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(
                    f"config.data.filters.forbidden: {pattern!r} is not a regular expression ({error})"
                ) from error
        return filters

    def __bool__(self) -> bool:
        return self != Filters()

    def keep(self, record: Record, counts: Counter[str]) -> Record | None:
        """The record, perhaps with fewer captions; None if it is dropped. Counts what was dropped, by reason."""
        short, long = sorted((record.width, record.height))
        if short < self.min_side:
            counts["min_side"] += 1
            return None
        if self.max_aspect and long > self.max_aspect * short:
            counts["max_aspect"] += 1
            return None
        if not (self.min_characters or self.max_characters or self.forbidden):
            return record
        captions = {}
        for language, texts in record.captions.items():
            reasons = [self._refuses(text) for text in texts]
            counts.update(f"captions.{reason}" for reason in reasons if reason)
            if kept := [text for text, reason in zip(texts, reasons, strict=True) if not reason]:
                captions[language] = kept
        if not captions:
            counts["no_caption_left"] += 1
            return None
        return record if captions == record.captions else dataclasses.replace(record, captions=captions)

    def _refuses(self, caption: str) -> str:
        if len(caption) < self.min_characters:
            return "min_characters"
        if self.max_characters and len(caption) > self.max_characters:
            return "max_characters"
        return "forbidden" if any(re.search(pattern, caption) for pattern in self.forbidden) else ""


def perceptual_hash(image: bytes) -> int:
    """64 bits that change little when an image is scaled or compressed again.

    The signs, about their median, of the 8 x 8 lowest frequencies of the image in grey at 32 x 32 (pHash, C. Zauner,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
    """
    from PIL import Image
    from scipy import fft

    grey = decode_image(image).convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = np.asarray(fft.dctn(np.asarray(grey, np.float64), type=2, norm="ortho"))[:8, :8].round(6)
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def bands(value: int) -> list[int]:
    """The pieces of a hash, each with its place, as numbers that tell all pieces of all places apart."""
    width = 64 // BANDS
    return [(place << width) | ((value >> (place * width)) & ((1 << width) - 1)) for place in range(BANDS)]


def near(hashes: Sequence[int]) -> list[int]:
    """Positions of the hashes that are near to an earlier one, itself near to one before it or not."""
    first = {}
    for position, value in enumerate(hashes):
        first.setdefault(value, position)
    distinct = np.fromiter(first, np.uint64, len(first))
    doubles = [position for position, value in enumerate(hashes) if first[value] != position]
    later = [
        first[int(value)]
        for place, value in enumerate(distinct)
        if place and (np.bitwise_count(distinct[:place] ^ value) <= DISTANCE).any()
    ]
    return sorted(doubles + later)

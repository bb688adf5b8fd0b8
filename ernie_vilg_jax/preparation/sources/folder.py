"""A folder of images (subfolders too) with captions, in one of four ways.

  captions.jsonl   one object a line: {"file": "cats/1.jpg", "zh": "一只猫", "en": ["a cat", "a small cat"]}
  captions.csv     a header line with the same names: file,zh,en
  1.txt            beside 1.jpg, one caption a line; or 1.caption
  10_cat/          a folder whose images have no captions beside them: its name without the number is their caption

metadata.jsonl and metadata.csv of Hugging Face count as captions.*. "caption" or "text" may stand for "zh" and "en": a
caption with Han characters is Chinese. A row may also give "concept" (what is held out together; default: its first
caption) and "objects" (see `Record`).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from ernie_vilg_jax.preparation.sources import pairs

_CAPTION_SUFFIXES = (".txt", ".caption")
_REPEATED = re.compile(r"(\d{1,3})_(.+)")
"""A folder as trainers of LoRAs name them: how often its images are repeated, and what they show."""


@dataclasses.dataclass(frozen=True)
class _Pair:
    file: str
    captions: dict[str, list[str]]
    concept: str
    objects: list[dict[str, Any]]


@dataclasses.dataclass
class FolderSource(pairs.Options):
    """Images below the folder `path`."""

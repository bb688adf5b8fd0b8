"""What reading users' images found: mismatches of images and captions, and probable mistakes in captions.

Sources are read in parts, perhaps by several processes. So findings are counts with a few examples, and those of all
parts are joined before they are reported.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from ernie_vilg_jax.errors import UserError

UNREAD = "images that are not PNG, JPEG or WebP and have to be converted"
NO_IMAGE, NO_CAPTION = "captions without an image", "images without a caption"
UNDECODABLE = "images that cannot be decoded"
KINDS = (NO_IMAGE, UNREAD, NO_CAPTION, UNDECODABLE)
"""Mismatches, in the order of a report."""
_SHOWN = 3
_OTHER_LETTERS = re.compile(
    r"[\u0370-\u1dff\u2c00-\u2dff\u3040-\u30ff\u3130-\u318f\ua490-\uabff\uac00-\ud7af\ufb1d-\ufdff\ufe70-\ufefc]"
)
"""Letters that are neither Latin nor Han: Greek to Georgian, kana, Hangul."""
_ACCENTED = re.compile(r"[À-ÖØ-öø-ɏḀ-ỿ]")
_MANY = 0.05
"""Above this share of captions with accents, they are not just loan words in English."""


@dataclasses.dataclass
class Findings:
    """Counts of mismatches by kind, with the first names, and of captions; `plain` and `join` for many processes.

    Attributes:
      mismatches: kind -> [count, first names].
      images: with captions.
      english: captions that count as English; `other`, `accented`: those of them with other letters, as
        [count, the first or none].
      distinct: up to two different captions.
    """

    mismatches: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    images: int = 0
    english: int = 0
    other: list[Any] = dataclasses.field(default_factory=lambda: [0, []])
    accented: list[Any] = dataclasses.field(default_factory=lambda: [0, []])
    distinct: list[str] = dataclasses.field(default_factory=list)

    def mismatch(self, kind: str, *names: str) -> None:
        _count(self.mismatches.setdefault(kind, [0, []]), len(names), names, _SHOWN)

    def captions(self, captions: Mapping[str, Sequence[str]]) -> None:
        """Those of one image."""
        self.images += 1
        for text in captions.get("en", ()):
            self.english += 1
            if 2 * len(_OTHER_LETTERS.findall(text)) > len("".join(text.split())):
                _count(self.other, 1, [text], 1)
            if _ACCENTED.search(text):
                _count(self.accented, 1, [text], 1)
        if len(self.distinct) < 2:
            for found in captions.values():
                self._tell_apart(found)

    def _tell_apart(self, captions: Sequence[str]) -> None:
        self.distinct = list(dict.fromkeys([*self.distinct, *captions]))[:2]

    def plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def join(self, other: Mapping[str, Any]) -> None:
        """Adds the `plain` findings of another part."""
        for kind, (count, names) in other["mismatches"].items():
            _count(self.mismatches.setdefault(kind, [0, []]), count, names, _SHOWN)
        self.images += other["images"]
        self.english += other["english"]
        _count(self.other, other["other"][0], other["other"][1], 1)
        _count(self.accented, other["accented"][0], other["accented"][1], 1)
        self._tell_apart(other["distinct"])

    def _mismatches(self) -> str:
        found = []
        for kind in KINDS:
            count, names = self.mismatches.get(kind, (0, ()))
            if count:
                found.append(f"{count} {kind} ({', '.join(names)}{', ...' if count > len(names) else ''})")
        return "; ".join(found)

    def refuse(self, where: str, on_mismatch: str) -> None:
        """Raises a UserError that lists the mismatches, unless they are to be skipped."""
        if on_mismatch != "skip" and (text := self._mismatches()):
            raise UserError(f"{where}: {text}: complete or remove them, or leave them out with --on_mismatch=skip")

    def report(self, where: str) -> None:
        """Logs what was left out, and probable mistakes that training accepts: other languages, one caption for all.

        Raises UserError if there are no captions at all.
        """
        if text := self._mismatches():
            logging.warning("%s: left out", f"{where}: {text}")
        if not self.images:
            raise UserError(f"{where} holds no image with a caption: check what is in it")
        count, first = self.other
        if self.accented[0] > _MANY * self.english:
            count, first = count + self.accented[0], first or self.accented[1]
        if count:
            logging.warning(
                "%s: captions in neither Chinese nor English, to judge by their letters: %d, such as %r; they count as "
                "English ones, so leave them out if that is not meant",
                *(where, count, first[0][:60]),
            )
        if self.images > 1 and len(self.distinct) == 1:
            logging.warning(
                "%s: all %d images have the same caption, %r, so that a model learns nothing else to ask for",
                *(where, self.images, self.distinct[0][:60]),
            )


def _count(found: list[Any], count: int, names: Sequence[str], most: int) -> None:
    found[0] += count
    found[1] = [*found[1], *names][:most]

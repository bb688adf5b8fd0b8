"""Detectors, which find the objects in an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from PIL import Image

from ernie_vilg_jax import registry


class Detection(NamedTuple):
    """One object.

    Attributes:
      name: language -> name, in at least one language.
      box: x0, y0, x1, y1 as fractions of the image, in [0, 1].
      score: in [0, 1].
    """

    name: dict[str, str]
    box: tuple[float, float, float, float]
    score: float

    def as_object(self) -> dict[str, Any]:
        """In the format of a record's objects."""
        return {"name": dict(self.name), "box": [float(value) for value in self.box], "score": float(self.score)}


class Detector(Protocol):
    """Finds objects in images. Equal images and ids give equal detections, whatever else is in the call."""

    def detect(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[list[Detection]]:
        """The objects of each image; `ids` are those of the records."""
        ...


DETECTORS: dict[str, str] = {
    "transformers": "ernie_vilg_jax.annotation.detectors.hub:HubDetector",
    "boxes": "ernie_vilg_jax.annotation.detectors.box_files:BoxFiles",
}
"""Detector name -> "module:class". Keeping the existing boxes of records needs no detector."""


def make_detector(name: str, **options: Any) -> Detector:
    """Builds a detector of `DETECTORS` from its options."""
    return registry.build("detector", DETECTORS, name, options)


def detection(name: dict[str, str], box: Sequence[float], score: float) -> Detection | None:
    """A detection with its box clipped to the image, or None if nothing of the box remains.

    Numbers are rounded to five digits: more is numerical noise, which differs from machine to machine.
    """
    if not all(map(math.isfinite, (*box, score))):
        return None
    x0, y0, x1, y1 = (round(min(max(float(value), 0.0), 1.0), 5) for value in box)
    if x1 <= x0 or y1 <= y0:
        return None
    return Detection(name, (x0, y0, x1, y1), round(min(max(float(score), 0.0), 1.0), 5))

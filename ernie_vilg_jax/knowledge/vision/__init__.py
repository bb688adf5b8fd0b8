"""Objects in pictures: detectors, and which objects are salient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from PIL import Image

from ernie_vilg_jax.knowledge import registry
from ernie_vilg_jax.knowledge.weights import clip_boxes


class Detection(NamedTuple):
    """One object.

    Attributes:
      name: language -> name, in at least one language.
      box: x0, y0, x1, y1 as fractions of the picture, in [0, 1].
      score: in [0, 1].
    """

    name: dict[str, str]
    box: tuple[float, float, float, float]
    score: float

    def as_object(self) -> dict[str, Any]:
        """As it stands in a record's objects."""
        return {"name": dict(self.name), "box": list(self.box), "score": self.score}


class Detector(Protocol):
    """Finds objects in pictures. Equal pictures and ids give equal detections, whatever else is in the call."""

    def detect(self, images: Sequence[Image.Image], ids: Sequence[str]) -> list[list[Detection]]:
        """The objects of each picture; `ids` are those of the records."""
        ...


DETECTORS: dict[str, str] = {
    "transformers": "ernie_vilg_jax.knowledge.vision.hub:HubDetector",
    "boxes": "ernie_vilg_jax.knowledge.vision.boxes:BoxFiles",
}
"""Detector name -> "module:class". Keeping the boxes that records carry already needs no detector."""


def make_detector(name: str, **options: Any) -> Detector:
    """Builds a detector of `DETECTORS` from its options."""
    return registry.build("detector", DETECTORS, name, options)


def detection(name: dict[str, str], box: Sequence[float], score: float) -> Detection | None:
    """A detection with its box cut to the picture, or None when nothing of the box remains.

    Numbers are rounded to five digits: more is noise of the arithmetic, and would differ from machine to machine.
    """
    if not all(map(math.isfinite, (*box, score))):
        return None
    x0, y0, x1, y1 = (round(min(max(float(value), 0.0), 1.0), 5) for value in box)
    if x1 <= x0 or y1 <= y0:
        return None
    return Detection(name, (x0, y0, x1, y1), round(min(max(float(score), 0.0), 1.0), 5))


def salient(objects: Sequence[Mapping[str, Any]], *, min_score: float = 0.5, top_k: int = 5) -> list[int]:
    """Which objects get more weight in the loss and belong in the caption, as in the paper.

    Args:
      objects: those of a record; one without a score counts as certain.
      min_score: only objects that score higher count.
      top_k: at most so many.

    Returns:
      Indices by area x score, largest first, earlier first when equal. Objects without area are left out.
    """
    ranked: list[tuple[float, int]] = []
    for index, item in enumerate(objects):
        score = item.get("score", 1.0)
        # Not greater, when it is no number either.
        if not isinstance(score, int | float) or not score > min_score:
            continue
        for x0, y0, x1, y1 in clip_boxes([item.get("box", ())]):
            ranked.append((-(x1 - x0) * (y1 - y0) * score, index))
    return [index for _, index in sorted(ranked)[:top_k]]

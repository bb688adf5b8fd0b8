"""From boxes of salient objects to the weight of each cell in the denoising loss.

    box in the image --crop_boxes--> box in the crop --weight_map--> 1 + w_l * coverage, per latent cell

The visual knowledge of the paper, w_l = 0.1. This runs for every training sample: boxes are handled in Python, which is
faster for so few, and cells by NumPy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np

Box = Sequence[float]
"""x0, y0, x1, y1 as fractions of the image's width and height."""


def weight_map(boxes: Iterable[Box], size: tuple[int, int], weight: float) -> np.ndarray:
    """The loss weight of each cell.

    The boxes' edges cut the image into at most (2n-1)^2 rectangles, each entirely inside or outside the union. A cell's
    coverage is the sum of its overlaps with those inside. That is exact, however the boxes overlap.

    Args:
      boxes: n boxes as fractions of the image that the model sees (see `crop_boxes`). Parts outside it are cut off;
        boxes that are empty, inverted or not finite add nothing.
      size: (h, w), cells of the map.
      weight: w_l.

    Returns:
      [h, w] float32, 1 + weight * (share of the cell inside the union of the boxes).
    """
    height, width = size
    kept = clip_boxes(boxes)
    if not kept:
        return np.ones((height, width), np.float32)
    lefts, tops, rights, bottoms = zip(*kept, strict=True)
    across, inside_x = _cut(lefts, rights, width)
    down, inside_y = _cut(tops, bottoms, height)
    union = np.minimum(inside_y @ inside_x.T, 1.0)  # [ky, kx]
    coverage = np.minimum(down @ union @ across.T, 1.0)
    return (1.0 + weight * coverage).astype(np.float32)


def _cut(low: Sequence[float], high: Sequence[float], cells: int) -> tuple[np.ndarray, np.ndarray]:
    """One axis, cut at the boxes' edges into k pieces.

    Returns:
      [cells, k] share of each cell that each piece takes, and [k, n] 1.0 where a piece is inside a box.
    """
    edges = np.array(sorted({*low, *high}))
    ends = edges * cells
    left, right = _cells(cells)
    share = np.maximum(np.minimum(ends[1:], right) - np.maximum(ends[:-1], left), 0.0)
    inside = (edges[:-1, None] >= np.array(low)) & (edges[1:, None] <= np.array(high))
    return share, inside.astype(np.float64)


@functools.lru_cache(maxsize=64)
def _cells(count: int) -> tuple[np.ndarray, np.ndarray]:
    """[count, 1] left and right edges of the cells."""
    left = np.arange(count, dtype=np.float64)[:, None]
    return left, left + 1.0


def clip_boxes(boxes: Iterable[Box]) -> list[tuple[float, float, float, float]]:
    """The boxes cut to the image, without those that are then empty or are not four finite numbers."""
    kept = []
    for box in boxes:
        if (numbers := _numbers(box)) is not None:
            x0, y0, x1, y1 = numbers
            x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)
            if x0 < x1 and y0 < y1:
                kept.append((x0, y0, x1, y1))
    return kept


def crop_boxes(
    boxes: Iterable[Box], left: float, top: float, wide: float, high: float, width: float, height: float
) -> list[tuple[float, float, float, float]]:
    """The boxes as fractions of a crop, one for each given, not cut off at its edges.

    Args:
      boxes: fractions of the original image; invalid ones become four NaNs.
      left, top, wide, high: the crop, in pixels of the original.
      width, height: pixels of the original.
    """
    cropped = []
    for box in boxes:
        x0, y0, x1, y1 = _numbers(box) or (math.nan,) * 4
        cropped.append(
            (
                (x0 * width - left) / wide,
                (y0 * height - top) / high,
                (x1 * width - left) / wide,
                (y1 * height - top) / high,
            )
        )
    return cropped


def _numbers(box: Box) -> tuple[float, float, float, float] | None:
    """The box, or None unless it is four finite numbers."""
    try:
        x0, y0, x1, y1 = box
        return (x0, y0, x1, y1) if math.isfinite(x0 + y0 + x1 + y1) else None
    except (TypeError, ValueError):
        return None

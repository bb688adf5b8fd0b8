"""Simple shapes drawn by our own code: nothing to download, so tests and first steps use them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

SUPERSAMPLING = 4


@dataclasses.dataclass(frozen=True)
class Name:
    """A thing's noun in both languages; `measure` is its Chinese measure word."""

    zh: str
    en: str
    measure: str


Point = tuple[float, float]


def _polygon(points: list[Point]) -> Callable[[Any, float], None]:
    """Draws a polygon given in the unit square."""
    return lambda draw, side: draw.polygon([(x * side, y * side) for x, y in points], fill=255)


def _around(corners: int, *, inner: float = 1.0, turn: float = -90.0) -> list[Point]:
    """Corners on a circle that fills the unit square; with `inner` < 1, a star with `corners` points."""
    points = []
    count = corners * (2 if inner < 1 else 1)
    for k in range(count):
        radius = 0.5 * (inner if inner < 1 and k % 2 else 1.0)
        angle = math.radians(turn + 360 * k / count)
        points.append((0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)))
    return points


def _circle(draw: Any, side: float) -> None:
    draw.ellipse((0, 0, side, side), fill=255)


def _ring(draw: Any, side: float) -> None:
    draw.ellipse((0, 0, side, side), fill=255)
    draw.ellipse((0.27 * side, 0.27 * side, 0.73 * side, 0.73 * side), fill=0)


def _crescent(draw: Any, side: float) -> None:
    draw.ellipse((0, 0, side, side), fill=255)
    draw.ellipse((0.3 * side, -0.1 * side, 1.2 * side, 0.8 * side), fill=0)


def _heart(draw: Any, side: float) -> None:
    points = []
    for k in range(200):  # the usual heart curve; its extent is [-16, 16] x [-17, 12]
        t = 2 * math.pi * k / 200
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append(((x + 16) / 32 * side, (12 - y) / 29 * side))
    draw.polygon(points, fill=255)


def _flower(draw: Any, side: float) -> None:
    for k in range(5):
        angle = math.radians(-90 + 72 * k)
        x, y, r = 0.5 + 0.27 * math.cos(angle), 0.52 + 0.27 * math.sin(angle), 0.21
        draw.ellipse(((x - r) * side, (y - r) * side, (x + r) * side, (y + r) * side), fill=255)
    draw.ellipse((0.4 * side, 0.42 * side, 0.6 * side, 0.62 * side), fill=0)


_CROSS: list[Point] = [
    *((0.33, 0), (0.67, 0), (0.67, 0.33), (1, 0.33), (1, 0.67), (0.67, 0.67)),
    *((0.67, 1), (0.33, 1), (0.33, 0.67), (0, 0.67), (0, 0.33), (0.33, 0.33)),
]

SHAPES: dict[str, tuple[Name, Callable[[Any, float], None]]] = {
    "circle": (Name("圆形", "circle", "个"), _circle),
    "square": (Name("正方形", "square", "个"), _polygon([(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)])),
    "triangle": (Name("三角形", "triangle", "个"), _polygon([(0.5, 0.04), (1.0, 0.93), (0.0, 0.93)])),
    "star": (Name("星星", "star", "颗"), _polygon(_around(5, inner=0.42))),
    "heart": (Name("爱心", "heart", "颗"), _heart),
    "ring": (Name("圆环", "ring", "个"), _ring),
    "cross": (
        Name("十字", "cross", "个"),
        _polygon(_CROSS),
    ),
    "rhombus": (Name("菱形", "rhombus", "个"), _polygon([(0.5, 0), (0.9, 0.5), (0.5, 1), (0.1, 0.5)])),
    "crescent": (Name("月牙", "crescent", "个"), _crescent),
    "flower": (Name("花", "flower", "朵"), _flower),
    "hexagon": (Name("六边形", "hexagon", "个"), _polygon(_around(6))),
    "arrow": (
        Name("箭头", "arrow", "个"),
        _polygon([(0, 0.34), (0.5, 0.34), (0.5, 0.08), (1, 0.5), (0.5, 0.92), (0.5, 0.66), (0, 0.66)]),
    ),
}


def shape_mask(shape: str, side: int) -> Any:
    """The shape's coverage as a Pillow "L" image of `side` x `side` pixels, anti-aliased."""
    from PIL import Image, ImageDraw

    large = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING), 0)
    SHAPES[shape][1](ImageDraw.Draw(large), side * SUPERSAMPLING - 1)
    return large.reduce(SUPERSAMPLING)

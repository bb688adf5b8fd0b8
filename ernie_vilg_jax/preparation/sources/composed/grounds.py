"""Backgrounds: plain colours, and planes of sky, grass, sand, snow, water and night with a little texture."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from ernie_vilg_jax.preparation.sources.composed.vocabulary import GROUNDS

VARIANTS = 32
"""Different backgrounds of each kind."""

Colours = tuple[tuple[int, int, int], ...]


@functools.cache
def ground(key: str, variant: int, size: int) -> Image.Image:
    """RGB [size, size]; equal arguments give the same object, so copy it before drawing on it."""
    painter, colours = GROUNDS[key].painter, GROUNDS[key].colours
    image = Image.new("RGB", (size, size), colours[0])
    if painter != "plain":
        image = _PAINTERS[painter](image, colours, random.Random(f"{key}/{variant}"))
    return image


def _gradient(image: Image.Image, colours: Colours) -> Image.Image:
    ramp = np.linspace(0, 1, image.height)[:, None, None]
    top, bottom = (np.asarray(colour, np.float32) for colour in colours)
    rows = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (image.height, image.width, 3))
    return Image.fromarray(rows.round().astype(np.uint8), "RGB")


def _sky(image: Image.Image, colours: Colours, draw: random.Random) -> Image.Image:
    image = _gradient(image, colours)
    pen, unit = ImageDraw.Draw(image), image.width / 64
    for _ in range(draw.randint(1, 3)):
        x, y = draw.uniform(0, 60) * unit, draw.uniform(2, 58) * unit
        for dx, r in ((-4, 2.2), (0, 3.2), (4, 2.4)):
            pen.ellipse([x + (dx - r) * unit, y - r * unit, x + (dx + r) * unit, y + r * unit], fill=(245, 250, 255))
    return image


def _night(image: Image.Image, colours: Colours, draw: random.Random) -> Image.Image:
    image = _gradient(image, colours)
    pen = ImageDraw.Draw(image)
    for _ in range(draw.randint(14, 26)):
        x, y = draw.randrange(image.width), draw.randrange(image.height)
        pen.rectangle([x, y, x + image.width // 80, y + image.width // 80], fill=(235, 235, 215))
    return image


def _flecks(shades: Colours, count: int, width: float, height: float) -> Callable[..., Image.Image]:
    """A painter of small strokes, `width` by `height` at 64 pixels."""

    def paint(image: Image.Image, colours: Colours, draw: random.Random) -> Image.Image:
        pen, unit = ImageDraw.Draw(image), image.width / 64
        for _ in range(count):
            x, y = draw.uniform(0, 64) * unit, draw.uniform(0, 64) * unit
            pen.rectangle([x, y, x + (width - 1) * unit, y + (height - 1) * unit], fill=draw.choice(shades))
        return image

    return paint


_PAINTERS: dict[str, Callable[..., Image.Image]] = {
    "sky": _sky,
    "night": _night,
    "grass": _flecks(((134, 196, 82), (148, 208, 94), (120, 184, 70)), 90, 1, 3),
    "sand": _flecks(((226, 205, 146), (248, 231, 184)), 80, 1, 1),
    "snow": _flecks(((255, 255, 255), (222, 232, 243)), 50, 2, 1),
    "water": _flecks(((190, 234, 242), (128, 200, 220)), 36, 6, 1),
}

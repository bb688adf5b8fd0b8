"""Styles that no art has, made by simple operations on images: pixels, watercolour and line drawings."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageChops, ImageFilter

PIXELS = 22
"""Large pixels per side of the pixel style."""
VARIANTS = 16
"""Different papers of watercolours."""


def pixelated(image: Image.Image) -> Image.Image:
    """RGB in PIXELS x PIXELS squares and few shades."""
    small = image.resize((PIXELS, PIXELS), Image.Resampling.BOX).point([round(v / 36) * 36 for v in range(256)] * 3)
    return small.resize(image.size, Image.Resampling.NEAREST)


def watercolour(image: Image.Image, variant: int) -> Image.Image:
    """RGB with uneven edges, uneven pigment, and the paper's grain."""
    shift, pigment, grain = _paper(variant, image.width)
    side = image.width
    y, x = np.mgrid[0:side, 0:side]
    warped = np.asarray(image)[np.clip(y + shift[0], 0, side - 1), np.clip(x + shift[1], 0, side - 1)]
    soft = np.asarray(Image.fromarray(warped).filter(ImageFilter.GaussianBlur(side / 120)), np.float32)
    paper = 252.0 - (252.0 - soft) * pigment[..., None] + grain[..., None]
    return Image.fromarray(np.clip(paper, 0, 255).astype(np.uint8), "RGB")


@functools.cache
def _paper(variant: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shift of each pixel int [2, side, side], share of pigment and grain, fp32 [side, side]."""
    rng = np.random.default_rng(variant)
    shift = np.stack([_noise(rng, 10, side) * side / 48 for _ in range(2)]).round().astype(np.int64)
    pigment = 0.8 + 0.2 * _noise(rng, 7, side)
    return shift, np.clip(pigment, 0.55, 1.0), 3.0 * _noise(rng, side, side)


def _noise(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise, about [-1, 1], fp32 [side, side], with `cells` bumps along a side."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), "F")
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def outlined(sprite: Image.Image, ink: tuple[int, int, int]) -> Image.Image:
    """RGBA: the edges of a sprite in one colour; the rest is transparent."""
    alpha = sprite.getchannel("A")
    padded = Image.new("L", (alpha.width + 2, alpha.height + 2))
    padded.paste(alpha, (1, 1))
    inner = padded.filter(ImageFilter.MinFilter(3)).crop((1, 1, alpha.width + 1, alpha.height + 1))
    grey = Image.new("L", sprite.size, 128)
    grey.paste(sprite.convert("L"), mask=alpha)
    lines = grey.filter(ImageFilter.FIND_EDGES).point([0 if v < 40 else min(255, 3 * (v - 40)) for v in range(256)])
    result = Image.new("RGBA", sprite.size, ink)
    result.putalpha(ImageChops.lighter(ImageChops.subtract(alpha, inner), ImageChops.multiply(lines, inner)))
    return result

"""Cut-out art of things at any size and in any colour; rendered once per process and style."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image

from ernie_vilg_jax.preparation.sources.emoji import MISDRAWN, RasterSet, icon_set, render_svg
from ernie_vilg_jax.preparation.sources.scenes import COLOURS
from ernie_vilg_jax.preparation.sources.shapes import SHAPES, shape_mask

SIDE = 96
"""Pixels at which emoji are rendered before they are scaled to their place."""


@functools.cache
def has_art(emoji: str, style: str) -> bool:
    """Whether a style draws this emoji, and as its name says."""
    return (style, emoji) not in MISDRAWN and icon_set(style).find(emoji) is not None


@functools.cache
def _art(emoji: str, style: str) -> Image.Image:
    """RGBA, cropped to what is visible, its longer side at most SIDE."""
    art = icon_set(style)
    icon = art.find(emoji)
    assert icon is not None
    if isinstance(art, RasterSet):
        image = Image.open(io.BytesIO(art.bytes(icon))).convert("RGBA")
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    else:
        png = render_svg(art.svg(icon).replace("currentColor", "#111111"), SIDE)
        image = Image.open(io.BytesIO(png)).convert("RGBA")
    return image.crop(image.getchannel("A").point([0] * 16 + [255] * 240).getbbox())


@functools.lru_cache(maxsize=8192)
def emoji_sprite(emoji: str, style: str, colour: str, side: int) -> Image.Image:
    """RGBA whose longer side is `side`; `colour` "" keeps the art's own."""
    art = _art(emoji, style)
    scale = side / max(art.size)
    size = max(1, round(art.width * scale)), max(1, round(art.height * scale))
    image = art.resize(size, Image.Resampling.LANCZOS)
    return tinted(image, COLOURS[colour][1]) if colour else image


@functools.lru_cache(maxsize=8192)
def shape_sprite(shape: str, colour: str, side: int) -> Image.Image:
    """RGBA [side, side] of a drawn shape."""
    assert shape in SHAPES
    image = Image.new("RGBA", (side, side), COLOURS[colour][1])
    image.putalpha(shape_mask(shape, side))
    return image


def tinted(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """Art in shades of one colour: its median brightness becomes the colour, lighter parts go towards white and
    darker ones
    towards black, so that lines and shading stay."""
    pixels = np.asarray(image).astype(np.float32)
    grey = pixels[..., :3] @ np.asarray([0.299, 0.587, 0.114], np.float32) / 255
    solid = pixels[..., 3] > 128
    middle = float(np.median(grey[solid])) if solid.any() else 0.5
    light = np.clip((grey - middle) / max(1 - middle, 0.15), 0, 1)[..., None] * 0.6
    dark = np.clip((middle - grey) / max(middle, 0.15), 0, 1)[..., None] * 0.6
    pixels[..., :3] = np.asarray(colour, np.float32) * (1 - light - dark) + 255 * light
    return Image.fromarray(pixels.round().astype(np.uint8), "RGBA")

"""Scenes to learn from: one to four things in rows, columns and groups, deformed as in images of a diffusion model.

Scene i depends on (seed, i) alone. Some things are made unrecognisable on purpose, and are labelled so.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from ernie_vilg_jax.evaluation.binding.nouns import PALETTE, SHAPE_NOUNS
from ernie_vilg_jax.evaluation.binding.sprites import NONE, Sprites
from ernie_vilg_jax.preparation.sources.scenes import COLOURS, GROUNDS

SIDE = 64
MOST = 4
"""Things in one scene."""
ROOM = 5
"""Transparent pixels around a sprite, into which it may be bent."""
EMPTY = -2
"""The noun of an unused place."""
ANY = -1
"""The colour of a thing that was not recoloured."""

Place = tuple[float, float, float]
"""Left, top and side, in fractions of the image."""


class Scene(NamedTuple):
    """uint8 [SIDE, SIDE, 3]; per place: box x0, y0, x1, y1 in [0, 1] fp32 [MOST, 4], noun and colour int16 [MOST]."""

    image: np.ndarray
    boxes: np.ndarray
    noun: np.ndarray
    colour: np.ndarray


def draw_scene(sprites: Sprites, seed: int, index: int) -> Scene:
    """Scene `index` of a seed."""
    rng = np.random.default_rng((seed, index))
    number = int(rng.choice([1, 2, 3, 4], p=[0.3, 0.34, 0.22, 0.14]))
    chosen, colours = _choose(sprites, rng, number)
    ground = GROUNDS[rng.integers(len(GROUNDS))] if rng.random() < 0.8 else tuple(rng.integers(205, 256, 3).tolist())
    canvas = Image.new("RGB", (SIDE, SIDE), ground)
    boxes, nouns = np.zeros((MOST, 4), np.float32), np.full(MOST, EMPTY, np.int16)
    colour_of = np.full(MOST, ANY, np.int16)
    for k, (sprite, colour, place) in enumerate(zip(chosen, colours, _places(rng, number), strict=True)):
        art, recognisable = _art(sprites, int(sprite), colour, rng)
        alpha = _paste(canvas, art, place)
        if alpha is None:
            continue
        boxes[k] = np.asarray(alpha, np.float32) / SIDE
        nouns[k] = sprites.noun[sprite] if recognisable else NONE
        colour_of[k] = colour
    if rng.random() < 0.2:
        canvas = _jpeg(canvas, int(rng.integers(25, 90)))
    return Scene(np.asarray(canvas), boxes, nouns, colour_of)


def _choose(sprites: Sprites, rng: np.random.Generator, number: int) -> tuple[np.ndarray, list[int]]:
    """Sprites of one look (masks or full colour), all equal in half of the scenes; and their colours."""
    known = sprites.noun != NONE
    plain = bool(rng.random() < 0.6) or not (known & ~sprites.plain).any()
    pool = np.flatnonzero(known & (sprites.plain == plain))
    shapes = np.flatnonzero(known & sprites.plain & (sprites.noun < len(SHAPE_NOUNS)))
    if plain and rng.random() < 0.4:
        pool = shapes
    others = np.flatnonzero(~known)
    chosen = rng.choice(pool, number, replace=number > len(pool))
    colours = rng.choice(len(PALETTE), number, replace=False).tolist()
    if rng.random() < 0.45:
        chosen[:] = chosen[0]
        colours = colours[:1] * number if rng.random() < 0.7 else colours
    for k in range(number):
        if len(others) and rng.random() < 0.08:
            chosen[k] = rng.choice(others)
    return chosen, [colour if sprites.plain[s] else ANY for s, colour in zip(chosen, colours, strict=True)]


def _places(rng: np.random.Generator, number: int) -> list[Place]:
    """Cells in a row, a column or a two by two group, a thing in each; in no particular order."""
    if number == 1:
        side = rng.uniform(0.3, 1.0)
        return [(rng.uniform(0, 1 - side), rng.uniform(0, 1 - side), side)]
    layout = rng.choice(["row", "column", "group"])
    if layout == "group" or (number == 4 and rng.random() < 0.6):
        cells = [(x, y) for x in (0, 1) for y in (0, 1)]
        places = []
        for k in rng.permutation(4)[:number]:
            side = rng.uniform(0.3, 0.48)
            x, y = ((cells[k][axis] * 0.5 + rng.uniform(0.01, 0.49 - side)) for axis in (0, 1))
            places.append((x, y, side))
        return places
    cell = 1 / number
    places = []
    common = rng.uniform(-0.15, 0.15)
    for k in rng.permutation(number):
        side = rng.uniform(0.74, 0.97) * cell
        along = k * cell + rng.uniform(0.01, 0.99 - side / cell) * cell
        across = 0.5 - side / 2 + common + rng.uniform(-0.12, 0.12)
        places.append((along, across, side) if layout == "row" else (across, along, side))
    return places


def _art(sprites: Sprites, sprite: int, colour: int, rng: np.random.Generator) -> tuple[Image.Image, bool]:
    """A sprite in its colour, slightly deformed; one of twelve beyond recognition."""
    pixels = sprites.pixels[sprite]
    if colour != ANY:
        shade = np.asarray(COLOURS[PALETTE[colour]][1]) + rng.integers(-14, 15) + rng.integers(-8, 9, 3)
        pixels = pixels.copy()
        pixels[..., :3] = np.clip(shade, 0, 255)
    recognisable = rng.random() >= 1 / 12
    if not recognisable:
        pixels = _spoiled(pixels, sprites.pixels[rng.choice(np.flatnonzero(sprites.noun != sprites.noun[sprite]))], rng)
    image = ImageOps.expand(Image.fromarray(pixels, "RGBA"), ROOM, (0, 0, 0, 0))
    return _wobbled(image, rng, 0.0 if rng.random() < 0.3 else 0.07), recognisable


def _spoiled(pixels: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Quarters in a wrong order, or cross-faded with another thing, or melted."""
    kind = rng.integers(3)
    half = pixels.shape[0] // 2
    if kind == 0:
        quarters = [pixels[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
        order = rng.permutation(4)
        if (order == np.arange(4)).sum() > 1:
            order = np.roll(np.arange(4), 1)
        a, b, c, d = (quarters[k][:: int(rng.choice([-1, 1]))] for k in order)
        return np.concatenate([np.concatenate([a, b], 1), np.concatenate([c, d], 1)], 0)
    if kind == 1:
        return ((pixels.astype(np.float32) + other) / 2).astype(np.uint8)
    melted = _wobbled(Image.fromarray(pixels, "RGBA"), rng, 0.33)
    return np.asarray(_wobbled(melted, rng, 0.33))


def _wobbled(image: Image.Image, rng: np.random.Generator, amount: float) -> Image.Image:
    """Bent: a mesh of two by two quadrilaterals with its nine corners moved by up to `amount` of the side."""
    if not amount:
        return image
    side = image.width
    grid = np.stack(np.meshgrid([0, side / 2, side], [0, side / 2, side], indexing="ij"), -1)
    moved = grid + rng.uniform(-amount, amount, grid.shape) * side
    mesh = []
    for i in (0, 1):  # column
        for j in (0, 1):  # row
            target = (i * side // 2, j * side // 2, (i + 1) * side // 2, (j + 1) * side // 2)
            corners = (moved[i, j], moved[i, j + 1], moved[i + 1, j + 1], moved[i + 1, j])
            mesh.append((target, tuple(float(v) for corner in corners for v in corner)))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def _paste(canvas: Image.Image, art: Image.Image, place: Place) -> tuple[int, int, int, int] | None:
    """Pastes a thing; the box of its pixels, or None if none is visible."""
    left, top, side = place
    scale = art.width / (art.width - 2 * ROOM)
    pixels = max(6, round(side * scale * SIDE))
    left, top = left - (scale - 1) / 2 * side, top - (scale - 1) / 2 * side
    small = art.resize((pixels, pixels), Image.Resampling.LANCZOS)
    layer = Image.new("L", canvas.size, 0)
    at = (round(left * SIDE), round(top * SIDE))
    layer.paste(small.getchannel("A"), at)
    box = layer.point([0] * 32 + [255] * 224).getbbox()
    canvas.paste(small.convert("RGB"), at, small.getchannel("A"))
    return box


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")

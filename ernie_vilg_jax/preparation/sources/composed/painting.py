"""A plan becomes an image and the box of each thing in it."""

from __future__ import annotations

import functools
import random

from PIL import Image, ImageDraw

from ernie_vilg_jax.preparation.sources.composed.effects import VARIANTS, outlined, pixelated, watercolour
from ernie_vilg_jax.preparation.sources.composed.grounds import VARIANTS as GROUND_VARIANTS
from ernie_vilg_jax.preparation.sources.composed.grounds import ground
from ernie_vilg_jax.preparation.sources.composed.layout import Box
from ernie_vilg_jax.preparation.sources.composed.plans import Part, Plan
from ernie_vilg_jax.preparation.sources.composed.sprites import emoji_sprite, has_art, shape_sprite
from ernie_vilg_jax.preparation.sources.composed.vocabulary import ART, FIRE, HEADWEAR, THINGS
from ernie_vilg_jax.preparation.sources.scenes import COLOURS

VISIBLE = [0] * 32 + [255] * 224
"""Alpha from which on a pixel belongs to a thing."""
INK = (30, 30, 34)


def paint(plan: Plan, size: int, draw: random.Random) -> tuple[Image.Image, list[list[Box]]]:
    """RGB [size, size], and for each part the boxes (left, top, right, bottom in [0, 1]) of its things.

    Boxes are those of the visible pixels before an effect; "pixel" and "watercolour" move edges by up to a 22nd
    of the side.
    """
    canvas = ground(plan.ground, draw.randrange(GROUND_VARIANTS), size).copy()
    boxes: list[list[Box]] = []
    for part in reversed(plan.parts):  # the first of a riding pair is in front
        sprites = [_sprite(part, plan, max(6, round(side * size))) for _, _, side in part.places]
        mine = []
        for sprite, (x, y, side) in zip(sprites, part.places, strict=True):
            at = round(x * size + (side * size - sprite.width) / 2), round(y * size + (side * size - sprite.height) / 2)
            if plan.relation == "on":
                at = _riding(at, sprite, size, boxes)
            canvas.paste(sprite, at, sprite)
            box = sprite.getchannel("A").point(VISIBLE).getbbox()
            assert box is not None
            edges = (at[0] + box[0], at[1] + box[1], at[0] + box[2], at[1] + box[3])
            left, top, right, bottom = (min(max(edge / size, 0.0), 1.0) for edge in edges)
            mine.append((left, top, right, bottom))
        boxes.append(mine)
    if plan.look == "pixel":
        canvas = pixelated(canvas)
    elif plan.look == "watercolour":
        canvas = watercolour(canvas, draw.randrange(VARIANTS))
    return canvas, boxes[::-1]


def _riding(at: tuple[int, int], sprite: Image.Image, size: int, boxes: list[list[Box]]) -> tuple[int, int]:
    """A mount stands at the bottom; its rider's feet are a quarter of the rider below the mount's upper edge."""
    if not boxes:
        return at[0], round(0.97 * size) - sprite.height
    return at[0], max(0, round(boxes[0][0][1] * size) - round(0.72 * sprite.height))


def _sprite(part: Part, plan: Plan, side: int) -> Image.Image:
    """The thing with its trait, its longer side `side`."""
    thing = THINGS[part.thing]
    if thing.shape:
        sprite = shape_sprite(thing.shape, part.colour, side)
    else:
        sprite = emoji_sprite(thing.noun.emoji, plan.art, part.colour, side)
    ink = COLOURS[part.colour][1] if part.colour else INK
    if plan.look == "outline":
        sprite = outlined(sprite, ink)
    if part.trait == "smile":
        sprite = _smiling(sprite, part, plan)
    elif part.trait == "fire":
        sprite = _topped(sprite, FIRE, "", 0.62, 0.55, plan, side)
    elif part.trait:
        emoji = HEADWEAR[part.trait][0]
        sprite = _topped(sprite, emoji, part.trait_colour, 0.58, 0.3, plan, side)
    return sprite


def _topped(
    sprite: Image.Image, emoji: str, colour: str, width: float, overlap: float, plan: Plan, side: int
) -> Image.Image:
    """With another emoji at the top, `width` of its own wide, of which `overlap` covers it; fitted into `side`."""
    style = plan.art if has_art(emoji, plan.art) else next(style for style in ART if has_art(emoji, style))
    top = emoji_sprite(emoji, style, colour, max(4, round(width * sprite.width)))
    if plan.look == "outline":
        top = outlined(top, COLOURS[colour][1] if colour else INK)
    above = round(top.height * (1 - overlap))
    whole = Image.new("RGBA", (max(sprite.width, top.width), sprite.height + above))
    whole.paste(sprite, ((whole.width - sprite.width) // 2, above))
    whole.alpha_composite(top, ((whole.width - top.width) // 2, 0))
    scale = side / max(whole.size)
    return whole.resize((max(1, round(whole.width * scale)), max(1, round(whole.height * scale))), _LANCZOS)


_LANCZOS = Image.Resampling.LANCZOS


def _smiling(sprite: Image.Image, part: Part, plan: Plan) -> Image.Image:
    """With two eyes and a mouth in its middle."""
    light = part.colour in ("black", "brown", "purple", "blue") and plan.look != "outline"
    face = _face(round(0.5 * min(sprite.size)), (255, 255, 255) if light else INK)
    result = sprite.copy()
    result.alpha_composite(face, ((sprite.width - face.width) // 2, round(sprite.height * 0.54 - face.height / 2)))
    return result


@functools.cache
def _face(side: int, ink: tuple[int, int, int]) -> Image.Image:
    large = 4 * side
    image = Image.new("L", (large, large))
    pen = ImageDraw.Draw(image)
    for x in (0.24, 0.76):
        pen.ellipse([(x - 0.11) * large, 0.12 * large, (x + 0.11) * large, 0.4 * large], fill=255)
    pen.arc(
        [0.12 * large, 0.16 * large, 0.88 * large, 0.9 * large], 20, 160, fill=255, width=max(1, round(0.11 * large))
    )
    face = Image.new("RGBA", (side, side), ink)
    face.putalpha(image.resize((side, side), _LANCZOS))
    return face

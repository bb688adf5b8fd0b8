"""The examples that raters begin with: simple drawings, one for each kind of answer."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ernie_vilg_jax.evaluation.study.design import Side, Trial

SIDE = 512
"""Pixels."""
MODEL = 0
"""The number that stands for these drawings among the models."""


class Example(NamedTuple):
    """A comparison of two drawings with the right answers."""

    en: str
    zh: str
    left: Callable[[], Image.Image]
    right: Callable[[], Image.Image]
    expected: tuple[str, str]


def _drawn(shape: str, colour: str) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), "#f4efe6")
    draw = ImageDraw.Draw(image)
    box = (SIDE // 5, SIDE // 5, SIDE * 4 // 5, SIDE * 4 // 5)
    if shape == "circle":
        draw.ellipse(box, colour)
    elif shape == "square":
        draw.rectangle(box, colour)
    else:
        draw.polygon([(SIDE // 2, box[1]), (box[2], box[3]), (box[0], box[3])], colour)
    return image


def _spoiled(image: Image.Image) -> Image.Image:
    """The same drawing, blurred and noisy."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(SIDE / 40)), np.float64)
    noise = np.random.default_rng(0).normal(0, 45, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


EXAMPLES = (
    Example(
        "a red circle", "一个红色的圆形", lambda: _drawn("circle", "#d13b3b"), lambda: _drawn("square", "#3b62d1"),
        ("left", "same"),
    ),
    Example(
        "a green triangle", "一个绿色的三角形", lambda: _spoiled(_drawn("triangle", "#2f9e55")),
        lambda: _drawn("triangle", "#2f9e55"), ("same", "right"),
    ),
    Example(
        "a blue square", "一个蓝色的正方形", lambda: _spoiled(_drawn("square", "#3b62d1")),
        lambda: _drawn("square", "#d13b3b"), ("left", "right"),
    ),
)  # fmt: skip


def trial(example: Example, item: int) -> tuple[Trial, Mapping[int, Callable[[], Image.Image]]]:
    """The trial of an example, and the drawings of its two items, `item` and `item + 1`."""
    left, right = item, item + 1
    drawings = {left: example.left, right: example.right}
    return Trial("practice", left, Side(left, MODEL), Side(right, MODEL), example.expected), drawings

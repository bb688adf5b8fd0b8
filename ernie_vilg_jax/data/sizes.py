"""The sizes of the images that a model is trained on, which of them an image gets, and which it may be asked for.

`config.data.sizes` lists them as (height, width) pairs; without it there is one, a square of `model.image_size`. An
image gets the size whose aspect is nearest to its own, and is cropped as little as that takes. Each size is a shape to
compile for, so a few are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ml_collections import ConfigDict

from ernie_vilg_jax.config import downsampling
from ernie_vilg_jax.errors import UserError


class Size(NamedTuple):
    """Pixels."""

    height: int
    width: int

    @property
    def aspect(self) -> float:
        return self.width / self.height

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


def sizes_of(config: ConfigDict) -> tuple[Size, ...]:
    """The sizes of a config. Raises UserError if they are not pairs that its autoencoder and U-Net can divide."""
    given = config.data.get("sizes") or ((config.model.image_size, config.model.image_size),)
    found, unit = [], unit_of(config)
    for pair in given:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
            raise UserError(
                f"--config.data.sizes has {pair!r}, which is not a height and a width in pixels: give pairs such as "
                "((1024, 1024), (1536, 1024))"
            )
        size = Size(*pair)
        if config.data.get("sizes") and (size.height % unit or size.width % unit):
            raise UserError(
                f"--config.data.sizes has {size}, but height and width must be multiples of {unit} (autoencoder and "
                "levels of the U-Net)"
            )
        found.append(size)
    if len(set(found)) < len(found):
        raise UserError(f"--config.data.sizes names a size twice: {', '.join(map(str, found))}")
    return tuple(found)


def unit_of(config: ConfigDict) -> int:
    """Height and width of images are multiples of this many pixels, for the autoencoder and the levels of the U-Net."""
    return downsampling(config) * 2 ** (len(config.model.unet.channel_multipliers) - 1)


@dataclass(frozen=True)
class Sizes:
    """The sizes that a model can make.

    Attributes:
      trained: those that it was trained on; the first is the default.
      unit: what height and width must be multiples of.
    """

    trained: tuple[Size, ...]
    unit: int

    @staticmethod
    def of(config: ConfigDict) -> Sizes:
        return Sizes(sizes_of(config), unit_of(config))

    def choose(self, height: int = 0, width: int = 0, like: tuple[float, float] | None = None) -> Size:
        """The size of an image that is to have this height and width; 0 leaves a side to the model.

        `like` is the width and height of an image to begin from: then what is left open is as in the trained size of
        the nearest aspect, and otherwise as in the default. Raises UserError if the model cannot make that size.
        """
        usual = self.trained[0] if like is None else self.trained[nearest(self.trained, *like)]
        for name, side in (("height", height), ("width", width)):
            if side % self.unit:
                below = side - side % self.unit
                near = f"{below + self.unit} is" if not below else f"{below} and {below + self.unit} are"
                raise UserError(
                    f"{name}={side} must be a multiple of {self.unit} (autoencoder and levels of the U-Net): {near} "
                    "the nearest"
                )
        return Size(height or usual.height, width or usual.width)


def smallest_side(config: ConfigDict) -> int:
    """Images with a smaller side are left out of training."""
    least = config.data.get("smallest_side", 0)
    if least < 0:
        raise UserError(f"--config.data.smallest_side={least} must not be negative; 0 takes every image")
    return least


def nearest(sizes: Sequence[Size], width: float, height: float) -> int:
    """The place in `sizes` of the one whose aspect is nearest to that of an image; the first of equally near ones."""
    aspect = math.log(width / height)
    return min(range(len(sizes)), key=lambda place: abs(math.log(sizes[place].aspect) - aspect))

"""From the image of a record to the pixels that a model sees: decoded, cropped to one of the sizes, resized."""

from __future__ import annotations

import dataclasses

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.data.sizes import Size, nearest, sizes_of
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.images import MOST_ZOOM, Crop, cut, decode_image, draw_crop

SPARE = 2.0
"""JPEGs are decoded at this many times the size that is needed, or more: at the next 1/2, 1/4 or 1/8 above it."""


@dataclasses.dataclass(frozen=True)
class Viewer:
    """How images are cropped.

    Attributes:
      sizes: an image gets the one of the nearest aspect.
      random: whether crops are drawn, instead of central.
    """

    sizes: tuple[Size, ...]
    random: bool

    @staticmethod
    def of(config: ConfigDict, *, train: bool) -> Viewer:
        """`train` False: central squares."""
        crop = config.data.get("crop", "center")
        if crop not in ("center", "random"):
            raise UserError(f"config.data.crop={crop!r} must be 'center' or 'random'")
        square = Size(config.model.image_size, config.model.image_size)
        return Viewer(sizes_of(config) if train else (square,), train and crop == "random")

    def size_for(self, whole: tuple[float, float]) -> Size:
        """The size of what is made of an image that is `whole` wide and high."""
        return self.sizes[nearest(self.sizes, *whole)]

    def decode(self, record: Record) -> Image.Image:
        """The image of a record, at the size that is needed or above it. Raises ValueError if it cannot be decoded."""
        share = 1.0
        if record.width and record.height:
            size = self.size_for((record.width, record.height))
            zoom = MOST_ZOOM if self.random else 1.0
            share = SPARE * zoom * size.width / min(record.width, record.height * size.aspect)
        return decode_image(record.image, share)

    def draw(self, image: Image.Image, rng: np.random.Generator) -> Crop:
        """A crop of an image. Takes three draws if crops are random, none otherwise."""
        return draw_crop(*image.size, rng if self.random else None, self.size_for(image.size).aspect)

    def pixels(self, image: Image.Image, crop: Crop) -> np.ndarray:
        """[height, width, 3] uint8 of the image's size."""
        return cut(image, crop, *self.size_for(image.size))

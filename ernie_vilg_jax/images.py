"""Images: bytes and arrays to PIL and back, crops, and the masks of inpainting.

Every module that turns pixels into numbers or numbers into pixels calls this one.
"""

import io
import os
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from ernie_vilg_jax.errors import UserError


class Crop(NamedTuple):
    """A square of a picture, in its pixels."""

    left: float
    top: float
    side: float


def to_uint8(images: Any) -> np.ndarray:
    """[-1, 1] floats -> 0..255."""
    return np.asarray(np.clip((np.asarray(images, np.float32) + 1.0) * 127.5 + 0.5, 0, 255), np.uint8)


def to_array(image: Image.Image) -> np.ndarray:
    """[H, W, 3] float32 in [-1, 1] of an RGB picture."""
    return np.asarray(image, np.float32) / 127.5 - 1.0


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file, all its pixels read. Raises ValueError that says why there is none."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError as error:
        raise ValueError("it is no picture, or a damaged one") from error
    except OSError as error:
        raise ValueError(error.strerror or f"it is damaged ({error})") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ValueError(f"it has more pixels than can be handled, which is {limit:.0f} million") from error
    except Exception as error:  # Pillow raises many types on damaged files
        raise ValueError(f"it is damaged ({error})") from error


def decode_image(data: bytes) -> Image.Image:
    """Encoded bytes -> Pillow RGB image, turned upright, transparency laid on white. ValueError if undecodable."""
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        if image.mode == "RGB":
            image.load()
            return image
        image = image.convert("RGBA")
    except Exception as error:  # Pillow raises many types on damaged files
        raise ValueError(str(error) or type(error).__name__) from error
    ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def encode_png(image: Image.Image, *, optimize: bool = False) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=optimize)
    return buffer.getvalue()


def draw_crop(width: int, height: int, rng: np.random.Generator | None) -> Crop:
    """The central square, or with `rng` a random one of up to 15% zoom."""
    zoom = 1.0 if rng is None else float(rng.uniform(1.0, 1.15))
    side = min(width, height) / zoom
    x, y = (0.5, 0.5) if rng is None else (float(rng.random()), float(rng.random()))
    return Crop((width - side) * x, (height - side) * y, side)


def cut_square(image: Any, crop: Crop, size: int) -> np.ndarray:
    """The square of a Pillow image, resized: [size, size, 3] uint8 (of an image in grey, [size, size])."""
    left, top, side = crop
    if image.size != (size, size) or side != size:
        box = (left, top, left + side, top + side)
        image = image.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return np.asarray(image, np.uint8)


def square(image: Any, size: int) -> Image.Image:
    """The central square of a picture of any mode and shape, as in training: RGB, upright, on white, size x size."""
    image = _checked("image", image)
    if image.mode.startswith("I"):  # 16 bits; Pillow would cut them off at 255
        image = Image.fromarray(np.clip(np.asarray(image, np.float32) / 257, 0, 255).astype(np.uint8))
    if image.mode != "RGB":
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return Image.fromarray(cut_square(image, draw_crop(image.width, image.height, None), size))


def square_mask(mask: Any, image: Image.Image, size: int) -> np.ndarray:
    """What of the square of `image` is to be painted anew, [size, size] float32: 1 where the mask is white, 0 at black.

    Raises UserError where the mask is not as large as the picture, or has no white in the square.
    """
    mask = _checked("mask", mask)
    if mask.size != _checked("image", image).size:
        raise UserError(
            f"the mask is {_times(mask.size)} pixels and the image {_times(image.size)}: they must be of one size"
        )
    if mask.mode not in ("1", "L"):
        ground = Image.new("RGBA", mask.size, "black")
        mask = Image.alpha_composite(ground, mask.convert("RGBA"))
    pixels = cut_square(mask.convert("L"), draw_crop(mask.width, mask.height, None), size)
    share = pixels.astype(np.float32) / 255
    if share.max() < 0.5:
        raise UserError("the mask has no white in the picture's central square: paint white what is to be made anew")
    return share


def known_cells(mask: np.ndarray, downsampling: int) -> np.ndarray:
    """[h, w] float32: 1 for latents whose pixels are all known, 0 where any of them is to be painted anew."""
    size = len(mask) // downsampling
    return (mask.reshape(size, downsampling, size, downsampling).max((1, 3)) < 0.5).astype(np.float32)


def paste(known: Image.Image, made: Image.Image, mask: np.ndarray) -> Image.Image:
    """`made` where the mask is 1, `known` where it is 0, exactly; the edge is softened towards the inside."""
    blurred = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(len(mask) / 128))
    soft = np.minimum(mask, np.asarray(blurred, np.float32) / 255)[..., None]
    mixed = np.asarray(made, np.float32) * soft + np.asarray(known, np.float32) * (1 - soft)
    return Image.fromarray(np.asarray(np.rint(mixed), np.uint8))


def _checked(name: str, image: Any) -> Image.Image:
    if not isinstance(image, Image.Image):
        raise UserError(
            f"the {name} must be a PIL image, but is a {type(image).__name__}; open files with PIL.Image.open(path), "
            "and make arrays of bytes into images with PIL.Image.fromarray(array)"
        )
    if not all(image.size):
        raise UserError(f"the {name} has no pixels ({_times(image.size)})")
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow reads pixels late, and raises many types on damaged files
        raise UserError(f"the {name} cannot be read: {error}; it is damaged or incomplete") from error


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"

"""Images: bytes and arrays to PIL and back, crops, and the masks of inpainting.

Every module that converts pixels to numbers or numbers to pixels uses this one.
"""

import contextlib
import functools
import io
import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageFilter, ImageOps, UnidentifiedImageError

from ernie_vilg_jax.errors import UserError

MOST_BYTES = 256 << 20
"""Limit for an encoded image: a larger one is probably a mistake."""
MOST_ZOOM = 1.15
"""Of random crops."""


class Crop(NamedTuple):
    """A rectangle of an image, in its pixels."""

    left: float
    top: float
    width: float
    height: float


def to_uint8(images: Any) -> np.ndarray:
    """[-1, 1] floats -> 0..255."""
    return np.asarray(np.clip((np.asarray(images, np.float32) + 1.0) * 127.5 + 0.5, 0, 255), np.uint8)


def to_array(image: Image.Image) -> np.ndarray:
    """[H, W, 3] float32 in [-1, 1] of an RGB image."""
    return np.asarray(image, np.float32) / 127.5 - 1.0


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image in a file, fully decoded. Raises ValueError with the reason if it cannot be read."""
    with _told(), Image.open(path) as image:
        image.load()
        return image


def decode_image(data: bytes, share: float = 1.0) -> Image.Image:
    """Encoded bytes -> `to_rgb` of the image in them. Raises ValueError with the reason if they cannot be decoded.

    A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, by the low frequencies of its blocks, as long as at least the
    `share` of its width and height is left. That takes less time, and differs slightly from shrinking all pixels.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has {len(data) >> 20} MB, and at most {MOST_BYTES >> 20} are read")
    with _told(), Image.open(io.BytesIO(data)) as image:
        if share < 1:
            image.draft(None, (math.ceil(image.width * share), math.ceil(image.height * share)))
        image.load()
        return to_rgb(image)


def to_rgb(image: Image.Image, ground: str = "white") -> Image.Image:
    """An image of any mode as a viewer shows it: 8-bit sRGB, upright, transparency composited on `ground`.

    Of an animation it is the current frame of `image`, the first if it was just opened. 16 bits are scaled to 8, and so
    are integers and floats beyond 255; floats up to 1 are scaled by 255. A colour profile is applied if it fits the
    image, and ignored if it is damaged.
    """
    image = ImageOps.exif_transpose(image)
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and transparent is None and "icc_profile" not in image.info:
        return image
    if image.mode[0] in "IF":
        image, transparent = _in_8_bits(image)
    elif image.mode in ("La", "RGBa"):  # premultiplied alpha
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    alpha = None
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
    elif isinstance(transparent, Image.Image):
        alpha = transparent
    colours = _in_srgb(image)
    if alpha is None:
        return colours
    colours.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), colours).convert("RGB")


def _in_8_bits(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A grey image of 16 or 32 bits in 8, and its transparency mask."""
    pixels = np.nan_to_num(np.asarray(image, np.float32))
    most = 65535.0 if image.mode.startswith("I;16") else float(pixels.max(initial=0.0))
    scale = 255.0 if image.mode == "F" and most <= 1 else 1.0 if most <= 255 else 1 / 257
    grey = Image.fromarray(np.asarray(np.clip(np.rint(pixels * scale), 0, 255), np.uint8))
    key = image.info.get("transparency")
    alpha = None if not isinstance(key, int) else Image.fromarray(np.asarray((pixels != key) * 255, np.uint8))
    return grey, alpha


def _in_srgb(image: Image.Image) -> Image.Image:
    """The colours of an image as RGB, by its profile if it has a readable one."""
    profile = image.info.get("icc_profile")
    plain = image.convert({"LA": "L", "P": "RGB", "PA": "RGB", "RGBA": "RGB"}.get(image.mode, image.mode))
    if profile is not None:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            changed = ImageCms.applyTransform(plain, _transform(profile, plain.mode))
            colours = plain if changed is None else changed
            colours.info.pop("icc_profile", None)  # it is applied
            return colours
    return plain.convert("RGB")


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform:
    """From a profile to sRGB. Cached: most images have one of few, and it takes longer than decoding."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turns Pillow's errors into ValueError with a readable reason."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError("it is no image, or a damaged one") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ValueError(f"it has more pixels than can be handled, which is {limit:.0f} million") from error
    except OSError as error:
        raise ValueError(error.strerror or f"it is damaged ({error})") from error
    except Exception as error:  # Pillow raises many types on damaged files
        raise ValueError(f"it is damaged ({str(error) or type(error).__name__})") from error


def encode_png(image: Image.Image, *, optimize: bool = False) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=optimize)
    return buffer.getvalue()


def draw_crop(width: int, height: int, rng: np.random.Generator | None, aspect: float = 1.0) -> Crop:
    """The largest central crop of `aspect` (width / height), or with `rng` a random one of up to 15% zoom."""
    zoom = 1.0 if rng is None else float(rng.uniform(1.0, MOST_ZOOM))
    wide, high = min(width, height * aspect) / zoom, min(height, width / aspect) / zoom
    x, y = (0.5, 0.5) if rng is None else (float(rng.random()), float(rng.random()))
    return Crop((width - wide) * x, (height - high) * y, wide, high)


def cut(image: Any, crop: Crop, height: int, width: int) -> np.ndarray:
    """The crop of a Pillow image, resized: [height, width, 3] uint8 ([height, width] for a grey image)."""
    left, top, wide, high = crop
    if image.size != (width, height) or (wide, high) != (width, height):
        box = (left, top, left + wide, top + high)
        image = image.resize((width, height), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
    return np.asarray(image, np.uint8)


def cut_square(image: Any, crop: Crop, size: int) -> np.ndarray:
    """The crop, resized to size x size."""
    return cut(image, crop, size, size)


def fitted(image: Any, height: int, width: int) -> Image.Image:
    """The central part of `to_rgb` of an image with the aspect of this size, as in training, at this size."""
    return Image.fromarray(_centre(upright("image", image), height, width))


def fitted_mask(mask: Any, image: Image.Image, height: int, width: int) -> np.ndarray:
    """The area of `fitted` of `image` to repaint, [height, width] float32: 1 where the mask is white, 0 at black.

    Raises UserError if the sizes of mask and image differ, or the mask has no white in that part.
    """
    mask = upright("mask", mask, "black")
    if mask.size != upright("image", image).size:
        raise UserError(
            f"the mask is {_times(mask.size)} pixels and the image {_times(image.size)}: they must be of one size"
        )
    share = _centre(mask.convert("L"), height, width).astype(np.float32) / 255
    if share.max() < 0.5:
        raise UserError(
            f"the mask has no white in the middle of the picture, of which {height}x{width} pixels are made: paint "
            "white what is to be made anew"
        )
    return share


def _centre(image: Image.Image, height: int, width: int) -> np.ndarray:
    return cut(image, draw_crop(image.width, image.height, None, width / height), height, width)


def known_cells(mask: np.ndarray, downsampling: int) -> np.ndarray:
    """[h, w] float32: 1 for latents whose pixels are all known, 0 where any of them is to be repainted."""
    height, width = (side // downsampling for side in mask.shape)
    return (mask.reshape(height, downsampling, width, downsampling).max((1, 3)) < 0.5).astype(np.float32)


def paste(known: Image.Image, made: Image.Image, mask: np.ndarray) -> Image.Image:
    """`made` where the mask is 1, `known` where it is 0, exactly; the edge is softened towards the inside."""
    blurred = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(min(mask.shape) / 128))
    soft = np.minimum(mask, np.asarray(blurred, np.float32) / 255)[..., None]
    mixed = np.asarray(made, np.float32) * soft + np.asarray(known, np.float32) * (1 - soft)
    return Image.fromarray(np.asarray(np.rint(mixed), np.uint8))


def check(name: str, image: Any) -> None:
    """Raises UserError if the argument `name` is not an image."""
    if not isinstance(image, Image.Image):
        raise UserError(
            f"the {name} must be a PIL image, but is a {type(image).__name__}; open files with PIL.Image.open(path), "
            "and make arrays of bytes into images with PIL.Image.fromarray(array)"
        )


def upright(name: str, image: Any, ground: str = "white") -> Image.Image:
    """`to_rgb` of the argument `name`. Raises UserError if it is not an image, or cannot be read."""
    check(name, image)
    if not all(image.size):
        raise UserError(f"the {name} has no pixels ({_times(image.size)})")
    try:
        with _told():
            return to_rgb(image, ground)
    except ValueError as error:  # Pillow reads pixels lazily
        raise UserError(f"the {name} cannot be read: {error}") from error


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"

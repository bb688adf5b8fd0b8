"""Resizing for feature networks, where the filter changes the distances (clean-fid, arXiv 2104.11222)."""

import numpy as np
from PIL import Image


def clean(image: np.ndarray, size: int) -> np.ndarray:
    """As clean-fid: bicubic and antialiased, each channel in fp32, nothing rounded.

    image [H, W, 3] uint8 -> [size, size, 3] fp32 in [0, 255].
    """
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., i], np.float32)).resize((size, size), Image.Resampling.BICUBIC)
        for i in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 255)


def tensorflow(image: np.ndarray, size: int) -> np.ndarray:
    """As TensorFlow 1 and the original FID: bilinear between four pixels, without antialiasing, from the corner.

    image [H, W, 3] uint8 -> [size, size, 3] fp32 in [0, 255].
    """
    wide = _along_rows(np.asarray(image, np.float32), size)
    return np.ascontiguousarray(_along_rows(wide.transpose(1, 0, 2), size).transpose(1, 0, 2))


def _along_rows(x: np.ndarray, size: int) -> np.ndarray:
    """[H, W, 3] -> [H, size, 3]."""
    before = x.shape[1]
    places = np.arange(size, dtype=np.float32) * np.float32(before / size)
    low = places.astype(int)
    high = np.minimum(low + 1, before - 1)
    share = (places - low.astype(np.float32))[:, None]
    return x[:, low] + (x[:, high] - x[:, low]) * share

"""Images in every mode and format, and what a viewer shows of them, computed with NumPy from the same colours."""

import struct
import zlib
from collections.abc import Callable
from random import Random

import numpy as np
from PIL import Image, ImageCms

from benchmarks.damage.inputs.kinds import SIZE, chunk, encoded, scene

Made = tuple[bytes, np.ndarray]
"""An encoded image, and the pixels [16, 16, 3] that a viewer shows."""


def grey(rng: Random) -> np.ndarray:
    return np.array([rng.randrange(256) for _ in range(SIZE * SIZE)], np.uint8).reshape(SIZE, SIZE)


def shown(values: np.ndarray) -> np.ndarray:
    """Grey as RGB."""
    return np.stack([values] * 3, -1)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return np.rint(colours * share + 255 * (1 - share)).astype(np.uint8)


def raw_png(rows: np.ndarray, depth: int, kind: int, *before: bytes) -> bytes:
    """A PNG of rows of bytes [H, n], with chunks before its pixels."""
    header = struct.pack(">IIBBBBB", SIZE, SIZE, depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *before, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def deep(values: np.ndarray, kind: int, *before: bytes) -> bytes:
    """A PNG of 16 bits, from [H, W, channels]."""
    return raw_png(values.astype(">u2").reshape(SIZE, -1).view(np.uint8), 16, kind, *before)


def with_alpha(rng: Random) -> tuple[np.ndarray, np.ndarray]:
    alpha = np.zeros((SIZE, SIZE), np.uint8)
    alpha[:, 4:] = 255
    alpha[4:8] = 128
    return scene(rng), alpha


def rgba(kind: str) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        colours, alpha = with_alpha(rng)
        how = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        return encoded(np.dstack([colours, alpha]), kind, **how), on_white(colours, alpha)

    return make


def grey_alpha(rng: Random) -> Made:
    values, alpha = grey(rng), with_alpha(rng)[1]
    return encoded(Image.fromarray(np.dstack([values, alpha]), "LA")), on_white(shown(values), alpha)


def palette(rng: Random, transparent: bool) -> Made:
    colours = scene(rng)
    found = Image.fromarray(colours).quantize(4)
    shown_colours = np.asarray(found.convert("RGB")).copy()
    if not transparent:
        return encoded(found), shown_colours
    index = found.getpixel((0, 0))
    shown_colours[np.asarray(found) == index] = 255
    return encoded(found, transparency=index), shown_colours


def palette_alpha(rng: Random) -> Made:
    found = Image.fromarray(scene(rng)).quantize(4)
    share = bytes(rng.randrange(256) for _ in range(4))
    alpha = np.frombuffer(share, np.uint8)[np.asarray(found)]
    return encoded(found, transparency=share), on_white(np.asarray(found.convert("RGB")), alpha)


def keyed(mode: str) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        values = scene(rng) if mode == "RGB" else grey(rng)
        key = values[0, 0]
        where = (values == key).all(-1) if mode == "RGB" else values == key
        content = encoded(values, transparency=tuple(map(int, key)) if mode == "RGB" else int(key))
        result = values.copy() if mode == "RGB" else shown(values)
        result[where] = 255
        return content, result

    return make


def deep_keyed(rng: Random) -> Made:
    values = grey(rng).astype(np.uint16) * 257
    values[:4] = 1000
    result = shown(np.rint(values / 257).astype(np.uint8))
    result[values == 1000] = 255
    return deep(values[..., None], 0, chunk(b"tRNS", struct.pack(">H", 1000))), result


def deep_colours(channels: int) -> Callable[[Random], Made]:
    """16 bits of 2: grey and alpha, 3: RGB, 4: RGBA."""

    def make(rng: Random) -> Made:
        colours, alpha = with_alpha(rng)
        parts = [shown(grey(rng))[..., :1]] if channels == 2 else [colours]
        result = shown(parts[0][..., 0]) if channels == 2 else colours
        if channels in (2, 4):
            parts.append(alpha[..., None])
            result = on_white(result, alpha)
        values = np.concatenate(parts, -1).astype(np.uint16) * 257
        return deep(values, {2: 4, 3: 2, 4: 6}[channels]), result

    return make


def few_bits(depth: int) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        values = np.asarray(grey(rng) >> (8 - depth), np.uint8)
        bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :]
        rows = np.packbits(bits.reshape(SIZE, -1), axis=-1)
        return raw_png(rows, depth, 0), shown((values * (255 // (2**depth - 1))).astype(np.uint8))

    return make


def interlaced(rng: Random) -> Made:
    colours = scene(rng)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    data = b"".join(
        b"\0" + bytes(row)
        for y, x, dy, dx in passes
        for row in colours[y::dy, x::dx].reshape(-1, 3 * len(colours[0, x::dx]))
    )
    header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 1)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts), colours


def turned(orientation: int, kind: str) -> Callable[[Random], Made]:
    """The EXIF standard's eight orientations: how the stored rows and columns are shown."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }

    def make(rng: Random) -> Made:
        colours = scene(rng)
        exif = Image.Exif()
        exif[0x0112] = orientation
        how = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}[kind]
        return encoded(colours, kind, exif=exif.tobytes(), **how), turns.get(orientation, turns[1])(colours)

    return make


def turned_oblong(rng: Random) -> Made:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(np.full((SIZE, 3 * SIZE, 3), 80, np.uint8), exif=exif.tobytes()), np.zeros((3 * SIZE, SIZE, 3))


def linear(values: np.ndarray) -> np.ndarray:
    share = values.astype(float) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def gamma(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return np.rint(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


SRGB = np.array([[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
"""RGB of sRGB -> XYZ under D50 (the ICC's profile of it)."""
P3_RED = (0.5151, 0.2412, -0.0011)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def wide_profile() -> bytes:
    """sRGB's profile with the red of Display P3."""
    profile = bytearray(srgb_profile())
    for tag in range(int.from_bytes(profile[128:132], "big")):
        entry = 132 + 12 * tag
        if bytes(profile[entry : entry + 4]) == b"rXYZ":
            place = int.from_bytes(profile[entry + 4 : entry + 8], "big") + 8
            for axis, value in enumerate(P3_RED):
                profile[place + 4 * axis : place + 4 * axis + 4] = round(value * 65536).to_bytes(4, "big", signed=True)
    return bytes(profile)


def muted(rng: Random) -> np.ndarray:
    """Colours that stay inside sRGB when their red is a stronger one."""
    return (90 + scene(rng) // 4).astype(np.uint8)


def profiled(kind: str) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        colours = muted(rng)
        xyz = np.column_stack([P3_RED, SRGB[:, 1], SRGB[:, 2]])
        result = gamma(linear(colours) @ (np.linalg.inv(SRGB) @ xyz).T)
        how = {"lossless": True} if kind == "WEBP" else {}
        return encoded(colours, kind, icc_profile=wide_profile(), **how), result

    return make


def with_profile(profile: bytes) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        return encoded(colours := scene(rng), icc_profile=profile), colours

    return make


def cmyk(kind: str) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        ink = np.dstack([scene(rng), np.full((SIZE, SIZE), rng.randrange(60), np.uint8)])
        how = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        result = np.rint((255 - ink[..., :3].astype(float)) * (255 - ink[..., 3:].astype(float)) / 255)
        return encoded(Image.fromarray(ink, "CMYK"), kind, **how), result

    return make


def lab(rng: Random) -> Made:
    """CIE L*a*b* under D50: L from 0 to 255, a and b as signed bytes."""
    colours = muted(rng)
    white = SRGB.sum(1)
    share = linear(colours) @ SRGB.T / white
    f = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    values = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)
    stored = np.rint(values * [2.55, 1, 1]).astype(int) % 256
    return encoded(Image.frombytes("LAB", (SIZE, SIZE), stored.astype(np.uint8).tobytes()), "TIFF"), colours


def numbers(dtype: type, factor: float) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        values = grey(rng)
        values[0, :2] = 0, 255
        return encoded((values.astype(np.float64) * factor).astype(dtype), "TIFF"), shown(values)

    return make


def moving(kind: str) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        frames = [Image.fromarray(scene(rng)) for _ in range(3)]
        how = {"lossless": True} if kind == "WEBP" else {}
        if kind == "GIF":
            frames = [frame.quantize(8) for frame in frames]
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **how)
        return content, np.asarray(frames[0].convert("RGB"))

    return make


def bits(rng: Random) -> Made:
    values = np.asarray(grey(rng) > 127)
    return encoded(Image.fromarray(values)), shown(values.astype(np.uint8) * 255)


def jpeg(mode: str, **how: bool) -> Callable[[Random], Made]:
    def make(rng: Random) -> Made:
        values = scene(rng) if mode == "RGB" else scene(rng)[..., 1]
        content = encoded(values, "JPEG", quality=100, subsampling=0, **how)
        return content, values if mode == "RGB" else shown(values)

    return make


def text_chunk(rng: Random) -> Made:
    """A PNG with megabytes of text beside its pixels."""
    colours = scene(rng)
    content = encoded(colours)
    return content[:33] + chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000) + content[33:], colours

"""Images in every mode and format, and what is none; `made_pictures.py` makes the former."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import ImageCms

from benchmarks.damage.inputs.kinds import (
    SIZE,
    Input,
    Records,
    Trial,
    Wanted,
    chunk,
    encoded,
    png,
    prepare,
    scene,
    write,
)
from benchmarks.damage.inputs.made_pictures import (
    Made,
    bits,
    cmyk,
    deep,
    deep_colours,
    deep_keyed,
    few_bits,
    grey,
    grey_alpha,
    interlaced,
    jpeg,
    keyed,
    lab,
    moving,
    numbers,
    palette,
    palette_alpha,
    profiled,
    rgba,
    shown,
    srgb_profile,
    text_chunk,
    turned,
    turned_oblong,
    with_profile,
)

FAMILY = "images"


def image(name: str, make: Callable[[Random], Made], suffix: str = ".png", tolerance: int = 1) -> Input:
    """An image that has to be seen as a viewer shows it, beside a plain one."""

    def trial(folder: Path, out: Path, rng: Random) -> Trial:
        content, pixels = make(rng)
        files = {f"a{suffix}": content, "b.png": png(rng), "a.txt": "a cat", "b.txt": "a dog"}
        write(folder, files)
        size = (pixels.shape[1], pixels.shape[0])
        seen = pixels if size == (SIZE, SIZE) else None
        records = Records({"folder/b.png": Wanted(file=files["b.png"])})
        records.wanted[f"folder/a{suffix}"] = Wanted(file=content, pixels=seen, tolerance=tolerance, size=size)
        return Trial(prepare(out, f"--folder={folder}"), records.check)

    return Input(FAMILY, name, trial)


def unreadable(name: str, make: Callable[[Random], bytes], suffix: str = ".png") -> Input:
    def trial(folder: Path, out: Path, rng: Random) -> Trial:
        write(folder, {f"a{suffix}": make(rng), "b.png": png(rng), "a.txt": "a cat", "b.txt": "a dog"})
        return Trial(prepare(out, f"--folder={folder}"), says=(f"a{suffix}",))

    return Input(FAMILY, name, trial)


SEEN = (
    image("PNG, 1 bit", bits),
    image("PNG, 2 bits", few_bits(2)),
    image("PNG, 4 bits", few_bits(4)),
    image("PNG, grey", lambda rng: (encoded(values := grey(rng)), shown(values))),
    image("PNG, grey with alpha", grey_alpha),
    image("PNG, grey with a transparent value", keyed("L")),
    image("PNG, palette", lambda rng: palette(rng, False)),
    image("PNG, palette with a transparent entry", lambda rng: palette(rng, True)),
    image("PNG, palette with alpha", palette_alpha),
    image("PNG, RGB with a transparent colour", keyed("RGB")),
    image("PNG, RGBA", rgba("PNG")),
    image(
        "PNG, 16 bits", lambda rng: (deep((values := grey(rng)).astype(np.uint16)[..., None] * 257, 0), shown(values))
    ),
    image(
        "PNG, 16 bits, dark",
        lambda rng: (deep((values := grey(rng)).astype(np.uint16)[..., None], 0), shown(values // 129)),
    ),
    image("PNG, 16 bits with a transparent value", deep_keyed),
    image("PNG, 16 bits, grey with alpha", deep_colours(2)),
    image("PNG, 16 bits, RGB", deep_colours(3)),
    image("PNG, 16 bits, RGBA", deep_colours(4)),
    image("PNG, interlaced", interlaced),
    image("PNG, animated", moving("PNG")),
    image("PNG, 3 MB of text", text_chunk),
    image("PNG, profile of sRGB", with_profile(srgb_profile())),
    image("PNG, profile of a wide space", profiled("PNG"), tolerance=3),
    image("PNG, damaged profile", with_profile(b"no profile")),
    image("PNG, cut profile", with_profile(srgb_profile()[:200])),
    image("PNG, profile of LAB", with_profile(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())),
    *(image(f"PNG, orientation {number}", turned(number, "PNG")) for number in range(2, 9)),
    image("PNG, orientation that does not exist", turned(9, "PNG")),
    image("JPEG, turned", turned(6, "JPEG"), ".jpg", tolerance=12),
    image("WebP, turned", turned(6, "WEBP"), ".webp"),
    image("PNG, oblong and turned", turned_oblong),
    image("JPEG, grey", jpeg("L"), ".jpeg", tolerance=6),
    image("JPEG, progressive", jpeg("RGB", progressive=True), ".JPG", tolerance=8),
    image("JPEG, CMYK", cmyk("JPEG"), ".jpg", tolerance=8),
    image("WebP, alpha", rgba("WEBP"), ".webp"),
    image("WebP, animated", moving("WEBP"), ".webp"),
    image("WebP, profile of a wide space", profiled("WEBP"), ".webp", tolerance=3),
    # Named as PNG: what is in a file counts.
    image("TIFF, CMYK, called .png", cmyk("TIFF"), tolerance=2),
    image("TIFF, LAB, called .png", lab, tolerance=6),
    image("TIFF, floats up to 1, called .png", numbers(np.float32, 1 / 255)),
    image("TIFF, floats up to 255, called .png", numbers(np.float32, 1)),
    image("TIFF, 32 bits up to 65535, called .png", numbers(np.int32, 257)),
    image("TIFF, 16 bits, called .png", numbers(np.uint16, 257)),
    image("GIF, animated, called .png", moving("GIF")),
    image("BMP, called .jpg", lambda rng: (encoded(colours := scene(rng), "BMP"), colours), ".jpg"),
    image("JPEG, called .png", jpeg("RGB"), tolerance=8),
    image("one pixel", lambda rng: (encoded(np.zeros((1, 1, 3), np.uint8)), np.zeros((1, 1, 3)))),
    image("one pixel high", lambda rng: (encoded(np.zeros((1, 3000, 3), np.uint8)), np.zeros((1, 3000, 3)))),
)


def noise(rng: Random, kind: str) -> bytes:
    """An image whose file is long enough to be cut anywhere."""
    values = np.frombuffer(rng.randbytes(64 * 64 * 3), np.uint8).reshape(64, 64, 3)
    return encoded(values, kind)


def cut(kind: str) -> Callable[[Random], bytes]:
    def make(rng: Random) -> bytes:
        content = noise(rng, kind)
        return content[: rng.randrange(1, len(content) * 9 // 10)]

    return make


def wrong_bytes(rng: Random) -> bytes:
    content = bytearray(noise(rng, "PNG"))
    place = rng.randrange(200, len(content) - 200)
    content[place : place + 50] = rng.randbytes(50)
    return bytes(content)


def huge(width: int, height: int) -> Callable[[Random], bytes]:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b"")]
    return lambda rng: b"\x89PNG\r\n\x1a\n" + b"".join(data)


REFUSED = (
    *(
        unreadable(f"{kind}, cut off, {place}", cut(kind), suffix)
        for kind, suffix in (("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"))
        for place in (1, 2, 3)
    ),
    unreadable("PNG, wrong bytes", wrong_bytes),
    unreadable("900 million pixels", huge(30_000, 30_000)),
    unreadable("2 billion pixels wide", huge(2**31 - 1, 1)),
    unreadable("no pixels", huge(0, 16)),
    unreadable("empty file", lambda rng: b""),
    unreadable(
        "SVG, called .png", lambda rng: b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    ),
    unreadable("a web page, called .jpg", lambda rng: b"<!DOCTYPE html><title>404</title>", ".jpg"),
    unreadable("HEIC, called .jpg", lambda rng: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + rng.randbytes(500), ".jpg"),
    unreadable(
        "a pointer of Git LFS", lambda rng: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    ),
    unreadable("PNG with its signature alone", lambda rng: b"\x89PNG\r\n\x1a\n"),
    unreadable("random bytes", lambda rng: rng.randbytes(1000), ".webp"),
)
INPUTS = (*SEEN, *REFUSED)

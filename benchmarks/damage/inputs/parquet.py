"""Parquet files, as hubs write them."""

import io
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from benchmarks.damage.inputs.archives import given, of
from benchmarks.damage.inputs.kinds import Input, Records, png

FAMILY = "parquet"


def table(columns: dict[str, Any], **how: Any) -> bytes:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer, **how)
    return buffer.getvalue()


def rows(
    name: str,
    columns: Callable[[list[bytes]], dict[str, Any]],
    captions: Sequence[Any] = ({"en": ["x"]}, {"zh": ["猫"]}),
    flag: str = "--parquet={}/0.parquet",
    **how: Any,
) -> Input:
    """A parquet file of which two records have to come."""

    def make(rng: Random) -> tuple[dict[str, bytes | str], Records]:
        images = [png(rng), png(rng)]
        wanted = {f"parquet/0/{n:08d}": (image, captions[n]) for n, image in enumerate(images)}
        return {"0.parquet": table(columns(images), **how)}, of(**wanted)

    return given(FAMILY, name, flag, make)


def bad_rows(
    name: str,
    columns: Callable[[list[bytes]], dict[str, Any]],
    says: str = "0.parquet",
    change: Callable[[bytes, Random], bytes] = lambda content, rng: content,
) -> Input:
    def make(rng: Random) -> tuple[dict[str, bytes | str], None]:
        return {"0.parquet": change(table(columns([png(rng), png(rng)])), rng)}, None

    return given(FAMILY, name, "--parquet={}/0.parquet", make, says)


def typed(values: Sequence[Any], kind: str) -> Any:
    import pyarrow

    return pyarrow.array(values, getattr(pyarrow, kind)())


def plain(images: list[bytes]) -> dict[str, Any]:
    return {"image": images, "text": ["x", "猫"]}


def flip(content: bytes, rng: Random) -> bytes:
    """Destroys the pages of the images."""
    damaged = bytearray(content)
    for place in range(30, 100):
        damaged[place] = rng.randrange(256)
    return bytes(damaged)


INPUTS = (
    rows("bytes", plain),
    rows(
        "bytes and path",
        lambda images: {"image": [{"bytes": one, "path": "x.png"} for one in images], "text": ["x", "猫"]},
    ),
    rows(
        "large binary",
        lambda images: {"image": typed(images, "large_binary"), "text": typed(["x", "猫"], "large_string")},
    ),
    rows("a row group for each row", plain, row_group_size=1),
    rows("compressed with zstd", plain, compression="zstd"),
    rows("capitals in names", lambda images: {"Text": ["x", "猫"], "image": images}),
    rows(
        "lists of captions",
        lambda images: {"image": images, "caption": [["x", "y"], ["猫"]]},
        ({"en": ["x", "y"]}, {"zh": ["猫"]}),
    ),
    rows("captions by language, some null", lambda images: {"image": images, "zh": [None, "猫"], "en": ["x", None]}),
    rows(
        "more columns",
        lambda images: {**plain(images), "url": ["", None], "score": [1.5, float("nan")], "label": [{"a": 1}, None]},
    ),
    rows(
        "line separators in captions",
        lambda images: {"image": images, "text": ["a\u2028b", "猫"]},
        ({"en": ["a\u2028b"]}, {"zh": ["猫"]}),
    ),
    rows("objects", lambda images: {**plain(images), "objects": [[{"name": "cat", "box": [0.0, 0.0, 1.0, 1.0]}], []]}),
    bad_rows(
        "paths without bytes", lambda images: {"image": [{"bytes": None, "path": "x.png"}] * 2, "text": ["x", "y"]}
    ),
    bad_rows("images as text", lambda images: {"image": ["x.png", "y.png"], "text": ["x", "y"]}),
    bad_rows("images as numbers", lambda images: {"image": [[1, 2], [3]], "text": ["x", "y"]}),
    bad_rows("no images", lambda images: {"text": ["x", "y"]}, "image"),
    bad_rows("no captions", lambda images: {"image": images, "words": ["x", "y"]}, "caption"),
    bad_rows("captions that are numbers", lambda images: {"image": images, "text": [1, 2]}, "row 1"),
    bad_rows("captions that are structures", lambda images: {"image": images, "text": [{"en": "x"}] * 2}, "row 1"),
    bad_rows("a caption that is null", lambda images: {"image": images, "text": ["x", None]}, "without a caption"),
    bad_rows(
        "an image that is null", lambda images: {"image": [images[0], None], "text": ["x", "y"]}, "without an image"
    ),
    bad_rows(
        "an image that is cut off", lambda images: {"image": [images[0], images[1][:60]], "text": ["x", "y"]}, "row 2"
    ),
    bad_rows("names that differ in capitals", lambda images: {**plain(images), "Text": ["a", "b"]}, "Text"),
    bad_rows("a box in pixels", lambda images: {**plain(images), "objects": [[{"box": [0, 0, 50, 50]}], []]}, "row 1"),
    bad_rows("NUL in a caption", lambda images: {"image": images, "text": ["x", "a\0b"]}, "row 2"),
    bad_rows("captions that are not UTF-8", lambda images: {"image": images, "text": [b"x", b"\xe8"]}),
    bad_rows("no rows", lambda images: {"image": typed([], "binary"), "text": typed([], "string")}, "0.parquet"),
    bad_rows("cut off", plain, change=lambda content, rng: content[: rng.randrange(1, len(content))]),
    bad_rows("pages destroyed", plain, change=flip),
    bad_rows("CSV of that name", plain, change=lambda content, rng: b"image,text\n1,x\n"),
    bad_rows("empty file", plain, change=lambda content, rng: b""),
)

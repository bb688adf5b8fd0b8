"""The words of this group: an input, a trial, and checks of prepared records that do not use our readers."""

import io
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

SIZE = 16
"""Pixels of the config's images; given ones of this size are not resized."""
TOKENIZER = ("--config.tokenizer.vocab_size=600",)


@dataclass(frozen=True)
class Trial:
    """A command on given files, and what has to come of it.

    Attributes:
      line: the module and its arguments.
      check: for a correct outcome: the command's output folder -> what is wrong with it, or "". None if the command
        has to refuse, in one sentence.
      says: what the sentence has to contain, such as the name of the file.
    """

    line: list[str]
    check: Callable[[Path], str] | None = None
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class Input:
    """One odd form of input. `make(folder, out, rng)` writes the files into a folder."""

    family: str
    name: str
    make: Callable[[Path, Path, Random], Trial]


@dataclass(frozen=True)
class Wanted:
    """A record that has to be there; None is not compared.

    Attributes:
      captions: by language.
      file: the encoded image; pixels: what the model has to see of it, [H, W, 3], within `tolerance`.
    """

    captions: Mapping[str, list[str]] | None = None
    file: bytes | None = None
    pixels: np.ndarray | None = None
    tolerance: int = 1
    objects: list[dict[str, Any]] | None = None
    size: tuple[int, int] | None = None


@dataclass
class Records:
    """Collects what the records have to be, by id; `check` compares."""

    wanted: dict[str, Wanted] = field(default_factory=dict)

    def check(self, out: Path) -> str:
        found = {record["id"]: record for record in stored_records(out / "data")}
        if found.keys() != self.wanted.keys():
            return f"records {sorted(found)[:4]} instead of {sorted(self.wanted)[:4]}"
        seen = seen_by_the_model(out / "data") if any(one.pixels is not None for one in self.wanted.values()) else {}
        for name, one in self.wanted.items():
            record = found[name]
            if one.captions is not None and record["captions"] != one.captions:
                return f"{name}: captions {ascii(record['captions'])[:150]} instead of {ascii(one.captions)[:150]}"
            if one.file is not None and record["image"] != one.file:
                return f"{name}: the bytes of another image"
            if one.objects is not None and record["objects"] != one.objects:
                return f"{name}: objects {record['objects']} instead of {one.objects}"
            if one.size is not None and (record["width"], record["height"]) != one.size:
                return f"{name}: {record['width']}x{record['height']} pixels instead of {one.size}"
            if one.pixels is not None:
                difference = np.abs(seen[name].astype(int) - one.pixels).max()
                if difference > one.tolerance:
                    return f"{name}: a colour differs by {difference} of 255"
        return ""


def stored_records(data: Path) -> list[dict[str, Any]]:
    """All records of prepared data, read without our code."""
    import msgpack
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

    found = []
    for shard in sorted(data.glob("*.array_record")):
        reader = array_record_module.ArrayRecordReader(str(shard))
        found += [msgpack.unpackb(record) for record in reader.read_all()]
        reader.close()
    return found


def seen_by_the_model(data: Path) -> dict[str, np.ndarray]:
    """Record id -> the image that the loader hands to training."""
    from configs.demo import get_config
    from ernie_vilg_jax.data.loader import all_examples
    from ernie_vilg_jax.data.records import open_split
    from ernie_vilg_jax.data.tokenizers import load_tokenizer

    config = get_config("smoke")
    config.data.path = str(data)
    examples = all_examples(config, load_tokenizer(config), "train")
    source = open_split(data, "train")
    return {source[place].id: examples[place]["image"] for place in range(len(examples))}


def prepare(out: Path, *flags: str) -> list[str]:
    """The command that prepares what the flags name, all of it as one shard for training."""
    data = ("--config.data.holdout_fraction=0", "--config.data.num_shards=1", f"--output={out / 'data'}")
    return ["ernie_vilg_jax.prepare", "--config=configs/demo.py:smoke", *TOKENIZER, *data, *flags]


def scene(rng: Random) -> np.ndarray:
    """[16, 16, 3] uint8: four areas of random colours, none of them white, so that turns and mirrors show."""
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    for place, (rows, columns) in enumerate(((0, 0), (0, 8), (8, 0), (8, 8))):
        pixels[rows : rows + 8, columns : columns + 8] = [20 + 50 * place, rng.randrange(200), rng.randrange(200)]
    return pixels


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def png(rng: Random) -> bytes:
    return encoded(scene(rng))


def write(folder: Path, files: Mapping[str, bytes | str] | Iterable[tuple[str, bytes | str]]) -> None:
    """Writes files, text as UTF-8 with its line ends."""
    for name, content in dict(files).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

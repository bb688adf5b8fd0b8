"""The way of large data, small: `python -m benchmarks.mini --work=DIR --shapes`.

    tars of wide, square and tall images, in a bucket
      prepare (Beam) -> annotate                                   gs://bucket/data, gs://bucket/annotated
        -> autoencoder -> encode -> base at a quarter of the size  gs://bucket/small
          -> encode -> base in three shapes -> experts             gs://bucket/latents
            -> an image of each shape

The bucket is a server on this machine, from which latents are streamed to eight fake devices. The base in three shapes
is also trained by a job that is killed after its first checkpoint and started again: every array of its last checkpoint
must be that of the unbroken one, and the rest of the way goes on from it.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from etils import epath
from PIL import Image, ImageDraw

from benchmarks.bucket import bucket_server
from benchmarks.mini import CONFIG, command
from ernie_vilg_jax import checkpointing

BUCKET = "gs://bucket"
SIZES = ((64, 64), (64, 96), (96, 64))
"""Height and width; the quarter is 16 x 16."""
COLOURS = {"red": "红色", "green": "绿色", "blue": "蓝色", "orange": "橙色"}
PAIRS = 120
TARS = 4


def raw_pairs() -> dict[str, bytes]:
    """Tars of drawings with a Chinese and an English caption; a third of them has each of the three aspects."""
    rng, tars = np.random.default_rng(0), {}
    for number in range(TARS):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for place in range(number, PAIRS, TARS):
                height, width = (side + int(rng.integers(8)) for side in SIZES[place % len(SIZES)])
                colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
                image = Image.new("RGB", (width, height), "white")
                left, top, side = (int(rng.integers(4, 20)) for _ in range(3))
                ImageDraw.Draw(image).ellipse((left, top, left + 2 * side, top + 2 * side), colour)
                pixels = io.BytesIO()
                image.save(pixels, "PNG")
                texts = {"zh.txt": f"{COLOURS[colour]}的圆形{place}", "en.txt": f"a {colour} circle {place}"}
                files = {"png": pixels.getvalue(), **{kind: text.encode() for kind, text in texts.items()}}
                for kind, data in files.items():
                    entry = tarfile.TarInfo(f"{place:04d}.{kind}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
        tars[f"raw/{number}.tar"] = buffer.getvalue()
    return tars


def whole_way_of_large_data(work: Path) -> None:
    run = work / "run_shapes"
    shutil.rmtree(run, ignore_errors=True)
    with bucket_server() as environment:
        os.environ.update(environment)
        import fsspec

        system = fsspec.filesystem("gs", use_listings_cache=False)
        system.mkdir("bucket")
        for name, data in raw_pairs().items():
            system.pipe_file(f"bucket/{name}", data)
        _all_commands(run, partial(command, work))
        assert {"small", "latents"} <= {Path(name).name for name in system.ls("bucket")}


def _all_commands(run: Path, call: Callable[..., None]) -> None:
    small, whole, killed = (run / name for name in ("small", "whole", "killed"))
    quarter = ("--config.model.image_size=16",)
    shapes = (f"--config.data.sizes={SIZES}",)

    def train(name: str, phase: str, data: str, workdir: Path, *more: str, **how: object) -> None:
        settings = f"--config={CONFIG}:{phase},mini", f"--config.data.path={BUCKET}/{data}", f"--workdir={workdir}"
        call(name, "train", *settings, *more, **how)

    def encode(name: str, *settings: str) -> None:
        paths = f"--input={BUCKET}/annotated", f"--output={BUCKET}/{name}", f"--checkpoint={small}"
        call(f"encode, {name}", "encode", f"--config={CONFIG}:base,mini", *paths, *settings)

    raw = f"--tars={BUCKET}/raw/*.tar", f"--output={BUCKET}/data", "--beam=--runner=DirectRunner"
    call("prepare", "prepare", f"--config={CONFIG}:base,mini", *raw)
    call("annotate", "annotate", f"--input={BUCKET}/data", f"--output={BUCKET}/annotated")
    train("autoencoder", "autoencoder", "annotated", small)
    encode("small", *quarter)
    train("base, a quarter", "base", "small", small, *quarter)
    encode("latents", *shapes)

    larger = *shapes, f"--config.phases.base.init_from={small / 'base'}", "--config.phases.base.steps=6"
    first = epath.Path(killed / "base" / "checkpoints" / "2")
    train("base, killed", "base", "latents", killed, *larger, kill=first.exists)
    assert checkpointing.steps(first.parent)[-1:] != [6], "it was at its end when it was killed"
    train("base, again", "base", "latents", killed, *larger)
    train("base, unbroken", "base", "latents", whole, *larger)
    _compare(killed / "base", whole / "base")
    train("experts", "experts", "latents", killed, *shapes)
    for height, width in SIZES:
        folder = run / "samples" / f"{height}x{width}"
        asked = f"--height={height}", f"--width={width}", "--prompt=红色的圆形", "--steps=4"
        call(f"sample, {height}x{width}", "sample", f"--checkpoint={killed}", f"--output={folder}", *asked)
        with Image.open(folder / "000.png") as image:
            assert image.size == (width, height)
            assert (image.info["height"], image.info["width"]) == (str(height), str(width))


def _compare(folder: Path, unbroken: Path) -> None:
    """Asserts that both ended at the same step with the same arrays."""
    from benchmarks.damage.uses import checkpoint_digests

    ours, theirs = (checkpointing.find(one) for one in (folder, unbroken))
    assert ours.name == theirs.name, (ours, theirs)
    assert checkpoint_digests(Path(ours)) == checkpoint_digests(Path(theirs)), f"{ours} differs from {theirs}"

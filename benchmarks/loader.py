"""How many records a second does the loader read, and how many a core?

    python -m benchmarks.loader --work=/tmp/loader                                # JPEGs of 1600 x 1200 to 1024 x 1024
    python -m benchmarks.loader --work=/tmp/loader --pixels=3000x2000 --size=256
    python -m benchmarks.loader --work=/tmp/loader --wait_ms=20                   # a slow disk in place of decoding

Prints JSON: records per second by the clock, processor seconds of a record over all threads and worker processes, their
inverse (records per second a core), and seconds of a batch. Run it on idle cores: by the clock, other work counts.
"""

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict
from PIL import Image, ImageFilter

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.examples import Drawn, ExampleMaker
from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.tokenizers import load_tokenizer
from ernie_vilg_jax.preparation.prepare import prepare

_WORK = flags.DEFINE_string("work", None, "Folder for the images and records.", required=True)
_PIXELS = flags.DEFINE_string("pixels", "1600x1200", "Width and height of the JPEGs.")
_SIZE = flags.DEFINE_integer("size", 1024, "Of the square images that are made of them.")
_RECORDS = flags.DEFINE_integer("records", 64, "How many JPEGs there are.")
_BATCH = flags.DEFINE_integer("batch", 32, "Records a batch.")
_BATCHES = flags.DEFINE_integer("batches", 8, "How many are timed, after one that is not.")
_THREADS = flags.DEFINE_integer("threads", 16, "config.data.threads")
_WORKERS = flags.DEFINE_integer("workers", 0, "config.data.workers")
_WAIT = flags.DEFINE_float("wait_ms", 0.0, "Milliseconds that each example waits, on images of 16 x 16 pixels.")


def wait(seconds: float) -> None:
    """Makes every example take that long, and no processor: a disk or a network."""
    arrays = ExampleMaker.arrays

    def waiting(self: ExampleMaker, drawn: Drawn) -> dict[str, np.ndarray]:
        time.sleep(seconds)
        return arrays(self, drawn)

    ExampleMaker.arrays = waiting


def photo(seed: int, width: int, height: int) -> Image.Image:
    """A picture with areas, edges and grain, whose JPEG is about as large as that of a photograph."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    blocks = Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).resize(
        (width, height), Image.Resampling.NEAREST
    )
    grain = Image.fromarray(rng.integers(96, 160, (height, width, 3), np.uint8)).filter(ImageFilter.GaussianBlur(1))
    return Image.blend(Image.blend(coarse, blocks, 0.2), grain, 0.2)


def make_config(work: Path) -> ConfigDict:
    """A config whose data are prepared."""
    width, height = (16, 16) if _WAIT.value else map(int, _PIXELS.value.split("x"))
    folder = work / f"{width}x{height}_{_RECORDS.value}"
    if not (folder / "images").is_dir():
        (folder / "images").mkdir(parents=True)
        for number in range(_RECORDS.value):
            photo(number, width, height).save(folder / "images" / f"{number}.jpg", quality=90)
            (folder / "images" / f"{number}.txt").write_text(f"picture {number} of colours", encoding="utf-8")
    config = default_config()
    config.knowledge.enabled = False
    config.model.image_size = 16 if _WAIT.value else _SIZE.value
    config.tokenizer.kind, config.tokenizer.path, config.tokenizer.vocab_size = "sentencepiece", "", 400
    config.data.sources = (ConfigDict({"name": "folder", "path": str(folder / "images")}),)
    config.data.num_shards, config.data.language = 2, "en"
    config.data.threads, config.data.workers = _THREADS.value, _WORKERS.value
    config.data.path = str(folder / "records")
    prepare(config, folder / "records", own_data=True)
    return config


def processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(argv: list[str]) -> None:
    del argv
    config = make_config(Path(_WORK.value))
    if _WAIT.value:
        wait(_WAIT.value / 1e3)
    batches = iter(make_loader(config, load_tokenizer(config), batch_size=_BATCH.value, seed=0))
    next(batches)
    started, before = time.monotonic(), processor_seconds()
    for _ in range(_BATCHES.value):
        next(batches)
    seconds = time.monotonic() - started
    batches.close()
    count = _BATCH.value * _BATCHES.value
    # Examples that are made ahead count as well, so that this is an upper bound; more batches make it tighter.
    each = (processor_seconds() - before) / count
    report: dict[str, Any] = {
        "records_per_second": round(count / seconds, 1),
        "seconds_of_a_batch": round(seconds / _BATCHES.value, 4),
        "processor_seconds_of_a_record": round(each, 4),
        "records_per_second_a_core": round(1 / each, 1),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    app.run(main)

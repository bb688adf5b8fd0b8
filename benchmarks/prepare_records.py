"""Prepares more and more records, and measures the peak memory and the rate of each run.

    python -m benchmarks.prepare_records --work=/tmp/records --counts=10000,100000,1000000

The records cost nothing to make (one of 256 noisy images of 16 pixels, and a caption of their own), so that `prepare`
itself is measured: its passes, in one process, with shards of 10,000 records. Every count is a new process, whose peak
resident memory the operating system reports. Prints a line of JSON for each.
"""

import dataclasses
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from ml_collections import ConfigDict
from PIL import Image

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.records import Record
from ernie_vilg_jax.data.tokenizers import train_sentencepiece
from ernie_vilg_jax.images import encode_png
from ernie_vilg_jax.preparation import sources
from ernie_vilg_jax.preparation.prepare import prepare
from ernie_vilg_jax.preparation.sources import Drawn, Licence

_WORK = flags.DEFINE_string("work", None, "Folder for the records: 2 KB each, meanwhile.", required=True)
_COUNTS = flags.DEFINE_list("counts", ["10000", "100000", "1000000"], "Numbers of records.")
_ONE = flags.DEFINE_integer("one", 0, "Prepare so many in this process; what the benchmark calls.")
PER_SHARD = 10_000
COLOURS = ("red", "blue", "green", "white", "black")


@dataclasses.dataclass
class Synthetic(Drawn):
    count: int = 1000
    name: str = dataclasses.field(default="synthetic", init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(0)
        self._images = [
            encode_png(Image.fromarray(image)) for image in draw.integers(0, 255, (256, 16, 16, 3), np.uint8)
        ]

    @property
    def total(self) -> int:
        return self.count

    def record(self, index: int) -> Record:
        caption = f"a {COLOURS[index % 5]} thing number {index}"
        image = self._images[index % 256]
        return Record(f"synthetic/{index:09d}", image, {"en": [caption]}, caption, self.name, width=16, height=16)

    def fingerprint(self) -> str:
        return str(self.count)

    def licences(self) -> list[Licence]:
        return []


def prepare_one(count: int, work: Path) -> None:
    sources.REGISTRY["synthetic"] = f"{__name__}:Synthetic"
    config = default_config()
    tokenizer = train_sentencepiece([f"a {colour} thing number 0123456789" for colour in COLOURS], 400, 32)
    tokenizer.save(work / "tokenizer")
    config.tokenizer.update(kind="sentencepiece", path=str(work / "tokenizer"), vocab_size=tokenizer.vocab_size)
    config.data.sources = (ConfigDict({"name": "synthetic", "count": count}),)
    config.data.num_shards = max(1, count // PER_SHARD)
    started, used = time.monotonic(), time.process_time()
    manifest = prepare(config, work / "out")
    seconds, used = time.monotonic() - started, time.process_time() - used
    row = {
        "records": sum(split["records"] for split in manifest["splits"].values()),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(used, 1),
        "per_cpu_second": round(count / used),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "manifest_bytes": (work / "out" / "manifest.json").stat().st_size,
    }
    print(json.dumps(row), flush=True)


def main(argv: list[str]) -> None:
    del argv
    work = Path(_WORK.value)
    if _ONE.value:
        prepare_one(_ONE.value, work)
        return
    for count in _COUNTS.value:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        line = [sys.executable, "-m", "benchmarks.prepare_records", f"--work={work}", f"--one={count}"]
        subprocess.run(line, check=True)
    shutil.rmtree(work)


if __name__ == "__main__":
    app.run(main)

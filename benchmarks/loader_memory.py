"""How much memory does the loader take, of a million records?

    python -m benchmarks.loader_memory --work=/tmp/records
    python -m benchmarks.loader_memory --work=/tmp/records --records=100000 --read=10000,100000

`benchmarks.prepare_records` makes the records, of 16 x 16 pixels, unless they are there already. They are read in
training order, with decoding, drawing and tokenising. Prints a line of JSON after the first batch and after so many
records: the resident memory of the process (MiB), that part of it which is no page of a file, its peak, and records per
processor second.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from absl import app, flags

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.loader import make_loader
from ernie_vilg_jax.data.tokenizers import load_tokenizer

_WORK = flags.DEFINE_string("work", None, "Folder for the records: 1 KB each, twice that meanwhile.", required=True)
_RECORDS = flags.DEFINE_integer("records", 1_000_000, "Records to prepare.")
_READ = flags.DEFINE_list("read", ["10000", "100000", "1000000"], "When to look at the memory.")
_BATCH = flags.DEFINE_integer("batch", 250, "Records a batch.")


def memory() -> dict[str, int]:
    """MiB of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kilobytes = {"resident_mib": "VmRSS", "not_of_files_mib": "RssAnon", "peak_mib": "VmHWM"}
    return {name: int(lines[field].split()[0]) // 1024 for name, field in kilobytes.items()}


def main(argv: list[str]) -> None:
    del argv
    work = Path(_WORK.value)
    work.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "benchmarks.prepare_records", f"--work={work}", f"--one={_RECORDS.value}"]
    subprocess.run(line, check=True)
    config = default_config()
    config.model.image_size, config.knowledge.enabled = 16, False
    config.data.path, config.data.language = str(work / "out"), "en"
    config.tokenizer.kind = "sentencepiece"
    batches = iter(make_loader(config, load_tokenizer(config), batch_size=_BATCH.value, seed=0))
    read, used = 0, time.process_time()
    for wanted in [1, *map(int, _READ.value)]:
        while read < wanted:
            read += len(next(batches)["index"])
        rate = round(read / (time.process_time() - used))
        print(json.dumps({"read": read, **memory(), "per_cpu_second": rate}), flush=True)
    batches.close()


if __name__ == "__main__":
    app.run(main)

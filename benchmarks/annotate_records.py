"""Annotates more than 20,000 real records with Apache Beam, kills the run half-way, and compares every byte.

    python benchmarks/annotate_records.py --work=/tmp/annotation     # about five minutes on two cores

The records are every CLDR emoji in all permissive styles (12,798 images) and 9,000 scenes of emoji art, whose exact
boxes stand in for a detector's; `prepare` fetches the art once. Three runs of `python -m ernie_vilg_jax.annotate`:

  local    one process, not interrupted
  beam     DirectRunner with worker processes, not interrupted
  killed   the same, with SIGKILL to the whole process group once half the shards are done; then the same command again

Prints JSON: records, counts, seconds and records per second of each run (with the start of Python, Beam and workers),
and whether all three directories hold the same files with the same sha256.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absl import app, flags

from ernie_vilg_jax.config import default_config
from ernie_vilg_jax.data.records import file_sha256, read_manifest
from ernie_vilg_jax.preparation.prepare import prepare

_WORK = flags.DEFINE_string("work", None, "Folder for the records, 250 MB.", required=True)
_WORKERS = flags.DEFINE_integer("workers", 2, "Worker processes of the DirectRunner.")
_TAGGER = flags.DEFINE_string("tagger", "both", "As in annotate.")


def make_records(output: Path) -> int:
    """Prepares the records, unless they are prepared, and counts them."""
    config = default_config()
    config.model.image_size = 64
    config.tokenizer.kind, config.tokenizer.path = "sentencepiece", ""
    config.tokenizer.vocab_size, config.tokenizer.max_length = 4096, 24
    config.data.sources = (
        {"name": "emoji", "concepts": "all"},
        {"name": "scenes", "count": 9000, "objects": "emoji"},
    )
    config.data.holdout_fraction = 0.01
    config.data.num_shards = 16
    manifest = prepare(config, output)
    return sum(split["records"] for split in manifest["splits"].values())


def command(records: Path, output: Path, *more: str) -> list[str]:
    arguments = [f"--input={records}", f"--output={output}", f"--tagger={_TAGGER.value}", *more]
    return [sys.executable, "-m", "ernie_vilg_jax.annotate", *arguments]


def timed(line: list[str], records: int) -> dict[str, Any]:
    start = time.monotonic()
    done = subprocess.run(line, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    seconds = time.monotonic() - start
    kept = re.search(r"(\d+) of (\d+) shards were there already", done.stderr)
    result = {"seconds": round(seconds, 1), "records_per_second": round(records / seconds)}
    return result | ({"shards_kept": int(kept[1]), "shards": int(kept[2])} if kept else {})


def kill_half_way(line: list[str], output: Path, shards: int) -> dict[str, Any]:
    """Starts a run, kills it with all its workers once half the shards are done, and reports what it left."""
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(done := list(output.glob(".progress/*.array_record.json"))) < shards // 2:
        if process.poll() is not None:
            sys.exit("the run ended before it could be killed")
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {"shards_done": len(done), "manifest_written": (output / "manifest.json").exists()}


def contents(path: Path) -> dict[str, str]:
    return {str(f.relative_to(path)): file_sha256(f) for f in sorted(path.rglob("*")) if f.is_file()}


def main(argv: list[str]) -> None:
    del argv
    work = Path(_WORK.value)
    source, local, beam, killed = (work / name for name in ("records", "local", "beam", "killed"))
    records = make_records(source)
    for output in (local, beam, killed):
        shutil.rmtree(output, ignore_errors=True)
    runner = f"--runner=DirectRunner --direct_num_workers={_WORKERS.value} --direct_running_mode=multi_processing"
    shards = sum(len(split["shards"]) for split in read_manifest(source)["splits"].values())
    report: dict[str, Any] = {"records": records, "shards": shards, "cores": os.cpu_count()}
    report["local"] = timed(command(source, local), records)
    report["beam"] = timed(command(source, beam, f"--beam={runner}"), records)
    report["killed"] = kill_half_way(command(source, killed, f"--beam={runner}"), killed, shards)
    resumed = timed(command(source, killed, f"--beam={runner}"), records)
    del resumed["records_per_second"]  # it made only some of them
    report["killed"]["resumed"] = resumed
    annotation = read_manifest(local)["annotation"]
    report["counts"] = {"read": annotation["read"], "rejected": annotation["rejected"], **annotation["counts"]}
    files = {output.name: contents(output) for output in (local, beam, killed)}
    report["files"] = len(files["local"])
    report["same_bytes"] = {name: files[name] == files["local"] for name in ("beam", "killed")}
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    app.run(main)

"""How long users wait: for the import, --help, the first image with and without a compilation cache, and more images.

    python benchmarks/startup.py                      # the demo model
    python benchmarks/startup.py --checkpoint=runs/demo --steps=25 --repeats=5

Each measurement is a fresh process. The cold one has an empty compilation cache, the warm one the cold one's cache.
Both make one image, and then more, one at a time, whose median is the time of an image. Seconds are by the clock, which
other programs affect; processor seconds, in brackets, do not depend on them.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

REPEATS = flags.DEFINE_integer("repeats", 3, "Fresh processes for each figure.")
CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Checkpoint folder or run. (default: the demo model)")
STEPS = flags.DEFINE_integer("steps", None, "Denoising steps. (default: the checkpoint's)")
MORE = flags.DEFINE_integer("more", 5, "Images after the first.")
COMMANDS = flags.DEFINE_list("commands", None, "Commands whose --help is timed. (default: all of them)")

TARGETS = {"import ernie_vilg_jax": 1.5, "--help": 3.0}
"""Seconds, for the median."""

IMPORT = """
import time
start = time.perf_counter(), time.process_time()
import {module}
print(json.dumps([time.perf_counter() - start[0], time.process_time() - start[1]]))
"""
# The clock starts with the process, as for a user who types the command.
IMAGES = """
import os, sys, time
checkpoint, steps, more = json.loads(sys.argv[1])
since = lambda: [time.time() - float(os.environ["STARTED"]), time.process_time()]
from ernie_vilg_jax.cli import enable_compilation_cache
import ernie_vilg_jax
enable_compilation_cache()
pipe = ernie_vilg_jax.load(checkpoint)
marks = [since()]
for seed in range(1 + more):
    pipe(pipe.config.train.preview_prompts[0], steps=steps, seed=seed)
    marks.append(since())
print(json.dumps(marks))
"""


class Seconds(NamedTuple):
    wall: float
    processor: float


def child(code: str, *arguments: str, **environment: str) -> list[Any]:
    """The last line that a fresh process prints, as JSON."""
    words = [sys.executable, "-c", f"import json\n{code}", *arguments]
    env = {**os.environ, **environment, "STARTED": str(time.time())}
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def seconds_of(*words: str) -> Seconds:
    """A whole process, from its start to its end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(time.perf_counter() - start, used)


def commands() -> list[str]:
    """The modules that are commands."""
    import ernie_vilg_jax

    package = Path(ernie_vilg_jax.__file__).parent
    return COMMANDS.value or sorted(file.stem for file in package.glob("*.py") if "\n    cli.run(" in file.read_text())


def first_images(cache: str) -> dict[str, Seconds]:
    """Loading, the first image (from the start of the process), and the median of those after it."""
    arguments = json.dumps([CHECKPOINT.value, STEPS.value, MORE.value])
    marks = [Seconds(*mark) for mark in child(IMAGES, arguments, JAX_COMPILATION_CACHE_DIR=cache)]
    later = [Seconds(b.wall - a.wall, b.processor - a.processor) for a, b in pairwise(marks[1:])]
    return {"loaded": marks[0], "first": marks[1], "next": Seconds(*map(statistics.median, zip(*later, strict=True)))}


def measure() -> dict[str, list[Seconds]]:
    found: dict[str, list[Seconds]] = {}
    note = lambda name, seconds: found.setdefault(name, []).append(seconds)  # noqa: E731
    for _ in range(REPEATS.value):
        for module in ("ernie_vilg_jax", "ernie_vilg_jax.pipeline"):
            note(f"import {module}", Seconds(*child(IMPORT.format(module=module))))
        for command in commands():
            note(f"{command} --help", seconds_of("-m", f"ernie_vilg_jax.{command}", "--help"))
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = first_images(cache), first_images(cache)
        note("from start to loaded", warm["loaded"])
        note("from start to the first image, no cache", cold["first"])
        note("from start to the first image, warm cache", warm["first"])
        note("each image after it", warm["next"])
    return found


def main(argv: list[str]) -> None:
    del argv
    print(f"{'seconds (of the processor)':45s} {'min':>13s} {'median':>13s} {'max':>13s}  target")
    for name, repeats in measure().items():
        target = next((value for word, value in TARGETS.items() if name == word or name.endswith(word)), None)
        walls, processor = ([one[i] for one in repeats] for i in (0, 1))
        cells = [f"{f(walls):6.2f} ({f(processor):.2f})" for f in (min, statistics.median, max)]
        verdict = "" if target is None else f"  {target} {'met' if statistics.median(walls) <= target else 'MISSED'}"
        print(f"{name:45s} {''.join(f'{cell:>14s}' for cell in cells)}{verdict}")


if __name__ == "__main__":
    app.run(main)

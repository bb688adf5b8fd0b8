"""Commands in forks of one process that has imported the libraries: a real exit, a time limit, and no start-up.

jax must not touch a device before a fork, so the parent imports and never computes.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks import quick

LIBRARIES = (
    *("ernie_vilg_jax.training.train", "ernie_vilg_jax.pipeline.from_checkpoint", "ernie_vilg_jax.data.loader"),
    *("ernie_vilg_jax.preparation.prepare", "ernie_vilg_jax.annotation.annotate", "ernie_vilg_jax.interop.convert"),
    *("ernie_vilg_jax.preparation.sources.scenes", "ernie_vilg_jax.annotation.taggers.bilingual"),
    *(
        "ernie_vilg_jax.data.inspect_page",
        "array_record.python.array_record_module",
        "sentencepiece",
        "PIL.PngImagePlugin",
    ),
)


def prepare_imports(cache: Path) -> None:
    """Settings of jax for small programs on a CPU, and the imports that all commands share."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = quick.XLA_FLAGS
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import_all(LIBRARIES)


def import_all(names: Iterable[str]) -> None:
    import importlib

    for name in names:
        importlib.import_module(name)


@dataclass(frozen=True)
class Ended:
    """How a fork ended: status (negative for a signal), whether it exceeded the limit, seconds, processor seconds."""

    status: int
    hung: bool
    seconds: float
    processor: float


T = TypeVar("T")


def all_of(jobs: Iterable[tuple[T, Callable[[], int]]], workers: int, limit: float) -> Iterator[tuple[T, Ended]]:
    """Runs (key, function) jobs in forks, `workers` at a time; yields each as it ends. Functions return a status."""
    waiting, running = iter(jobs), dict[int, tuple[T, float]]()
    try:
        more = True
        while more or running:
            while more and len(running) < workers:
                try:
                    key, function = next(waiting)
                except StopIteration:
                    more = False
                    break
                running[start(function)] = key, time.monotonic()
            for pid, (key, since) in list(running.items()):
                seconds = time.monotonic() - since
                hung = seconds > limit
                if hung:
                    os.killpg(pid, signal.SIGKILL)
                ended, status, usage = os.wait4(pid, 0 if hung else os.WNOHANG)
                if not ended:
                    continue
                del running[pid]
                code = os.waitstatus_to_exitcode(status)
                yield key, Ended(code, hung, seconds, usage.ru_utime + usage.ru_stime)
            time.sleep(0.01)
    finally:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):  # it may not have begun its group
                os.killpg(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def start(function: Callable[[], int]) -> int:
    """Forks, runs a function there and exits with its result. Returns the process id, which is also the group's."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        status = function()
    finally:
        os._exit(status & 0xFF)

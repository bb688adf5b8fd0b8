"""Runs a pass over units of work on this machine: one after the other in this process, or in worker processes."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ernie_vilg_jax import worker_processes
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.work import Work
from ernie_vilg_jax.progress import Progress


def run_local(work: Work, names: Sequence[str], workers: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """Does the units and returns their notes."""
    workers = min(workers, len(names))
    if workers <= 1:
        return {name: _one(work, name, progress) for name in names}
    notes = {}
    context = worker_processes.context(type(work).__module__)
    with concurrent.futures.ProcessPoolExecutor(workers, context, _start, (work,)) as pool:
        futures = {pool.submit(_work, name): name for name in names}
        try:
            for future in concurrent.futures.as_completed(futures):
                notes[futures[future]] = future.result()
                progress.made(work.size(futures[future]))
        except BrokenProcessPool as error:
            worker_processes.kill_all()
            raise UserError(
                "a worker process died, perhaps for want of memory: run the same command again with fewer --workers, "
                "finished shards are kept"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return notes


def _one(work: Work, name: str, progress: Progress) -> dict[str, Any]:
    reported = 0

    def report(counts: Mapping[str, int]) -> None:
        nonlocal reported
        count = sum(counts.get(kind, 0) for kind in work.progress)
        reported += count
        progress.made(count)

    note = work.do(name, report)
    progress.made(work.size(name) - reported)
    return note


_job: Work | None = None


def _start(work: Work) -> None:
    global _job
    _job = work
    worker_processes.end_with_parent()


def _work(name: str) -> dict[str, Any]:
    assert _job is not None
    return _job.do(name, lambda counts: None)

"""Runs annotation on this machine: shard after shard in this process, or in worker processes."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any

from ernie_vilg_jax.annotation.shard import Job, annotate_shard
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.progress import Progress


def run_local(job: Job, names: Sequence[str], workers: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """Annotates the shards and returns their notes."""
    workers = min(workers, len(names))
    if workers <= 1:

        def report(counts: Mapping[str, int]) -> None:
            progress.made(counts.get("records", 0) + counts.get("rejected", 0))

        return {name: annotate_shard(job, name, report) for name in names}
    notes = {}
    context = multiprocessing.get_context("spawn")  # threads of models do not survive a fork
    with concurrent.futures.ProcessPoolExecutor(workers, context, _start, (job,)) as pool:
        futures = {pool.submit(_work, name): name for name in names}
        try:
            for future in concurrent.futures.as_completed(futures):
                notes[futures[future]] = future.result()
                progress.made(job.shards[futures[future]]["records"])
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process died, perhaps for want of memory: run the same command again with fewer --workers, "
                "finished shards are kept"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return notes


_job: Job | None = None


def _start(job: Job) -> None:
    global _job
    _job = job
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)  # the run was killed; a remaining worker would disturb the next run

    threading.Thread(target=follow, daemon=True).start()


def _work(name: str) -> dict[str, Any]:
    assert _job is not None
    return annotate_shard(_job, name)

"""Processes that work beside a command's own, as quick to start as a fork, and gone when it is."""

import multiprocessing
import os
import threading
from multiprocessing.context import ForkServerContext


def context(module: str) -> ForkServerContext:
    """Processes are forks of one that has imported `module`: threads, as of jax, do not survive a fork of this one."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload([module])
    return forking


def end_with_parent() -> None:
    """Ends this process as soon as its parent has, killed or not: it would wait for work, or disturb the next run."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def kill_all() -> None:
    """For a pool of which one has died: a worker that was being started then would keep this process from ending."""
    for child in multiprocessing.active_children():
        child.kill()

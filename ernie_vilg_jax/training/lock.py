"""One training at a time in a working directory: two would delete each other's checkpoints.

Process 0 holds the lock. On a file system it is a file locked by the kernel (flock), which a killed process releases.
A bucket has no such locks, and a process number means nothing to other machines: there it is an object that its owner
renews every half minute, and that expires when it is old.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from ernie_vilg_jax import paths
from ernie_vilg_jax.errors import UserError

NAME = ".train.lock"
BEAT = 30.0
"""Seconds between two renewals in a bucket."""
STALE = 120.0
"""Seconds without a renewal after which the owner is considered dead."""


@contextlib.contextmanager
def locked(workdir: epath.Path) -> Iterator[None]:
    """Holds the lock of a working directory. Raises UserError at once if another training holds it."""
    workdir.mkdir(parents=True, exist_ok=True)
    with _beating(workdir) if paths.is_url(workdir) else _flocked(workdir):
        yield


def _owner() -> dict[str, object]:
    return {"machine": socket.gethostname(), "process": os.getpid(), "id": uuid.uuid4().hex}


def _refusal(workdir: epath.Path, owner: dict[str, object], more: str) -> UserError:
    who = f"process {owner.get('process', '?')} on {owner.get('machine', '?')}"
    return UserError(f"--workdir={workdir} is in use by another training ({who}): {more}or give another --workdir")


@contextlib.contextmanager
def _flocked(workdir: epath.Path) -> Iterator[None]:
    import fcntl

    with open(Path(workdir) / NAME, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            with contextlib.suppress(ValueError):
                raise _refusal(workdir, json.loads(file.read()), "wait for it, stop it, ") from error
            raise _refusal(workdir, {}, "wait for it, stop it, ") from error
        except OSError:  # a file system without locks: better none than no training
            yield
            return
        file.truncate(0)
        file.write(json.dumps(_owner()))
        file.flush()
        yield


@contextlib.contextmanager
def _beating(workdir: epath.Path, beat: float = BEAT, stale: float = STALE) -> Iterator[None]:
    mark, mine, ended = workdir / NAME, _owner(), threading.Event()
    theirs = _read(mark)
    age = time.time() - float(theirs.get("alive", 0))  # type: ignore[arg-type]
    if age < stale:
        wait = f"wait for it, stop it (if it was killed, this command works in {stale - age:.0f} seconds), "
        raise _refusal(workdir, theirs, wait)

    def say() -> None:
        mark.write_text(json.dumps({**mine, "alive": time.time()}))

    def repeat() -> None:
        while not ended.wait(beat):
            with contextlib.suppress(Exception):  # the next beat may get through; training does not depend on it
                say()

    say()
    time.sleep(min(1.0, beat))  # if two begin at the same time, the last writer gets it
    if _read(mark).get("id") != mine["id"]:
        raise _refusal(workdir, _read(mark), "wait for it, stop it, ")
    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        mark.unlink(missing_ok=True)


def _read(mark: epath.Path) -> dict[str, object]:
    try:
        found = json.loads(mark.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

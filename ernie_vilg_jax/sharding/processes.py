"""Several processes as one program: start-up, agreement, and a common end when one of them fails.

    with processes.together(distributed=True):      # finds the others on Cloud TPU, GKE, Slurm and Open MPI
        ...                                           # the same program in every process, in step

The code inside is written as one program: every process runs the same jitted functions in the same order on global
arrays. Only reading (its rows of each batch) and writing (metrics, on process 0) differ.
"""

import contextlib
import json
import logging
import socket
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging as absl_logging
from etils import epath
from jax.sharding import Sharding

from ernie_vilg_jax.aliases import Tree
from ernie_vilg_jax.errors import UserError, first_line
from ernie_vilg_jax.sharding.watch import LOST, RESUME, Watch, about_peers, leave, sentence_for_aborts

STARTUP_TIMEOUT = 300
"""Seconds that processes wait for each other at the start."""
HEARTBEAT_TIMEOUT = 100
"""Seconds after which jax itself declares a process dead. Its heartbeats come at half that interval, so it may notice
after half the time. That must be later than the watch does, or Orbax prints a traceback about an unfinished save."""


def index() -> int:
    """The number of this process; 0 if there is only one."""
    return _state().process_id


def count() -> int:
    """How many processes there are."""
    return _state().num_processes


def initialize(
    distributed: bool = False,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: int = STARTUP_TIMEOUT,
) -> bool:
    """Connects this process with the others; returns whether there are any. Call it before jax touches a device.

    Args:
      distributed: find the others through the cluster's own information.
      coordinator, num_processes, process_id: or by these: "host:port" of process 0, their number, this one's.
      timeout: seconds to wait for them.

    Raises UserError for flags that contradict each other, outside a known cluster, and if the coordinator does not
    answer. If it answers but not all processes arrive in time, the process ends with status 170.
    """
    given = check_flags(distributed, coordinator, num_processes, process_id, timeout)
    if not given and not distributed:
        return False
    # No device may have been used before this point: what jax learns here decides how many there are.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    apart = f"not all processes connected within {timeout} seconds; start the same command on all of them"
    if given:
        apart = (
            f"process {process_id}: not all of the {num_processes} processes connected to {coordinator} within "
            f"{timeout} seconds; start the same command for all of them, each with its own --process_id"
        )
    sentence_for_aborts(lambda: apart)
    if given and process_id:
        timeout = _await_coordinator(str(coordinator), process_id, timeout)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=HEARTBEAT_TIMEOUT,
            shutdown_timeout_seconds=HEARTBEAT_TIMEOUT,
            cluster_detection_method="deactivate" if given else None,
        )
    except ValueError as error:
        if given:
            raise
        raise UserError(
            "--distributed finds the other processes on Cloud TPU, GKE, Slurm and Open MPI, but this is none of them "
            f"({error}); name them with --coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"--coordinator={coordinator}: process 0 cannot listen there ({error}); choose a free port of its host"
        ) from error
    return True


def check_flags(
    distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: int
) -> bool:
    """Whether flags name the processes. Raises UserError if the flags contradict each other."""
    named = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [f"--{name}" for name, value in named.items() if value is None]
    if timeout < 1:
        raise UserError(f"--startup_timeout={timeout} must be at least 1 second; 300 is usual")
    if len(missing) == len(named):
        return False
    if missing:
        present = " and ".join(f"--{name}" for name, value in named.items() if value is not None)
        raise UserError(
            f"{' and '.join(missing)} must be given with {present}: give all three, or only --distributed, which "
            "finds the other processes by itself"
        )
    if distributed:
        raise UserError(
            "--distributed finds the other processes by itself, while --coordinator, --num_processes and --process_id "
            "name them; give either one or the other"
        )
    assert coordinator is not None and num_processes is not None and process_id is not None
    name, _, port = coordinator.rpartition(":")
    if not name or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator={coordinator} must be HOST:PORT of process 0, such as 10.0.0.2:1234")
    if num_processes < 1:
        raise UserError(f"--num_processes={num_processes} must be at least 1")
    if not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id} must be from 0 to {num_processes - 1}, with --num_processes={num_processes}"
        )
    return True


def _await_coordinator(address: str, process_id: int, timeout: int) -> int:
    """Waits until process 0 listens; returns the seconds left. jax itself would abort with a C++ stack trace."""
    name, port = address.rsplit(":", 1)
    start, told = time.monotonic(), False
    while True:
        try:
            socket.create_connection((name.strip("[]"), int(port)), timeout=2).close()
            return max(10, round(timeout - (time.monotonic() - start)))
        except OSError as error:
            waited = time.monotonic() - start
            if waited > timeout:
                raise UserError(
                    f"--coordinator={address} did not answer process {process_id} within {timeout} seconds "
                    f"({error.strerror or error}); start process 0 on that host, or correct the host and port "
                    "(--startup_timeout waits longer)"
                ) from error
            if waited > 10 and not told:
                absl_logging.warning("process %d: waiting for process 0 at %s", process_id, address)
                told = True
            time.sleep(0.5)


@contextlib.contextmanager
def together(
    distributed: bool = False,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: int = STARTUP_TIMEOUT,
) -> Iterator[None]:
    """Runs its body on all processes (see `initialize`); if it fails on one of them, it ends on all.

    A failure never returns from here: it is printed and reported to the others, and the process ends (status 1, or 130
    for Ctrl-C), because a clean exit would wait for processes that wait for this one. The others end with status 170.
    """
    if not initialize(distributed, coordinator, num_processes, process_id, timeout):
        yield
        return
    state, name = _state(), f"process {index()}: "
    watch = Watch(state.client, index(), count(), state.coordinator_address)
    sentence_for_aborts(lambda: name + watch.after_abort())
    _mark_logs(index())
    watch.start()
    try:
        yield
    except KeyboardInterrupt:
        watch.farewell("it was interrupted")
        leave(f"{name}interrupted", 130)
    except UserError as error:
        if about_peers(error):
            watch.await_verdict()
        watch.farewell(str(error))
        leave(name + str(error), 1)
    except Exception as error:
        if about_peers(error):
            watch.await_verdict()
            watch.farewell("it lost the connection to another process")
            leave(f"{name}lost the connection to another process ({first_line(error)}); {RESUME}", LOST)
        traceback.print_exc()
        watch.farewell(f"{type(error).__name__}; its own log has the traceback")
        leave(f"{name}stopped by the error above", 1)
    # Processes that finish first wait here, still watched, until all have finished.
    _state().client.wait_at_barrier("ernie_vilg_jax/done", 24 * 60 * 60 * 1000)
    watch.end()
    jax.distributed.shutdown()


def name() -> str:
    """'process 3: ' before a message; "" if there is only one process."""
    return f"process {index()}: " if count() > 1 else ""


def agree(values: Mapping[str, Any]) -> None:
    """Raises UserError in each process whose `values` (JSON) differ from those of process 0; names the first one."""
    if count() == 1:
        return
    client, key = _state().client, _next_key("agree")
    mine = json.loads(json.dumps(values))
    if index() == 0:
        client.key_value_set(key, json.dumps(mine))
        return
    theirs = json.loads(client.blocking_key_value_get(key, STARTUP_TIMEOUT * 1000))
    for field in sorted({*mine, *theirs}):
        if mine.get(field) != theirs.get(field):
            raise UserError(
                f"process 0 has {field}={theirs.get(field)!r}, but process {index()} has {mine.get(field)!r}; start "
                "the same command with the same files on all processes"
            )


def check_shared(folder: epath.Path) -> None:
    """Raises UserError on every process that cannot see what process 0 writes into `folder`."""
    if count() == 1:
        return
    client, key = _state().client, _next_key("shared")
    if index() == 0:
        mark = folder / f".shared-{uuid.uuid4().hex}"
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text("All processes must see this file; it may be deleted.")
        client.key_value_set(key, mark.name)
        client.wait_at_barrier(f"{key}/seen", STARTUP_TIMEOUT * 1000)
        mark.unlink()
        return
    mark = folder / client.blocking_key_value_get(key, STARTUP_TIMEOUT * 1000)
    deadline = time.monotonic() + 10  # network file systems may take a moment
    while not mark.exists():
        if time.monotonic() > deadline:
            raise UserError(
                f"--workdir={folder} is not the same folder on process {index()} as on process 0; all processes must "
                "share it: a gs:// URL or a mounted network folder"
            )
        time.sleep(0.5)
    client.wait_at_barrier(f"{key}/seen", STARTUP_TIMEOUT * 1000)


def wait_for_all(purpose: str, seconds: int = STARTUP_TIMEOUT) -> None:
    """Returns once every process has reached this point. Raises an error of jax if that takes longer than `seconds`."""
    if count() > 1:
        _state().client.wait_at_barrier(_next_key(purpose), seconds * 1000)


def to_all(tree: Tree, sharding: Sharding) -> Tree:
    """Global arrays from NumPy arrays of which every process has the same, whole copy."""

    def one(leaf: np.ndarray) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(one, tree)


def own_rows(sharding: Sharding, count: int) -> tuple[int, ...]:
    """Which of `count` rows, split by `sharding`, are on this process's devices; in order."""
    slices = (index[0] for index in sharding.addressable_devices_indices_map((count,)).values() if index is not None)
    return tuple(sorted({row for one in slices for row in range(*one.indices(count))}))


def _state() -> Any:
    # jax has no public access to its key-value store; Orbax uses this one, too.
    from jax._src import distributed

    return distributed.global_state


_count: dict[str, int] = {}


def _next_key(purpose: str) -> str:
    """A fresh key, the same on all processes, because they ask in the same order."""
    _count[purpose] = _count.get(purpose, 0) + 1
    return f"ernie_vilg_jax/{purpose}/{_count[purpose]}"


def _mark_logs(number: int) -> None:
    """Process 0 logs as usual, the others only warnings, preceded by the number of the process."""

    def mark(record: logging.LogRecord) -> bool:
        if (number and record.levelno < logging.WARNING) or "preemption sync point" in str(record.msg):
            return False  # Orbax logs this several times a save; the loop says it once
        if number and not getattr(record, "marked", False):
            record.msg, record.marked = f"process {number}: {record.msg}", True
        return True

    handler: Any = absl_logging.get_absl_handler()
    handler.addFilter(mark)

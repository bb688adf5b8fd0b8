"""When one process dies, the others say so in one sentence and exit with status 170 (LOST) within half a minute.

jax raises nothing then. On TPUs the survivors wait in a collective until the coordination service notices and ends them
by abort() with a C++ stack trace; on CPUs the collective fails with "Connection closed by peer" and no name. So every
process writes a heartbeat every few seconds into the key-value store of that service (which is on process 0):

    beat/2 = "17"                          heartbeat of process 2; process 0 checks that all of them advance
    last/2 = "process 2 stopped: ..."      its last words, or process 0's verdict on it; every reader exits, too

abort() ends in a sentence as well, because that is how the others learn of the death of process 0 and its store.

Status 170: GKE restarts on 42 and on 127 to 255, and shells use 129 to 159 for named signals (we use 143, too, after
SIGTERM). Status 1 is for mistakes that a restart does not fix.
"""

import contextlib
import ctypes
import itertools
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

LOST = 170
"""Exit status: another process died; the same command on all processes resumes from the last checkpoint."""

BEAT = 3.0
"""Seconds between two heartbeats."""
SILENCE = 25.0
"""Seconds without a heartbeat after which a process counts as dead. Calls that hold Python's lock must be shorter."""

RESUME = "the same command on all processes resumes from the last checkpoint"
_STORE = "ernie_vilg_jax"
_ABOUT_PEERS = re.compile(
    r"gloo|connection (closed|reset|refused)|socket closed|broken pipe|unavailable|deadline.exceeded|heartbeat"
    r"|coordination.service|barrier|peer",
    re.IGNORECASE,
)
_leaving = threading.Lock()
_kept_alive: list[Any] = []


def leave(sentence: str, status: int) -> NoReturn:
    """Ends the process at once, whatever its threads are doing. Only the first sentence is printed."""
    if not _leaving.acquire(blocking=False):
        while True:  # another thread is about to end the process
            time.sleep(1)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        print(f"error: {' '.join(sentence.split())}", file=sys.stderr, flush=True)
    os._exit(status)


def about_peers(error: BaseException) -> bool:
    """Whether an error may be due to another process that died."""
    return bool(_ABOUT_PEERS.search(f"{type(error).__name__} {error}"))


class Watch(threading.Thread):
    """Sends this process's heartbeat, and ends it if another process dies.

    Args:
      client: jax.distributed's client: key_value_set and key_value_dir_get.
      index, count: the number of this process and how many there are.
      address: "host:port" of the store.
      on_loss: called with the sentence to say; by default it ends the process.
    """

    def __init__(
        self,
        client: Any,
        index: int,
        count: int,
        address: str,
        on_loss: Callable[[str], object] | None = None,
        beat: float = BEAT,
        silence: float = SILENCE,
    ) -> None:
        super().__init__(name="watch over the other processes", daemon=True)
        self.client, self.index, self.address = client, index, address
        self.beat, self.silence = beat, silence
        self.on_loss = on_loss or (lambda sentence: leave(f"process {index}: {sentence}", LOST))
        self.verdict: str | None = None
        self._ended = threading.Event()
        self._heard = dict.fromkeys(range(count), ("", time.monotonic()))

    def run(self) -> None:
        failing_since: float | None = None
        for count in itertools.count():
            if self._ended.wait(self.beat if count else 0):
                return
            try:
                self.client.key_value_set(f"{_STORE}/beat/{self.index}", str(count), allow_overwrite=True)
                if self.index == 0:
                    self._look_after_all()
                last = self.client.key_value_dir_get(f"{_STORE}/last/")
                failing_since = None
            except Exception:  # of any type, if the store is lost; it counts only if it lasts
                failing_since = failing_since or time.monotonic()
                silent = time.monotonic() - failing_since
                last = [("", self._silent(0, silent))] if silent > self.silence else []
            if last and not self._ended.is_set():
                self.verdict = sentence = last[0][1]
                self._linger()
                self.on_loss(sentence)
                return

    def end(self) -> None:
        """Stops the heartbeat; no verdict comes after this."""
        self._ended.set()

    def farewell(self, sentence: str) -> None:
        """Tells the others why this process exits, as far as that is still possible."""
        self.end()
        with contextlib.suppress(Exception):
            words = f"process {self.index} stopped: {' '.join(sentence.split())}"
            self.client.key_value_set(f"{_STORE}/last/{self.index}", words, allow_overwrite=True)
            self._linger()

    def await_verdict(self) -> None:
        """Waits as long as it takes to find a dead process. Returns if there is none; otherwise this process ends."""
        if threading.current_thread() is not self:
            self.join(self.silence + 3 * self.beat)

    def after_abort(self) -> str:
        """Why C++ may have aborted this process; waits as long as it takes to find out.

        The coordination service aborts if process 0 died, and collectives sometimes do if any process died.
        """
        if self._store_answers():
            self.await_verdict()
        if self.verdict is None and not self._store_answers():  # asked again, because it may have been closing
            return f"process 0, at {self.address}, is gone; {RESUME}"
        return self.verdict or (
            "the distributed runtime gave up, most likely because another process died (TF_CPP_MIN_LOG_LEVEL=0 in "
            f"the environment shows its messages); {RESUME}"
        )

    def _store_answers(self) -> bool:
        name, port = self.address.rsplit(":", 1)
        try:
            socket.create_connection((name.strip("[]"), int(port)), timeout=2).close()
        except OSError:
            return False
        return True

    def _look_after_all(self) -> None:
        now = time.monotonic()
        beats = {int(key.rsplit("/", 1)[1]): value for key, value in self.client.key_value_dir_get(f"{_STORE}/beat/")}
        for process, (beat, since) in self._heard.items():
            current = beats.get(process, "")
            if current != beat:
                self._heard[process] = (current, now)
            elif now - since > self.silence:
                words = self._silent(process, now - since)
                self.client.key_value_set(f"{_STORE}/last/{process}", words, allow_overwrite=True)

    def _linger(self) -> None:
        """The store ends with process 0, so the others must have read the last words before it exits."""
        if self.index == 0:
            time.sleep(2.5 * self.beat)

    @staticmethod
    def _silent(process: int, seconds: float) -> str:
        return f"process {process} has given no sign of life for {seconds:.0f} seconds; {RESUME}"


def sentence_for_aborts(sentence: Callable[[], str]) -> None:
    """From now on abort() prints `sentence()` and exits with status LOST; jax calls abort() itself and has no hook.

    The C++ stack trace before it can only be silenced by TF_CPP_MIN_LOG_LEVEL=4 before jax is imported.
    """

    def handler(_: int) -> None:
        leave(sentence(), LOST)

    _kept_alive.append(ctypes.CFUNCTYPE(None, ctypes.c_int)(handler))
    ctypes.CDLL(None).signal(int(signal.SIGABRT), _kept_alive[-1])

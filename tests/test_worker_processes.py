"""Worker processes that are killed, as where memory ends, and those of a command that is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ernie_vilg_jax.data.whole import read_whole
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.run_local import run_local
from ernie_vilg_jax.progress import Progress

SHOWN = "HAS_BEGUN"
"""Environment variable: a file that a worker writes when it has begun, and then waits for long."""


def kill_or_wait() -> None:
    if SHOWN not in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(os.environ[SHOWN]).touch()
    time.sleep(600)


class Job:
    """Two units of a pass, of which the second kills its process or takes long; and examples, of which each does."""

    counters: ClassVar[tuple[str, ...]] = ()
    progress: ClassVar[tuple[str, ...]] = ()
    source: Sequence[None] = (None, None)

    def do(self, name: str, report: Any) -> dict[str, Any]:
        if name == "b":
            kill_or_wait()
        return {}

    def size(self, name: str) -> int:
        return 1

    def draw(self, index: int, rng: Any) -> None:
        kill_or_wait()


JOB: Any = Job()
PLACES: dict[str, Callable[[], Any]] = {
    "pass": partial(run_local, JOB, ("a", "b"), 2, Progress(2)),
    "reader": lambda: list(read_whole(JOB, 1)),
}


@pytest.mark.parametrize(
    ("place", "remedy"), [("pass", "with fewer --workers"), ("reader", "smaller --config.data.workers than 1")]
)
def test_a_killed_worker_is_one_sentence(place: str, remedy: str) -> None:
    with pytest.raises(UserError, match="died, perhaps for want of memory") as error:
        PLACES[place]()
    assert remedy in str(error.value)


@pytest.mark.parametrize("place", PLACES)
def test_workers_end_with_a_command_that_is_killed(place: str, tmp_path: Path) -> None:
    code = f"from tests.test_worker_processes import PLACES\nif __name__ == '__main__':\n    PLACES[{place!r}]()\n"
    script, begun = tmp_path / "command.py", tmp_path / "begun"
    script.write_text(code)
    environment = {**os.environ, SHOWN: str(begun), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not begun.is_file() and command.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert begun.is_file()
    command.kill()
    command.communicate(timeout=60)  # stderr ends when the workers, which share it, have ended

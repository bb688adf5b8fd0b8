"""Worker processes that die, as where memory ends, in both places that have some: one sentence says what to change."""

import os
import signal
from typing import Any, ClassVar

import pytest

from ernie_vilg_jax.data.whole import read_whole
from ernie_vilg_jax.errors import UserError
from ernie_vilg_jax.preparation.run_local import run_local
from ernie_vilg_jax.progress import Progress


class Killed:
    """Work and a maker of examples whose process is killed at unit "b", and at the second record."""

    counters: ClassVar[tuple[str, ...]] = ()
    progress: ClassVar[tuple[str, ...]] = ()
    source = (None, None)

    def do(self, name: str, report: Any) -> dict[str, Any]:
        if name == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        return {}

    def size(self, name: str) -> int:
        return 1

    def draw(self, index: int, rng: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_of_a_pass() -> None:
    work: Any = Killed()
    with pytest.raises(UserError, match=r"a worker process died.*fewer --workers"):
        run_local(work, ["a", "b", "c"], 2, Progress(3))


def test_of_a_reader() -> None:
    maker: Any = Killed()
    with pytest.raises(UserError, match=r"smaller --config\.data\.workers than 1"):
        list(read_whole(maker, 1))

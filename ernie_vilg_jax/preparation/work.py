"""A pass that is cut into units: what the runners (this process, worker processes, Apache Beam) need to know of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ernie_vilg_jax.preparation.folders import open_folder
from ernie_vilg_jax.progress import Progress

Report = Callable[[Mapping[str, int]], None]
"""Called with the counts of what was done since the last call."""


class Work(Protocol):
    """A pass over units, which are independent of each other; small and picklable.

    Attributes:
      output: folder or URL, where each finished unit leaves a note.
      counters: the counts that a runner shows while it works.
      progress: those of them that add up to the sizes of the units, if a unit reports before it ends.
    """

    output: str
    counters: tuple[str, ...]
    progress: tuple[str, ...]

    def load(self) -> None:
        """What a worker needs before its first unit. Raises UserError if something is missing."""
        ...

    def do(self, name: str, report: Report) -> dict[str, Any]:
        """Does a unit, writes its note, and returns that."""
        ...

    def size(self, name: str) -> int:
        """The share of a unit in the progress, such as its records."""
        ...

    def note(self, name: str) -> str:
        """The file of a unit's note, in `output`."""
        ...


def run(work: Work, names: Sequence[str], workers: int, beam: str | None, progress: Progress) -> dict[str, Any]:
    """Does the units by Apache Beam if its flags are given, else here; returns their notes."""
    if not names:
        return {}
    if beam is not None:
        from ernie_vilg_jax.preparation.run_beam import run_beam

        run_beam(work, names, beam, progress)
        output = open_folder(work.output)
        return {name: json.loads(output.read(work.note(name))) for name in names}
    from ernie_vilg_jax.preparation.run_local import run_local

    return run_local(work, names, workers, progress)

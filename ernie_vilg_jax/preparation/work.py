"""A pass that is cut into units: what the runners (this process, worker processes, Apache Beam) need to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

Report = Callable[[Mapping[str, int]], None]
"""Called with the counts of what was done since the last call."""


class Work(Protocol):
    """A pass over units, which are independent of each other; small and picklable.

    Attributes:
      counters: the counts that a runner shows while it works.
      progress: those of them that add up to the sizes of the units, if a unit reports before it ends.
    """

    counters: ClassVar[tuple[str, ...]]
    progress: ClassVar[tuple[str, ...]]

    @property
    def output(self) -> str:
        """Folder or URL, where each finished unit leaves a note."""
        ...

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

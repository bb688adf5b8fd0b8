"""The words of the damage benchmark: a place, a damage, a use, an outcome."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

OUTCOMES = ("correct", "refused", "silent", "traceback", "hang", "partial")
"""correct: the result of undamaged files. refused: exit status 1 and one sentence. silent: exit status 0 and another
result. traceback: any other end. hang: no end within the limit. partial: files were written or lost that the command
should not have touched."""
GOOD = ("correct", "refused")


@dataclass(frozen=True)
class Place:
    """Where damage is done.

    Attributes:
      copy: a fresh copy of what the command needs: data/, annotated/, run/, exported/.
      part: the file or folder in it to be damaged; for a checkpoint, its newest step.
      other: run/, data/ ... of another seed, read-only.
      outside: a folder that no command may touch, with a file keep.txt.
    """

    copy: Path
    part: Path
    other: Path
    outside: Path

    @property
    def twin(self) -> Path:
        """The same part of the other world."""
        return self.other / self.part.relative_to(self.copy)


class Unfit(Exception):
    """There is nothing here that this kind could damage."""


@dataclass(frozen=True)
class Damage:
    """One kind of damage.

    Attributes:
      name: for the table.
      apply: does it, and returns a description. Raises Unfit.
    """

    name: str
    apply: Callable[[Place, Random], str]


class Use(Protocol):
    """A user's command and its result."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Folders of the world that it needs."""
        ...

    @property
    def writes(self) -> tuple[str, ...]:
        """Files and folders of the copy that it may change even when it refuses."""
        ...

    def line(self, copy: Path, out: Path) -> list[str]:
        """The module and its arguments; `out` is a folder for what it writes."""
        ...

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        """Digests of its output, by name; equal if and only if users would get the same."""
        ...


@dataclass(frozen=True)
class Part:
    """Something that can be damaged, and the commands that would notice.

    Attributes:
      family: its name for --only.
      path: in the copy.
      damages: kinds that fit it.
      uses: commands that read it.
    """

    family: str
    path: str
    damages: tuple[Damage, ...]
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Case:
    """One damage before one use."""

    number: int
    part: Part
    damage: Damage
    use: Use

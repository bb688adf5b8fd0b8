"""The words of the damage benchmark: a place, a damage, a use, an outcome."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

OUTCOMES = ("correct", "refused", "silent", "traceback", "hang", "partial")
"""correct: the result of undamaged files. refused: exit status 1 and one sentence. silent: exit status 0 and another
result. traceback: anything else that ends. hang: no end within the limit. partial: files were written or lost that are
none of the command's business."""
GOOD = ("correct", "refused")


@dataclass(frozen=True)
class Place:
    """Where a damage is done.

    Attributes:
      copy: a fresh copy of what the command needs: data/, annotated/, run/, exported/.
      part: the file or folder in it that is to be damaged; for a checkpoint, its newest step.
      other: run/, data/ ... of another seed, only to be read.
      outside: a folder that no command knows, with a file keep.txt; what changes here was written out of bounds.
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
    """A damage found nothing here that it could damage."""


@dataclass(frozen=True)
class Damage:
    """One kind of damage.

    Attributes:
      name: as it stands in the table.
      apply: does it, and returns what exactly was done, for people. Raises Unfit.
    """

    name: str
    apply: Callable[[Place, Random], str]


class Use(Protocol):
    """What a user runs, and what comes of it."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Folders of the world that a copy for it must have."""
        ...

    @property
    def writes(self) -> tuple[str, ...]:
        """Files and folders of the copy that it may change even when it refuses."""
        ...

    def line(self, copy: Path, out: Path) -> list[str]:
        """The module and its arguments; `out` is a folder for what it writes."""
        ...

    def result(self, copy: Path, out: Path) -> dict[str, Any]:
        """Digests of what it made, by name; equal if and only if a user would get the same."""
        ...


@dataclass(frozen=True)
class Part:
    """Something that can be damaged, and who would notice.

    Attributes:
      family: what --only chooses by.
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

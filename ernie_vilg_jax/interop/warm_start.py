"""Starts a network from a similar one: what fits is taken, and every tensor is accounted for."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ernie_vilg_jax.aliases import Params
from ernie_vilg_jax.interop import layout
from ernie_vilg_jax.interop.safetensors_files import Tensors


class Row(NamedTuple):
    """What happened to one of our tensors."""

    path: str
    shape: tuple[int, ...]
    theirs: tuple[str, ...]
    reason: str
    """Why it was not taken; "" if it was."""


class Report(NamedTuple):
    """All of our tensors, and those of theirs that were not used."""

    rows: tuple[Row, ...]
    unused: tuple[str, ...]
    total: int
    """Tensors of theirs."""

    @property
    def taken(self) -> int:
        return sum(not row.reason for row in self.rows)

    def table(self) -> str:
        """One line for each of our tensors."""
        wide = max(len(row.path) for row in self.rows)
        lines = [f"{'tensor':<{wide}}  {'shape':<18}  taken from, or why not"]
        for row in self.rows:
            shape = " x ".join(map(str, row.shape))
            lines.append(
                f"{row.path:<{wide}}  {shape:<18}  {f'- {row.reason}' if row.reason else ', '.join(row.theirs)}"
            )
        return "\n".join(lines)

    def summary(self) -> str:
        """One line: tensors and numbers taken, and how many of theirs are left."""
        numbers = sum(int(np.prod(row.shape)) for row in self.rows)
        found = sum(int(np.prod(row.shape)) for row in self.rows if not row.reason)
        return (
            f"{self.taken} of {len(self.rows)} tensors taken ({found / 1e6:.1f}M of {numbers / 1e6:.1f}M numbers, "
            f"{found / numbers:.1%}), the others start fresh; {len(self.unused)} of their {self.total} are not used"
        )


def fit(
    fresh: Params, names: layout.Names, tensors: Tensors, reason: Callable[[str, tuple[int, ...]], str]
) -> tuple[Params, Report]:
    """(parameters, report): `fresh`, with each array replaced that `tensors` have in the same shape.

    Args:
      names: our path -> names of theirs.
      reason: (our path, its shape) -> why their counterpart cannot be used, or "" if only names or shapes differ.
        Called only for what is not taken.
    """
    leaves, rows = layout.flat(fresh), []
    for path, leaf in leaves.items():
        theirs, shape = names(path), tuple(leaf.shape)
        why = _why_not(path, shape, theirs, tensors)
        rows.append(Row(path, shape, theirs, (reason(path, shape) or why) if why else ""))
        if not why:
            leaves[path] = layout.to_ours(path, map(tensors.read, theirs))
    used = {name for row in rows if not row.reason for name in row.theirs}
    unused = tuple(sorted(set(tensors.shapes) - used))
    return layout.nested(leaves), Report(tuple(rows), unused, len(tensors.shapes))


def _why_not(path: str, shape: tuple[int, ...], theirs: tuple[str, ...], tensors: Tensors) -> str:
    missing = [name for name in theirs if name not in tensors.shapes]
    if missing or not theirs:
        return f"there is no {', '.join(missing)}" if missing else "they have no such tensor"
    wanted = layout.their_shape(path, shape, len(theirs))
    for name in theirs:
        if tensors.shapes[name] != wanted:
            return f"{name} is {list(tensors.shapes[name])}, but {list(wanted)} is needed"
    return ""


def as_tensors(origin: str, params: Params) -> Tensors:
    """One of our trees in their form, each array under its path."""
    leaves = layout.flat(params)
    shapes = {path: layout.their_shape(path, tuple(leaf.shape)) for path, leaf in leaves.items()}
    return Tensors(origin, shapes, lambda path: layout.to_theirs(path, leaves[path])[0])

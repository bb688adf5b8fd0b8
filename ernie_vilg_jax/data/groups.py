"""The records of each size, by source: what a shuffled stream is drawn from."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Mapping, Sequence

import numpy as np
from absl import logging

from ernie_vilg_jax.data.order import Ranges
from ernie_vilg_jax.data.records import RecordSource
from ernie_vilg_jax.data.sizes import Size, nearest
from ernie_vilg_jax.errors import UserError

Group = Mapping[str, Sequence[int]]
"""Source -> positions of its records."""

_MANY = 200_000
"""Records that take long enough to look at (some ten seconds) for a log line."""


def groups_of(source: RecordSource, sizes: Sequence[Size], smallest_side: int) -> list[Group]:
    """The records of each size, without images that have a side smaller than `smallest_side` pixels.

    Encoded data state them in the manifest. Otherwise every record is looked at once, unless there is no choice.
    Raises UserError if nothing is left.
    """
    stated = source.sized
    if stated is not None:
        found: list[Group] = [{name: Ranges(spans) for name, spans in stated.get(size, {}).items()} for size in sizes]
    elif len(sizes) == 1 and not smallest_side:
        found = [{name: Ranges(spans) for name, spans in source.positions.items()}]
    else:
        found = _looked_at(source, sizes, smallest_side)
    if not any(found):
        raise UserError(f"{source!r}: no image has a side of {smallest_side} pixels; lower --config.data.smallest_side")
    return found


def place_of(width: int, height: int, sizes: Sequence[Size], smallest_side: int) -> int:
    """Which of the sizes an image gets; -1 if it is left out."""
    return -1 if min(width, height) < smallest_side else nearest(sizes, width, height)


def _looked_at(source: RecordSource, sizes: Sequence[Size], smallest_side: int) -> list[Group]:
    if len(source) > _MANY:
        logging.info("looking at the sizes of %d images, once a start; `encode` states them in its data", len(source))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        dimensions = pool.map(lambda index: source[index].size(), range(len(source)))
        places = np.fromiter((place_of(*pair, sizes, smallest_side) for pair in dimensions), np.int8, len(source))
    if left_out := int((places < 0).sum()):
        logging.info("%d of %d images have a side below %d pixels: left out", left_out, len(source), smallest_side)
    found: list[Group] = []
    for place in range(len(sizes)):
        group: dict[str, Sequence[int]] = {}
        for name, spans in source.positions.items():
            mine = [np.flatnonzero(places[start:stop] == place) + start for start, stop in spans]
            if count := sum(map(len, mine)):
                positions: list[int] | np.ndarray = np.concatenate(mine).astype(np.int32 if count < 2**31 else np.int64)
                group[name] = positions  # type: ignore[assignment]
        found.append(group)
    return found

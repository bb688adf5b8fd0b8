"""Which record comes when: positions with random access, so that a stream can start anywhere.

Ranges         the positions of a source, or of a size, without a list of them
SizedBatches   elements of several streams in an order in which each batch has elements of one stream
ProcessRows    the rows of every batch that a process reads
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import grain

_MANY = 2**40
"""More batches than a run has."""


class Ranges(Sequence[int]):
    """The numbers of ranges [start, stop), one range after the other; takes no memory for the numbers."""

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        self.spans = tuple(ranges)
        self._before = [0, *itertools.accumulate(stop - start for start, stop in ranges)]

    def __len__(self) -> int:
        return self._before[-1]

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = bisect.bisect_right(self._before, index) - 1
        return self.spans[place][0] + index - self._before[place]


class ProcessRows(grain.MapDataset[Any]):
    """The rows of every global batch that a process reads, with random access to the stream.

        stream   0 1 2 3 | 4 5 6 7 | 8 9 ...      global batches of 4
        rows (2, 3)  2 3 |     6 7 |              the process of the last two; only these are read and decoded

    These are elements `k * batch_size + row` of `parent`, for k = 0, 1, ... and each of `rows`, of whole batches only.
    So the k-th batch has the same images in the same rows for any number of processes. Processes that hold copies of
    the same rows (a mesh axis `tensor` between them) read the same.
    """

    def __init__(self, parent: Any, batch_size: int, rows: Sequence[int]) -> None:
        super().__init__(parent)
        assert all(0 <= row < batch_size for row in rows), (rows, batch_size)
        self._batch_size, self._rows = batch_size, tuple(rows)

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, place = divmod(index, len(self._rows))
        return self._parent[batch * self._batch_size + self._rows[place]]


class SizedBatches(grain.MapDataset[Any]):
    """Endless streams, of which every batch takes its elements from one only, in proportion to `shares`.

        stream a   a0 a1 a2 a3 ...    share 2          a0 a1 | a2 a3 | b0 b1 | a4 a5 | ...     batches of 2
        stream b   b0 b1 b2 b3 ...    share 1

    Which stream a batch comes from follows from its number alone, so it is the same in every process.
    """

    def __init__(self, streams: Sequence[Any], shares: Sequence[float], batch_size: int) -> None:
        super().__init__(streams)
        self._batch_size = batch_size
        numbers = [grain.MapDataset.range(place * _MANY, (place + 1) * _MANY) for place in range(len(streams))]
        self._order = grain.MapDataset.mix(numbers, weights=shares)

    def __len__(self) -> int:
        return min(_MANY, len(self._order)) * self._batch_size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        number, row = divmod(index, self._batch_size)
        place, batch = divmod(self._order[number], _MANY)
        return self._parents[place][batch * self._batch_size + row]

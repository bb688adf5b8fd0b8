"""Some rows of every global batch, from anywhere in the stream: what a host whose devices hold these rows reads.

    stream   0 1 2 3 | 4 5 6 7 | 8 9 ...      global batches of 4
    rows (2, 3)  2 3 |     6 7 |              the host of the last two; only these are read and decoded

The k-th batch is the same pictures in the same places for any number of hosts. Hosts that hold copies of the same rows
(a mesh axis `tensor` between hosts) read the same.
"""

from collections.abc import Sequence
from typing import Any

import grain


class Rows(grain.MapDataset):
    """Elements `k * batch_size + row` of `parent`, for k = 0, 1, ... and each of `rows`, of whole batches only."""

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

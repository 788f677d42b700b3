"""One FIFO of samples per row, all rows in one array: any block in, any block out.

Rows are read from column 0, so that a step's worth of many rows is one slice; what is left moves
down. In the common case a row is empty after it was read, and nothing moves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FifoArray"]

Rows = npt.NDArray[np.intp]


class FifoArray:
    """`data`: float32 (rows, capacity); `fill`: int64 (rows,), samples that are there."""

    def __init__(self, rows: int, capacity: int) -> None:
        self.capacity = capacity
        self.data: npt.NDArray[np.float32] = np.zeros((rows, capacity), np.float32)
        self.fill: npt.NDArray[np.int64] = np.zeros(rows, np.int64)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = rows - self.fill.size
        self.data = np.concatenate((self.data, np.zeros((more, self.capacity), np.float32)))
        self.fill = np.concatenate((self.fill, np.zeros(more, np.int64)))

    def clear(self, row: int) -> None:
        """Empty one row."""
        self.fill[row] = 0

    def append(self, rows: Rows, block: npt.NDArray[np.float32]) -> None:
        """Append `block`, float32 (k, n), to `rows` (k,), each at most once.

        What does not fit is dropped: callers size the FIFO for what they keep in it.
        """
        at = self.fill[rows]
        size = block.shape[1]
        low = int(at.min(initial=0))
        if low == int(at.max(initial=0)) and low + size <= self.capacity:
            self.data[rows, low : low + size] = block
            self.fill[rows] = low + size
            return
        for offset in np.unique(at):
            here = at == offset
            fits = min(size, self.capacity - int(offset))
            self.data[rows[here], offset : offset + fits] = block[here, :fits]
            self.fill[rows[here]] = offset + fits

    def append_row(self, row: int, samples: npt.NDArray[np.float32]) -> None:
        """Append `samples`, float32 (n,), to one row; what does not fit is dropped."""
        at = int(self.fill[row])
        fits = min(samples.size, self.capacity - at)
        self.data[row, at : at + fits] = samples[:fits]
        self.fill[row] = at + fits

    def take(self, rows: Rows, count: int) -> npt.NDArray[np.float32]:
        """Take `count` samples of each of `rows`, which must have them; float32 (k, count)."""
        out = self.data[rows, :count]
        left = self.fill[rows] - count
        self.fill[rows] = left
        rest = rows[left > 0]
        if rest.size:
            keep = int(left.max())
            self.data[rest, :keep] = self.data[rest, count : count + keep]
        return out

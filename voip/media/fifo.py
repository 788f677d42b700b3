"""One FIFO of samples per row, all rows in one array: any block in, any block out.

Rows are read from column 0, so that a step's worth of many rows is one slice; what is left moves
down. In the common case a row is empty after it was read, and nothing moves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.media.columns import RESERVED_ROWS, Rows, distinct, lengthen, reserve

__all__ = ["FifoArray"]


class FifoArray:
    """`data`: float32 (rows, capacity); `fill`: int64 (rows,), samples that are there.

    Memory that a row never fills is never touched: a large `capacity` costs those who use it.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self.capacity = capacity
        self.data: npt.NDArray[np.float32] = reserve(rows, (capacity,), np.float32, RESERVED_ROWS)
        self.fill: npt.NDArray[np.int64] = np.zeros(rows, np.int64)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = rows - len(self.data)
        self.data = lengthen(self.data, rows, dense=False)
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
        ends = distinct(at)
        for end in ends:
            here = slice(None) if len(ends) == 1 else at == end
            fits = min(size, self.capacity - end)
            self.data[rows[here], end : end + fits] = block[here, :fits]
            self.fill[rows[here]] = end + fits

    def take(self, rows: Rows, count: int) -> npt.NDArray[np.float32]:
        """Take `count` samples of each of `rows`, which must have them; float32 (k, count)."""
        out = self.data[rows, :count]
        left = self.fill[rows] - count
        self.fill[rows] = left
        if np.count_nonzero(left):
            rest, keep = rows[left > 0], int(left.max())
            self.data[rest, :keep] = self.data[rest, count : count + keep]
        return out

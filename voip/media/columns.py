"""Arrays that share their first axis, the row: how every part of the stream table keeps its state.

A part lists its arrays in `COLUMNS`, name -> (dtype, start value, further shape), and annotates
them; `make`, `grow` and `reset` make, lengthen and clear them. Arrays are the beginnings of larger
ones, whose memory is the system's until it is used, so that they grow without being moved;
`reserve` and `lengthen` are for those that are no columns, and `give_back` returns what was used.
The rest are questions that every step asks of small arrays, in the words that NumPy answers
fastest.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from math import prod
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "RESERVED_ROWS",
    "Bools",
    "ColumnSpec",
    "Columnar",
    "Floats",
    "Ints",
    "Rows",
    "blocks",
    "distinct",
    "every",
    "give_back",
    "grow",
    "lengthen",
    "make",
    "reserve",
    "reset",
    "some",
    "where",
]

Rows = npt.NDArray[np.intp]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ColumnSpec = Mapping[str, tuple[Any, Any, tuple[int, ...]]]


class Columnar(Protocol):
    """Something whose arrays are listed in `COLUMNS`."""

    COLUMNS: ClassVar[ColumnSpec]


RESERVED_ROWS = 4096
"""Rows there is room for from the beginning; beyond them arrays move, which takes its time."""
_LARGE = 4 << 20
"""Bytes from which on large pages are asked for: 2,000 rows take a sixth less of their own time."""
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)


def reserve(rows: int, shape: tuple[int, ...], dtype: Any, reserved: int) -> npt.NDArray[Any]:
    """Return zeros (rows, *shape), the beginning of an array of `reserved` rows."""
    kind = np.dtype(dtype)
    size = max(rows, reserved) * prod(shape) * kind.itemsize
    whole = np.frombuffer(mmap.mmap(-1, size, flags=_PRIVATE), kind)
    return whole.reshape(-1, *shape)[:rows]


def lengthen(array: npt.NDArray[Any], rows: int, *, dense: bool = True) -> npt.NDArray[Any]:
    """Return an array of `reserve` with more rows, zeros: in the same memory, if there is room.

    `dense`: rows that are used are used wholly, so that large pages may be had for many of them.
    """
    memory = _memory_of(array)
    if memory is not None:
        whole = np.frombuffer(memory, array.dtype).reshape(-1, *array.shape[1:])
        if len(whole) >= rows:
            if dense and rows * array.strides[0] >= _LARGE and hasattr(memory, "madvise"):
                with suppress(OSError):  # a kernel without them
                    memory.madvise(mmap.MADV_HUGEPAGE, 0, rows * array.strides[0])
            return whole[:rows]
    longer = reserve(rows, array.shape[1:], array.dtype, 2 * rows)
    longer[: len(array)] = array
    return longer


def give_back(array: npt.NDArray[Any], first: int, last: int) -> None:
    """Let rows [first, last) of an array of `reserve` be zeros that take no memory."""
    memory = _memory_of(array)
    row_bytes = array.strides[0]
    begin = -(-first * row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    end = last * row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
    if memory is None or not hasattr(memory, "madvise") or end <= begin:
        array[first:last] = 0
        return
    array[first : -(-begin // row_bytes)] = 0
    array[end // row_bytes : last] = 0
    memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def _memory_of(array: npt.NDArray[Any]) -> mmap.mmap | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


def make(part: Columnar, rows: int, reserved: int = RESERVED_ROWS) -> None:
    """Create the arrays of `part` with `rows` rows, and room for as many as are reserved."""
    for name, (dtype, start, shape) in part.COLUMNS.items():
        array = reserve(rows, shape, dtype, reserved)
        if start != 0:
            array[:] = start
        setattr(part, name, array)


def grow(part: Columnar, rows: int) -> None:
    """Lengthen the arrays of `part` to `rows` rows; what is there stays."""
    for name, (_, start, _) in part.COLUMNS.items():
        old = getattr(part, name)
        array = lengthen(old, rows)
        if start != 0:
            array[len(old) :] = start
        setattr(part, name, array)


def reset(part: Columnar, rows: int | Rows) -> None:
    """Set one row, or several, back to the start values."""
    for name, (_, start, _) in part.COLUMNS.items():
        getattr(part, name)[rows] = start


def some(mask: Bools) -> bool:
    """Whether any element is True: a tenth of the time of `mask.any()`."""
    return 1 in mask.tobytes()


def every(mask: Bools) -> bool:
    """Whether all elements are True."""
    return 0 not in mask.tobytes()


def where(mask: Bools) -> Rows:
    """Return the indices (k,) at which `mask`, of one axis, is True."""
    return mask.nonzero()[0]


def distinct(values: npt.NDArray[Any]) -> list[int]:
    """Return the different values of an integer array, in order; mostly there is one."""
    if not values.size:
        return []
    first = values[0]
    if every(values == first):
        return [int(first)]
    return [int(value) for value in np.unique(values)]


def blocks(array: npt.NDArray[np.uint8], start: int, width: int) -> npt.NDArray[np.void]:
    """Return bytes [start, start + width) of each row of `array` as one element: void (rows,).

    A view of an array, uint8 (rows, bytes), whose rows are contiguous. Indexing it moves whole
    blocks; `array[rows, start : start + width]` takes half as long again.
    """
    view: npt.NDArray[np.void] = array[:, start : start + width].view(_void(width))[:, 0]
    return view


@cache
def _void(width: int) -> np.dtype[np.void]:
    return np.dtype((np.void, width))

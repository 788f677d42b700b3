"""Arrays that share their first axis, the row: how every part of the stream table keeps its state.

A part lists its arrays in `COLUMNS`, name -> (dtype, start value, further shape), and annotates
them; `make`, `grow` and `reset` make, lengthen and clear them. The rest are questions that every
step asks of small arrays, in the words that NumPy answers fastest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "Bools",
    "ColumnSpec",
    "Columnar",
    "Floats",
    "Ints",
    "Rows",
    "blocks",
    "distinct",
    "every",
    "grow",
    "make",
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


def make(part: Columnar, rows: int) -> None:
    """Create the arrays of `part` with `rows` rows."""
    for name, (dtype, start, shape) in part.COLUMNS.items():
        setattr(part, name, np.full((rows, *shape), start, dtype))


def grow(part: Columnar, rows: int) -> None:
    """Lengthen the arrays of `part` to `rows` rows; what is there stays."""
    for name, (dtype, start, shape) in part.COLUMNS.items():
        old = getattr(part, name)
        more = np.full((rows - len(old), *shape), start, dtype)
        setattr(part, name, np.concatenate((old, more)))


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

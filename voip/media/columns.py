"""Arrays that share their first axis, the row: how every part of the stream table keeps its state.

A part lists its arrays in `COLUMNS`, name -> (dtype, start value, further shape), and annotates
them; these three functions make, lengthen and clear them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "ColumnSpec", "Columnar", "Floats", "Ints", "Rows", "grow", "make", "reset"]

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

"""What the arrays of this package are, and what most sums here are made of."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Index", "begins", "correlated", "delayed", "windows"]

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


@lru_cache(maxsize=128)
def begins(rows: int, samples: int) -> Index:
    """Return where rows of so many samples begin in one dimension: (rows, 1), read-only."""
    out = samples * np.arange(rows)[:, None]
    out.flags.writeable = False
    return out


def windows(signal: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """Return all stretches of `length` samples: (rows, samples) to (rows, places, length), a view.

    `signal` is C-contiguous. (NumPy's own function for it costs as much as what is done with it.)
    """
    rows, samples = signal.shape
    step = signal.itemsize
    shape = rows, samples - length + 1, length
    return np.ndarray(shape, signal.dtype, signal.data, 0, (samples * step, step, step))


def delayed(signal: Floats, count: int) -> Floats:
    """Return (rows, samples) as columns, each a sample later: (rows, samples + count - 1, count).

    What a product with them makes of a stretch of as many samples is its correlations with the
    signal at `count` places. BLAS is so much faster at it that more is multiplied than there is.
    """
    rows, samples = signal.shape
    padded = np.zeros((rows, samples + 2 * count - 2))
    padded[:, count - 1 : count - 1 + samples] = signal
    # The columns lie in memory one after the other: that is how they are copied fastest.
    return np.ascontiguousarray(windows(padded, samples + count - 1)[:, ::-1]).swapaxes(1, 2)


def correlated(signal: Floats, taps: Floats) -> Floats:
    """Return sums of as many neighbours as there are taps: (rows, samples) to (rows, places).

    `signal` and `taps` are C-contiguous, the taps at most 11, of which NumPy has a loop of its own
    for one signal: the rows one after the other, of which sums across two rows are left out.
    """
    rows, samples = signal.shape
    sums = np.correlate(signal.reshape(-1), taps)
    shape, step = (rows, samples - taps.size + 1), sums.itemsize
    return np.ndarray(shape, sums.dtype, sums.data, 0, (samples * step, step))

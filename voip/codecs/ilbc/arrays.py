"""What the arrays of this package are, and a view that most sums here are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Index", "windows"]

Floats = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]


def windows(signal: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """Return all stretches of `length` samples: (rows, samples) to (rows, places, length), a view.

    `signal` is C-contiguous. (NumPy's own function for it costs as much as what is done with it.)
    """
    rows, samples = signal.shape
    step = signal.itemsize
    shape = rows, samples - length + 1, length
    return np.ndarray(shape, signal.dtype, signal.data, 0, (samples * step, step, step))

"""Line spectral frequencies: received, kept apart, interpolated (sections 3.2.4 to 3.2.7)."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc.arrays import Floats
from voip.codecs.ilbc.mode import Mode
from voip.codecs.ilbc.tables import LSF_CODEBOOKS, LSF_MEAN, ORDER

__all__ = ["dequantise", "interpolate", "mean", "quantise", "separate"]

_CLOSE: Final = 0.039
"""50 Hz in radians: what is nearer is moved apart by half of it to each side."""
_SPLITS: Final = (slice(0, 3), slice(3, 6), slice(6, 10))
_HALF_POWERS: Final = tuple(0.5 * (codebook**2).sum(axis=1) for codebook in LSF_CODEBOOKS)

_WEIGHTS_20: Final = np.arange(1, 5)[:, None] / 4
_WEIGHTS_30: Final = np.array([0, 0, 1, 2, 3, 3])[1:, None] / 3


def quantise(lsf: Floats) -> npt.NDArray[np.intp]:
    """Return the nearest vectors of the three codebooks: (rows, 10) to (rows, 3)."""
    index = np.empty((len(lsf), 3), np.intp)
    books = zip(_SPLITS, LSF_CODEBOOKS, _HALF_POWERS, strict=True)
    for split, (part, codebook, half_power) in enumerate(books):
        # What is nearest: half the square of the distance, less what is the same for all vectors.
        likeness = (lsf[:, None, part] @ codebook.T)[:, 0] - half_power
        index[:, split] = likeness.argmax(axis=1)
    return index


def dequantise(index: npt.NDArray[np.integer]) -> Floats:
    """Return the frequencies (rows, 10) of three indices (rows, 3), in order and apart."""
    parts = [codebook.take(index[:, split], axis=0) for split, codebook in enumerate(LSF_CODEBOOKS)]
    return separate(np.concatenate(parts, axis=1))


def separate(lsf: Floats) -> Floats:
    """Move apart in place what is less than 50 Hz apart (section 3.2.5); return `lsf`.

    Two passes from below; of two that come in the wrong order the upper goes above the lower. (All
    that three indices can say is then in order, and far from 0 and 4000 Hz.)
    """
    close = lsf[:, 1:] - lsf[:, :-1] < _CLOSE
    if not close.any():
        return lsf
    rows = np.flatnonzero(close.any(axis=1))
    some = lsf[rows].T
    for _ in range(2):
        for low, high in pairwise(some):
            close, crossed = high - low < _CLOSE, high < low
            high[:] = np.where(close, np.where(crossed, low, high) + _CLOSE / 2, high)
            low[:] = np.where(close & ~crossed, low - _CLOSE / 2, low)
    lsf[rows] = some.T
    return lsf


def interpolate(old: Floats, sets: Floats, mode: Mode) -> Floats:
    """Return the frequencies of each sub-block: (rows, sub-blocks, 10).

    old: (rows, 10), of the frame before; sets: (rows, 1 or 2, 10), of this one.
    """
    if mode.lsf_sets == 1:
        return old[:, None] + _WEIGHTS_20 * (sets - old[:, None])
    first, second = sets[:, :1], sets[:, 1:]
    out = np.empty((len(old), mode.sub_blocks, ORDER))
    out[:, :1] = 0.5 * (old[:, None] + first)
    out[:, 1:] = first + _WEIGHTS_30 * (second - first)
    return out


def mean(rows: int) -> Floats:
    """Return what was before the first frame: (rows, 10)."""
    return np.tile(LSF_MEAN, (rows, 1))

"""How loud streams are: the loudest step of the last second, heard and sent."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import (
    Bools,
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    grow,
    make,
    reset,
    some,
    where,
)

__all__ = ["Levels", "is_clipped"]

_LOUD = np.float32(10 ** (-12 / 10))
"""A step below this mean square is not looked at for flat tops: speech rarely gets there."""
_TOP = np.float32(0.97)
"""Only the outermost values of G.711 are beyond it."""


class Levels:
    """Mean squares of the loudest step of this second and of the one before, by row."""

    heard: Floats
    heard_before: Floats
    sent: Floats
    sent_before: Floats
    clipped: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "heard": (np.float64, 0.0, ()),
        "heard_before": (np.float64, 0.0, ()),
        "sent": (np.float64, 0.0, ()),
        "sent_before": (np.float64, 0.0, ()),
        "clipped": (np.int64, 0, ()),  # steps of this second that were heard with flat tops
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Start a row afresh."""
        reset(self, row)

    def hear(self, rows: Rows, pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Measure what is heard on `rows` (k,): float32 (k, samples); return mean squares (k,)."""
        power = _mean_square(pcm)
        self.heard[rows] = np.maximum(self.heard[rows], power)
        loud = power > _LOUD
        if some(loud):
            at = where(loud)
            self.clipped[rows[at]] += is_clipped(pcm[at])
        return power

    def send(self, rows: Rows, pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Measure what is sent on `rows` (k,): float32 (k, samples); return mean squares (k,)."""
        power = _mean_square(pcm)
        self.sent[rows] = np.maximum(self.sent[rows], power)
        return power

    def turn(self) -> None:
        """Begin another second."""
        self.heard_before[:] = self.heard
        self.sent_before[:] = self.sent
        self.heard.fill(0.0)
        self.sent.fill(0.0)
        self.clipped.fill(0)


def _mean_square(pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    square: npt.NDArray[np.float32] = np.einsum("ij,ij->i", pcm, pcm)
    return square / np.float32(pcm.shape[1])


def is_clipped(pcm: npt.NDArray[np.float32]) -> Bools:
    """Say which rows of `pcm`, float32 (k, samples), have flat tops: 3 % of the samples or more.

    A sample is on a flat top where both its neighbours are at full scale with it, of one sign.
    """
    flat = np.zeros((len(pcm), pcm.shape[1] - 2), np.bool_)
    for top in (pcm >= _TOP, pcm <= -_TOP):
        flat |= top[:, :-2] & top[:, 1:-1] & top[:, 2:]
    clipped: Bools = np.count_nonzero(flat, axis=1) * 32 >= pcm.shape[1]
    return clipped

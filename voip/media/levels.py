"""How loud streams are: the loudest step of the last second, heard and sent."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import ColumnSpec, Floats, Rows, grow, make, reset

__all__ = ["Levels"]


class Levels:
    """Mean squares of the loudest step of this second and of the one before, by row."""

    heard: Floats
    heard_before: Floats
    sent: Floats
    sent_before: Floats

    COLUMNS: ClassVar[ColumnSpec] = {
        "heard": (np.float64, 0.0, ()),
        "heard_before": (np.float64, 0.0, ()),
        "sent": (np.float64, 0.0, ()),
        "sent_before": (np.float64, 0.0, ()),
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
        return power

    def send(self, rows: Rows, pcm: npt.NDArray[np.float32]) -> None:
        """Measure what is sent on `rows` (k,): float32 (k, samples)."""
        self.sent[rows] = np.maximum(self.sent[rows], _mean_square(pcm))

    def turn(self) -> None:
        """Begin another second."""
        self.heard_before[:] = self.heard
        self.sent_before[:] = self.sent
        self.heard.fill(0.0)
        self.sent.fill(0.0)


def _mean_square(pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    square: npt.NDArray[np.float32] = np.einsum("ij,ij->i", pcm, pcm)
    return square / np.float32(pcm.shape[1])

"""A limiter for many rows: what is too loud is made softer as a whole, and let go of slowly.

Nothing is touched that fits, and nothing is delayed: a row whose next step would not fit is
brought down within the first quarter of it, along a line, so that there is no click; what sticks
out until then is cut. It comes back by 10 dB a second.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import ColumnSpec, Rows, every, grow, make, reset, some, where

__all__ = ["Limiter"]

Pcm = npt.NDArray[np.float32]
_RELEASE = np.float32(10 ** (0.1 / 20))
"""Of a step of 10 ms."""


class Limiter:
    """By how much each row is made softer now."""

    held: npt.NDArray[np.float32]

    COLUMNS: ClassVar[ColumnSpec] = {"held": (np.float32, 1.0, ())}

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self._is_idle = True  # no row is held down

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Hold a row down no more."""
        reset(self, row)

    def limit(self, rows: Rows, sound: Pcm) -> None:
        """Fit the next step of `rows` (k,), float32 (k, samples), into [-1, 1], in place."""
        if self._is_idle and sound.max() <= 1.0 and sound.min() >= -1.0:
            return
        peak = np.maximum(sound.max(axis=1), -sound.min(axis=1))
        held = self.held[rows]
        busy = (peak > 1.0) | (held < 1.0)
        if not some(busy):
            return
        self._is_idle = False
        at = where(busy)
        peak, held = peak[at], held[at]
        free = np.minimum(held * _RELEASE, np.float32(1.0))
        # a row that is silent has no reciprocal, and needs none
        aim = np.minimum(free, np.float32(1.0) / np.maximum(peak, np.float32(1e-6)))
        self.held[rows[at]] = aim
        self._is_idle = every(self.held == 1.0)
        samples = sound.shape[1]
        slow = np.arange(1, samples + 1, dtype=np.float32) / np.float32(samples)
        quick = np.minimum(slow * np.float32(4.0), np.float32(1.0))
        line = np.where((aim < held)[:, None], quick, slow)
        gain = held[:, None] + (aim - held)[:, None] * line
        sound[at] = np.clip(sound[at] * gain, -1.0, 1.0)

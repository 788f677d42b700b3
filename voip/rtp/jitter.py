"""How long to hold packets back: a jitter policy for many streams at once.

The relative delay of a packet is how much longer it took than the quickest of late; a histogram of
relative delays with exponential forgetting gives the target, its high quantile. The idea is the
delay manager of WebRTC's NetEQ; a survey is Narbutt, Kelly, Murphy, Perry, "Adaptive VoIP playout
scheduling" (IEEE Internet Computing 9, 2005). Only differences of clocks enter, never their values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["DelayEstimator"]

Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

_BIN_S = 0.010
_BINS = 64
_QUANTILE = 0.98
_MEMORY = 400
"""Packets after which a delay has lost two thirds of its weight: 8 s at 20 ms."""
_WINDOW = 250
"""Packets over which the quickest one counts; it is forgotten after two windows at most."""


class DelayEstimator:
    """Relative delay and target of every row; seconds everywhere."""

    def __init__(self, rows: int) -> None:
        self._rows = 0
        self.histogram: npt.NDArray[np.float32] = np.zeros((0, _BINS), np.float32)
        self.seen: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.quickest: Floats = np.zeros(0)
        self._window_quickest: Floats = np.zeros(0)
        self._earlier_quickest: Floats = np.zeros(0)
        self.grow(rows)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = rows - self._rows
        self._rows = rows
        self.histogram = np.concatenate((self.histogram, np.zeros((more, _BINS), np.float32)))
        self.seen = np.concatenate((self.seen, np.zeros(more, np.int64)))
        infinite = np.full(more, np.inf)
        self.quickest = np.concatenate((self.quickest, infinite))
        self._window_quickest = np.concatenate((self._window_quickest, infinite))
        self._earlier_quickest = np.concatenate((self._earlier_quickest, infinite))

    def reset(self, rows: int | Rows) -> None:
        """Forget what is known of a row, or of several."""
        self.histogram[rows] = 0.0
        self.seen[rows] = 0
        self.quickest[rows] = np.inf
        self._window_quickest[rows] = np.inf
        self._earlier_quickest[rows] = np.inf

    def update(self, rows: Rows, transit: Floats) -> Floats:
        """Take one packet of each of `rows` (k,): arrival minus timestamp, in seconds.

        Returns its relative delay in seconds, (k,), 0 for the quickest of late.
        """
        turn = self.seen[rows] % _WINDOW == 0
        if turn.any():
            turned = rows[turn]
            self._earlier_quickest[turned] = self._window_quickest[turned]
            self._window_quickest[turned] = np.inf
        window = np.minimum(self._window_quickest[rows], transit)
        self._window_quickest[rows] = window
        quickest = np.minimum(window, self._earlier_quickest[rows])
        self.quickest[rows] = quickest
        delay: Floats = transit - quickest

        seen = np.minimum(self.seen[rows] + 1, _MEMORY)
        self.seen[rows] += 1
        weight = (1.0 / seen).astype(np.float32)  # a plain mean at first, then forgetting
        bins = np.minimum(np.ceil(delay / _BIN_S - 0.1), _BINS - 1).astype(np.intp)
        self.histogram[rows] *= (1.0 - weight)[:, None]
        self.histogram[rows, bins] += weight
        return delay

    def target(self, rows: Rows) -> Floats:
        """Return the delay, in seconds (k,), that all but 2 % of late packets kept within."""
        shares = np.cumsum(self.histogram[rows], axis=1)
        within: Floats = (shares < _QUANTILE * shares[:, -1:]).sum(axis=1) * _BIN_S
        return within

    def mean(self, row: int) -> float:
        """Return the mean relative delay of one row in seconds."""
        weights = self.histogram[row]
        total = float(weights.sum())
        return float(weights @ (np.arange(_BINS) * _BIN_S)) / total if total else 0.0

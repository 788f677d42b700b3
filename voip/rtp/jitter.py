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
_GROWTH = 1.0 / (1.0 - 1.0 / 400)
"""How much more a packet weighs than the one before: 8 s of 20 ms packets lose two thirds."""
_HEAVY = 1e12
"""A weight at which a histogram is scaled down, long before float32 ends."""
_WINDOW = 250
"""Packets over which the quickest one counts; it is forgotten after two windows at most."""


class DelayEstimator:
    """Relative delay and target of every row; seconds everywhere."""

    def __init__(self, rows: int) -> None:
        self._rows = 0
        self._bins: npt.NDArray[np.float32]  # the histograms as one axis
        self.histogram: npt.NDArray[np.float32] = np.zeros((0, _BINS), np.float32)
        self.quickest: Floats = np.zeros(0)
        self._weight: Floats = np.zeros(0)  # of the last packet; the older ones weigh less
        self._left: npt.NDArray[np.int64] = np.zeros(0, np.int64)  # packets of this window
        self._window_quickest: Floats = np.zeros(0)
        self.grow(rows)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = rows - self._rows
        self._rows = rows
        self.histogram = np.concatenate((self.histogram, np.zeros((more, _BINS), np.float32)))
        self._bins = self.histogram.reshape(-1)
        self._weight = np.concatenate((self._weight, np.ones(more)))
        self._left = np.concatenate((self._left, np.full(more, _WINDOW)))
        infinite = np.full(more, np.inf)
        self.quickest = np.concatenate((self.quickest, infinite))
        self._window_quickest = np.concatenate((self._window_quickest, infinite))

    def reset(self, rows: int | Rows) -> None:
        """Forget what is known of a row, or of several."""
        self.histogram[rows] = 0.0
        self._weight[rows] = 1.0
        self._left[rows] = _WINDOW
        self.quickest[rows] = np.inf
        self._window_quickest[rows] = np.inf

    def update(self, rows: Rows, transit: Floats) -> None:
        """Take one packet of each of `rows` (k,): arrival minus timestamp, in seconds."""
        left = self._left[rows] - 1
        self._left[rows] = left
        if np.count_nonzero(left) < left.size:
            self._turn(rows[left == 0])
        self._window_quickest[rows] = np.minimum(self._window_quickest[rows], transit)
        quickest = np.minimum(self.quickest[rows], transit)
        self.quickest[rows] = quickest

        bins = np.minimum(np.ceil((transit - quickest) * (1 / _BIN_S) - 0.1), _BINS - 1)
        weight = self._weight[rows] * _GROWTH
        self._weight[rows] = weight
        self._bins[rows * _BINS + bins.astype(np.intp)] += weight

    def target(self, rows: Rows) -> Floats:
        """Return the delay, in seconds (k,), that all but 2 % of late packets kept within."""
        shares = np.cumsum(self.histogram[rows], axis=1)
        within: Floats = (shares < _QUANTILE * shares[:, -1:]).sum(axis=1) * _BIN_S
        return within

    def _turn(self, rows: Rows) -> None:
        self._left[rows] = _WINDOW
        self.quickest[rows] = self._window_quickest[rows]
        self._window_quickest[rows] = np.inf
        heavy = rows[self._weight[rows] > _HEAVY]
        self.histogram[heavy] /= self._weight[heavy, None]
        self._weight[heavy] = 1.0

"""How long to hold packets back: a jitter policy for many streams at once.

The relative delay of a packet is how much longer it took than the quickest of late; a histogram of
relative delays with exponential forgetting gives the target, its high quantile. The idea is the
delay manager of WebRTC's NetEQ; a survey is Narbutt, Kelly, Murphy, Perry, "Adaptive VoIP playout
scheduling" (IEEE Internet Computing 9, 2005). Only differences of clocks enter, never their values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BINS", "BIN_S", "GROWTH", "HEAVY", "QUANTILE", "WINDOW", "DelayEstimator"]

Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

BIN_S = 0.010
BINS = 64
QUANTILE = 0.98
GROWTH = 1.0 / (1.0 - 1.0 / 400)
"""How much more a packet weighs than the one before: 8 s of 20 ms packets lose two thirds."""
HEAVY = 1e12
"""A weight at which a histogram is scaled down, long before float32 ends."""
WINDOW = 250
"""Packets over which the quickest one counts; it is forgotten after two windows at most."""


class DelayEstimator:
    """Relative delay and target of every row; seconds everywhere."""

    def __init__(self, rows: int) -> None:
        self._rows = 0
        self._bins: npt.NDArray[np.float32]  # the histograms as one axis
        self.histogram: npt.NDArray[np.float32] = np.zeros((0, BINS), np.float32)
        self.quickest: Floats = np.zeros(0)
        self.weight: Floats = np.zeros(0)  # of the last packet; the older ones weigh less
        self.window_left: npt.NDArray[np.int64] = np.zeros(0, np.int64)  # packets of this window
        self.window_quickest: Floats = np.zeros(0)
        self.grow(rows)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = rows - self._rows
        self._rows = rows
        self.histogram = np.concatenate((self.histogram, np.zeros((more, BINS), np.float32)))
        self._bins = self.histogram.reshape(-1)
        self.weight = np.concatenate((self.weight, np.ones(more)))
        self.window_left = np.concatenate((self.window_left, np.full(more, WINDOW)))
        infinite = np.full(more, np.inf)
        self.quickest = np.concatenate((self.quickest, infinite))
        self.window_quickest = np.concatenate((self.window_quickest, infinite))

    def reset(self, rows: int | Rows) -> None:
        """Forget what is known of a row, or of several."""
        self.histogram[rows] = 0.0
        self.weight[rows] = 1.0
        self.window_left[rows] = WINDOW
        self.quickest[rows] = np.inf
        self.window_quickest[rows] = np.inf

    def update(self, rows: Rows, transit: Floats) -> None:
        """Take one packet of each of `rows` (k,): arrival minus timestamp, in seconds."""
        left = self.window_left[rows] - 1
        self.window_left[rows] = left
        if np.count_nonzero(left) < left.size:
            self._turn(rows[left == 0])
        self.window_quickest[rows] = np.minimum(self.window_quickest[rows], transit)
        quickest = np.minimum(self.quickest[rows], transit)
        self.quickest[rows] = quickest

        bins = np.minimum(np.ceil((transit - quickest) * (1 / BIN_S) - 0.1), BINS - 1)
        weight = self.weight[rows] * GROWTH
        self.weight[rows] = weight
        self._bins[rows * BINS + bins.astype(np.intp)] += weight

    def target(self, rows: Rows) -> Floats:
        """Return the delay, in seconds (k,), that all but 2 % of late packets kept within."""
        shares = np.cumsum(self.histogram[rows], axis=1)
        within: Floats = (shares < QUANTILE * shares[:, -1:]).sum(axis=1) * BIN_S
        return within

    def _turn(self, rows: Rows) -> None:
        self.window_left[rows] = WINDOW
        self.quickest[rows] = self.window_quickest[rows]
        self.window_quickest[rows] = np.inf
        heavy = rows[self.weight[rows] > HEAVY]
        self.histogram[heavy] /= self.weight[heavy, None]
        self.weight[heavy] = 1.0

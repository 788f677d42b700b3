"""How long to hold packets back: a jitter policy for many streams at once.

The relative delay of a packet is how much longer it took than the quickest of late. The target is a
high percentile of the relative delays of the last packets, from a histogram over a window that
slides: the rule of Moon, Kurose, Towsley, "Packet audio playout delay adjustment: performance
bounds and algorithms" (Multimedia Systems 6, 1998), which needs no separate mode for the spikes of
Ramjee, Kurose, Towsley, Schulzrinne (INFOCOM 1994): a stall is in the window as soon as its packets
are, and gone when they are. WebRTC's NetEQ takes a percentile likewise, of a histogram that forgets
exponentially; a window forgets all of a stall at a time that is known. Only differences of clocks
enter, never their values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALLOWANCE",
    "BINS",
    "BIN_S",
    "FEW",
    "JUMP_S",
    "QUICKER_S",
    "QUICKEST_WINDOW",
    "SETTLING",
    "SOME",
    "TAIL",
    "UNSEEN",
    "WINDOW",
    "DelayEstimator",
]

Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

BIN_S = 0.005
BINS = 128
UNSEEN = BINS - 1
"""The bin of what has not come yet; delays are in those before, the last of which has no end."""
WINDOW = 500
"""Packets whose relative delay counts: 10 s of 20 ms."""
QUICKEST_WINDOW = 250
"""Packets over which the quickest one counts; it is forgotten after two windows at most."""
SETTLING = 100
QUICKER_S = 0.0015
"""After so many packets the quickest is known: one that comes much earlier than that is of a sender
that sends ahead, and is believed by so much. A quicker route is believed in the end."""
JUMP_S = 0.15
"""So much quicker than the packet before: the sender's clock has jumped."""
SOME, FEW = 64, 240
"""Of so many packets the latest may well be earlier than what is aimed at in the end: on average it
is so up to 184, and what is not known yet is better guessed too late."""
TAIL = 150
"""Delays whose tail is exponential: of n packets, the latest is earlier than that of 240 by
ln(240/n)/ln(5) times what lies between half and nine tenths of them; for the n that are some but
few, that is (240 - n)/(150 + n) times it, within a twentieth."""
ALLOWANCE = 0.002
"""The share of packets that may come later than the target; of fewer than 200, none."""


class DelayEstimator:
    """Relative delay and target of every row; seconds everywhere.

    histogram: int16 (rows, BINS), how many of the last packets were so late; recent: uint8 (rows,
    WINDOW), their bins, the oldest at `position`.
    """

    def __init__(self, rows: int) -> None:
        self._rows = 0
        self.histogram: npt.NDArray[np.int16] = np.zeros((0, BINS), np.int16)
        self.recent: npt.NDArray[np.uint8] = np.zeros((0, WINDOW), np.uint8)
        self.position: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.quickest: Floats = np.zeros(0)
        self.last: Floats = np.zeros(0)
        self.window_left: npt.NDArray[np.int64] = np.zeros(0, np.int64)  # packets of this window
        self.window_quickest: Floats = np.zeros(0)
        self.grow(rows)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = rows - self._rows
        self._rows = rows
        self.histogram = np.concatenate((self.histogram, _empty(more)))
        self.recent = np.concatenate((self.recent, np.full((more, WINDOW), UNSEEN, np.uint8)))
        self._bins = self.histogram.reshape(-1)  # as one axis
        self._recent = self.recent.reshape(-1)
        self.position = np.concatenate((self.position, np.zeros(more, np.int64)))
        self.window_left = np.concatenate((self.window_left, np.full(more, QUICKEST_WINDOW)))
        infinite = np.full(more, np.inf)
        self.quickest = np.concatenate((self.quickest, infinite))
        self.last = np.concatenate((self.last, infinite))
        self.window_quickest = np.concatenate((self.window_quickest, infinite))

    def reset(self, rows: int | Rows) -> None:
        """Forget what is known of a row, or of several."""
        self.histogram[rows] = _empty(1)[0]
        self.recent[rows] = UNSEEN
        self.position[rows] = 0
        self.window_left[rows] = QUICKEST_WINDOW
        self.quickest[rows] = np.inf
        self.last[rows] = np.inf
        self.window_quickest[rows] = np.inf

    def update(self, rows: Rows, transit: Floats) -> None:
        """Take one packet of each of `rows` (k,): arrival minus timestamp, in seconds."""
        left = self.window_left[rows] - 1
        self.window_left[rows] = left
        if np.count_nonzero(left) < left.size:
            for row in rows[left == 0]:
                self._turn(int(row))
        quickest = self.quickest[rows]
        early = quickest - transit > QUICKER_S
        if np.count_nonzero(early):
            early &= self.histogram[rows, UNSEEN] <= WINDOW - SETTLING
            early &= self.last[rows] - transit < JUMP_S
            self.last[rows] = transit
            transit = np.where(early, quickest - QUICKER_S, transit)
        else:
            self.last[rows] = transit
        self.window_quickest[rows] = np.minimum(self.window_quickest[rows], transit)
        quickest = np.minimum(quickest, transit)
        self.quickest[rows] = quickest

        late = np.ceil((transit - quickest) * (1 / BIN_S) - 0.1)
        bins = np.minimum(late, UNSEEN - 1).astype(np.uint8)
        position = self.position[rows]
        at = rows * WINDOW + position
        self._bins[rows * BINS + self._recent[at]] -= 1
        self._bins[rows * BINS + bins] += 1
        self._recent[at] = bins
        position += 1
        position[position == WINDOW] = 0
        self.position[rows] = position

    def target(self, rows: Rows, allowance: Floats | float = ALLOWANCE) -> Floats:
        """Return the delay, in seconds (k,), that all but a share of late packets kept within.

        allowance: that share, one for all or (k,).
        """
        within = np.cumsum(self.histogram[rows, :UNSEEN], axis=1, dtype=np.int64)
        seen = within[:, -1]
        enough = seen - (allowance * seen).astype(np.int64)
        bins = (within < enough[:, None]).sum(axis=1)
        few = (seen >= SOME) & (seen < FEW) & (enough == seen)
        if np.count_nonzero(few):
            bins[few] += _beyond(within[few], seen[few], bins[few])
        target: Floats = bins * BIN_S
        return target

    def _turn(self, row: int) -> None:
        """Forget the quickest packet before the last window: delays count from another now."""
        self.window_left[row] = QUICKEST_WINDOW
        longer = np.floor((self.window_quickest[row] - self.quickest[row]) * (1 / BIN_S) + 0.5)
        self.quickest[row] = self.window_quickest[row]
        self.window_quickest[row] = np.inf
        if longer >= 1:
            recent = self.recent[row].astype(np.int64)
            seen = recent < UNSEEN
            recent[seen] = np.maximum(recent[seen] - int(min(longer, BINS)), 0)
            self.recent[row] = recent
            self.histogram[row] = np.bincount(recent, minlength=BINS)


def _beyond(
    within: npt.NDArray[np.int64], seen: npt.NDArray[np.int64], latest: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return by how many bins (k,) the target is likely to be beyond so few packets.

    At most as many as the latest tenth of them takes: a delay that has grown has no such tail.
    """
    half = (2 * within < seen[:, None]).sum(axis=1)
    most = (10 * within < 9 * seen[:, None]).sum(axis=1)
    likely: npt.NDArray[np.int64] = (most - half) * (FEW - seen) // (TAIL + seen)
    beyond: npt.NDArray[np.int64] = np.minimum(likely, latest - most)
    return beyond


def _empty(rows: int) -> npt.NDArray[np.int16]:
    """Return histograms of nothing: int16 (rows, BINS)."""
    empty = np.zeros((rows, BINS), np.int16)
    empty[:, UNSEEN] = WINDOW
    return empty

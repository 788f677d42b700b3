"""What every row has heard last: what concealment repeats.

Most of it is never asked for, since few packets are lost. So a packet that was heard whole is not
copied: its payload stays in its slot, which is filled anew 64 packets later at the earliest, and
is decoded once more when a gap follows.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import ColumnSpec, Ints, Rows, grow, make, reset, some
from voip.media.lane import Lane
from voip.media.payloads import PayloadRing

__all__ = ["HISTORY", "Past"]

HISTORY = 160
"""Samples of the past that concealment repeats."""


class Past:
    """The last `HISTORY` samples of every row, as sound or as the packet they came in."""

    sound: npt.NDArray[np.float32]
    packet: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "sound": (np.float32, 0.0, (HISTORY,)),
        "packet": (np.int64, -1, ()),  # the slot of the payload that is the past; -1: `sound` is
    }

    def __init__(self, rows: int, lane: Lane, ring: PayloadRing) -> None:
        make(self, rows)
        self._lane = lane
        self._ring = ring

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Start a row afresh."""
        reset(self, row)

    def hear_packets(self, rows: Rows, slots: Ints) -> None:
        """Note that `rows` (k,) have heard the packets in `slots` (k,), of `HISTORY` samples."""
        self.packet[rows] = slots

    def hear(self, rows: Rows, pcm: npt.NDArray[np.float32]) -> None:
        """Note that `rows` (k,) have heard `pcm`, float32 (k, samples)."""
        width = pcm.shape[1]
        if width >= HISTORY:
            self.packet[rows] = -1
            self.sound[rows] = pcm[:, width - HISTORY :]
        else:
            past = self.last(rows)
            self.sound[rows, :-width] = past[:, width:]
            self.sound[rows, HISTORY - width :] = pcm

    def levels(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return the loudest of these samples for each of `rows` (k,)."""
        loudest: npt.NDArray[np.float32] = np.abs(self.last(rows)).max(axis=1)
        return loudest

    def last(self, rows: Rows) -> npt.NDArray[np.float32]:
        """Return the last `HISTORY` samples that `rows` (k,) have heard: float32 (k, HISTORY)."""
        slots = self.packet[rows]
        undecoded = slots >= 0
        if some(undecoded):
            late, slots = rows[undecoded], slots[undecoded]
            payloads = self._ring.payloads(slots, HISTORY)
            self.sound[late] = self._lane.decode(self._ring.code[slots], payloads)
            self.packet[late] = -1
        return self.sound[rows]

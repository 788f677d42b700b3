"""Packets on their way into the jitter buffer: kept, or dropped as late, repeated or astray."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voip.media.columns import Bools, Floats, Ints, Rows, some, where
from voip.media.voiced import Voiced

if TYPE_CHECKING:
    from voip.media.playout import Playout

__all__ = ["LATE_RUN", "RESTART_S", "Arrivals"]

LATE_RUN = 10
"""Packets late in a row after which a stream is started anew."""
RESTART_S = 2.0
"""A packet this far from its time has another time base: the stream has started anew."""


class Arrivals:
    """Takes packets for the rows of a `Playout`, in whose columns it works."""

    def __init__(self, playout: Playout, voiced: Voiced) -> None:
        self._playout = playout
        self._voiced = voiced

    def take(
        self,
        rows: Rows,
        sequence: Ints,
        timestamp: Ints,
        duration: Ints,
        arrival: Floats,
        marker: Bools,
        code: npt.NDArray[np.uint8],
        data: npt.NDArray[np.uint8],
        packet: Rows,
        offset: Ints,
        size: Ints,
    ) -> None:
        """Take one packet for each of `rows` (k,), each row at most once, and keep it or drop it.

        Sequence and timestamp are extended, timestamp and duration in samples; marker: whether a
        talkspurt begins; the payload is `data[packet, offset : offset + size]`. What cannot be
        decoded, which is of no duration, is dropped.
        """
        playout, ring = self._playout, self._playout.ring
        transit = arrival - timestamp / playout.rates(rows)
        slots = ring.slots(rows, sequence)
        repeated = (ring.sequence[slots] == sequence) & (ring.spare[slots] != -sequence)
        late = timestamp + duration <= playout.decoded[rows]
        astray = np.abs(transit - playout.delays.quickest[rows]) > RESTART_S
        if some(astray | late):  # an idle row, too: nothing of it was quick so far
            idle = playout.state[rows] == playout.IDLE
            late &= ~repeated
            playout.comfort.keep(rows, timestamp, late, transit - playout.delays.quickest[rows])
            astray &= ~idle
            # the sender's clock stood still in a pause: what is to be heard begins now
            astray |= late & marker & (ring.count[rows] == 0)
            for row in rows[astray]:
                playout.stop(int(row))
            idle |= astray
            late &= ~astray
            repeated &= ~astray
            playout.state[rows[idle]] = playout.STARTING
            playout.first[rows[idle]] = timestamp[idle]
            playout.sequence[rows[idle]] = sequence[idle]
        playout.delays.update(rows, transit)
        drop = late | repeated
        if some(drop) or duration.min(initial=1) <= 0:
            drop |= duration <= 0
            copied = repeated & (ring.spare[slots] == sequence)  # it was not lost after all
            ring.spare[slots[copied]] = 0
            playout.recovered[rows[copied]] -= 1
            playout.duplicate[rows[repeated & ~copied]] += 1
            if playout.voices:
                just = late & self._was_last(rows, slots, timestamp + duration)
                for at in where(just & (duration > 0)):
                    payload = data[packet[at], int(offset[at]) : int(offset[at] + size[at])]
                    self._voiced.learn(int(rows[at]), int(code[at]), payload)
                    ring.sequence[slots[at]] = sequence[at]
            self._drop_late(rows[late])
            keep = ~drop
            rows, slots, sequence, timestamp, duration = (
                rows[keep], slots[keep], sequence[keep], timestamp[keep], duration[keep],
            )  # fmt: skip
            code, packet, offset, size = code[keep], packet[keep], offset[keep], size[keep]
            if not rows.size:
                return
        playout.late_run[rows] = 0
        ring.insert(rows, slots, sequence, timestamp, duration, code, data, packet, offset, size)
        playout.peak[rows] = np.maximum(playout.peak[rows], ring.count[rows])

    def take_noise(
        self,
        row: int,
        payload: bytes,
        sequence: int,
        timestamp: int,
        arrival: float,
        *,
        newest: bool,
    ) -> None:
        """Take a packet of comfort noise for a row, timestamp in samples: see `Comfort.arrive`."""
        playout = self._playout
        if playout.state[row] == playout.IDLE:
            playout.state[row] = playout.STARTING
            playout.first[row], playout.sequence[row] = timestamp, sequence
            transit = arrival - timestamp / int(playout.rate[row])
            playout.delays.update(np.array([row]), np.array([transit]))
        starts = playout.state[row] == playout.STARTING
        wanted = int(playout.first[row] if starts else playout.decoded[row] + playout.waited[row])
        playout.comfort.arrive(row, payload, sequence, timestamp, wanted, newest=newest)

    def _was_last(self, rows: Rows, slots: Ints, end: Ints) -> Bools:
        """Tell of which packets (k,) that end so the time has passed just now, with no sound."""
        playout = self._playout
        just: Bools = (end == playout.decoded[rows]) & (playout.ring.duration[slots] == 0)
        return just

    def _drop_late(self, rows: Rows) -> None:
        playout = self._playout
        playout.late[rows] += 1
        playout.dropped[rows] += 1
        playout.late_run[rows] += 1
        # all packets late: the sender's clock has stood still meanwhile; begin anew
        for row in rows[playout.late_run[rows] >= LATE_RUN]:
            playout.stop(int(row))

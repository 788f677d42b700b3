"""Packets that have arrived and wait for their moment: the payload ring of every row.

`SLOTS` slots a row, chosen by sequence number; a slot holds (timestamp, sequence, duration, length,
encoding) and the payload itself up to `SLOT_PAYLOAD` bytes, larger ones lie in a small pool that
all rows share. Playout asks by timestamp.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import Bools, ColumnSpec, Ints, Rows, grow, make
from voip.media.io import SLOT_BYTES

__all__ = ["SLOTS", "SLOT_PAYLOAD", "PayloadRing"]

SLOTS = 64
"""1.28 s of 20 ms packets, 0.64 s of 10 ms ones."""
SLOT_PAYLOAD = 176
"""G.711 at 20 ms, and a little."""
POOL_PER_ROW = 14
"""Larger payloads that may wait at one time, on an average over the rows: 400 ms of 30 ms ones."""

_EMPTY = -(1 << 62)


class PayloadRing:
    """Arrays of shape (rows, SLOTS); `payload` is uint8 (rows, SLOTS, SLOT_PAYLOAD)."""

    timestamp: Ints
    sequence: Ints
    duration: npt.NDArray[np.int32]
    length: npt.NDArray[np.int16]
    code: npt.NDArray[np.uint8]
    place: npt.NDArray[np.int32]
    payload: npt.NDArray[np.uint8]

    COLUMNS: ClassVar[ColumnSpec] = {
        "timestamp": (np.int64, _EMPTY, (SLOTS,)),
        "sequence": (np.int64, -1, (SLOTS,)),
        "duration": (np.int32, 0, (SLOTS,)),
        "length": (np.int16, 0, (SLOTS,)),
        "code": (np.uint8, 0, (SLOTS,)),
        "place": (np.int32, -1, (SLOTS,)),  # in the pool; -1: in `payload`
        "payload": (np.uint8, 0, (SLOTS, SLOT_PAYLOAD)),
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self._pool = np.zeros((0, SLOT_BYTES), np.uint8)
        self._free: list[int] = []
        self.count: Ints = np.zeros(rows, np.int64)
        self.overruns: Ints = np.zeros(rows, np.int64)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = rows - self.count.size
        grow(self, rows)
        self.count = np.concatenate((self.count, np.zeros(more, np.int64)))
        self.overruns = np.concatenate((self.overruns, np.zeros(more, np.int64)))

    def clear(self, row: int) -> None:
        """Empty a row."""
        self._free.extend(int(place) for place in self.place[row] if place >= 0)
        self.place[row] = -1
        self.duration[row] = 0
        self.timestamp[row] = _EMPTY
        self.sequence[row] = -1
        self.count[row] = 0

    def duplicate(self, rows: Rows, sequence: Ints) -> Bools:
        """Whether packet `sequence` (k,) is or was the last one in its slot of `rows` (k,)."""
        same: Bools = self.sequence[rows, sequence % SLOTS] == sequence
        return same

    def insert(
        self,
        rows: Rows,
        sequence: Ints,
        timestamp: Ints,
        duration: Ints,
        code: npt.NDArray[np.uint8],
        data: npt.NDArray[np.uint8],
        packet: Rows,
        offset: Ints,
        size: Ints,
    ) -> None:
        """Keep one packet for each of `rows` (k,), each row at most once.

        Its payload is `data[packet, offset : offset + size]`. An older packet that still lies in
        the slot is lost and counted as overrun.
        """
        slots = sequence % SLOTS
        full = self.duration[rows, slots] > 0
        if full.any():
            self.overruns[rows[full]] += 1
            self._free_slots(rows[full], slots[full])
        self.timestamp[rows, slots] = timestamp
        self.sequence[rows, slots] = sequence
        self.duration[rows, slots] = duration
        self.length[rows, slots] = size
        self.code[rows, slots] = code
        self.count[rows] += 1
        inline = size <= SLOT_PAYLOAD
        starts = np.unique(offset[inline])
        for start in starts:
            here = slice(None) if starts.size == 1 and inline.all() else inline & (offset == start)
            width = int(size[here].max())
            self.payload[rows[here], slots[here], :width] = data[
                packet[here], start : start + width
            ]
        for i in np.flatnonzero(~inline):
            if not self._free and not self._enlarge_pool():
                self._free_slots(rows[i : i + 1], slots[i : i + 1])
                self.overruns[rows[i]] += 1
                continue
            place = self._free.pop()
            self._pool[place, : size[i]] = data[packet[i], offset[i] : offset[i] + size[i]]
            self.place[rows[i], slots[i]] = place

    @property
    def pooled(self) -> int:
        """Payloads that lie in the pool now."""
        return len(self._pool) - len(self._free)

    def _enlarge_pool(self) -> bool:
        """Double the pool where it may grow; return whether it has."""
        old = len(self._pool)
        new = min(max(64, 2 * old), max(SLOTS, POOL_PER_ROW * self.count.size))
        if new <= old:
            return False
        self._pool = np.concatenate((self._pool, np.zeros((new - old, SLOT_BYTES), np.uint8)))
        self._free.extend(range(new - 1, old - 1, -1))
        return True

    def find(self, rows: Rows, wanted: Ints, hint: Ints) -> tuple[Ints, Ints]:
        """Look for the packet that holds timestamp `wanted` (k,) in each of `rows`.

        `hint` (k,) is the sequence number it should have. Returns (slot, gap): slot is -1 where
        there is none, and gap then is how many samples later the next packet begins (a very
        large number where nothing waits).
        """
        slot = hint % SLOTS
        gap = np.zeros(rows.size, np.int64)
        into = wanted - self.timestamp[rows, slot]
        missed = np.flatnonzero((into < 0) | (into >= self.duration[rows, slot]))
        if missed.size:
            searched = rows[missed]
            into = wanted[missed, None] - self.timestamp[searched]
            there = self.duration[searched] > 0
            hits = there & (into >= 0) & (into < self.duration[searched])
            slot[missed] = np.where(hits.any(axis=1), hits.argmax(axis=1), -1)
            ahead = np.where(there & (into < 0), -into, np.int64(1) << 40)
            gap[missed] = ahead.min(axis=1)
        return slot, gap

    def payloads(self, rows: Rows, slots: Ints, size: int) -> npt.NDArray[np.uint8]:
        """Return the payloads in (rows, slots), all `size` bytes long: uint8 (k, size)."""
        if size <= SLOT_PAYLOAD:
            return self.payload[rows, slots, :size]
        pooled: npt.NDArray[np.uint8] = self._pool[self.place[rows, slots], :size]
        return pooled

    def release(self, rows: Rows, slots: Ints) -> None:
        """Mark slots as played; their sequence numbers still tell duplicates."""
        self.count[rows] -= 1
        self._free_slots(rows, slots, counted=True)

    def drop_before(self, rows: Rows, timestamp: Ints) -> Ints:
        """Drop packets of `rows` (k,) that end before `timestamp` (k,); return how many each."""
        end = self.timestamp[rows] + self.duration[rows]
        past = (self.duration[rows] > 0) & (end <= timestamp[:, None])
        dropped: Ints = past.sum(axis=1)
        which, slots = np.nonzero(past)
        self.count[rows] -= dropped
        self._free_slots(rows[which], slots, counted=True)
        return dropped

    def _free_slots(self, rows: Rows, slots: Ints, *, counted: bool = False) -> None:
        if not counted:
            self.count[rows] -= 1
        self.duration[rows, slots] = 0
        self.timestamp[rows, slots] = _EMPTY
        pooled = self.place[rows, slots]
        if (pooled >= 0).any():
            self._free.extend(pooled[pooled >= 0].tolist())
            self.place[rows, slots] = -1

"""Packets that have arrived and wait for their moment: the payload ring of every row.

`SLOTS` slots a row, chosen by sequence number; a slot holds (timestamp, sequence, duration, length,
encoding) and the payload itself up to `SLOT_PAYLOAD` bytes, larger ones lie in a small pool that
all rows share. Playout asks by timestamp.

The slots of all rows are numbered as one: slot `n` of row `r` is `r * SLOTS + n`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import (
    RESERVED_ROWS,
    ColumnSpec,
    Ints,
    Rows,
    blocks,
    distinct,
    give_back,
    grow,
    make,
    some,
    where,
)
from voip.media.io import SLOT_BYTES

__all__ = ["EMPTY", "NOTHING_WAITS", "SLOTS", "SLOT_PAYLOAD", "PayloadRing"]

SLOTS = 64
"""1.28 s of 20 ms packets, 0.64 s of 10 ms ones. A power of two."""
SLOT_PAYLOAD = 176
"""G.711 at 20 ms, and a little."""
POOL_PER_ROW = 14
"""Larger payloads that may wait at one time, on an average over the rows: 400 ms of 30 ms ones."""

EMPTY = -(1 << 62)
NOTHING_WAITS = 1 << 40
"""A gap after which nothing comes, so far."""


class PayloadRing:
    """Arrays by slot, of shape (rows * SLOTS,), and two by row."""

    timestamp: Ints
    sequence: Ints
    duration: Ints
    length: Ints
    code: npt.NDArray[np.uint8]
    place: npt.NDArray[np.int32]
    spare: Ints
    payload: npt.NDArray[np.uint8]

    COLUMNS: ClassVar[ColumnSpec] = {
        "timestamp": (np.int64, EMPTY, ()),
        "sequence": (np.int64, -1, ()),
        "duration": (np.int64, 0, ()),  # 0: nothing is there
        "length": (np.int64, 0, ()),
        "code": (np.uint8, 0, ()),
        "place": (np.int32, -1, ()),  # in the pool; -1: in `payload`
        # of the packet here: its number where a later packet's copy stands for it, the same below 0
        # where such a copy came too late; else of another
        "spare": (np.int64, 0, ()),
        "payload": (np.uint8, 0, (SLOT_PAYLOAD,)),
    }

    def __init__(self, rows: int) -> None:
        make(self, rows * SLOTS, RESERVED_ROWS * SLOTS)
        self.count: Ints = np.zeros(rows, np.int64)
        self.overruns: Ints = np.zeros(rows, np.int64)
        self._pool = np.zeros((0, SLOT_BYTES), np.uint8)
        self._free: list[int] = []

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        more = rows - self.count.size
        grow(self, rows * SLOTS)
        self.count = np.concatenate((self.count, np.zeros(more, np.int64)))
        self.overruns = np.concatenate((self.overruns, np.zeros(more, np.int64)))

    def give_back(self, first: int, last: int) -> None:
        """Give back what rows [first, last), which are empty, have used of memory."""
        for array in (self.payload, self.duration, self.length, self.code):
            give_back(array, first * SLOTS, last * SLOTS)

    def clear(self, row: int) -> None:
        """Empty a row."""
        slots = np.arange(row * SLOTS, (row + 1) * SLOTS)
        self._empty(slots)
        self.sequence[slots] = -1
        self.count[row] = 0

    @staticmethod
    def slots(rows: Rows, sequence: Ints) -> Ints:
        """Return where packets `sequence` (k,) of `rows` (k,) lie, or would lie."""
        slots: Ints = rows * SLOTS + (sequence & (SLOTS - 1))
        return slots

    def insert(
        self,
        rows: Rows,
        slots: Ints,
        sequence: Ints,
        timestamp: Ints,
        duration: Ints,
        code: npt.NDArray[np.uint8],
        data: npt.NDArray[np.uint8],
        packet: Rows,
        offset: Ints,
        size: Ints,
    ) -> None:
        """Keep one packet for each of `rows` (k,), each row at most once, in its slot.

        Its payload is `data[packet, offset : offset + size]`. An older packet that still lies in
        the slot is lost and counted as overrun.
        """
        if np.count_nonzero(self.duration[slots]):
            full = self.duration[slots] > 0
            self.overruns[rows[full]] += 1
            self.count[rows[full]] -= 1
            self._empty(slots[full])
        self.timestamp[slots] = timestamp
        self.sequence[slots] = sequence
        self.duration[slots] = duration
        self.length[slots] = size
        self.code[slots] = code
        self.count[rows] += 1
        if size.max() <= SLOT_PAYLOAD:
            self._keep_small(slots, data, packet, offset, size)
            return
        small = size <= SLOT_PAYLOAD
        self._keep_small(slots[small], data, packet[small], offset[small], size[small])
        for i in where(~small):
            if not self._free and not self._enlarge_pool():
                self.overruns[rows[i]] += 1
                self.count[rows[i]] -= 1
                self._empty(slots[i : i + 1])
                continue
            place = self._free.pop()
            self._pool[place, : size[i]] = data[packet[i], offset[i] : offset[i] + size[i]]
            self.place[slots[i]] = place

    def _keep_small(
        self, slots: Ints, data: npt.NDArray[np.uint8], packet: Rows, offset: Ints, size: Ints
    ) -> None:
        starts = distinct(offset)
        if len(starts) == 1:  # else: some have header extensions
            width = int(size.max())
            blocks(self.payload, 0, width)[slots] = blocks(data, starts[0], width)[packet]
            return
        for start in starts:
            here = offset == start
            self._keep_small(slots[here], data, packet[here], offset[here], size[here])

    def holds(self, rows: Rows, timestamp: Ints) -> npt.NDArray[np.bool_]:
        """Tell for which of `rows` (k,) a packet that begins at `timestamp` (k,) waits."""
        held: npt.NDArray[np.bool_]
        held = (self.timestamp.reshape(-1, SLOTS)[rows] == timestamp[:, None]).any(axis=1)
        return held

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
        slots = self.slots(rows, hint)
        gap = np.zeros(rows.size, np.int64)
        into = wanted - self.timestamp[slots]
        missed = where((into < 0) | (into >= self.duration[slots]))
        if missed.size:
            searched = rows[missed]
            ahead = self.timestamp.reshape(-1, SLOTS)[searched] - wanted[missed, None]
            left = ahead + self.duration.reshape(-1, SLOTS)[searched]
            ahead = np.where(left > 0, np.maximum(ahead, 0), NOTHING_WAITS)
            nearest = ahead.argmin(axis=1)
            gap[missed] = ahead = ahead[np.arange(missed.size), nearest]
            slots[missed] = np.where(ahead == 0, searched * SLOTS + nearest, -1)
        return slots, gap

    def next_after(self, row: int, timestamp: int) -> int:
        """Return the slot of the next packet of `row` that begins after `timestamp`; -1: none."""
        ahead = self.timestamp[row * SLOTS : (row + 1) * SLOTS] - timestamp
        ahead = np.where(ahead > 0, ahead, NOTHING_WAITS)
        nearest = int(ahead.argmin())
        return row * SLOTS + nearest if ahead[nearest] < NOTHING_WAITS else -1

    def newest(self, rows: Rows) -> Ints:
        """Return where the last packet that waits begins, (k,); far in the past: none does."""
        newest: Ints = self.timestamp.reshape(-1, SLOTS)[rows].max(axis=1)
        return newest

    def octets(self, slot: int) -> npt.NDArray[np.uint8]:
        """Return the payload in one slot: uint8 (octets,), a view."""
        size, place = int(self.length[slot]), int(self.place[slot])
        return self.payload[slot, :size] if size <= SLOT_PAYLOAD else self._pool[place, :size]

    def payloads(self, slots: Ints, size: int) -> npt.NDArray[np.uint8]:
        """Return the payloads in `slots` (k,), all `size` bytes long: uint8 (k, size)."""
        if size <= SLOT_PAYLOAD:
            found = blocks(self.payload, 0, size)[slots]
        else:
            found = blocks(self._pool, 0, size)[self.place[slots]]
        payloads: npt.NDArray[np.uint8] = found.view(np.uint8).reshape(slots.size, size)
        return payloads

    def release(self, rows: Rows, slots: Ints) -> None:
        """Empty a slot of each of `rows` (k,): it was played. Its sequence number stays known."""
        self.count[rows] -= 1
        self._empty(slots)

    def drop_before(self, row: int, timestamp: int) -> int:
        """Drop packets of `row` that end before `timestamp`; return how many."""
        slots = np.arange(row * SLOTS, (row + 1) * SLOTS)
        duration = self.duration[slots]
        past = slots[(duration > 0) & (self.timestamp[slots] + duration <= timestamp)]
        self.count[row] -= past.size
        self._empty(past)
        return past.size

    def _empty(self, slots: Ints) -> None:
        """Empty slots and give their places in the pool back."""
        self.duration[slots] = 0
        self.timestamp[slots] = EMPTY
        if not self.pooled:
            return
        place = self.place[slots]
        pooled = place >= 0
        if some(pooled):
            self._free.extend(place[pooled].tolist())
            self.place[slots] = -1

"""Redundant audio that is sent (RFC 2198): packets repeat what the ones before them had.

Whatever was to be sent is put together with copies of what went before, in the rows' packets: for
many rows at once where their payloads are as long as each other, as G.711's are.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from voip.codecs.red import MAX_LENGTH, MAX_OFFSET
from voip.media.adapter import MAX_PAYLOAD
from voip.media.columns import (
    RESERVED_ROWS,
    Bools,
    ColumnSpec,
    Ints,
    Rows,
    every,
    give_back,
    grow,
    lengthen,
    make,
    reserve,
    reset,
    some,
    where,
)
from voip.rtp.packet import HEADER_BYTES

__all__ = ["MAX_GENERATIONS", "RedSender"]

MAX_GENERATIONS: Final = 4
"""Packets that one may repeat."""
_BACK: Final = np.arange(MAX_GENERATIONS, 0, -1)
"""How many packets ago blocks went, in the order in which they stand."""
_HEADER: Final = 4
_FOLLOWED: Final = 1 << 31

Octets = npt.NDArray[np.uint8]


class RedSender:
    """What rows have sent of late, as far as they repeat it."""

    generations: Ints
    payload_type: Octets
    turn: Ints
    stamp: Ints
    length: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "generations": (np.int64, 0, ()),  # packets that each one repeats
        "payload_type": (np.uint8, 0, ()),
        "turn": (np.int64, 0, ()),  # where the next payload is kept, modulo MAX_GENERATIONS
        "stamp": (np.int64, 0, (MAX_GENERATIONS,)),  # their timestamps
        "length": (np.int64, 0, (MAX_GENERATIONS,)),  # 0: nothing is to be repeated
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        shape = (MAX_GENERATIONS, MAX_LENGTH + 1)
        self._payload: Octets = reserve(rows, shape, np.uint8, RESERVED_ROWS)
        self.used = False
        """Whether any row repeats anything."""

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)
        self._payload = lengthen(self._payload, rows, dense=False)

    def give_back(self, first: int, last: int) -> None:
        """Give back what rows [first, last), in which nothing is, have used of memory."""
        give_back(self._payload, first, last)

    def repeat(self, row: int, generations: int, payload_type: int = 0) -> None:
        """Let packets of a row repeat so many before them from now on; 0: none."""
        if generations or self.generations[row]:
            reset(self, row)
            self.generations[row] = generations
            self.payload_type[row] = payload_type
            self.used = bool(self.generations.any())

    def forget(self, row: int) -> None:
        """Repeat nothing of what went before."""
        if self.generations[row]:
            self.length[row] = 0

    def wrap(
        self, rows: Rows, packet: Octets, kinds: Octets, size: Ints, timestamp: Ints, mine: Bools
    ) -> tuple[Octets, Ints]:
        """Let payloads of `rows` (k,), `packet[row, 12 : 12 + size]`, repeat what went before.

        kinds: their payload types (k,); mine: which (k,) are speech. Returns what the payload types
        and sizes are then. What does not fit a packet, or a header, is not repeated, the oldest
        first; a payload that repeats nothing stays as it was.
        """
        mine = mine & (self.generations[rows] > 0)
        if not some(mine):
            return kinds, size
        kinds, size = kinds.copy(), size.copy()
        at = where(mine)
        here, own, stamp = rows[at], size[at], timestamp[at]
        place = (self.turn[here, None] - _BACK) % MAX_GENERATIONS
        back = stamp[:, None] - self.stamp[here[:, None], place]
        length = self.length[here[:, None], place]
        length[(back <= 0) | (back > MAX_OFFSET)] = 0
        length[self.generations[here, None] < _BACK] = 0
        cost = np.where(length > 0, length + _HEADER, 0)
        cost = np.cumsum(cost[:, ::-1], axis=1)[:, ::-1]
        length[cost > MAX_PAYLOAD - 1 - own[:, None]] = 0
        shapes = np.concatenate((length, own[:, None]), axis=1)
        if every(shapes == shapes[0]):
            self._build(here, packet, kinds[at], shapes[0], back, place)
        else:
            found, which = np.unique(shapes, axis=0, return_inverse=True)
            which = which.reshape(-1)
            for number, shape in enumerate(found):
                alike = where(which == number)
                self._build(here[alike], packet, kinds[at[alike]], shape, back[alike], place[alike])
        more = (length > 0).sum(axis=1) * _HEADER + length.sum(axis=1)
        wraps = more > 0
        size[at] = own + np.where(wraps, more + 1, 0)
        self._keep(here, packet, size[at] - own, own, stamp)
        kinds[at[wraps]] = self.payload_type[here[wraps]]
        return kinds, size

    def _build(
        self, rows: Rows, packet: Octets, kinds: Octets, shape: Ints, back: Ints, place: Ints
    ) -> None:
        """Put payloads of `rows` (k,) together; shape: octets of each block, their own the last.

        back, place: (k, MAX_GENERATIONS), how much earlier blocks began and where they are kept.
        """
        blocks = [n for n in range(MAX_GENERATIONS) if shape[n]]
        if not blocks:
            return
        own, begin = int(shape[-1]), HEADER_BYTES
        end = begin + len(blocks) * _HEADER + 1 + int(shape[:-1].sum())
        packet[rows, end : end + own] = packet[rows, begin : begin + own]
        for n in blocks:
            words = np.empty((rows.size, 1), ">u4")
            words[:, 0] = _FOLLOWED | kinds.astype(np.int64) << 24 | back[:, n] << 10 | shape[n]
            packet[rows, begin : begin + _HEADER] = words.view(np.uint8)
            begin += _HEADER
        packet[rows, begin] = kinds
        begin += 1
        for n in blocks:
            octets = int(shape[n])
            packet[rows, begin : begin + octets] = self._payload[rows, place[:, n], :octets]
            begin += octets

    def _keep(self, rows: Rows, packet: Octets, offset: Ints, size: Ints, stamp: Ints) -> None:
        """Keep payloads that begin `offset` (k,) octets after the packets' headers, to repeat them.

        One that is older than the last (a relay's) is not: it was late, and is known to be lost.
        """
        latest = (self.turn[rows] - 1) % MAX_GENERATIONS
        newer = (self.length[rows, latest] == 0) | (stamp > self.stamp[rows, latest])
        if not every(newer):
            rows, offset, size, stamp = rows[newer], offset[newer], size[newer], stamp[newer]
        place = self.turn[rows] % MAX_GENERATIONS
        fits = size <= MAX_LENGTH
        self.stamp[rows, place] = stamp
        self.length[rows, place] = np.where(fits, size, 0)
        self.turn[rows] += 1
        width = int(size[fits].max(initial=0))
        begin = (HEADER_BYTES + offset)[:, None] + np.arange(width)
        # what lies behind a shorter one goes along, and is not looked at
        begin = np.minimum(begin, packet.shape[1] - 1)
        self._payload[rows, place, :width] = packet[rows[:, None], begin]

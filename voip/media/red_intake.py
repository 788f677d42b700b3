"""Redundant audio that comes (RFC 2198): of each packet its newest block, and earlier ones' copies.

A payload that repeats others is made an ordinary one where it lies: its newest block, under that
one's payload type. What it repeats is kept for the moment and offered to the jitter buffer, and to
whom the row is relayed, as the earlier packets that it was, where these have not come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.red import MAX_BLOCKS
from voip.media.columns import Bools, Ints, Rows, some, where
from voip.media.durations import in_samples
from voip.media.io import PacketBatch
from voip.media.receive import Accepted
from voip.media.relay import Relay
from voip.media.table import RED, UNKNOWN, StreamTable
from voip.media.voices import FIRST_CODE
from voip.rtp.packet import RtpHeaders

__all__ = ["Blocks", "RedIntake", "read_blocks"]

_HEADER: Final = 4
_FOLLOWED: Final = 0x80


@dataclass(frozen=True, slots=True)
class Blocks:
    """What RED payloads (k,) say they hold; nothing of it means anything where not `valid`.

    count: (k,), repeated blocks, of which kind: uint8, back, offset and size: int64, are (k,
    most), the oldest first; back: how much earlier they began, in units of RTP time. newest_*:
    the packet's own, (k,).
    """

    valid: Bools
    count: Ints
    kind: npt.NDArray[np.uint8]
    back: Ints
    offset: Ints
    size: Ints
    newest_kind: npt.NDArray[np.uint8]
    newest_offset: Ints
    newest_size: Ints


def read_blocks(data: npt.NDArray[np.uint8], slots: Rows, offset: Ints, size: Ints) -> Blocks:
    """Read the headers of payloads `data[slots, offset : offset + size]`, (k,) each.

    The same as `voip.codecs.red.unpack`, for many at once: at most `MAX_BLOCKS`, in whatever order.
    """
    most = MAX_BLOCKS - 1
    valid, count = np.zeros(slots.size, np.bool_), np.zeros(slots.size, np.int64)
    kind, newest = np.zeros((slots.size, most), np.uint8), np.zeros(slots.size, np.uint8)
    back, length = (np.zeros((slots.size, most), np.int64) for _ in range(2))
    at, end = offset.copy(), offset + size
    reading = where(at < end)
    for _ in range(MAX_BLOCKS):
        first = data[slots[reading], at[reading]]
        followed = (first & _FOLLOWED) > 0
        last = reading[~followed]
        valid[last], newest[last] = True, first[~followed]
        at[last] += 1
        reading, first = reading[followed], first[followed]
        fits = (at[reading] + _HEADER < end[reading]) & (count[reading] < most)
        reading, first = reading[fits], first[fits]
        if not reading.size:
            break
        slot, place, turn = slots[reading], at[reading], count[reading]
        second, third, fourth = (data[slot, place + n].astype(np.int64) for n in (1, 2, 3))
        kind[reading, turn] = first & ~np.uint8(_FOLLOWED)
        back[reading, turn] = second << 6 | third >> 2
        length[reading, turn] = (third & 3) << 8 | fourth
        count[reading] += 1
        at[reading] += _HEADER
    ends = at[:, None] + np.cumsum(length, axis=1)
    valid &= ends[:, -1] <= end
    return Blocks(
        valid, count, kind, back, ends - length, length, newest, ends[:, -1], end - ends[:, -1]
    )


class RedIntake:
    """What one batch of packets repeats of others."""

    def __init__(self, table: StreamTable, relay: Relay, batch: PacketBatch) -> None:
        self._table = table
        self._relay = relay
        self._batch = batch
        self._blocks: Blocks | None = None
        self._place: Ints = np.zeros(0, np.int64)  # of a packet in the batch: which of the blocks

    def unfold(
        self, rows: Rows, headers: RtpHeaders, meaning: npt.NDArray[np.uint8], rtcp: Bools
    ) -> None:
        """Make ordinary packets, in place, of those that repeat others; `rows`, `meaning`: (n,).

        What is malformed is no valid packet any more, and what holds another of its kind unknown.
        """
        self._blocks = None
        found = where((meaning == RED) & headers.valid & ~rtcp)
        if not found.size:
            return
        slots = self._batch.slots[found]
        blocks = read_blocks(self._batch.data, slots, headers.offset[found], headers.size[found])
        headers.valid[found] = blocks.valid
        meaning[found[~blocks.valid]] = UNKNOWN
        good = where(blocks.valid)
        kept = found[good]
        headers.payload_type[kept] = blocks.newest_kind[good]
        headers.offset[kept] = blocks.newest_offset[good]
        headers.size[kept] = blocks.newest_size[good]
        named = self._table.meaning[rows[kept], blocks.newest_kind[good]]
        meaning[kept] = np.where(named == RED, UNKNOWN, named)
        self._blocks = blocks
        self._place = np.full(rows.size, -1)
        self._place[kept] = good

    def hear(
        self,
        packets: Rows,
        rows: Rows,
        headers: RtpHeaders,
        accepted: Accepted,
    ) -> None:
        """Offer what `packets` (k,) of the batch repeat, one for each of `rows` (k,).

        The packets themselves have been taken, or not `accepted`.
        """
        blocks = self._blocks
        if blocks is None:
            return
        place = self._place[packets]
        chosen = where((place >= 0) & accepted.ok)
        if not chosen.size:
            return
        place, packets, rows = place[chosen], packets[chosen], rows[chosen]
        count = blocks.count[place]
        # the whole payload counts as received, not the newest block alone (RFC 3550, 6.4.1)
        repeated = blocks.newest_offset[place] - blocks.offset[place, 0]
        self._table.receiver.octets[rows] += _HEADER * count + 1 + repeated
        for turn in range(int(count.max())):
            here = where(count > turn)
            self._hear_one(
                blocks, place[here], turn, packets[here], rows[here], headers,
                accepted.sequence[chosen[here]], accepted.timestamp[chosen[here]],
            )  # fmt: skip

    def _hear_one(
        self,
        blocks: Blocks,
        place: Ints,
        turn: int,
        packets: Rows,
        rows: Rows,
        headers: RtpHeaders,
        sequence: Ints,
        timestamp: Ints,
    ) -> None:
        """Offer the `turn`-th block of each of `packets` (k,): of one row each."""
        table, batch = self._table, self._batch
        kind, back = blocks.kind[place, turn], blocks.back[place, turn]
        offset, size = blocks.offset[place, turn], blocks.size[place, turn]
        code = table.meaning[rows, kind]
        ours = self._is_speech(rows, code)
        np.add.at(table.ignored, rows[~ours], 1)
        ours &= (back > 0) & (size > 0)
        if not some(ours):
            return
        packets, rows, code, kind = packets[ours], rows[ours], code[ours], kind[ours]
        sequence, offset, size = sequence[ours], offset[ours], size[ours]
        timestamp, slots = timestamp[ours] - back[ours], batch.slots[packets]
        begins, duration = timestamp, size
        back = back[ours]
        if table.voices:
            clock, rate = table.receiver.clock[rows], table.playout.rate[rows]
            begins, duration = in_samples(
                table, batch.data, rows, slots, offset, size, code, timestamp
            )
            back = back * rate // clock
        # packets of a talk follow each other without a gap, and are as long as each other
        whole = np.maximum(duration, 1)
        sequence = sequence - np.maximum((back + whole // 2) // whole, 1)
        if self._relay.rows.size:
            self._relay_on(packets, rows, headers, code, kind, offset, size, sequence, timestamp)
        heard = where(table.listening[rows] & ~table.unheard[rows] & (duration > 0))
        if heard.size:
            table.playout.recovery.repeat(
                rows[heard], sequence[heard], begins[heard], duration[heard],
                batch.arrival[packets[heard]],
                code[heard], batch.data, slots[heard], offset[heard], size[heard],
            )  # fmt: skip

    def _is_speech(self, rows: Rows, code: npt.NDArray[np.uint8]) -> Bools:
        """Tell which formats (k,) of blocks are sound of `rows`, by the clock of their packets."""
        table = self._table
        speech: Bools = code < RED
        if table.voices:
            coded = table.coded[rows]
            speech &= coded == (code >= FIRST_CODE)
            for at in where(speech & coded & (code != table.playout.voicing.code[rows])):
                row = int(rows[at])
                speech[at] = table.voices[row].clock(int(code[at])) == table.receiver.clock[row]
        else:
            speech &= code < FIRST_CODE
        return speech

    def _relay_on(
        self,
        packets: Rows,
        rows: Rows,
        headers: RtpHeaders,
        code: npt.NDArray[np.uint8],
        kind: npt.NDArray[np.uint8],
        offset: Ints,
        size: Ints,
        sequence: Ints,
        timestamp: Ints,
    ) -> None:
        """Let those who relay `rows` (k,) send what they have not, as if it had come."""
        fields = {
            name: getattr(headers, name).copy()
            for name in ("payload_type", "offset", "size", "marker")
        }
        fields["payload_type"][packets] = kind
        fields["offset"][packets], fields["size"][packets] = offset, size
        fields["marker"][packets] = False
        yes, no = np.ones(rows.size, np.bool_), np.zeros(rows.size, np.bool_)
        accepted = Accepted(yes, no, sequence, timestamp)
        earlier = replace(headers, **fields)
        self._relay.forward(packets, rows, earlier, code, accepted, self._batch, None)

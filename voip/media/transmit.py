"""From PCM to packets: encode a step of many rows, fill packets, hand them to the network.

Every row has its own sample clock and packet time; a packet goes out when it is full. The packet
buffer of a row is written in place and sent from there.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import (
    Bools,
    ColumnSpec,
    Ints,
    Rows,
    blocks,
    distinct,
    every,
    grow,
    make,
    reset,
)
from voip.media.io import PacketIO
from voip.media.lane import Lane
from voip.rtp.packet import HEADER_BYTES, pack_header, write_headers

__all__ = ["MAX_PTIME_MS", "Transmitter"]

MAX_PTIME_MS = 120
_PACKET_BYTES = HEADER_BYTES + MAX_PTIME_MS * 8


class Transmitter:
    """Sending state of every row."""

    sending: Bools
    code: npt.NDArray[np.uint8]
    payload_type: npt.NDArray[np.uint8]
    ssrc: Ints
    first: Ints
    sequence: Ints
    origin: Ints
    start: Ints
    full: Ints
    filled: Ints
    marker: Bools
    octets: Ints
    packet: npt.NDArray[np.uint8]

    COLUMNS: ClassVar[ColumnSpec] = {
        "sending": (np.bool_, False, ()),
        "code": (np.uint8, 0, ()),
        "payload_type": (np.uint8, 0, ()),
        "ssrc": (np.int64, 0, ()),
        "first": (np.int64, 0, ()),  # sequence number of the first packet
        "sequence": (np.int64, 0, ()),  # of the next one
        "origin": (np.int64, 0, ()),  # what the timestamps count from
        "start": (np.int64, 0, ()),  # timestamp of the packet being filled
        "full": (np.int64, 160, ()),  # payload bytes of a full packet
        "filled": (np.int64, 0, ()),
        "marker": (np.bool_, True, ()),  # on the next packet: a talkspurt begins
        "octets": (np.int64, 0, ()),
        "packet": (np.uint8, 0, (_PACKET_BYTES,)),
    }

    def __init__(self, rows: int, lane: Lane) -> None:
        make(self, rows)
        self._lane = lane

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    @property
    def packets(self) -> Ints:
        """How many packets each row has sent: int64 (rows,)."""
        return self.sequence - self.first

    def open(self, row: int, *, ssrc: int, sequence: int, timestamp: int) -> None:
        """Start a row afresh with random start values (RFC 3550, 5.1)."""
        reset(self, row)
        self.ssrc[row] = ssrc
        self.first[row] = self.sequence[row] = sequence
        self.origin[row] = timestamp

    def timestamp(self, row: int, now: float) -> int:
        """Return the RTP timestamp of `row` at `now`, 32 bits; it goes on while nothing is sent."""
        return (int(self.origin[row]) + round(now * self._lane.rate_hz)) & 0xFFFFFFFF

    def pause(self, row: int) -> None:
        """Stop sending."""
        self.sending[row] = False
        self.filled[row] = 0
        self.marker[row] = True

    def leave_out(self, rows: Rows, samples: Ints) -> None:
        """Let time pass unsent for `rows` (k,): what is in a packet moves behind the gap."""
        self.start[rows] += samples

    def fill(self, rows: Rows, pcm: npt.NDArray[np.float32], clock: Ints) -> Rows:
        """Put `pcm`, float32 (k, samples), into the packets of `rows` (k,), which are sending.

        `clock` (k,) counts the samples of all time up to the first of these. Returns the rows
        whose packet is full: it is to be sent (`send`) or replaced (`single`).
        """
        coded = self._lane.encode(self.code[rows], pcm)
        size = coded.shape[1]
        filled = self.filled[rows]
        puts = distinct(filled)
        for put in puts:
            here = slice(None) if len(puts) == 1 else filled == put
            if put == 0:
                self.start[rows[here]] = self.origin[rows[here]] + clock[here]
            room = blocks(self.packet, HEADER_BYTES + put, size)
            room[rows[here]] = blocks(coded, 0, size)[here]
        filled += size
        self.filled[rows] = filled
        full = filled >= self.full[rows]
        return rows if every(full) else rows[full]

    def send(self, rows: Rows, io: PacketIO) -> None:
        """Send what is in the packets of `rows`."""
        write_headers(
            self.packet,
            rows,
            payload_type=self.payload_type[rows],
            marker=self.marker[rows],
            sequence=self.sequence[rows],
            timestamp=self.start[rows],
            ssrc=self.ssrc[rows],
        )
        size = self.filled[rows]
        io.send(rows.astype(np.int32), self.packet, (size + HEADER_BYTES).astype(np.int32))
        self.octets[rows] += size
        self.sequence[rows] += 1
        self.marker[rows] = False
        self.filled[rows] = 0

    def single(
        self, row: int, payload_type: int, timestamp: int, payload: bytes, *, marker: bool
    ) -> bytes:
        """Return a packet of another kind as the next one of `row`, instead of what is in hand."""
        header = pack_header(
            payload_type, int(self.sequence[row]), timestamp, int(self.ssrc[row]), marker=marker
        )
        self.octets[row] += len(payload)
        self.sequence[row] += 1
        self.filled[row] = 0
        return header + payload

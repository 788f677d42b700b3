"""From PCM to packets: encode a step of many rows, fill packets, hand them to the network.

Every row has its own sample clock and packet time; a packet goes out when it is full. The packet
buffer of a row is written in place and sent from there.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import Bools, ColumnSpec, Ints, Rows, grow, make, reset
from voip.media.io import PacketIO
from voip.media.lane import Lane
from voip.rtp.packet import HEADER_BYTES, write_headers

__all__ = ["MAX_PTIME_MS", "Transmitter"]

MAX_PTIME_MS = 120
_PACKET_BYTES = HEADER_BYTES + MAX_PTIME_MS * 8


class Transmitter:
    """Sending state of every row."""

    sending: Bools
    code: npt.NDArray[np.uint8]
    payload_type: npt.NDArray[np.uint8]
    ssrc: Ints
    sequence: Ints
    timestamp: Ints
    start: Ints
    full: Ints
    filled: Ints
    marker: Bools
    packets: Ints
    octets: Ints
    packet: npt.NDArray[np.uint8]

    COLUMNS: ClassVar[ColumnSpec] = {
        "sending": (np.bool_, False, ()),
        "code": (np.uint8, 0, ()),
        "payload_type": (np.uint8, 0, ()),
        "ssrc": (np.int64, 0, ()),
        "sequence": (np.int64, 0, ()),  # of the next packet
        "timestamp": (np.int64, 0, ()),  # of the next sample
        "start": (np.int64, 0, ()),  # timestamp of the packet being filled
        "full": (np.int64, 160, ()),  # payload bytes of a full packet
        "filled": (np.int64, 0, ()),
        "marker": (np.bool_, True, ()),  # on the next packet: a talkspurt begins
        "packets": (np.int64, 0, ()),
        "octets": (np.int64, 0, ()),
        "packet": (np.uint8, 0, (_PACKET_BYTES,)),
    }

    def __init__(self, rows: int, lane: Lane) -> None:
        make(self, rows)
        self._lane = lane

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def open(self, row: int, *, ssrc: int, sequence: int, timestamp: int) -> None:
        """Start a row afresh with random start values (RFC 3550, 5.1)."""
        reset(self, row)
        self.ssrc[row] = ssrc
        self.sequence[row] = sequence
        self.timestamp[row] = timestamp

    def pause(self, row: int) -> None:
        """Stop sending; the sample clock of the row goes on."""
        self.sending[row] = False
        self.filled[row] = 0
        self.marker[row] = True

    def step(self, rows: Rows, pcm: npt.NDArray[np.float32], io: PacketIO) -> None:
        """Send `pcm`, float32 (k, samples), as the next step of `rows` (k,), which are sending."""
        coded = self._lane.encode(self.code[rows], pcm)
        size = coded.shape[1]
        filled = self.filled[rows]
        begin = filled == 0
        if begin.all():
            self.start[rows] = self.timestamp[rows]
            self.packet[rows, HEADER_BYTES : HEADER_BYTES + size] = coded
        else:
            self.start[rows[begin]] = self.timestamp[rows[begin]]
            for at in np.unique(filled):
                here = filled == at
                put = HEADER_BYTES + int(at)
                self.packet[rows[here], put : put + size] = coded[here]
        filled = filled + size
        self.filled[rows] = filled
        ready = rows[filled >= self.full[rows]]
        if ready.size:
            self._send(ready, io)

    def advance(self, rows: Rows, samples: int) -> None:
        """Let the sample clocks of `rows` go on, whether anything was sent or not."""
        self.timestamp[rows] += samples

    def _send(self, rows: Rows, io: PacketIO) -> None:
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
        self.packets[rows] += 1
        self.octets[rows] += size
        self.sequence[rows] += 1
        self.marker[rows] = False
        self.filled[rows] = 0

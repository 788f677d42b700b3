"""Packets that keep NATs and firewalls open while nothing is said (RFC 6263).

Where RTCP takes the way of RTP, reports do that (section 4.3). Elsewhere an RTP packet goes that is
empty, of a payload type that means nothing here (4.6): its SSRC and number are those of the stream,
so that whoever learns where we are learns it by that, too.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from voip.media.columns import ColumnSpec, Floats, Ints, grow, make, reset, where
from voip.media.io import PacketIO
from voip.media.reports import Reporter
from voip.media.table import UNKNOWN, StreamTable

__all__ = ["KEEPALIVE_S", "KeepAlive"]

KEEPALIVE_S = 15.0
"""Tr of section 7: something goes at least so often."""
_ROUND_S = 0.5
_DYNAMIC = range(127, 95, -1)


class KeepAlive:
    """Looks twice a second for rows that have said nothing; arrays have a row for each of these."""

    period: Floats
    said: Ints
    said_at: Floats

    COLUMNS: ClassVar[ColumnSpec] = {
        "period": (np.float64, np.inf, ()),  # seconds of silence that are allowed
        "said": (np.int64, -1, ()),  # the next sequence number when it was looked at
        "said_at": (np.float64, np.inf, ()),
    }

    def __init__(self, table: StreamTable, io: PacketIO, reporter: Reporter) -> None:
        make(self, table.active.size)
        self._table = table
        self._io = io
        self._reporter = reporter
        self._next_round = 0.0

    def make_room(self) -> None:
        """Have as many rows as the table."""
        if self.period.size < self._table.active.size:
            grow(self, self._table.active.size)

    def open(self, row: int, period_s: float | None, now: float) -> None:
        """Start a row afresh; None: it is silent as long as it likes."""
        self.make_room()
        reset(self, row)
        self.said_at[row] = now
        if period_s is not None:
            self.period[row] = period_s - _ROUND_S

    def close(self, row: int) -> None:
        """Leave a row alone."""
        reset(self, row)

    def tick(self, now: float) -> None:
        """Send what is due."""
        if now < self._next_round:
            return
        self._next_round = now + _ROUND_S
        sequence = self._table.transmitter.sequence
        spoke = sequence != self.said
        self.said[spoke] = sequence[spoke]
        self.said_at[spoke] = now
        for row in where(now - self.said_at >= self.period).tolist():
            self.said_at[row] = now
            if self._table.remote.get(row) is not None and not self._reporter.multiplexer.is_set(
                row
            ):
                self._send(row, now)

    def _send(self, row: int, now: float) -> None:
        sender = self._table.transmitter
        packet = sender.single(
            row, self._unknown(row), sender.timestamp(row, now), b"", marker=False
        )
        self.said[row] = sender.sequence[row]
        self._reporter.overlook(row)
        self._io.send_one(row, packet, rtcp=False)

    def _unknown(self, row: int) -> int:
        """Return a payload type that nobody has agreed on."""
        table = self._table
        taken = {int(table.transmitter.payload_type[row]), table.event_format.get(row, (-1, 0))[0]}
        meaning = table.meaning[row]
        free = (one for one in _DYNAMIC if one not in taken and meaning[one] == UNKNOWN)
        return next(free, _DYNAMIC[-1])

"""Clocks of those who send to us, compared every now and then: with ours, and with their own."""

from __future__ import annotations

import numpy as np

from voip.media.columns import where
from voip.media.receive import Receiver
from voip.rtp.drift import ClockDrift
from voip.rtp.rtcp import SenderReport

__all__ = ["Clocks"]

_PERIOD_S = 1.0
"""How often clocks are compared."""
_NO_TRANSIT = -1e17
"""A transit time below this is none: nothing has been received, or another clock counts."""


class Clocks:
    """What is known of the clocks of every row's sender."""

    def __init__(self, receiver: Receiver) -> None:
        rows = receiver.ssrc.size
        self._receiver = receiver
        self.media = ClockDrift(rows)
        """When packets came, by our clock, and when they were made, by their timestamps."""
        self.report = ClockDrift(rows)
        """The sender's time of day, and its timestamps, as its reports have both."""
        self._reported: dict[int, tuple[int, int, int, int]] = {}
        # ssrc, first NTP time, last timestamp, ticks since the first
        self._next = 0.0

    def open(self, row: int) -> None:
        """Start a row afresh."""
        rows = self._receiver.ssrc.size
        if self.media.points.size < rows:
            self.media.grow(rows)
            self.report.grow(rows)
        self.media.reset(row)
        self.report.reset(row)
        self._reported.pop(row, None)

    def compare(self, now: float) -> None:
        """Note when the last packets were made, and when they came."""
        if now < self._next:
            return
        self._next = now + _PERIOD_S
        receiver = self._receiver
        rows = where(
            (receiver.last_arrival > now - _PERIOD_S) & (receiver.last_transit > _NO_TRANSIT)
        )
        if rows.size:
            lead = -receiver.last_transit[rows] / receiver.clock[rows]
            self.media.observe(rows, receiver.last_arrival[rows], lead)

    def take(self, row: int, report: SenderReport) -> None:
        """Note which sample a row's present source sent when, by its own time of day."""
        if report.ssrc != int(self._receiver.ssrc[row]):
            return
        known = self._reported.get(row)
        if known is None or known[0] != report.ssrc:
            self.report.reset(row)
            known = (report.ssrc, report.ntp, report.rtp_timestamp, 0)
        ssrc, first, last, ticks = known
        ticks += (report.rtp_timestamp - last + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        self._reported[row] = (ssrc, first, report.rtp_timestamp, ticks)
        elapsed = (report.ntp - first) / (1 << 32)
        lead = ticks / int(self._receiver.clock[row]) - elapsed
        self.report.observe(np.array([row]), np.array([elapsed]), np.array([lead]))

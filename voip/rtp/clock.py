"""RTP timestamps as time: extended beyond 32 bits, and as the time of day by a sender report.

Integers throughout: what is exact in the report stays exact (RFC 3550, section 6.4.1).
"""

from __future__ import annotations

from voip.errors import RtpError
from voip.rtp import ntp

__all__ = ["RtpClock", "wrap"]

_SPAN = 1 << 32


def wrap(extended: int) -> int:
    """Return the 32 bits of an extended timestamp that a packet has room for."""
    return extended % _SPAN


class RtpClock:
    """The clock of one source: `rate_hz` ticks a second, from a random number on.

    Timestamps are given as they are in packets, 32 bits, or extended. Times of day are known once
    `synchronise` has had a sender report, or `guess` an arrival.
    """

    def __init__(self, rate_hz: int) -> None:
        if rate_hz <= 0:
            raise RtpError(f"an RTP clock of {rate_hz} Hz", hint="such as 8000")
        self.rate_hz = rate_hz
        self._last: int | None = None
        self._anchor: tuple[int, int] | None = None  # extended timestamp, NTP
        self._reported = False

    @property
    def reported(self) -> bool:
        """Whether times of day are the sender's own, and no guess by arrivals."""
        return self._reported

    def extend(self, timestamp: int) -> int:
        """Return a timestamp with the turns of its 32 bits, as near the last one as there is.

        The furthest one is remembered, so that packets may come in any order within 2^31 ticks.
        """
        extended = self._near(timestamp)
        if self._last is None or extended > self._last:
            self._last = extended
        return extended

    def synchronise(self, ntp_time: int, timestamp: int) -> None:
        """Take a sender report: the same instant as 64-bit NTP time and as RTP timestamp."""
        self._anchor = (self.extend(timestamp), ntp_time)
        self._reported = True

    def guess(self, timestamp: int, arrival_us: int) -> None:
        """Take the arrival of a packet, us since 1970, while there has been no report.

        The earliest by its timestamp counts: it waited the least.
        """
        extended = self.extend(timestamp)
        if self._reported:
            return
        arrived = ntp.from_us(arrival_us)
        if self._anchor is None or _ahead(self._ntp_of(extended, self._anchor), arrived) > 0:
            self._anchor = (extended, arrived)

    def to_ntp(self, timestamp: int) -> int | None:
        """Return the 64-bit NTP time of a timestamp, rounded to its last bit; None: not known."""
        return None if self._anchor is None else self._ntp_of(self._near(timestamp), self._anchor)

    def to_wall_clock(self, timestamp: int) -> int | None:
        """Return us since 1970 of a timestamp; None while the time of day is not known."""
        found = self.to_ntp(timestamp)
        return None if found is None else ntp.to_us(found)

    def from_wall_clock(self, wall_us: int) -> int | None:
        """Return the extended timestamp of a time of day, us since 1970, rounded; None: unknown."""
        if self._anchor is None:
            return None
        extended, at = self._anchor
        ahead = _ahead(ntp.from_us(wall_us), at)
        return extended + (ahead * self.rate_hz + (1 << 31) >> 32)

    def _near(self, timestamp: int) -> int:
        if self._last is None or not 0 <= timestamp < _SPAN:
            return timestamp
        return self._last + (timestamp - self._last + (_SPAN >> 1)) % _SPAN - (_SPAN >> 1)

    def _ntp_of(self, extended: int, anchor: tuple[int, int]) -> int:
        since = extended - anchor[0]
        return (anchor[1] + ((since << 33) // self.rate_hz + 1 >> 1)) % (1 << 64)


def _ahead(one: int, other: int) -> int:
    """Return by how much one 64-bit NTP time is after another, whatever the era."""
    return (one - other + (1 << 63)) % (1 << 64) - (1 << 63)

"""What RTP says about a stream before anything is decoded: sequence, loss, jitter.

RFC 3550: A.1 (sequence numbers and restarts), A.3 (loss), A.8 (interarrival jitter), for one
packet of each of many rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from voip.media.columns import Bools, ColumnSpec, Floats, Ints, Rows, grow, make, reset

__all__ = ["MAX_DROPOUT", "MAX_MISORDER", "RESTART_S", "Accepted", "Receiver"]

MAX_DROPOUT = 3000
"""A sequence number further ahead than this is a restarted source (RFC 3550, A.1)."""
MAX_MISORDER = 1000
"""Likewise behind; twenty seconds of 20 ms packets, which no buffer of ours plays."""

RESTART_S = 2.0
"""A jump of transit time by so much is no jitter: the sender counts from elsewhere now."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Verdict on one packet of each of k rows; arrays of shape (k,).

    ok: bool; restarted: bool, first packet of a (new) source; sequence, timestamp: int64,
    extended beyond 16 and 32 bits.
    """

    ok: Bools
    restarted: Bools
    sequence: Ints
    timestamp: Ints


class Receiver:
    """Reception state of every row."""

    ssrc: Ints
    candidate: Ints
    first_sequence: Ints
    last_sequence: Ints
    expected_restart: Ints
    last_timestamp: Ints
    last_transit: Floats
    jitter: Floats
    packets: Ints
    octets: Ints
    lost_before: Ints
    received_here: Ints
    reordered: Ints
    expected_prior: Ints
    received_prior: Ints
    last_arrival: Floats

    COLUMNS: ClassVar[ColumnSpec] = {
        "ssrc": (np.int64, -1, ()),
        "candidate": (np.int64, -1, ()),
        "first_sequence": (np.int64, 0, ()),
        "last_sequence": (np.int64, 0, ()),
        "expected_restart": (np.int64, -1, ()),
        "last_timestamp": (np.int64, 0, ()),
        "last_transit": (np.float64, np.nan, ()),
        "jitter": (np.float64, 0.0, ()),  # in timestamp units
        "packets": (np.int64, 0, ()),  # all sources of this row together
        "octets": (np.int64, 0, ()),
        "lost_before": (np.int64, 0, ()),  # lost of sources that have since changed
        "received_here": (np.int64, 0, ()),  # of the present source
        "reordered": (np.int64, 0, ()),
        "expected_prior": (np.int64, 0, ()),
        "received_prior": (np.int64, 0, ()),
        "last_arrival": (np.float64, -np.inf, ()),
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Start a row afresh."""
        reset(self, row)

    def accept(
        self,
        rows: Rows,
        sequence: Ints,
        timestamp: Ints,
        ssrc: Ints,
        octets: Ints,
        arrival: Floats,
        clock: Floats,
        timed: Bools,
    ) -> Accepted:
        """Take one packet for each of `rows`, (k,), each row at most once.

        arrival: seconds; clock: the timestamp rate in Hz; timed: whether the timestamp tells when
        the packet was made (it does not in telephone-event, RFC 4733, 2.2), all of shape (k,).
        """
        known = self.ssrc[rows]
        fresh = known < 0
        other = ~fresh & (known != ssrc)
        last = self.last_sequence[rows]
        step = ((sequence - last + 0x8000) & 0xFFFF) - 0x8000
        wild = ~fresh & ~other & ((step > MAX_DROPOUT) | (step < -MAX_MISORDER))

        restarted = fresh
        ok = ~(other | wild)
        if other.any() or wild.any():
            # believed when the second packet fits the first: a lone stray changes nothing
            confirmed = (other | wild) & (self.expected_restart[rows] == sequence)
            confirmed &= wild | (self.candidate[rows] == ssrc)
            restarted = fresh | confirmed
            ok |= confirmed
            waiting = ~ok
            self.candidate[rows[waiting]] = ssrc[waiting]
            self.expected_restart[rows[waiting]] = (sequence[waiting] + 1) & 0xFFFF

        if restarted.any():
            new = rows[restarted]
            self.lost_before[new] += self._lost_here(new)
            self.ssrc[new] = ssrc[restarted]
            self.expected_restart[new] = -1
            base = sequence[restarted] + 0x10000  # never negative, however far back one comes
            self.first_sequence[new] = base
            self.last_sequence[new] = base
            self.received_here[new] = 0
            self.last_timestamp[new] = timestamp[restarted]
            self.last_transit[new] = np.nan
            self.expected_prior[new] = 0
            self.received_prior[new] = 0
            last = self.last_sequence[rows]
            step = np.where(restarted, 0, step)

        extended = last + step
        before = self.last_timestamp[rows]
        stamp = before + (((timestamp - before + 0x80000000) & 0xFFFFFFFF) - 0x80000000)

        counted = rows[ok]
        self.packets[counted] += 1
        self.received_here[counted] += 1
        self.octets[counted] += octets[ok]
        self.last_arrival[counted] = arrival[ok]
        self.reordered[rows[ok & (step < 0)]] += 1
        ahead = ok & (step > 0)
        self.last_sequence[rows[ahead]] = extended[ahead]
        self.last_timestamp[rows[ahead & timed]] = stamp[ahead & timed]

        judged = rows[ok & timed]
        transit = (arrival * clock - stamp)[ok & timed]
        change = np.abs(transit - self.last_transit[judged])
        change[~(change < RESTART_S * clock[ok & timed])] = 0.0  # the first, or another time base
        self.jitter[judged] += (change - self.jitter[judged]) / 16.0
        self.last_transit[judged] = transit
        return Accepted(ok, restarted & ok, extended, stamp)

    def expected(self, row: int) -> int:
        """Packets the present source has sent by its sequence numbers (RFC 3550, A.3)."""
        if self.ssrc[row] < 0:
            return 0
        return int(self.last_sequence[row] - self.first_sequence[row]) + 1

    def interval(self, row: int) -> tuple[int, int]:
        """Return packets expected and received since the last call, for a reception report."""
        expected, received = self.expected(row), int(self.received_here[row])
        since = expected - int(self.expected_prior[row]), received - int(self.received_prior[row])
        self.expected_prior[row] = expected
        self.received_prior[row] = received
        return since

    def _lost_here(self, rows: Rows) -> Ints:
        expected = self.last_sequence[rows] - self.first_sequence[rows] + 1
        lost: Ints = np.where(self.ssrc[rows] < 0, 0, expected - self.received_here[rows])
        return lost

"""What RTP says about a stream before anything is decoded: sequence, loss, jitter.

RFC 3550: A.1 (sequence numbers and restarts), A.3 (loss), A.8 (interarrival jitter), for one
packet of each of many rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from voip.media.columns import (
    Bools,
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    every,
    grow,
    make,
    reset,
    some,
)

__all__ = ["MAX_DROPOUT", "MAX_MISORDER", "RESTART_S", "Accepted", "Receiver"]

MAX_DROPOUT = 3000
"""A sequence number this far ahead is a restarted source (RFC 3550, A.1)."""
MAX_MISORDER = 1000
"""Likewise behind; twenty seconds of 20 ms packets, which no buffer of ours plays."""

RESTART_S = 2.0
"""A jump of transit time by so much is no jitter: the sender counts from elsewhere now."""
MAX_FORMER = 7
"""Sources that are remembered by name after others have taken their place."""
_BEHIND = np.int16(MAX_MISORDER - 1)
_NEAR = np.uint16(MAX_MISORDER - 1 + MAX_DROPOUT)
_FAR = -1e18
"""A transit time no packet has."""


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
    clock: Ints
    candidate: Ints
    expected_restart: Ints
    first_sequence: Ints
    last_sequence: Ints
    last_timestamp: Ints
    last_transit: Floats
    last_arrival: Floats
    jitter: Floats
    received: Ints
    octets: Ints
    received_before: Ints
    lost_before: Ints
    reordered: Ints
    expected_prior: Ints
    received_prior: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "ssrc": (np.int64, -1, ()),
        "clock": (np.int64, 8000, ()),  # what timestamps count, Hz
        "candidate": (np.int64, -1, ()),  # the SSRC of a packet that did not fit
        "expected_restart": (np.int64, -1, ()),  # the sequence number that would confirm it
        "first_sequence": (np.int64, 0, ()),
        "last_sequence": (np.int64, 0, ()),
        "last_timestamp": (np.int64, 0, ()),
        "last_transit": (np.float64, _FAR, ()),
        "last_arrival": (np.float64, -np.inf, ()),
        "jitter": (np.float64, 0.0, ()),  # in timestamp units
        "received": (np.int64, 0, ()),  # of the present source
        "octets": (np.int64, 0, ()),  # of all sources
        "received_before": (np.int64, 0, ()),  # of sources that have since changed
        "lost_before": (np.int64, 0, ()),  # of these, too
        "reordered": (np.int64, 0, ()),
        "expected_prior": (np.int64, 0, ()),
        "received_prior": (np.int64, 0, ()),
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self._suspicious: set[int] = set()  # rows with a candidate
        self.former: dict[int, tuple[tuple[int, int, int], ...]] = {}
        """Of rows whose source has changed: SSRC, packets received and lost of the last few."""

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def reset(self, row: int) -> None:
        """Start a row afresh."""
        reset(self, row)
        self._suspicious.discard(row)
        self.former.pop(row, None)

    def accept(
        self,
        rows: Rows,
        sequence: Ints,
        timestamp: Ints,
        ssrc: Ints,
        octets: Ints,
        arrival: Floats,
        timed: Bools,
        clock_hz: Ints | int,
    ) -> Accepted:
        """Take one packet for each of `rows`, (k,), each row at most once.

        arrival: seconds; timed: whether the timestamp tells when the packet was made (it does not
        in telephone-event, RFC 4733, 2.2), all of shape (k,); clock_hz: the timestamps' rate, one
        for all or (k,).
        """
        last = self.last_sequence[rows]
        step = (sequence - last).astype(np.int16)  # modulo 2^16, the shorter way
        ok = self.ssrc[rows] == ssrc
        # likewise modulo 2^16: above -MAX_MISORDER and below MAX_DROPOUT
        ok &= (step + _BEHIND).view(np.uint16) < _NEAR
        restarted = np.zeros(rows.size, np.bool_)
        if not every(ok):
            restarted = self._judge_odd(rows, ok, sequence, ssrc)
            self._restart(
                rows[restarted], sequence[restarted], timestamp[restarted], ssrc[restarted]
            )
            ok |= restarted
            last = self.last_sequence[rows]
            step[restarted] = 0
        extended = last + step
        before = self.last_timestamp[rows]
        stamp = before + (timestamp - before).astype(np.int32)
        verdict = Accepted(ok, restarted, extended, stamp)

        if not every(ok):
            rows, ssrc, octets, timed = rows[ok], ssrc[ok], octets[ok], timed[ok]
            step = step[ok]
            arrival, stamp, extended, last = arrival[ok], stamp[ok], extended[ok], last[ok]
            clock_hz = _some(clock_hz, ok)
        if self._suspicious:
            # whoever is interrupted by the present source was not in sequence
            self.candidate[rows[self.candidate[rows] != ssrc]] = -1
            self._suspicious.difference_update(rows[self.candidate[rows] < 0].tolist())
        self.received[rows] += 1
        self.octets[rows] += octets
        self.last_arrival[rows] = arrival
        if every(timed) and step.size and step.min() > 0:
            self.last_sequence[rows] = extended
            self.last_timestamp[rows] = stamp
        else:
            ahead = step > 0
            self.last_sequence[rows[ahead]] = extended[ahead]
            self.reordered[rows[step < 0]] += 1
            ahead &= timed
            self.last_timestamp[rows[ahead]] = stamp[ahead]
            rows, arrival, stamp = rows[timed], arrival[timed], stamp[timed]
            clock_hz = _some(clock_hz, timed)
        self._measure_jitter(rows, arrival * clock_hz - stamp, clock_hz)
        return verdict

    def count_by(self, row: int, clock_hz: int) -> None:
        """Let timestamps of a row count another clock from the next packet on."""
        self.clock[row] = clock_hz
        self.last_transit[row] = _FAR
        self.jitter[row] = 0.0

    def _measure_jitter(self, rows: Rows, transit: Floats, clock_hz: Ints | int) -> None:
        change = np.abs(transit - self.last_transit[rows])
        far = change >= RESTART_S * clock_hz
        if some(far):  # the first, or another time base
            change[far] = 0.0
        jitter = self.jitter[rows]
        change -= jitter
        change *= 1.0 / 16.0
        self.jitter[rows] = jitter + change
        self.last_transit[rows] = transit

    def _judge_odd(self, rows: Rows, ok: Bools, sequence: Ints, ssrc: Ints) -> Bools:
        """Say which packets (k,) start a source: a row's first, and what a second one confirms.

        A lone stray changes nothing: it is remembered, and believed when the next one follows it.
        """
        fresh = self.ssrc[rows] < 0
        follows = (self.candidate[rows] == ssrc) & (self.expected_restart[rows] == sequence)
        restarted: Bools = ~ok & (fresh | follows)
        waiting = ~(ok | restarted)
        self.candidate[rows[waiting]] = ssrc[waiting]
        self.expected_restart[rows[waiting]] = (sequence[waiting] + 1) & 0xFFFF
        self._suspicious.update(rows[waiting].tolist())
        return restarted

    def _restart(self, rows: Rows, sequence: Ints, timestamp: Ints, ssrc: Ints) -> None:
        """Begin to count a (new) source with these packets, which are still to be counted."""
        known = self.ssrc[rows] >= 0
        expected = self.last_sequence[rows] - self.first_sequence[rows] + 1
        self.lost_before[rows] += np.where(known, expected - self.received[rows], 0)
        for at in known.nonzero()[0]:
            row, received = int(rows[at]), int(self.received[rows[at]])
            told = (int(self.ssrc[row]), received, int(expected[at]) - received)
            self.former[row] = (*self.former.get(row, ()), told)[-MAX_FORMER:]
        self.received_before[rows] += self.received[rows]
        self.received[rows] = 0
        self.ssrc[rows] = ssrc
        self.candidate[rows] = -1
        base = sequence + 0x10000  # never negative, however far back one comes
        self.first_sequence[rows] = base
        self.last_sequence[rows] = base
        self.last_timestamp[rows] = timestamp
        self.last_transit[rows] = _FAR
        self.jitter[rows] = 0.0
        self.expected_prior[rows] = 0
        self.received_prior[rows] = 0

    def expected(self, rows: Rows) -> Ints:
        """Packets (k,) that present sources have sent by their sequence numbers (RFC 3550, A.3)."""
        count = self.last_sequence[rows] - self.first_sequence[rows] + 1
        return np.where(self.ssrc[rows] >= 0, count, 0)

    def interval(self, rows: Rows) -> tuple[Ints, Ints]:
        """Return packets (k,) expected and received since the last call, for reception reports."""
        expected, received = self.expected(rows), self.received[rows]
        since = expected - self.expected_prior[rows], received - self.received_prior[rows]
        self.expected_prior[rows] = expected
        self.received_prior[rows] = received
        return since


def _some(clock_hz: Ints | int, chosen: Bools) -> Ints | int:
    return clock_hz[chosen] if isinstance(clock_hz, np.ndarray) else clock_hz

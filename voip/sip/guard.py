"""How many requests strangers may begin: token buckets, one for each source and one for all.

A request that belongs to a call or a transaction, a response, and whatever comes from a source
that is known are never held back. What is beyond the rate over UDP is dropped unread: an answer
(503, RFC 3261 section 21.5.4) would go to whoever the source address names, which nobody has shown
to be the sender. Over a connection it is answered.

Calls of strangers are counted besides until somebody sends the ACK: a call that rings takes some 15
kB, one that is answered has ports too, and a forged source never sends one.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum
from typing import Final

__all__ = ["Admission", "Guard"]

ALL_SOURCES: Final = 2
"""All strangers together may have this many times the rate of one."""
BURST_S: Final = 2.0
"""A source that was silent may send as much as this many seconds allow, at once."""
MAX_SOURCES: Final = 256
"""Buckets at a time. A source whose bucket was forgotten begins anew; all have one in common."""
MAX_KNOWN: Final = 16_384
"""Sources that are known, besides those that always are."""
HALF_OPEN_S: Final = 32.0
"""How long a stranger's call counts as half open: a transaction lasts as long, 64*T1. One that
rings for longer takes nobody's place."""
KNOWN_S: Final = 3600.0
"""How long a source is known after it has last shown who it is."""

_RESPONSE: Final = b"SIP/2.0 "
_BELONGING: Final = (b"ACK ", b"CANCEL ")
_TO_TAG: Final = re.compile(rb"\n(?:to|t)[ \t]*+:[^\r\n]*?;[ \t]*+tag[ \t]*+=", re.IGNORECASE)


class Admission(Enum):
    """What becomes of a message that has not been read yet."""

    WELCOME = "welcome"
    UNPROVEN = "unproven"
    """It says that it belongs to something: if that is not so, `admit_new` has the last word."""
    OVER = "over"
    """Beyond the rate."""


class _Bucket:
    """Tokens that come back at `rate` a second, up to `burst`."""

    __slots__ = ("at", "tokens")

    def __init__(self, burst: float, now: float) -> None:
        self.tokens = burst
        self.at = now

    def take(self, rate: float, burst: float, now: float) -> bool:
        tokens = min(burst, self.tokens + max(0.0, now - self.at) * rate)
        self.at = now
        enough = tokens >= 1.0
        self.tokens = tokens - enough
        return enough


class Guard:
    """Judges by where a message came from, before it is read. Sources are hosts, as IP literals.

    `rate`: requests a second that one stranger may begin, twice as many at once; None: no limit.
    `trusted`: hosts that are always known.
    """

    def __init__(self, rate: float | None, trusted: Iterable[str] = ()) -> None:
        self._rate = rate
        self._burst = max(1.0, (rate or 0.0) * BURST_S)
        self._trusted = frozenset(trusted)
        self._known: OrderedDict[str, float] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._all: _Bucket | None = None
        self._half_open: dict[str, float] = {}  # our tags, and since when

    def __len__(self) -> int:
        return len(self._known) + len(self._buckets)

    def know(self, host: str, now: float) -> None:
        """Take it that a source has shown who it is: by a password, or by answering us."""
        if self._rate is None or host in self._trusted:
            return
        self._known[host] = now + KNOWN_S
        self._known.move_to_end(host)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def knows(self, host: str, now: float) -> bool:
        """Whether a source is known."""
        if self._rate is None or host in self._trusted:
            return True
        until = self._known.get(host)
        if until is None:
            return False
        if until <= now:
            del self._known[host]
            return False
        return True

    def look(self, data: bytes, host: str, now: float) -> Admission:
        """Judge a message by its source and its first words; one that begins something counts."""
        if self.knows(host, now) or data.startswith(_RESPONSE):
            return Admission.WELCOME
        if data[:1] in b"\r\n":
            data = data.lstrip(b"\r\n")
            if data.startswith(_RESPONSE):
                return Admission.WELCOME
        if data.startswith(_BELONGING) or _TO_TAG.search(data) is not None:
            return Admission.UNPROVEN
        return Admission.WELCOME if self.admit_new(host, now) else Admission.OVER

    def admit_new(self, host: str, now: float) -> bool:
        """Count a request that a stranger begins; False when it is one too many."""
        rate = self._rate
        if rate is None:
            return True
        burst = self._burst
        self.forget_full(now)
        bucket = self._buckets.get(host)
        if bucket is None:
            bucket = self._buckets[host] = _Bucket(burst, now)
            if len(self._buckets) > MAX_SOURCES:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(host)
        if not bucket.take(rate, burst, now):
            return False
        if self._all is None:
            self._all = _Bucket(ALL_SOURCES * burst, now)
        return self._all.take(ALL_SOURCES * rate, ALL_SOURCES * burst, now)

    def has_room(self, host: str, now: float) -> bool:
        """Whether a call may begin: a stranger's, while fewer than a burst are half open.

        Such are those whose answer, whatever it was, nobody has acknowledged.
        """
        if self._rate is None or self.knows(host, now):
            return True
        half_open = self._half_open
        while half_open and half_open[oldest := next(iter(half_open))] <= now - HALF_OPEN_S:
            del half_open[oldest]
        return len(half_open) < self._burst

    def begin(self, host: str, tag: str, now: float) -> None:
        """Take it that a call has begun, whose answers have this tag of ours."""
        if not self.knows(host, now):
            self._half_open[tag] = now

    def acknowledge(self, tag: str | None) -> None:
        """Take an ACK to our tag, which shows that the caller is where it says."""
        if tag is not None:
            self._half_open.pop(tag, None)

    def forget_full(self, now: float) -> None:
        """Forget sources that were silent until their buckets were full: they are as new ones."""
        buckets = self._buckets
        while buckets and now - buckets[oldest := next(iter(buckets))].at >= BURST_S:
            del buckets[oldest]

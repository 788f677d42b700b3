"""How many requests strangers may begin: token buckets, one for each source and one for all.

A request that belongs to a call or a transaction, a response, and whatever comes from a source
that is known are never held back. What is beyond the rate over UDP is dropped unread: an answer
(503, RFC 3261 section 21.5.4) would go to whoever the source address names, which nobody has shown
to be the sender. Over a connection it is answered.
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
MAX_SOURCES: Final = 1024
"""Buckets at a time. A source whose bucket was forgotten begins anew; all have one in common."""
MAX_KNOWN: Final = 16_384
"""Sources that are known, besides those that always are."""
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
        self._trusted = frozenset(trusted)
        self._known: OrderedDict[str, float] = OrderedDict()
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._all: _Bucket | None = None

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
        burst = max(1.0, rate * BURST_S)
        self._forget_full(now)
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

    def _forget_full(self, now: float) -> None:
        """Forget sources that were silent until their buckets were full: they are as new ones."""
        for _ in range(2):  # as many go as come, and then some
            host = next(iter(self._buckets), None)
            if host is None or now - self._buckets[host].at < BURST_S:
                return
            del self._buckets[host]

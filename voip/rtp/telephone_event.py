"""RFC 4733 telephone-event: DTMF digits as RTP payloads, sent and heard.

`EventSender` turns queued digits into packets, one per packet time of the row; `EventReceiver`
turns reports into digits, each delivered once whatever was lost, repeated or reordered. Durations
and timestamps count the clock of the payload format (8000 Hz beside G.711, 48000 beside Opus).
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, replace

from voip.errors import RtpError

__all__ = [
    "DIGITS",
    "END_PACKETS",
    "END_TIMEOUT_S",
    "MAX_DURATION",
    "MAX_DURATION_MS",
    "MAX_EVENTS",
    "MAX_QUEUED_DIGITS",
    "Digit",
    "EventPacket",
    "EventReceiver",
    "EventSender",
    "TelephoneEvent",
    "parse_events",
]

DIGITS = "0123456789*#ABCD"
"""Event codes 0 to 15 (RFC 4733, section 3.2, table 3)."""
END_PACKETS = 3
"""How often the last report of an event or segment is sent (section 2.5.1.4)."""
MAX_DURATION = 0xFFFF
"""The longest segment the duration field can express (section 2.5.1.3)."""
MAX_DURATION_MS = 600_000
"""The longest digit that is sent."""
MAX_QUEUED_DIGITS = 256
"""How many digits wait in one sender."""
MAX_EVENTS = 16
"""How many events of one packet are read; the rest is ignored."""
END_TIMEOUT_S = 0.2
"""An event without news for this long has ended: its end packets were lost."""

_EVENT = struct.Struct("!BBH")
_STRAGGLE_S = 2.0  # reports of events that ended longer ago, or began earlier, are new events
_HISTORY = 16  # ended events whose stragglers are recognised


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """One report: event code, whether it has ended, -dBm0 level, duration in clock units."""

    event: int
    end: bool
    volume: int
    duration: int

    def to_bytes(self) -> bytes:
        """Build the four octets of RFC 4733, figure 1."""
        return _EVENT.pack(self.event, self.end << 7 | self.volume & 0x3F, self.duration)


def parse_events(payload: bytes) -> list[TelephoneEvent]:
    """Read the reports of one payload: one, or several contiguous ones (section 2.5.1.5).

    Raises RtpError where the payload is not a whole number of four-octet reports.
    """
    if not payload or len(payload) % _EVENT.size:
        raise RtpError(f"telephone-event payload of {len(payload)} octets: not a multiple of 4")
    return [
        TelephoneEvent(event, bool(flags & 0x80), flags & 0x3F, duration)
        for event, flags, duration in _EVENT.iter_unpack(payload[: MAX_EVENTS * _EVENT.size])
    ]


# ---------------------------------------------------------------- sending


@dataclass(frozen=True, slots=True)
class EventPacket:
    """What the row sends instead of audio. `timestamp` is where the event (segment) began."""

    timestamp: int
    marker: bool
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Queued:
    digit: str
    duration: int
    gap: int


@dataclass(slots=True)
class _Sending:
    """The event on the wire: its segment began at `start`, `left` clock units are due from there.

    `finals` counts how often the last report of the segment has gone out.
    """

    digit: str
    start: int
    left: int
    gap: int
    marker: bool = True
    finals: int = 0


class EventSender:
    """Digits queued for one row; the row asks for a packet each time it could send audio."""

    def __init__(self, clock_rate: int = 8000, *, volume: int = 10) -> None:
        if not 0 <= volume <= 63:
            raise RtpError(f"DTMF volume {volume}: 0 to 63 stand for 0 to -63 dBm0")
        self._clock_rate = clock_rate
        self._volume = volume
        self._queue: deque[_Queued] = deque()
        self._sending: _Sending | None = None
        self._pause_end = 0
        self._pause = 0
        self._sent: list[str] = []

    def queue(self, digits: str, duration_ms: int = 100, gap_ms: int = 60) -> None:
        """Append `digits`, each `duration_ms` long and followed by at least `gap_ms` of audio.

        Raises RtpError for characters that are no digits, impossible times and a full queue.
        """
        digits = digits.upper()
        unknown = sorted(set(digits) - set(DIGITS))
        if unknown:
            raise RtpError(f"{''.join(unknown)!r} cannot be sent as DTMF", hint=f"use {DIGITS}")
        if not 0 < duration_ms <= MAX_DURATION_MS or not 0 <= gap_ms <= MAX_DURATION_MS:
            raise RtpError(
                f"DTMF of {duration_ms} ms with gaps of {gap_ms} ms cannot be sent",
                hint=f"1 to {MAX_DURATION_MS} ms, gaps from 0",
            )
        if len(self._queue) + len(digits) > MAX_QUEUED_DIGITS:
            raise RtpError(f"more than {MAX_QUEUED_DIGITS} digits wait to be sent already")
        duration = max(1, duration_ms * self._clock_rate // 1000)
        gap = gap_ms * self._clock_rate // 1000
        self._queue.extend(_Queued(digit, duration, gap) for digit in digits)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or being sent."""
        return self._sending is None and not self._queue

    def finished(self, timestamp: int) -> bool:
        """Whether nothing is left to do at `timestamp`, not even to keep the last gap."""
        return self.idle and not self._rests(timestamp)

    def interrupt(self, timestamp: int) -> EventPacket | None:
        """End the digit on the wire, which counts as sent: the row may send no more for now.

        Returns its last report, to be sent at once; None where there is none.
        """
        now, self._sending = self._sending, None
        if now is None:
            return None
        self._sent.append(now.digit)
        duration = max(1, min(_ahead(timestamp, now.start), now.left, MAX_DURATION))
        event = TelephoneEvent(DIGITS.index(now.digit), True, self._volume, duration)
        return EventPacket(now.start, now.marker, event.to_bytes())

    def take_sent(self) -> str:
        """Return the digits that have gone out, once, when the queue is empty; else ""."""
        if not self._sent or not self.idle:
            return ""
        sent, self._sent = "".join(self._sent), []
        return sent

    def next_packet(self, timestamp: int, samples: int) -> EventPacket | None:
        """Return what to send instead of the audio [timestamp, timestamp + samples), if anything.

        To be called once per packet time with the row's RTP timestamp (mod 2^32, never stepping
        back) and the packet's length in clock units; each call advances the digit on the wire.
        None: send audio.
        """
        if self._sending is None:
            self._sending = self._begin(timestamp)
        now = self._sending
        if now is None:
            return None

        elapsed = _ahead(timestamp, now.start) + samples
        segment = min(now.left, MAX_DURATION)
        duration = max(1, min(elapsed, segment))
        last_segment = now.left <= MAX_DURATION
        event = TelephoneEvent(
            DIGITS.index(now.digit), last_segment and duration == segment, self._volume, duration
        )
        packet = EventPacket(now.start, now.marker, event.to_bytes())
        now.marker = False
        if duration == segment:
            now.finals += 1
        if now.finals == END_PACKETS:
            self._end_segment(now, segment)
        return packet

    def _begin(self, timestamp: int) -> _Sending | None:
        if not self._queue:
            return None
        if self._rests(timestamp):
            return None
        queued = self._queue.popleft()
        return _Sending(queued.digit, timestamp, queued.duration, queued.gap)

    def _rests(self, timestamp: int) -> bool:
        """Whether the gap after the last digit lasts still."""
        return 0 < _ahead(self._pause_end, timestamp) <= self._pause

    def _end_segment(self, now: _Sending, segment: int) -> None:
        now.start = (now.start + segment) & 0xFFFFFFFF
        now.left -= segment
        now.finals = 0
        if not now.left:
            self._sent.append(now.digit)
            self._pause = now.gap
            self._pause_end = (now.start + now.gap) & 0xFFFFFFFF
            self._sending = None


# ---------------------------------------------------------------- receiving


@dataclass(frozen=True, slots=True)
class Digit:
    """A digit that was heard; `timestamp` is where it began."""

    digit: str
    duration_ms: float
    timestamp: int


@dataclass(frozen=True, slots=True)
class _Heard:
    """An event as known so far: `segment` is where its newest segment began.

    `before` clock units lie in earlier segments, `duration` in the newest. `last`: when the
    latest report of it came.
    """

    event: int
    start: int
    segment: int
    duration: int
    last: float
    before: int = 0
    ended: bool = False

    def continues_at(self, event: int, timestamp: int) -> bool:
        """Whether a report without marker is the next segment (2.5.2.3, 2.5.2.3.1)."""
        offset = _ahead(timestamp, self.segment)
        return event == self.event and not self.ended and offset in (self.duration, MAX_DURATION)

    def covers(self, event: int, timestamp: int) -> bool:
        """Whether `timestamp` is that of a segment of this event."""
        return (
            event == self.event
            and _ahead(timestamp, self.start) >= 0
            and _ahead(self.segment, timestamp) >= 0
        )


class EventReceiver:
    """Reports of one source in, digits out: each once, when it has ended.

    A digit ends with its end bit, with the next event, or `timeout_s` after its last report.
    """

    def __init__(self, clock_rate: int = 8000, *, timeout_s: float = END_TIMEOUT_S) -> None:
        self.clock_rate = clock_rate
        self._timeout_s = timeout_s
        self._open: _Heard | None = None
        self._closed: deque[_Heard] = deque(maxlen=_HISTORY)
        self.ignored = 0
        """Reports that are malformed, no digit, without duration, or too late."""

    def feed(self, timestamp: int, marker: bool, payload: bytes, now: float) -> list[Digit]:
        """Take one packet, in order of arrival; return the digits that ended by it.

        `now`: arrival in seconds, non-decreasing. Never raises; what cannot be used is counted.
        """
        digits: list[Digit] = []
        try:
            events = parse_events(payload)
        except RtpError:
            self.ignored += 1
            events = []
        for event in events:
            digits += self._report(event, timestamp, marker, now)
            timestamp = (timestamp + event.duration) & 0xFFFFFFFF
        return digits + self.poll(now)

    def poll(self, now: float) -> list[Digit]:
        """Return the digit whose reports have stopped, if its time is up."""
        deadline = self.next_timer()
        return [] if deadline is None or now < deadline else self._close()

    def next_timer(self) -> float | None:
        """Return when `poll` has something to say if no report comes before."""
        return None if self._open is None else self._open.last + self._timeout_s

    def reset(self) -> list[Digit]:
        """Forget everything (another SSRC); return the digit that was being heard."""
        digits = self._close()
        self._closed.clear()
        return digits

    def _report(
        self, report: TelephoneEvent, timestamp: int, marker: bool, now: float
    ) -> list[Digit]:
        event, duration, end = report.event, report.duration, report.end
        current = self._open
        if current is not None and current.covers(event, timestamp):
            if timestamp != current.segment:
                return []  # the end of an earlier segment, sent again
            duration = max(current.duration, duration)
            return self._update(replace(current, duration=duration, last=now, ended=end))
        if event >= len(DIGITS) or not (duration or marker):
            self.ignored += 1
            return []
        if not marker and current is not None and current.continues_at(event, timestamp):
            before = current.before + _ahead(timestamp, current.segment)
            return self._update(
                replace(
                    current,
                    segment=timestamp,
                    before=before,
                    duration=duration,
                    last=now,
                    ended=end,
                )
            )
        if self._is_straggler(report, timestamp, marker, now):
            return []
        digits = self._close()
        return digits + self._update(_Heard(event, timestamp, timestamp, duration, now, ended=end))

    def _is_straggler(
        self, report: TelephoneEvent, timestamp: int, marker: bool, now: float
    ) -> bool:
        """Whether a report is of an event that was delivered, or from before the newest one.

        A marker after a pause starts a new event all the same: there are senders, tools that
        replay captures among them, whose timestamps repeat.
        """
        since = now - (self._timeout_s if marker else _STRAGGLE_S)
        for index, heard in enumerate(self._closed):
            if heard.last < since:
                continue
            if heard.covers(report.event, timestamp):
                return True
            if not marker and heard.continues_at(report.event, timestamp):
                # It timed out in the middle and goes on: it must not sound twice (2.5.2.2).
                self._closed[index] = replace(
                    heard,
                    segment=timestamp,
                    duration=report.duration,
                    last=now,
                    ended=report.end,
                )
                return True
        newest = self._open or (self._closed[-1] if self._closed else None)
        if newest is None or newest.last < since:
            return False
        late = 0 < _ahead(newest.segment, timestamp) < _STRAGGLE_S * self.clock_rate
        self.ignored += late
        return late

    def _update(self, heard: _Heard) -> list[Digit]:
        self._open = heard
        return self._close() if heard.ended else []

    def _close(self) -> list[Digit]:
        heard, self._open = self._open, None
        if heard is None:
            return []
        self._closed.append(heard)
        if not heard.duration:  # announced by reports without duration only: no event (2.3.5)
            self.ignored += 1
            return []
        duration_ms = (heard.before + heard.duration) * 1000.0 / self.clock_rate
        return [Digit(DIGITS[heard.event], duration_ms, heard.start)]


def _ahead(timestamp: int, other: int) -> int:
    """Return how far `timestamp` is ahead of `other`, modulo 2^32: negative when behind."""
    return (timestamp - other + 0x80000000 & 0xFFFFFFFF) - 0x80000000

"""What the calls of a phone came to: counted once for each, when it is over."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Final

from voip.call import Call
from voip.events import EndedBy, PhoneEvent, RegistrationFailed
from voip.media.answers import StreamStats
from voip.media.stats import SUMMED
from voip.metrics.histogram import Histogram
from voip.session.session import CallSession

__all__ = ["Outcome", "Tally", "add_up", "direction_of", "outcome_of"]

_BUSY: Final = frozenset((486, 600))
_UNANSWERED: Final = frozenset((408, 480))
_GIVEN_UP: Final = 487


class Outcome(Enum):
    """What came of a call."""

    ANSWERED = "answered"
    BUSY = "busy"
    UNANSWERED = "unanswered"
    CANCELLED = "cancelled"  # by the caller, before the answer
    REDIRECTED = "redirected"
    REFUSED = "refused"
    FAILED = "failed"


def outcome_of(session: CallSession) -> Outcome:
    """Judge a call that is over."""
    end = session.end
    status = None if end is None else end.status
    if session.up_s is not None:
        return Outcome.ANSWERED
    if status in _BUSY:
        return Outcome.BUSY
    if status in _UNANSWERED:
        return Outcome.UNANSWERED
    if status == _GIVEN_UP:
        return Outcome.CANCELLED
    if end is None or status is None or end.by is EndedBy.FAILURE:
        return Outcome.FAILED
    return Outcome.REDIRECTED if status < 400 else Outcome.REFUSED


def direction_of(session: CallSession) -> str:
    """Say which way a call went."""
    return "outgoing" if session.outgoing else "incoming"


class Tally:
    """The calls that are over, the figures of their streams, and failures to register."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[str, str, str]] = Counter()
        """By direction, outcome, and who ended them."""
        self.media: dict[str, float] = dict.fromkeys(SUMMED, 0)
        """Sums over their streams."""
        self.failures: Counter[str] = Counter()
        """Failed attempts to register, by address of record."""
        self.histograms: dict[str, Histogram] = {
            "voip_call_duration_seconds": Histogram((1, 5, 15, 30, 60, 180, 600, 1800, 3600)),
            "voip_call_mos": Histogram((1.5, 2.0, 2.5, 3.0, 3.5, 3.8, 4.0, 4.2, 4.4)),
            "voip_call_loss_ratio": Histogram((0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)),
            "voip_call_jitter_seconds": Histogram((0.001, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)),
            "voip_call_round_trip_seconds": Histogram((0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)),
        }

    def call_ended(self, call: Call) -> None:
        """Take a call that is over: its figures are the final ones."""
        session, stats, quality = call._session, call.stats, call.quality
        end = session.end
        by = EndedBy.FAILURE if end is None else end.by
        self.ended[direction_of(session), outcome_of(session).value, by.value] += 1
        add_up(self.media, stats)
        for name, figure in (
            ("voip_call_duration_seconds", session.up_s),
            ("voip_call_mos", quality.mos),
            ("voip_call_loss_ratio", quality.loss_fraction),
            ("voip_call_jitter_seconds", _seconds(stats.jitter_ms)),
            ("voip_call_round_trip_seconds", _seconds(stats.rtt_ms)),
        ):
            self.histograms[name].add(figure)

    def told(self, event: PhoneEvent) -> None:
        """Take what happened to a registration."""
        if isinstance(event, RegistrationFailed):
            self.failures[event.aor] += 1


def add_up(sums: dict[str, float], stats: StreamStats) -> None:
    """Add the figures of a stream to sums over streams."""
    for name in sums:
        sums[name] += getattr(stats, name)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000

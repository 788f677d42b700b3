"""What a jitter buffer did, step by step: a log of single streams, bounded, off by default.

A line is written for a step in which something was changed: the target, the delay by time-scale
modification, or in which sound was made up or a packet was too late. Nothing is written for others,
and a row that is not logged costs nothing.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

import numpy as np

from voip.errors import MediaError
from voip.media.answers import JitterLines
from voip.media.playout import Playout

__all__ = ["FIELDS", "MOST_EVENTS", "READ_LINES", "JitterLog", "jitter_csv"]

READ_LINES: Final = 500
"""Lines that are told at a time: more would keep a tick from its sound."""
MOST_EVENTS: Final = 100_000
"""Lines that may be asked for: the oldest are forgotten beyond the number that was."""
FIELDS: Final = (
    "time_s", "event", "target_ms", "delay_ms", "packets_waiting", "concealed_ms", "expanded_ms",
    "accelerated_ms", "packets_late", "packets_dropped",
)  # fmt: skip
_COUNTED: Final = ("concealed", "expanded", "accelerated", "late", "dropped")


class JitterLog:
    """The last `events` lines of one row.

    time_s: when the step began, monotonic; event: what has grown in it, or "target", joined by "+";
    delay_ms: from the quickest packet's arrival to its playout, as the target; the rest are the
    stream's figures since its beginning. Raises MediaError where `events` is not 1 to 100,000.
    """

    def __init__(self, events: int) -> None:
        if not 0 < events <= MOST_EVENTS:
            raise MediaError(
                f"a log of {events} events cannot be had", hint=f"1 to {MOST_EVENTS}, or 0 for none"
            )
        self._lines: deque[tuple[object, ...]] = deque(maxlen=events)
        self._before: dict[str, float] = {}
        self.total = 0
        """Lines so far, those that are forgotten too."""

    def __len__(self) -> int:
        return len(self._lines)

    def note(self, playout: Playout, row: int, time_s: float) -> None:
        """Note the step that `row` has just heard, which began at `time_s`."""
        now: dict[str, float] = {name: getattr(playout, name)[row].item() for name in _COUNTED}
        now["target"] = float(playout.target[row])
        before, self._before = self._before or dict.fromkeys(now, 0), now
        grown = [name for name, value in now.items() if value != before[name]]
        if not grown:
            return
        rate = int(playout.rate[row])
        # the samples just heard are behind; the step began that much earlier
        waited = int(playout.waited[row]) / rate
        delay = float(playout.delay(np.array([row]), np.array([time_s]))[0]) - waited
        self.total += 1
        self._lines.append(
            (
                f"{time_s:.3f}",
                "+".join(grown),
                f"{1000 * now['target']:.0f}",
                f"{1000 * delay:.1f}",
                int(playout.ring.count[row]),
                *(f"{1000 * now[name] / rate:.1f}" for name in _COUNTED[:3]),
                int(now["late"]),
                int(now["dropped"]),
            )
        )

    def lines(self, stream: int, since: int) -> JitterLines:
        """Return line number `since`, or the oldest that is kept, and some after it."""
        oldest = self.total - len(self._lines)
        first = min(max(since, oldest), self.total)
        begin = first - oldest
        return JitterLines(
            stream, first, tuple(islice(self._lines, begin, begin + READ_LINES)), self.total
        )

    def to_csv(self) -> str:
        """Return the lines as CSV, the oldest first, with a head of `FIELDS`."""
        return jitter_csv(self._lines)


def jitter_csv(lines: Iterable[tuple[object, ...]]) -> str:
    """Return lines as CSV, with a head of `FIELDS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows(lines)
    return text.getvalue()

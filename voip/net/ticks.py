"""When ticks began and were done: what a driver counts of its engine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.media.driver import TickFigures
from voip.media.table import BASE_STEP_S

__all__ = ["TickTimes"]


class TickTimes:
    """How late each tick began and ended, in seconds after its deadline: the last `capacity`.

    `late` counts ticks that were not done when the next one was due, and the deadlines that the
    engine left out because of that.
    """

    def __init__(self, capacity: int = 8192) -> None:
        # written to, so that it is all memory from the beginning and does not grow into it
        self._figures = np.full((capacity, 2), 0.0)
        self.ticks = 0
        self.late = 0
        self.failures = 0

    def record(self, deadline: float, started: float, done: float, following: float | None) -> None:
        """Note one tick; `following` is the next deadline (None: nothing is due)."""
        started_s = max(0.0, started - deadline)
        self._figures[self.ticks % len(self._figures)] = started_s, done - deadline
        self.ticks += 1
        if following is None:
            return
        self.late += done > following
        if started_s > BASE_STEP_S:  # no row's step is longer than two base steps
            self.late += max(0, int((following - deadline) / BASE_STEP_S) - 2)

    def since(self, tick: int = 0, until: int | None = None) -> npt.NDArray[np.float64]:
        """Return (start, done) of the ticks from number `tick` on: float64 (ticks, 2), in order.

        `until`: and before that one; by default all that there were.
        """
        size = len(self._figures)
        end = self.ticks if until is None else until
        return self._figures[np.arange(max(tick, end - size), end) % size]

    def add(
        self, lateness_s: npt.NDArray[np.float64], late: int, failures: int, ticks: int
    ) -> None:
        """Note `ticks` that were counted elsewhere, the last of them as (start, done).

        lateness_s: float64 (k, 2), no more than ticks: what is still remembered there.
        """
        kept = lateness_s[-len(self._figures) :]
        end = self.ticks + ticks
        self._figures[np.arange(end - len(kept), end) % len(self._figures)] = kept
        self.ticks = end
        self.late += late
        self.failures += failures

    def figures(self, since_tick: int = 0) -> TickFigures:
        """Return all of it; the lateness of ticks from number `since_tick` on."""
        count = self.ticks  # a thread may go on
        lateness_s = self.since(since_tick, count)
        return TickFigures(count, self.late, self.failures, lateness_s)

"""What is to happen later: a heap of timers from which cancelled ones fall out lazily.

Starting costs O(log n), cancelling O(1), asking for the next one O(1) amortised. Cancelled timers
never outnumber half the live ones by more than `_SLACK`.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

__all__ = ["Timer", "Timers"]

_SLACK: Final = 64


class Timer:
    """A running timer; made by `Timers.start`."""

    __slots__ = ("_fire", "_timers", "at")

    def __init__(self, at: float, fire: Callable[[float], None], timers: Timers) -> None:
        self.at = at
        self._fire: Callable[[float], None] | None = fire
        self._timers = timers

    @property
    def running(self) -> bool:
        """Whether it has neither fired nor been cancelled."""
        return self._fire is not None

    def cancel(self) -> None:
        """Keep it from firing; a timer that has fired or was cancelled stays as it is."""
        if self._fire is not None:
            self._fire = None
            self._timers._cancelled()

    def _take(self) -> Callable[[float], None] | None:
        """Return what to call, once."""
        fire, self._fire = self._fire, None
        return fire


class Timers:
    """The timers of one agent. `len()` counts the running ones."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = 0  # timers of the same instant fire in the order they were started
        self._dead = 0

    def start(self, at: float, fire: Callable[[float], None]) -> Timer:
        """Call `fire(now)` at the first `run` with `now` not before `at` (seconds)."""
        timer = Timer(at, fire, self)
        self._order += 1
        heappush(self._heap, (at, self._order, timer))
        return timer

    def next(self) -> float | None:
        """Return when the earliest running timer is due, None when none runs."""
        heap = self._heap
        while heap and not heap[0][2].running:
            heappop(heap)
            self._dead -= 1
        return heap[0][0] if heap else None

    def run(self, now: float) -> None:
        """Fire everything that is due, the earliest first."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            fire = heappop(heap)[2]._take()
            if fire is None:
                self._dead -= 1
            else:
                fire(now)

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def _cancelled(self) -> None:
        self._dead += 1
        if self._dead > _SLACK and self._dead * 3 > len(self._heap):
            # In place: `run` may be walking this list.
            self._heap[:] = [entry for entry in self._heap if entry[2].running]
            heapify(self._heap)
            self._dead = 0

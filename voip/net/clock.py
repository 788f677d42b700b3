"""The real clock, and the way from the kernel's wall-clock time stamps to monotonic time."""

from __future__ import annotations

import time

from voip.types import Clock

__all__ = ["SystemClock", "WallOffset"]

MAX_BRACKET_S = 50e-6
"""A pair of readings further apart than this was interrupted and tells nothing."""

JUMP_S = 0.001
"""The two clocks are slewed alike; a difference that moves by more is the wall clock being set."""


class SystemClock:
    """The operating system's clocks, as `voip.types.Clock`."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        return time.monotonic()

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump."""
        return time.time()


class WallOffset:
    """Wall-clock time minus monotonic time, sampled often; jumps re-base it and are counted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.jumps = 0
        before, wall = clock.monotonic(), clock.wall()
        self.seconds = wall - (before + clock.monotonic()) / 2

    def sample(self) -> bool:
        """Read both clocks; return True when the wall clock has jumped since the last call."""
        clock = self._clock
        before = clock.monotonic()
        wall = clock.wall()
        after = clock.monotonic()
        offset = wall - (before + after) / 2
        change = abs(offset - self.seconds)
        if change > JUMP_S + (after - before):
            self.seconds = offset
            self.jumps += 1
            return True
        if after - before < MAX_BRACKET_S:
            self.seconds = offset
        return False

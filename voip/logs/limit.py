"""How many lines may be caused by somebody else: a token bucket."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

__all__ = ["Limit"]

RATE: Final = 20.0
"""Lines a second."""
BURST: Final = 200.0
"""Lines at once, after a silence."""


class Limit:
    """Tokens for lines, which come back at `rate` a second, up to `burst`. `now` returns seconds.

    `left_out`: lines that had none, since one had.
    """

    __slots__ = ("_at", "_burst", "_now", "_rate", "_tokens", "left_out")

    def __init__(self, now: Callable[[], float], rate: float = RATE, burst: float = BURST) -> None:
        self.left_out = 0
        self._now = now
        self._rate = rate
        self._burst = burst
        self._at = -inf  # never yet: `now` may not be known before the first line
        self._tokens = burst

    def admit(self) -> bool:
        """Whether a line may be written; one that may not is counted."""
        now = self._now()
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            self.left_out += 1
            return False
        self._tokens -= 1.0
        return True

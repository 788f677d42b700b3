"""Where a tick's time goes: seconds by phase, while somebody wants to know."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["PHASES", "Phases"]

PHASES = (
    "commands",
    "receive",
    "unprotect",
    "parse and insert",
    "digits",
    "play out",
    "levels",
    "route and mix",
    "encode",
    "protect",
    "send",
    "reports",
    "figures",
)
"""In the order of a tick; `receive` and `send` are the network's."""


class Phases:
    """Adds up what lies between the ends of phases, by `clock`; None: nothing is done.

    One of the processor's time tells what a phase costs, one of time what it takes.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.most: dict[str, float] = dict(self.seconds)
        """The most a phase took at a time, since somebody set it back."""
        self._since = 0.0

    def begin(self) -> None:
        """Begin to count: what went before belongs to no phase."""
        if self.clock is not None:
            self._since = self.clock()

    def end(self, phase: str) -> None:
        """Count all since the last end, or the beginning, to `phase`."""
        if self.clock is not None:
            now = self.clock()
            taken = now - self._since
            self.seconds[phase] += taken
            self.most[phase] = max(self.most[phase], taken)
            self._since = now

"""Leaving a server that cannot be reached, or says nothing, for another (RFC 3263 section 4.3).

What our requests share, whoever sends them: the caller of a call, a request outside of calls, one
within a dialog, a branch of a proxy. Which other servers there are is looked up by the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from voip.sip.flow import Flow, Peer
from voip.sip.timers import Timer, Timers

__all__ = ["Failover", "Seek", "Sought", "Way"]

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Way:
    """How a request goes: by a flow, and what it says there of its route and of our address.

    None: what it said before.
    """

    flow: Flow
    route: tuple[str, ...] | None = None
    contact: str | None = None


@dataclass(frozen=True, slots=True)
class Sought:
    """Another way is looked for: none to a peer that was `tried`.

    `left`: the way that leads nowhere; `failed`: it is known to, and not only silent. `now`: when
    it is asked for. Call `found` or `lost` once, and flush. `found` returns whether the way is
    taken: an answer may have come. Not `leaves`: it is the first way that is looked for, and
    nothing is wrong with the one before.
    """

    tried: frozenset[Peer]
    left: Flow
    failed: bool
    now: float
    found: Callable[[Way, float], bool]
    lost: Callable[[float], None]
    leaves: bool = True


Seek: TypeAlias = Callable[[Sought], None]


class Failover(Generic[Outcome]):
    """The ways of one request, one after the other; `seek` None: there is no other.

    A server that has not said a word in `patience_s` seconds is left if there is another: only
    then is one looked for. One that has failed is left at once, and where nobody can take its place
    the first failure is the outcome.
    """

    def __init__(
        self,
        seek: Seek | None,
        timers: Timers,
        patience_s: float | None,
        tried: Iterable[Peer] = (),
    ) -> None:
        self.tried = set(tried)
        self._seek = seek
        self._timers = timers
        self._patience_s = patience_s
        self._timer: Timer | None = None
        self._flow: Flow | None = None
        self._take: Callable[[Way, float], None] | None = None
        self._end: Callable[[Outcome, float], None] | None = None  # this way has failed
        self._outcomes: list[Outcome] = []  # the first failure
        self._waits = False  # nothing was answered by this way
        self._seeking = 0  # the number of the search that is under way
        self._searches = 0

    def begin(self, flow: Flow, take: Callable[[Way, float], None], now: float) -> None:
        """Take it that the request goes by `flow`; `take` sends it by the next one."""
        self._stop_timer()
        self._flow, self._take = flow, take
        self._end = None
        self._seeking = 0
        self._waits = True
        self.tried.add(flow.peer)
        if self._seek is not None and self._patience_s is not None:
            self._timer = self._timers.start(now + self._patience_s, self._on_silence)

    def hear(self) -> None:
        """Take it that something was answered, be it 100: now it is waited for."""
        self._waits = False
        self._stop_timer()

    def fail(self, outcome: Outcome, end: Callable[[Outcome, float], None], now: float) -> None:
        """Take it that this way has failed; `end` is told the outcome where there is no other."""
        self._stop_timer()
        self._waits = False
        self._end = end
        if not self._outcomes:
            self._outcomes.append(outcome)
        if not self._seeking:
            self._look(now)

    @property
    def failed(self) -> bool:
        """Whether this way has failed, and another is looked for."""
        return self._end is not None

    def stop(self) -> None:
        """Go nowhere else: it is answered, or not wanted any more."""
        self._stop_timer()
        self._waits = False
        self._seek = self._end = self._take = None
        self._seeking = 0

    def _on_silence(self, now: float) -> None:
        self._timer = None
        if not self._seeking:
            self._look(now)

    def _look(self, now: float) -> None:
        if self._seek is None or self._flow is None:
            self._lost(now)
            return
        self._searches += 1
        number = self._seeking = self._searches

        def found(way: Way, now: float) -> bool:
            return self._seeking == number and self._found(way, now)

        def lost(now: float) -> None:
            if self._seeking == number:
                self._seeking = 0
                self._lost(now)

        self._seek(Sought(frozenset(self.tried), self._flow, self.failed, now, found, lost))

    def _found(self, way: Way, now: float) -> bool:
        self._seeking = 0
        take = self._take
        if take is None or not (self._waits or self._end is not None):
            return False
        if way.flow.peer in self.tried:  # never in a circle
            self._lost(now)
            return False
        self._end = None
        take(way, now)
        return True

    def _lost(self, now: float) -> None:
        """Wait on for who is silent; where it has failed that is how it ends."""
        end = self._end
        if end is not None:
            self.stop()
            end(self._outcomes[0], now)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

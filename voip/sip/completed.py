"""Server transactions of which only repetitions are to come, until Timer I, J or L ends them.

A request outlives its answer by 64*T1 (RFC 3261 section 17.2), so a phone that answers a thousand
calls a second keeps sixty thousand of these. Kept as objects they would have the garbage
collector stop everything for tenths of a second, twice a second; it passes over plain tuples of
text and numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final, TypeAlias

from voip.sip.flow import Flow
from voip.sip.message import Request
from voip.sip.timers import Timer, Timers
from voip.types import Address

__all__ = ["Completed", "CompletedTransaction", "ServerKey"]

ServerKey: TypeAlias = tuple[str | int | None, ...]
_PlainFlow: TypeAlias = tuple[str, str, int, str, int, str, str]


class CompletedTransaction:
    """What is left of a transaction: `data` answers each repetition, b"" lets it pass."""

    __slots__ = ("_again", "_data", "_flow", "origin")

    user: Final = None

    def __init__(
        self,
        data: bytes,
        flow: _PlainFlow | None,
        origin: ServerKey,
        again: Callable[[bytes, Flow], None],
    ) -> None:
        self._data = data
        self._flow = flow
        self.origin = origin
        self._again = again

    def repeated(self, now: float) -> None:
        """Take a repetition of the request."""
        if self._flow is not None:
            transport, host, port, remote, remote_port, domain, alias = self._flow
            flow = Flow(transport, Address(host, port), Address(remote, remote_port), domain, alias)
            self._again(self._data, flow)

    def receive_ack(self, request: Request, now: float) -> None:
        """Take an ACK, which has come before."""


class Completed:
    """The transactions of one agent that only take repetitions any more.

    `again` sends a response once more; `forget` is told of each that has come to its end.
    """

    def __init__(
        self,
        timers: Timers,
        again: Callable[[bytes, Flow], None],
        forget: Callable[[ServerKey, ServerKey], None],
    ) -> None:
        self._timers = timers
        self._again = again
        self._forget = forget
        self._kept: dict[ServerKey, tuple[bytes, _PlainFlow | None, ServerKey]] = {}
        self._due: list[tuple[float, int, ServerKey]] = []
        self._order = 0  # keys cannot be compared
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: ServerKey) -> CompletedTransaction | None:
        """Return the transaction of that key, if it is here."""
        kept = self._kept.get(key)
        return None if kept is None else CompletedTransaction(*kept, self._again)

    def add(self, key: ServerKey, origin: ServerKey, data: bytes, flow: Flow, until: float) -> None:
        """Keep one until then; `data` b"": its repetitions are passed over."""
        plain = (flow.transport, *flow.local, *flow.remote, flow.domain, flow.alias)
        self._kept[key] = data, plain if data else None, origin
        self._order += 1
        heappush(self._due, (until, self._order, key))
        if self._timer is None or until < self._timer.at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._timers.start(until, self._expire)

    def _expire(self, now: float) -> None:
        due = self._due
        while due and due[0][0] <= now:
            key = heappop(due)[2]
            self._forget(key, self._kept.pop(key)[2])
        self._timer = self._timers.start(due[0][0], self._expire) if due else None

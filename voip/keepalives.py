"""Flows that are kept alive for several registrations: until the last of them lets go."""

from __future__ import annotations

from voip.session.stack import Signalling
from voip.sip.flow import Flow, Peer

__all__ = ["KeepAlives"]


class KeepAlives:
    """Keeps flows alive for their owners: two accounts of one registrar share a connection."""

    def __init__(self, signalling: Signalling) -> None:
        self._signalling = signalling
        self._kept: dict[Peer, dict[object, tuple[bool, int | None]]] = {}

    def keep(self, owner: object, flow: Flow, *, answers: bool, flow_timer_s: int | None) -> None:
        """Keep `flow` alive for `owner`, as the most demanding of its owners wants it."""
        owners = self._kept.setdefault(flow.peer, {})
        before = _demand(owners)
        owners[owner] = answers, flow_timer_s
        if len(owners) == 1 or _demand(owners) != before:
            every, soonest = _demand(owners)
            self._signalling.keep_alive(flow, answers=every, flow_timer_s=soonest)

    def let_go(self, owner: object, flow: Flow) -> None:
        """Keep it for `owner` no longer."""
        owners = self._kept.get(flow.peer, {})
        if owners.pop(owner, None) is not None and not owners:
            del self._kept[flow.peer]
            self._signalling.let_go(flow)

    def lost(self, flow: Flow) -> None:
        """Take it that it is gone, for all."""
        self._kept.pop(flow.peer, None)


def _demand(owners: dict[object, tuple[bool, int | None]]) -> tuple[bool, int | None]:
    """Return whether answers are owed, and the least time between two pings that is asked for."""
    timers = [timer for _, timer in owners.values() if timer is not None]
    return any(answers for answers, _ in owners.values()), min(timers, default=None)

"""What an endpoint remembers of the ways to its peers: flows used, and ways that led nowhere."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from voip.errors import SipError
from voip.sip.flow import Flow, Peer
from voip.sip.message import parse_message
from voip.sip.via import default_port
from voip.types import Address

__all__ = ["AVOIDED_S", "WayFigures", "Ways", "instead_of"]

REMEMBERED_FLOWS: Final = 4096
FLOWS_PER_PEER: Final = 8
"""Flows that differ in the local address only, as a machine with several has them."""
ROUTE_SECONDS: Final = 10.0
"""How long the kernel's choice of a local address is believed."""
IDLE_S: Final = 32.0
"""How long after that a peer by UDP is still remembered: for 64*T1 an error may concern a request,
by ICMP. A connection is remembered until it is lost."""
AVOIDED_S: Final = 30.0
"""How long another way is preferred to one that led nowhere."""
MAX_AVOIDED: Final = 1024
_RESPONSE: Final = b"SIP/2.0 "


@dataclass(frozen=True, slots=True)
class WayFigures:
    """Servers that were left for others since the start, and connections that are open.

    `troubles`: what went wrong with connections since the start, by kind.
    """

    avoided: int
    connections: int
    troubles: Mapping[str, int]


@dataclass(slots=True)
class _Known:
    """The flow towards a peer, until when its local address is believed, and all that was used."""

    flow: Flow
    until: float
    used: tuple[Flow, ...]


def instead_of(peer: Peer, data: bytes) -> Peer:
    """Return where a message goes whose connection is gone: a response to where its Via says.

    To the host that the request has come from, at the port where that accepts connections (RFC
    3261 section 18.2.2). By TCP only: over TLS the host alone does not show who it is.
    """
    if peer.transport != "tcp" or not data.startswith(_RESPONSE):
        return peer
    try:
        port = parse_message(data).via.port
    except SipError:
        return peer
    return Peer("tcp", Address(peer.remote.host, port or default_port("tcp")))


class Ways:
    """The flows that were used last, by peer, and the peers to avoid for a while."""

    def __init__(self) -> None:
        self._datagrams: OrderedDict[Peer, _Known] = OrderedDict()
        self._connections: OrderedDict[Peer, _Known] = OrderedDict()
        self._avoided: OrderedDict[Peer, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._datagrams) + len(self._connections)

    def known(self, peer: Peer) -> Flow | None:
        """Return the flow to a peer, if there is one."""
        known = self._with(peer).get(peer)
        return None if known is None else known.flow

    def fresh(self, peer: Peer, now: float) -> Flow | None:
        """Return the flow to a peer whose local address is still believed."""
        known = self._with(peer).get(peer)
        return known.flow if known is not None and known.until > now else None

    def remember(self, flow: Flow, now: float) -> Flow:
        """Keep what is used towards a peer: a failure there is told for all of it."""
        peer = flow.peer
        with_it = self._with(peer)
        known = with_it.get(peer)
        until = now + ROUTE_SECONDS
        if known is None:
            with_it[peer] = _Known(flow, until, (flow,))
            if len(with_it) > REMEMBERED_FLOWS:
                with_it.popitem(last=False)
            return flow
        if known.until <= now:
            known.flow, known.until = flow, until
        if flow not in known.used and len(known.used) < FLOWS_PER_PEER:
            known.used = (*known.used, flow)
        with_it.move_to_end(peer)
        return flow

    def forget(self, peer: Peer) -> tuple[Flow, tuple[Flow, ...]] | None:
        """Forget a peer; return the flow to it, and all that were used."""
        known = self._with(peer).pop(peer, None)
        return None if known is None else (known.flow, known.used)

    def next_timer(self) -> float | None:
        """Return when to call `forget_idle`, None when there is nothing to forget."""
        for known in self._datagrams.values():
            return known.until + IDLE_S
        return None

    def forget_idle(self, now: float) -> None:
        """Forget whom nothing was sent to by UDP for long."""
        idle = self._datagrams
        while idle and (peer := next(iter(idle))) and idle[peer].until + IDLE_S <= now:
            del idle[peer]

    def avoid(self, peer: Peer, until: float) -> None:
        """Prefer others to this one for a while."""
        self._avoided[peer] = until
        self._avoided.move_to_end(peer)
        if len(self._avoided) > MAX_AVOIDED:
            self._avoided.popitem(last=False)

    def rank(self, peer: Peer, prefer: Peer | None, now: float) -> int:
        """Return when a peer is to be tried: the preferred one first, those to avoid last."""
        if self._avoided.get(peer, now) > now:
            return 2
        return 0 if peer == prefer else 1

    def _with(self, peer: Peer) -> OrderedDict[Peer, _Known]:
        return self._datagrams if peer.transport == "udp" else self._connections

"""The keep-alives of an endpoint's flows: `voip.sip.keepalive` with the loop's timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from voip.nat.stun import BINDING, Attribute, Kind, StunMessage, xor_address
from voip.sip.flow import Flow, Peer
from voip.sip.keepalive import KeepAlive
from voip.types import Address, Random

__all__ = ["Keeper", "binding_response"]

MAX_KEPT: Final = 20_000


class Keeper:
    """Keeps flows alive. `ping(peer, data)` sends; `dead(flow, why)` is told of those that fail."""

    def __init__(
        self,
        random: Random,
        ping: Callable[[Peer, bytes], None],
        dead: Callable[[Flow, str], None],
    ) -> None:
        self._random = random
        self._ping = ping
        self._dead = dead
        self._kept: dict[Peer, KeepAlive] = {}
        self._timers: dict[Peer, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, flow: Flow, *, answers: bool, flow_timer_s: int | None) -> None:
        """Keep `flow` alive from now on; what was said of it before is forgotten."""
        if len(self._kept) >= MAX_KEPT and flow.peer not in self._kept:
            return
        now = asyncio.get_running_loop().time()
        self._kept[flow.peer] = KeepAlive(
            flow, self._random, now, answers=answers, flow_timer_s=flow_timer_s
        )
        self._set_timer(flow.peer)

    def release(self, peer: Peer) -> None:
        """Keep it no longer."""
        self._kept.pop(peer, None)
        timer = self._timers.pop(peer, None)
        if timer is not None:
            timer.cancel()

    def heard(self, peer: Peer, pong: bool) -> None:
        """Take it that something came by a connection."""
        kept = self._kept.get(peer)
        if kept is not None:
            kept.heard(asyncio.get_running_loop().time(), pong=pong)
            self._set_timer(peer)

    def receive(self, message: StunMessage, peer: Peer) -> None:
        """Take a STUN response that came from `peer`."""
        kept = self._kept.get(peer)
        if kept is not None and kept.receive(message, asyncio.get_running_loop().time()):
            self._settle(kept)

    def close(self) -> None:
        """Keep nothing."""
        for peer in tuple(self._kept):
            self.release(peer)

    def _due(self, peer: Peer, due: float) -> None:
        self._timers.pop(peer, None)
        kept = self._kept.get(peer)
        if kept is None:
            return
        ping = kept.handle_timer(max(due, asyncio.get_running_loop().time()))
        if ping is not None:
            self._ping(peer, ping)
        if self._kept.get(peer) is kept:  # sending may have failed
            self._settle(kept)

    def _settle(self, kept: KeepAlive) -> None:
        peer = kept.flow.peer
        if kept.failed is None:
            self._set_timer(peer)
        else:
            self.release(peer)
            self._dead(kept.flow, kept.failed)

    def _set_timer(self, peer: Peer) -> None:
        due = self._kept[peer].next_timer()
        timer = self._timers.pop(peer, None)
        if timer is not None:
            timer.cancel()
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timers[peer] = loop.call_at(due, self._due, peer, due)


def binding_response(request: StunMessage, source: Address) -> bytes | None:
    """Return the answer to a Binding Request (RFC 5626 section 8), None where it gets none."""
    if request.kind is not Kind.REQUEST or request.method != BINDING:
        return None
    mapped = (int(Attribute.XOR_MAPPED_ADDRESS), xor_address(source, request.transaction_id))
    return StunMessage(Kind.SUCCESS, BINDING, request.transaction_id, (mapped,)).to_bytes()

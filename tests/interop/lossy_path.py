"""A path between a phone of ours and a peer that loses what it is told to lose, and delays.

What is dialled is the path's own port: the INVITE and what answers it go through it, and session
descriptions name its media ports from then on (all have five digits, so that bodies stay as long).
The rest of the dialog goes directly, as both have each other's Contacts.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from peers.ports import HOST, PortBlock

_MEDIA = re.compile(rb"(?m)^m=audio (\d{5}) ")
End = tuple[str, int]


@dataclass(slots=True)
class Way:
    """One direction: the share of RTP packets that it loses, and how late they are at most, in ms.

    `cut`: none passes, and they are not counted; `rtcp`: whether that passes. Packets keep their
    order. `passed`, `dropped`: RTP packets so far.
    """

    loss: float = 0.0
    jitter_ms: float = 0.0
    cut: bool = False
    rtcp: bool = True
    passed: int = 0
    dropped: int = 0
    _chance: random.Random = field(default_factory=lambda: random.Random(4))
    _due: float = 0.0

    def carry(self, data: bytes, send: Callable[[bytes], None], *, rtcp: bool) -> None:
        """Send a packet on, at once, later, or never."""
        if rtcp:
            if self.rtcp:
                send(data)
            return
        if self.cut:
            return
        if self._chance.random() < self.loss:
            self.dropped += 1
            return
        self.passed += 1
        if not self.jitter_ms:
            send(data)
            return
        loop = asyncio.get_running_loop()
        late = self._chance.random() * self.jitter_ms / 1000
        self._due = max(loop.time() + late, self._due)
        loop.call_at(self._due, send, data)


class LossyPath:
    """`to_peer` and `to_us` may be changed at any time; `port` is what is dialled."""

    def __init__(self, peer: End, ports: PortBlock) -> None:
        self.to_peer, self.to_us = Way(), Way()
        self.port = ports.service(1)
        self.ports = range(self.port, ports.rtp[0] + 4)
        """All that it has, for a capture of what crosses it."""
        self.rtp_for_us, self.rtp_for_peer = ports.rtp[0], ports.rtp[0] + 2
        """Where we send to and hear from, and where the peer does."""
        self._peer = peer
        self._us: End | None = None
        self._our_rtp: int | None = None
        self._peer_rtp: int | None = None
        self._ends: dict[str, asyncio.DatagramTransport] = {}

    def uri(self, user: str) -> str:
        """Who is dialled by it."""
        return f"sip:{user}@{HOST}:{self.port};transport=udp"

    async def open(self, ports: PortBlock, stack: AsyncExitStack) -> None:
        """Open its ports."""
        loop = asyncio.get_running_loop()
        for name, port, taken in (
            ("sip", self.port, self._sip_from_us),
            ("sip to the peer", ports.service(2), self._sip_from_peer),
            ("rtp for us", self.rtp_for_us, self._rtp_from_us),
            ("rtcp for us", self.rtp_for_us + 1, self._rtcp_from_us),
            ("rtp for peer", self.rtp_for_peer, self._rtp_from_peer),
            ("rtcp for peer", self.rtp_for_peer + 1, self._rtcp_from_peer),
        ):
            transport, _ = await loop.create_datagram_endpoint(
                lambda taken=taken: _Datagrams(taken),  # type: ignore[misc]
                local_addr=(HOST, port),
            )
            stack.callback(transport.close)
            self._ends[name] = transport

    # -- SIP, whose bodies name our ports ---------------------------------------------------------

    def _sip_from_us(self, data: bytes, source: End) -> None:
        self._us = source
        data, found = _with_port(data, self.rtp_for_peer)
        self._our_rtp = found or self._our_rtp
        self._ends["sip to the peer"].sendto(data, self._peer)

    def _sip_from_peer(self, data: bytes, source: End) -> None:
        data, found = _with_port(data, self.rtp_for_us)
        self._peer_rtp = found or self._peer_rtp
        if self._us is not None:
            self._ends["sip"].sendto(data, self._us)

    # -- RTP ------------------------------------------------------------------------------------

    def _rtp_from_us(self, data: bytes, source: End) -> None:
        self._carry(self.to_peer, data, "rtp for peer", self._peer_rtp, rtcp=False)

    def _rtcp_from_us(self, data: bytes, source: End) -> None:
        self._carry(self.to_peer, data, "rtcp for peer", self._peer_rtp, rtcp=True)

    def _rtp_from_peer(self, data: bytes, source: End) -> None:
        self._carry(self.to_us, data, "rtp for us", self._our_rtp, rtcp=False)

    def _rtcp_from_peer(self, data: bytes, source: End) -> None:
        self._carry(self.to_us, data, "rtcp for us", self._our_rtp, rtcp=True)

    def _carry(self, way: Way, data: bytes, by: str, port: int | None, *, rtcp: bool) -> None:
        if port is not None:
            to = (HOST, port + rtcp)
            way.carry(data, lambda packet: self._ends[by].sendto(packet, to), rtcp=rtcp)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, taken: Callable[[bytes, End], None]) -> None:
        self._taken = taken

    def datagram_received(self, data: bytes, addr: End) -> None:
        self._taken(data, addr)


def _with_port(message: bytes, port: int) -> tuple[bytes, int | None]:
    """A SIP message with another media port, and the one that was there, if there was one."""
    found = _MEDIA.search(message)
    if found is None:
        return message, None
    return _MEDIA.sub(b"m=audio %d " % port, message), int(found[1])


@asynccontextmanager
async def lossy_path(peer_port: int) -> AsyncIterator[LossyPath]:
    """Lay a path to whom has this SIP port on this machine."""
    with PortBlock() as ports:
        path = LossyPath((HOST, peer_port), ports)
        async with AsyncExitStack() as stack:
            await path.open(ports, stack)
            yield path

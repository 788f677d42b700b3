"""The endpoint of a SIP agent: ports, timers, and who is called when something happened.

The agent does no I/O; this does nothing else. After everything that may make the agent speak
(a datagram, a timer, an action of the caller's followed by `flush`) what it wants to send is sent,
what happened is handed to `deliver`, and its next timer is set.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import asdict
from functools import cached_property
from ssl import SSLContext
from typing import Generic, Protocol, TypeVar

from voip.config import TRANSPORTS, TlsConfig
from voip.errors import TransportError
from voip.ip import is_loopback, is_wildcard, literal, version_of
from voip.logs.lines import event
from voip.nat.stun import StunMessage
from voip.pcap import redact
from voip.sip.endpoint.aliases import Aliases
from voip.sip.endpoint.connections import Connections
from voip.sip.endpoint.keeper import Keeper, binding_response
from voip.sip.endpoint.network import SipNetwork
from voip.sip.endpoint.ports import SAME_PORT, Ports
from voip.sip.endpoint.tls import client_context, server_context
from voip.sip.endpoint.trace import SipTap, SipTrace, SipTraceRecord
from voip.sip.endpoint.ways import AVOIDED_S, WayFigures, Ways, instead_of
from voip.sip.flow import SECURE, Flow, Peer
from voip.sip.locating import Hop, Where, hops
from voip.types import Address, Random, SecureRandom

__all__ = ["Agent", "SipEndpoint"]

log = logging.getLogger(__name__)

Event = TypeVar("Event")


class Agent(Protocol[Event]):
    """What this needs of `voip.sip.agent.SipAgent`."""

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one message."""
        ...

    def flow_failed(self, flow: Flow, message: str, now: float) -> None:
        """Learn that nothing can be sent to `flow`."""
        ...

    def next_timer(self) -> float | None:
        """Return when to call `handle_timer`."""
        ...

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        ...

    def outgoing(self) -> list[tuple[bytes, Flow]]:
        """Return what is to be sent."""
        ...

    def events(self) -> list[Event]:
        """Return what happened."""
        ...


class SipEndpoint(Generic[Event]):
    """UDP, TCP, TLS and WebSocket of one agent over `network`, in the running asyncio loop.

    Time is the loop's (`now()`); every action on the agent is followed by `flush()`. `deliver` is
    called with the agent's events in order, never from inside itself. `public_address` (a name is
    looked up by `start`) replaces the local host in flows to peers elsewhere, for those behind a
    one-to-one NAT. `tls`: certificates, ours and whose we trust. `ws_path`: what WebSocket servers
    are asked for. `tcp_alias`: offer our TCP connections for requests to us, and use those that
    others offer, though nobody can show who he is (RFC 5923; over TLS it is done where certificates
    show it). `lost` is told of connections that are gone, and of flows that are kept alive and
    do not answer. Closing it closes `network`.
    """

    def __init__(
        self,
        agent: Agent[Event],
        deliver: Callable[[Event], None],
        network: SipNetwork,
        *,
        public_address: str | None = None,
        tls: TlsConfig | None = None,
        ws_path: str = "/",
        tcp_alias: bool = False,
        trace: SipTrace | None = None,
        tap: SipTap | None = None,
        lost: Callable[[Flow], None] | None = None,
        random: Random | None = None,
    ) -> None:
        self._agent = agent
        self._deliver = deliver
        self._lost = lost
        self._public = public_address
        self._trace = trace
        self._tap = tap
        self._network = network
        self._ports = Ports(network, self._udp_received, self._udp_unreachable)
        self._streams: Connections | None = None
        self._tls = tls or TlsConfig()
        self._ws_path = ws_path
        self._tcp_alias = tcp_alias
        self._random = random or SecureRandom()
        self._keeper = Keeper(self._random, self._ping, self._is_dead)
        self._alias = f"{self._random.token(12)}.invalid"
        self._bound = ""
        self._ways = Ways()
        self._timer: asyncio.TimerHandle | None = None
        self._avoided = 0
        self._flushing = False
        self._open = False

    # ------------------------------------------------------------ opening and closing

    async def start(
        self,
        host: str | None = None,
        port: int = 0,
        transports: Collection[str] = SAME_PORT,
        streams: Mapping[str, int] | None = None,
    ) -> None:
        """Bind `host` (an IP literal; None: every address) and `port` (0: any that is free).

        UDP and TCP have the same port; `streams` has the ports of further transports: `{"tls":
        5061}`. Raises `TransportError` when a port cannot be had, and for a transport that is not
        there, `ConfigError` for a certificate that cannot be read.
        """
        unknown = sorted(set(transports) - set(SAME_PORT))
        if unknown or not transports:
            raise TransportError(
                f"there is no SIP transport {', '.join(unknown) or 'given'}",
                hint="udp and tcp are there",
            )
        tls = server_context(self._tls) if set(streams or ()) & set(SECURE) else None
        bare = "0.0.0.0" if host is None else literal(host)
        if bare is None:
            raise TransportError(
                f"cannot bind {host!r}: not an IP address", hint="give an address, not a name"
            )
        self._bound = bare
        self._streams = Connections(
            self._network,
            received=self._stream_received,
            lost=self._failed,
            heard=self._keeper.heard,
            client_tls=lambda: self._client_tls,
            ws_path=self._ws_path,
            aliases=Aliases(tcp=self._tcp_alias),
            bind_host=None if is_wildcard(bare) else bare,
        )
        accept = self._streams.accept
        bound = await self._ports.bind(bare, port, transports, accept)
        self._open = True
        for transport, wanted in (streams or {}).items():
            await self._ports.listen(transport, bare, wanted, tls, accept)
        if host is None:  # the same port of every IPv6 address, where this machine has that
            try:
                await self._ports.bind("::", bound, transports, accept)
                for transport in streams or {}:
                    await self._ports.listen(
                        transport, "::", self._ports.streams[transport], tls, accept
                    )
            except TransportError as error:
                log.debug("SIP has no IPv6: %s", error)
        if self._public is not None:
            self._public = await self._resolve(self._public)
        for transport, address in self.addresses:
            event(log, logging.INFO, "sip_listening", "listening on %s %s", transport, address)
        self.flush()

    async def close(self) -> None:
        """Send what is left, and close every socket, timer and thread."""
        if not self._open:
            self._network.close()
            return
        self.flush()
        self._open = False
        self._keeper.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ports.close()
        self._network.close()
        if self._streams is not None:
            await self._streams.close()

    @property
    def addresses(self) -> list[tuple[str, Address]]:
        """What is bound: (transport, address), wildcards as they are."""
        found = [("udp", port.local) for port in self._ports.udp.values()]
        return found + [(transport, one.local) for transport, one in self._ports.listeners]

    def figures(self) -> WayFigures:
        """Return what has been counted of ways and connections."""
        streams = self._streams
        return WayFigures(
            self._avoided,
            0 if streams is None else streams.count,
            {} if streams is None else asdict(streams.counters),
        )

    @cached_property
    def _client_tls(self) -> SSLContext:
        if self._tls.insecure:
            log.warning("certificates are not checked: anybody may be at the other end of TLS")
        return client_context(self._tls)

    # ------------------------------------------------------------ the caller's side

    def now(self) -> float:
        """Return the time to pass to the agent: the loop's clock, seconds."""
        return asyncio.get_running_loop().time()

    async def flow_to(
        self, host: str, port: int | None = None, transport: str | None = None
    ) -> Flow:
        """Return the first flow to `host` (a name or an IP literal) that there is: see `flows`."""
        async with aclosing(self.flows(Where(host, port, transport))) as flows:
            async for flow in flows:
                return flow
        raise AssertionError  # `flows` yields or raises

    async def flows(
        self, where: Where, *, prefer: Peer | None = None, without: Collection[Peer] = ()
    ) -> AsyncGenerator[Flow]:
        """Yield the flows that lead there, the best first, opening connections as they are asked.

        `prefer` comes first if it is one of them; those to `avoid` come last, those of `without`
        not at all (RFC 3263 section 4.3). Raises `TransportError` when there is none: the name has
        no address, there is no route, nobody listens at a TCP port, or the certificate is not that
        of the domain.
        """
        if where.transport is not None and where.transport not in TRANSPORTS:
            raise TransportError(
                f"there is no SIP transport {where.transport}",
                hint=f"{', '.join(TRANSPORTS)} are there",
            )
        self._check_open()
        found = await hops(where, self._network, self._random)
        failure: TransportError | None = None
        is_there = False
        peers = [peer for peer in map(_peer, found) if peer not in without]
        for peer in sorted(peers, key=lambda peer: self._ways.rank(peer, prefer, self.now())):
            try:
                flow = await self._flow(peer)
            except TransportError as error:
                failure = failure or error
                self._ways.avoid(peer, self.now() + AVOIDED_S)
            else:
                is_there = True
                yield flow
        if not is_there:
            raise failure or TransportError(f"{where.host} has no other address")

    def avoid(self, flow: Flow, seconds: float = AVOIDED_S) -> None:
        """Prefer other ways to this one for a while."""
        self._avoided += 1
        event(log, logging.INFO, "sip_left", "%s is left for others", flow.remote)
        self._ways.avoid(flow.peer, self.now() + seconds)

    async def _flow(self, peer: Peer) -> Flow:
        """Return the flow to a peer, connected if it is a connection."""
        self._check_open()
        if version_of(peer.remote.host) not in self._versions():
            raise TransportError(
                f"{peer.remote} is no address that {self._bound} can reach",
                hint="both ends must speak the same version of IP",
            )
        if is_loopback(self._bound) and not is_loopback(peer.remote.host):
            raise TransportError(
                f"bound to {self._bound}, which cannot reach {peer.remote}",
                hint="bind another address",
            )
        if peer.transport == "udp" or self._streams is None:
            return self._udp_flow(peer.remote)
        return self._stream_flow(*await self._streams.connect(peer))

    def _check_open(self) -> None:
        if not self._open:
            raise TransportError("the SIP transport is not open", hint="start it first")

    def _versions(self) -> set[int]:
        return set(self._ports.udp) or {version_of(self._bound)}

    def keep_alive(
        self, flow: Flow, *, answers: bool = False, flow_timer_s: int | None = None
    ) -> None:
        """Keep `flow` alive, and tell `lost` when it is dead, until `let_go` or that.

        `answers`: the other side has said that it answers keep-alives (RFC 5626).
        """
        if self._open:
            self._keeper.keep(flow, answers=answers, flow_timer_s=flow_timer_s)

    def is_open(self, flow: Flow) -> bool:
        """Whether a flow still leads somewhere, as far as anybody knows."""
        return not flow.reliable or (self._streams is not None and self._streams.is_open(flow.peer))

    def let_go(self, flow: Flow) -> None:
        """Keep it alive no longer."""
        self._keeper.release(flow.peer)

    def flush(self) -> None:
        """Send, deliver and set the timer after an action on the agent. Safe inside `deliver`."""
        if self._flushing or not self._open:
            return
        self._flushing = True
        try:
            while True:
                outgoing = self._agent.outgoing()
                for data, flow in outgoing:
                    self._send(data, flow)
                events = self._agent.events()
                for event in events:
                    self._tell(event)
                if not outgoing and not events:
                    break
        finally:
            self._flushing = False
        self._set_timer()

    # ------------------------------------------------------------ sending and timers

    def _send(self, data: bytes, flow: Flow) -> None:
        self._observe(True, flow, data)
        if flow.transport != "udp" and self._streams is not None:
            self._remember(flow)
            is_open = self._streams.is_open(flow.peer)
            self._streams.send(data, flow.peer if is_open else instead_of(flow.peer, data))
            return
        datagrams = self._ports.udp.get(version_of(flow.remote.host))
        if datagrams is None:
            message = f"there is no {flow.transport} towards {flow.remote}"
            self._agent.flow_failed(flow, message, self.now())
            return
        self._remember(flow)
        datagrams.send(data, flow.remote)

    def _tell(self, event: Event) -> None:
        try:
            self._deliver(event)
        except Exception:
            log.exception("handling %s failed", type(event).__name__)

    def _set_timer(self) -> None:
        due, idle = self._agent.next_timer(), self._ways.next_timer()
        if due is None or (idle is not None and idle < due):
            due = idle
        if self._timer is not None:
            if due is not None and self._timer.when() <= due:  # it finds nothing, and is set anew
                return
            self._timer.cancel()
            self._timer = None
        if due is not None and self._open:
            self._timer = asyncio.get_running_loop().call_at(due, self._timer_due, due)

    def _timer_due(self, due: float) -> None:
        self._timer = None
        self._ways.forget_idle(max(due, self.now()))
        try:
            self._agent.handle_timer(max(due, self.now()))
        except Exception:  # a fault of ours costs one timer, not all
            log.exception("a timer of SIP failed")
        self.flush()

    def _observe(self, sent: bool, flow: Flow, data: bytes) -> None:
        """Show a message to those who look on; one that fails is logged and disturbs nobody."""
        try:
            if self._tap is not None:
                self._tap(sent, flow, data)
            if self._trace is not None:
                self._trace(SipTraceRecord(self._network.wall(), sent, flow, redact(data)))
        except Exception:
            log.exception("tracing a SIP message failed")

    def _ping(self, peer: Peer, data: bytes) -> None:
        if peer.transport != "udp" and self._streams is not None:
            self._streams.ping(peer)
        elif (datagrams := self._ports.udp.get(version_of(peer.remote.host))) is not None:
            datagrams.send(data, peer.remote)

    def _is_dead(self, flow: Flow, why: str) -> None:
        """Take it that a flow is of no use any more though nothing has said so but silence."""
        if flow.reliable and self._streams is not None:
            self._streams.cut(flow.peer, why)
        else:
            self._remember(flow)  # it may have been idle but for the pings
            self._failed(flow.peer, why, is_dead=True)

    # ------------------------------------------------------------ receiving

    def _udp_received(self, data: bytes, remote: Address) -> None:
        if data[:1] in (b"\0", b"\1"):
            self._stun_received(data, remote)
            return
        if not data.strip(b"\r\n "):  # keeps a NAT's binding
            return
        try:
            flow = self._udp_flow(remote)
        except TransportError:  # it came from where nothing can be sent
            return
        self._received(data, flow)

    def _stun_received(self, data: bytes, remote: Address) -> None:
        message = StunMessage.parse(data)
        if message is None:
            return
        answer = binding_response(message, remote)
        if answer is None:
            self._keeper.receive(message, Peer("udp", remote))
        else:
            self._ping(Peer("udp", remote), answer)

    def _stream_received(self, data: bytes, local: Address, peer: Peer) -> None:
        self._received(data, self._stream_flow(local, peer))

    def _received(self, data: bytes, flow: Flow) -> None:
        self._observe(False, flow, data)
        try:
            self._agent.receive(data, flow, self.now())
        except Exception:  # a fault of ours costs this message alone
            log.exception("taking a SIP message failed")
        self.flush()

    def _udp_unreachable(self, remote: Address, message: str) -> None:
        self._failed(Peer("udp", remote), message)

    def _failed(self, peer: Peer, message: str, *, is_dead: bool = False) -> None:
        event(log, logging.DEBUG, "sip_unreachable", "%s: %s", peer.remote, message)
        self._keeper.release(peer)
        known = self._ways.forget(peer)
        if known is not None:
            last, used = known
            for flow in used:
                self._agent.flow_failed(flow, message, self.now())
            self.flush()
            if (is_dead or last.reliable) and self._lost is not None:
                self._lost(last)

    # ------------------------------------------------------------ flows

    def _udp_flow(self, remote: Address) -> Flow:
        known = self._ways.fresh(Peer("udp", remote), self.now())
        if known is not None:
            return known
        datagrams = self._ports.udp.get(version_of(remote.host))
        if datagrams is None:
            raise TransportError(f"there is no UDP socket towards {remote}")
        local = self._local_host(datagrams.local.host, remote.host)
        return self._remember(Flow("udp", Address(local, datagrams.local.port), remote))

    def _stream_flow(self, local: Address, peer: Peer) -> Flow:
        known = self._ways.known(peer)
        if known is not None:
            return known
        # the port to advertise is the one we listen on (RFC 3261 section 18.1.1)
        port = self._ports.streams.get(peer.transport, local.port)
        host = self._local_host(local.host, peer.remote.host)
        is_reached = peer.transport in self._ports.streams or not peer.transport.startswith("ws")
        alias = "" if is_reached else self._alias
        here = Address(host, port)
        reuse = self._offers(peer)
        return self._remember(Flow(peer.transport, here, peer.remote, peer.domain, alias, reuse))

    def _offers(self, peer: Peer) -> bool:
        """Whether the other end may use our connection for what is for us (RFC 5923).

        Where we listen by the same transport and, over TLS, can show who we are.
        """
        may = {"tcp": self._tcp_alias, "tls": self._tls.certificate is not None}
        if not may.get(peer.transport) or peer.transport not in self._ports.streams:
            return False
        return self._streams is not None and self._streams.is_ours(peer)

    def _local_host(self, bound: str, peer: str) -> str:
        """Return the host to advertise to `peer`: never a wildcard."""
        public = self._public
        if public is not None and not is_loopback(peer) and version_of(public) == version_of(peer):
            return public
        return self._network.local_address_toward(peer) if is_wildcard(bound) else bound

    def _remember(self, flow: Flow) -> Flow:
        return self._ways.remember(flow, self.now())

    async def _resolve(self, host: str) -> str:
        """Return the first address of `host` of an IP version that we are bound to."""
        bare = literal(host)
        found = [bare] if bare is not None else await self._network.addresses(host)
        for address in found:
            if version_of(address) in self._versions():
                return address
        raise TransportError(
            f"{host} has no address that {self._bound} can reach",
            hint="both ends must speak the same version of IP",
        )


def _peer(hop: Hop) -> Peer:
    return Peer(hop.transport, hop.address, "" if hop.transport in SAME_PORT else hop.domain)

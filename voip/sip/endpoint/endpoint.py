"""The endpoint of a SIP agent: ports, timers, and who is called when something happened.

The agent does no I/O; this does nothing else. After everything that may make the agent speak
(a datagram, a timer, an action of the caller's followed by `flush`) what it wants to send is sent,
what happened is handed to `deliver`, and its next timer is set.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from voip.errors import TransportError
from voip.ip import is_loopback, is_wildcard, literal, version_of
from voip.pcap import redact
from voip.sip.endpoint.connections import Connections
from voip.sip.endpoint.network import DatagramPort, SipNetwork, StreamListener
from voip.sip.endpoint.trace import SipTap, SipTrace, SipTraceRecord
from voip.sip.flow import Flow
from voip.types import Address

__all__ = ["Agent", "SipEndpoint"]

log = logging.getLogger(__name__)

TRANSPORTS = ("udp", "tcp")
REMEMBERED_FLOWS = 4096
FLOWS_PER_PEER = 8
"""Flows that differ in the local address only, as a machine with several has them."""
ROUTE_SECONDS = 10.0
"""How long the kernel's choice of a local address is believed."""
EPHEMERAL_TRIES = 16
"""Ports tried until one is free for UDP and for TCP."""

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


@dataclass(slots=True)
class _Known:
    """The flow towards a peer, until when its local address is believed, and all that was used."""

    flow: Flow
    until: float
    used: set[Flow]


class SipEndpoint(Generic[Event]):
    """UDP and TCP of one agent over `network`, in the running asyncio loop.

    Time is the loop's (`now()`); every action on the agent is followed by `flush()`. `deliver` is
    called with the agent's events in order, never from inside itself. `public_address` (a name is
    looked up by `start`) replaces the local host in flows to peers elsewhere, for those behind a
    one-to-one NAT. `lost` is told of connections that are gone. Closing it closes `network`.
    """

    def __init__(
        self,
        agent: Agent[Event],
        deliver: Callable[[Event], None],
        network: SipNetwork,
        *,
        public_address: str | None = None,
        trace: SipTrace | None = None,
        tap: SipTap | None = None,
        lost: Callable[[Flow], None] | None = None,
    ) -> None:
        self._agent = agent
        self._deliver = deliver
        self._lost = lost
        self._public = public_address
        self._trace = trace
        self._tap = tap
        self._network = network
        self._udp: dict[int, DatagramPort] = {}  # by version of IP
        self._listeners: list[StreamListener] = []
        self._streams: Connections | None = None
        self._tcp_port: int | None = None
        self._bound = ""
        self._flows: OrderedDict[tuple[str, Address], _Known] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing = False
        self._open = False

    # ------------------------------------------------------------ opening and closing

    async def start(
        self,
        host: str | None = None,
        port: int = 0,
        transports: Collection[str] = TRANSPORTS,
    ) -> None:
        """Bind `host` (an IP literal; None: every address) and `port` (0: any that is free).

        UDP and TCP have the same port. Raises `TransportError` when it cannot be had, and for a
        transport that is not there.
        """
        unknown = sorted(set(transports) - set(TRANSPORTS))
        if unknown or not transports:
            raise TransportError(
                f"there is no SIP transport {', '.join(unknown) or 'given'}",
                hint="udp and tcp are there",
            )
        bare = "0.0.0.0" if host is None else literal(host)
        if bare is None:
            raise TransportError(
                f"cannot bind {host!r}: not an IP address", hint="give an address, not a name"
            )
        self._bound = bare
        self._streams = Connections(
            self._network,
            received=self._tcp_received,
            lost=self._tcp_lost,
            bind_host=None if is_wildcard(bare) else bare,
        )
        bound = await self._bind(bare, port, transports)
        self._open = True
        if "tcp" in transports:
            self._tcp_port = bound
        if host is None:  # the same port of every IPv6 address, where this machine has that
            try:
                await self._bind("::", bound, transports)
            except TransportError as error:
                log.debug("SIP has no IPv6: %s", error)
        if self._public is not None:
            self._public = (await self._resolve(self._public, 0)).host
        self.flush()

    async def close(self) -> None:
        """Send what is left, and close every socket, timer and thread."""
        if not self._open:
            self._network.close()
            return
        self.flush()
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for port in self._udp.values():
            port.close()
        for listener in self._listeners:
            listener.close()
        self._network.close()
        if self._streams is not None:
            await self._streams.close()

    @property
    def addresses(self) -> list[tuple[str, Address]]:
        """What is bound: (transport, address), wildcards as they are."""
        found = [("udp", port.local) for port in self._udp.values()]
        if self._tcp_port is not None:
            found.append(("tcp", Address(self._bound, self._tcp_port)))
        return found

    async def _bind(self, host: str, port: int, transports: Collection[str]) -> int:
        """Bind the transports to one port of `host`; return which it became."""
        for attempt in range(EPHEMERAL_TRIES):
            with ExitStack() as undo:
                try:
                    bound, listener = port, None
                    if "tcp" in transports and self._streams is not None:
                        listener = await self._network.listen(self._streams.accept, host, port)
                        undo.callback(listener.close)
                        bound = listener.local.port
                    if "udp" in transports:
                        datagrams = self._network.udp(
                            host,
                            bound,
                            received=self._udp_received,
                            unreachable=self._udp_unreachable,
                        )
                        self._udp[version_of(host)] = datagrams
                        bound = datagrams.local.port
                except OSError as error:
                    if port == 0 and attempt + 1 < EPHEMERAL_TRIES and _in_use(error):
                        continue
                    raise _cannot_bind(Address(host, port), error) from error
                undo.pop_all()
                if listener is not None:
                    self._listeners.append(listener)
                return bound
        raise TransportError(f"no port of {host} is free for UDP and TCP")

    # ------------------------------------------------------------ the caller's side

    def now(self) -> float:
        """Return the time to pass to the agent: the loop's clock, seconds."""
        return asyncio.get_running_loop().time()

    async def flow_to(self, host: str, port: int, transport: str = "udp") -> Flow:
        """Return the flow to `host` (a name or an IP literal), opening a connection for TCP.

        Raises `TransportError` when the name has no address, there is no route, or nobody listens
        at a TCP port.
        """
        if transport not in TRANSPORTS:
            raise TransportError(
                f"there is no SIP transport {transport}", hint="udp and tcp are there"
            )
        if not self._open:
            raise TransportError("the SIP transport is not open", hint="start it first")
        remote = await self._resolve(host, port)
        if not self._open:
            raise TransportError("the SIP transport was closed meanwhile")
        if is_loopback(self._bound) and not is_loopback(remote.host):
            raise TransportError(
                f"bound to {self._bound}, which cannot reach {remote}", hint="bind another address"
            )
        if transport == "tcp" and self._streams is not None:
            return self._tcp_flow(await self._streams.connect(remote), remote)
        return self._udp_flow(remote)

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
        if flow.transport == "tcp" and self._streams is not None:
            self._remember(flow)
            self._streams.send(data, flow.remote)
            return
        datagrams = self._udp.get(version_of(flow.remote.host))
        if flow.transport != "udp" or datagrams is None:
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
        due = self._agent.next_timer()
        if self._timer is not None:
            if due is not None and self._timer.when() == due and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if due is not None and self._open:
            self._timer = asyncio.get_running_loop().call_at(due, self._timer_due, due)

    def _timer_due(self, due: float) -> None:
        self._timer = None
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

    # ------------------------------------------------------------ receiving

    def _udp_received(self, data: bytes, remote: Address) -> None:
        if not data.strip(b"\r\n\0 "):  # a keep-alive (RFC 5626 section 3.5.1)
            return
        try:
            flow = self._udp_flow(remote)
        except TransportError:  # it came from where nothing can be sent
            return
        self._received(data, flow)

    def _tcp_received(self, data: bytes, local: Address, remote: Address) -> None:
        self._received(data, self._tcp_flow(local, remote))

    def _received(self, data: bytes, flow: Flow) -> None:
        self._observe(False, flow, data)
        try:
            self._agent.receive(data, flow, self.now())
        except Exception:  # a fault of ours costs this message alone
            log.exception("taking a SIP message failed")
        self.flush()

    def _udp_unreachable(self, remote: Address, message: str) -> None:
        self._failed("udp", remote, message)

    def _tcp_lost(self, remote: Address, message: str) -> None:
        self._failed("tcp", remote, message)

    def _failed(self, transport: str, remote: Address, message: str) -> None:
        known = self._flows.pop((transport, remote), None)
        if known is not None:
            for flow in known.used:
                self._agent.flow_failed(flow, message, self.now())
            self.flush()
            if transport == "tcp" and self._lost is not None:
                self._lost(known.flow)

    # ------------------------------------------------------------ flows

    def _udp_flow(self, remote: Address) -> Flow:
        known = self._flows.get(("udp", remote))
        now = self.now()
        if known is not None and known.until > now:
            return known.flow
        datagrams = self._udp.get(version_of(remote.host))
        if datagrams is None:
            raise TransportError(f"there is no UDP socket towards {remote}")
        local = self._local_host(datagrams.local.host, remote.host)
        return self._remember(Flow("udp", Address(local, datagrams.local.port), remote))

    def _tcp_flow(self, local: Address, remote: Address) -> Flow:
        known = self._flows.get(("tcp", remote))
        if known is not None:
            return known.flow
        # the port to advertise is the one we listen on (RFC 3261 section 18.1.1)
        port = local.port if self._tcp_port is None else self._tcp_port
        host = self._local_host(local.host, remote.host)
        return self._remember(Flow("tcp", Address(host, port), remote))

    def _local_host(self, bound: str, peer: str) -> str:
        """Return the host to advertise to `peer`: never a wildcard."""
        public = self._public
        if public is not None and not is_loopback(peer) and version_of(public) == version_of(peer):
            return public
        return self._network.local_address_toward(peer) if is_wildcard(bound) else bound

    def _remember(self, flow: Flow) -> Flow:
        """Keep what is used towards a peer: a failure there is told for all of it."""
        key = (flow.transport, flow.remote)
        known = self._flows.get(key)
        until = self.now() + ROUTE_SECONDS
        if known is None:
            self._flows[key] = _Known(flow, until, {flow})
            if len(self._flows) > REMEMBERED_FLOWS:
                self._flows.popitem(last=False)
            return flow
        if known.until <= self.now():
            known.flow, known.until = flow, until
        if len(known.used) < FLOWS_PER_PEER:
            known.used.add(flow)
        self._flows.move_to_end(key)
        return flow

    async def _resolve(self, host: str, port: int) -> Address:
        """Return the first address of `host` of an IP version that we are bound to."""
        bare = literal(host)
        found = [bare] if bare is not None else await self._network.addresses(host)
        versions = set(self._udp) or {version_of(self._bound)}
        for address in found:
            if version_of(address) in versions:
                return Address(address, port)
        raise TransportError(
            f"{host} has no address that {self._bound} can reach",
            hint="both ends must speak the same version of IP",
        )


def _in_use(error: OSError) -> bool:
    return error.errno == errno.EADDRINUSE


def _cannot_bind(address: Address, error: OSError) -> TransportError:
    if _in_use(error):
        return TransportError(f"{address} is in use", hint="choose another port, or 0 for any")
    if error.errno == errno.EADDRNOTAVAIL:
        return TransportError(f"{address.host} is not an address of this machine")
    if error.errno == errno.EACCES:
        return TransportError(f"{address} may not be bound", hint="ports below 1024 need root")
    return TransportError(f"cannot bind {address}: {error.strerror or error}")

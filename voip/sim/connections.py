"""Listening and connecting between simulated hosts, with TLS where it is asked for."""

from __future__ import annotations

import asyncio
import errno
import socket
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Sequence
from contextvars import copy_context
from ssl import SSLContext, create_default_context
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from voip.ip import is_wildcard
from voip.sim.datagrams import SimSocket, check_address
from voip.sim.stream import SimStream, os_error
from voip.types import Address

if TYPE_CHECKING:
    from voip.sim.host import Host
    from voip.sim.loop import SimLoop
    from voip.sim.network import Way

__all__ = ["SimServer", "open_server", "open_stream"]

SYN_RETRY_S: Final = 1.0
SYN_GIVE_UP_S: Final = 127.0
"""How long connecting is tried, as Linux does by default (tcp_syn_retries)."""


class SimServer(asyncio.AbstractServer):
    """Listening ports of a host."""

    def __init__(
        self,
        loop: SimLoop,
        host: Host,
        factory: Callable[[], asyncio.BaseProtocol],
        ssl: SSLContext | None,
        handshake_s: float | None,
        shutdown_s: float | None,
    ) -> None:
        self._loop = loop
        self._host = host
        self._factory = factory
        self._ssl = ssl
        self._times = (handshake_s, shutdown_s)
        self._context = copy_context()
        self._bound: list[Address] = []
        self._connections = 0
        self._serving = False
        self._closed = False
        self._ended: list[asyncio.Future[None]] = []
        self._forever: asyncio.Future[None] | None = None

    def bind(self, ends: Sequence[Address]) -> None:
        """Bind all of `ends`, or none: OSError."""
        try:
            for end in ends:
                check_address(self._host, end.host)
                self._bound.append(self._host.tcp.bind(end, self))
        except OSError:
            self.close()
            raise

    @property
    def sockets(self) -> tuple[SimSocket, ...]:
        """What it listens at: `getsockname()` of each is of use."""
        return tuple(SimSocket(socket.SOCK_STREAM, end, None) for end in self._bound)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What it listens at."""
        return tuple(self._bound)

    def accept(self, local: Address, peer: Address, way: Way) -> SimStream | None:
        """Make our side of a connection, None where nobody accepts."""
        if not self._serving:
            return None
        context = self._context.copy()
        protocol = context.run(self._factory)
        if self._ssl is not None:
            handshake_s, shutdown_s = self._times
            protocol = context.run(
                _secured, self._loop, protocol, self._ssl, None, None, handshake_s, shutdown_s
            )
        self._connections += 1
        stream = SimStream(
            self._loop, self._host, local, peer, protocol, context, way, gone=self.detach
        )
        self._loop.world.network.keep_stream(stream)
        return stream

    def detach(self) -> None:
        """A connection is over."""
        self._connections -= 1
        self._wake()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._serving

    async def start_serving(self) -> None:
        """Accept connections."""
        self._serving = not self._closed

    async def serve_forever(self) -> None:
        """Accept connections until this is cancelled."""
        await self.start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        finally:
            self._forever = None
            self.close()
            await self.wait_closed()

    def close(self) -> None:
        """Accept no more; what is connected stays."""
        for end in self._bound:
            self._host.tcp.unbind(end)
        self._bound.clear()
        self._serving = False
        self._closed = True
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._wake()

    async def wait_closed(self) -> None:
        """Wait until it is closed and its connections are over."""
        if self._closed and not self._connections:
            return
        ended: asyncio.Future[None] = self._loop.create_future()
        self._ended.append(ended)
        await ended

    def _wake(self) -> None:
        if self._closed and not self._connections:
            for ended in self._ended:
                if not ended.done():
                    ended.set_result(None)
            self._ended.clear()


async def open_stream(
    loop: SimLoop,
    host: Host,
    factory: Callable[[], asyncio.BaseProtocol],
    remote: Address,
    local: Address | None,
    *,
    ssl: SSLContext | bool | None,
    server_hostname: str | None,
    handshake_s: float | None,
    shutdown_s: float | None,
) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
    """Connect `host` to `remote`; OSError where nobody listens, or nobody answers."""
    wanted = local or Address(host.address_toward(remote.host), 0)
    if is_wildcard(wanted.host):
        wanted = Address(host.address_toward(remote.host), wanted.port)
    check_address(host, wanted.host)
    if not wanted.port:
        wanted = Address(wanted.host, host.tcp.free(wanted.host))
    server_side, way = await _shake_hands(loop, host, wanted, remote)
    protocol = factory()
    waiter: asyncio.Future[None] | None = None
    raw: asyncio.BaseProtocol = protocol
    if ssl:
        waiter = loop.create_future()
        context = ssl if isinstance(ssl, SSLContext) else create_default_context()
        raw = _secured(loop, protocol, context, waiter, server_hostname, handshake_s, shutdown_s)
    ours = SimStream(loop, host, wanted, remote, raw, copy_context(), way)
    ours.other, server_side.other = server_side, ours
    loop.world.network.keep_stream(ours)
    ours.made()
    ours.open_other()
    raw.connection_made(ours)
    if waiter is None:
        return ours, protocol
    try:
        await waiter
    except BaseException:
        ours.abort()
        raise
    return cast(SSLProtocol, raw)._app_transport, protocol


async def _shake_hands(
    loop: SimLoop, host: Host, local: Address, remote: Address
) -> tuple[SimStream, Way]:
    """Send SYN until an answer is here; return the other side, and our way there."""
    network, wait, began = loop.world.network, SYN_RETRY_S, loop.world_time()
    size = np.zeros(1, np.int32)
    while loop.world_time() - began <= SYN_GIVE_UP_S:
        way = network.way(host, "tcp", local, remote)
        if way is None:
            raise os_error(errno.EHOSTUNREACH)
        sent = loop.world_time()
        there = sent
        if way.link is not None:
            carried = way.link.carry(sent, size)
            if not carried:
                await _until(loop, sent + wait)
                wait *= 2
                continue
            there = float(carried[0].arrival[0])
        await _until(loop, there)
        found = network.arrive("tcp", way.realm, way.source, remote)
        if found is not None:
            their_host, inner = found
            back = network.way(their_host, "tcp", inner, way.source)
            if back is not None:
                answered: float | None = loop.world_time()
                if back.link is not None:
                    returned = back.link.carry(loop.world_time(), size)
                    answered = float(returned[0].arrival[0]) if returned else None
                if answered is not None:
                    listener = their_host.tcp.find(inner)
                    stream = None
                    if listener is not None:
                        stream = listener.accept(inner, way.source, back)
                    try:
                        await _until(loop, answered)
                    except BaseException:
                        if stream is not None:
                            stream.abort()
                        raise
                    if stream is None:
                        raise os_error(errno.ECONNREFUSED)
                    return stream, way
        await _until(loop, max(loop.world_time(), sent + wait))
        wait *= 2
    raise os_error(errno.ETIMEDOUT)


async def _until(loop: SimLoop, when: float) -> None:
    woken: asyncio.Future[None] = loop.create_future()
    timer = loop.at(when, _wake, woken)
    try:
        await woken
    finally:
        timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def open_server(
    loop: SimLoop,
    host: Host,
    factory: Callable[[], asyncio.BaseProtocol],
    ends: Sequence[Address],
    *,
    ssl: SSLContext | None,
    handshake_s: float | None,
    shutdown_s: float | None,
    start: bool,
) -> SimServer:
    """Listen at `ends` of `host`; OSError where one is taken."""
    server = SimServer(loop, host, factory, ssl, handshake_s, shutdown_s)
    server.bind(ends)
    server._serving = start
    return server


def _secured(
    loop: SimLoop,
    protocol: asyncio.BaseProtocol,
    context: SSLContext,
    waiter: asyncio.Future[None] | None,
    server_hostname: str | None,
    handshake_s: float | None,
    shutdown_s: float | None,
) -> SSLProtocol:
    """Put TLS between a protocol and its stream, as asyncio does over sockets."""
    return SSLProtocol(
        loop,
        protocol,
        context,
        waiter,  # type: ignore[arg-type]  # a server has nobody who waits
        server_side=waiter is None,
        server_hostname=server_hostname,
        ssl_handshake_timeout=handshake_s,  # type: ignore[arg-type]  # seconds of any kind
        ssl_shutdown_timeout=shutdown_s,
    )

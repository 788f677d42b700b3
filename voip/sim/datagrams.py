"""UDP for asyncio programs on a simulated host."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from voip.ip import is_loopback, is_wildcard, version_of
from voip.types import Address

if TYPE_CHECKING:
    from voip.sim.host import Host
    from voip.sim.loop import SimLoop

__all__ = ["SimSocket", "UdpPort", "as_tuple", "check_address", "open_datagrams"]

MAX_BYTES = 65_507


class SimSocket:
    """What little a program may ask of the socket of a simulated transport."""

    def __init__(self, kind: socket.SocketKind, local: Address, peer: Address | None) -> None:
        self.family = socket.AF_INET6 if version_of(local.host) == 6 else socket.AF_INET
        self.type = kind
        self._local = local
        self._peer = peer

    def getsockname(self) -> tuple[Any, ...]:
        """Return the address it is bound to."""
        return as_tuple(self._local)

    def getpeername(self) -> tuple[Any, ...]:
        """Return the address it is connected to."""
        if self._peer is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return as_tuple(self._peer)

    def setsockopt(self, *_: Any) -> None:
        """Accept any option: none changes anything here."""


class UdpPort:
    """A bound UDP port of a host; `received` and `refused` are called in its owner's context."""

    def __init__(
        self,
        loop: SimLoop,
        host: Host,
        local: Address,
        *,
        received: Callable[[bytes, Address], None],
        refused: Callable[[Address, bool], None],
    ) -> None:
        check_address(host, local.host)
        self._loop = loop
        self._host = host
        self._received = received
        self._refused = refused
        self._context: Context = copy_context()
        self._closed = False
        self.local = host.udp.bind(local, self)

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram; OSError where it cannot be sent at all."""
        if self._closed:
            return
        if len(data) > MAX_BYTES:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        if version_of(remote.host) != version_of(self.local.host):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        source = self.local
        if is_wildcard(source.host):
            source = Address(self._host.address_toward(remote.host), source.port)
        self._loop.world.network.send(self._host, source, remote, bytes(data))

    def close(self) -> None:
        """Let go of the port; closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._host.udp.unbind(self.local)

    def receive(self, data: bytes, source: Address, arrival: float) -> None:
        """Take a datagram."""
        self._context.run(self._received, data, source)

    def refused(self, destination: Address, there: bool) -> None:
        """Learn that nobody got what was sent."""
        self._context.run(self._refused, destination, there)


class _DatagramTransport(asyncio.DatagramTransport):
    """asyncio's view of a UDP port."""

    def __init__(
        self,
        loop: SimLoop,
        host: Host,
        local: Address,
        remote: Address | None,
        protocol: asyncio.DatagramProtocol,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._remote = remote
        self._port = UdpPort(loop, host, local, received=self._take, refused=self._fail)
        self._closing = False
        sock = SimSocket(socket.SOCK_DGRAM, self._port.local, remote)
        self._extra: dict[str, Any] = {"socket": sock, "sockname": sock.getsockname()}
        if remote is not None:
            self._extra["peername"] = as_tuple(remote)

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Send a datagram."""
        if self._closing:
            return
        target = self._remote if addr is None else Address(addr[0], addr[1])
        if target is None or (self._remote is not None and target != self._remote):
            raise ValueError(f"Invalid address: must be None or {self._remote}")
        try:
            self._port.send(bytes(data), target)
        except OSError as error:
            self._loop.call_soon(self._protocol.error_received, error)

    def _take(self, data: bytes, source: Address) -> None:
        if self._remote is None or source == self._remote:
            self._protocol.datagram_received(data, as_tuple(source))

    def _fail(self, destination: Address, there: bool) -> None:
        if destination == self._remote:  # as the kernel: an unconnected socket is told nothing
            number = errno.ECONNREFUSED if there else errno.EHOSTUNREACH
            self._protocol.error_received(OSError(number, os.strerror(number)))

    def close(self) -> None:
        """Close the port."""
        if not self._closing:
            self._closing = True
            self._port.close()
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what comes to another protocol."""
        if isinstance(protocol, asyncio.DatagramProtocol):
            self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        """Return 0: nothing waits."""
        return 0


def open_datagrams(
    loop: SimLoop,
    host: Host,
    factory: Callable[[], asyncio.DatagramProtocol],
    local: Address | None,
    remote: Address | None,
    family: int,
) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
    """Bind a UDP port of `host` and hand it to a protocol of `factory`."""
    if local is None:
        if remote is not None:
            local = Address(host.address_toward(remote.host), 0)
        else:
            local = Address("::" if family == socket.AF_INET6 else "0.0.0.0", 0)
    protocol = factory()
    transport = _DatagramTransport(loop, host, local, remote, protocol)
    protocol.connection_made(transport)
    return transport, protocol


def as_tuple(address: Address) -> tuple[Any, ...]:
    """Return an address as sockets tell it."""
    if version_of(address.host) == 6:
        return (address.host, address.port, 0, 0)
    return (address.host, address.port)


def check_address(host: Host, address: str) -> None:
    """Raise OSError unless `address` can be bound on `host`."""
    if address not in host.addresses and not is_wildcard(address) and not is_loopback(address):
        raise OSError(errno.EADDRNOTAVAIL, f"{address} is not an address of {host!r}")

"""The kernel's network, as SIP's endpoint asks for it (`voip.sip.endpoint.network`)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import TypeVar

from voip.config import DSCP_CS3
from voip.net.address import family_of
from voip.net.dns_records import DnsRecords
from voip.net.marking import Marker
from voip.net.route import Resolver, local_address_toward
from voip.net.sip_udp import UdpEndpoint
from voip.sip.locating import Naptr, Srv
from voip.types import Address

__all__ = ["KernelNetwork"]

LISTEN_BACKLOG = 128

Stream = TypeVar("Stream", bound=asyncio.Protocol)


class Listener:
    """A TCP port that asyncio accepts connections at."""

    def __init__(self, server: asyncio.Server, local: Address) -> None:
        self._server = server
        self.local = local

    def close(self) -> None:
        """Accept no more; what is connected stays."""
        self._server.close()


class KernelNetwork:
    """Sockets, routes and names of this machine, in the running event loop.

    `dns_servers`: IP addresses, each with a port or without, to ask instead of the system's.
    `dscp`: what is sent is marked with; connections of ours once they are up.
    """

    def __init__(self, dns_servers: Sequence[str] = (), *, dscp: int = DSCP_CS3) -> None:
        self._marker = Marker(dscp)
        self._resolver = Resolver()
        self._records = DnsRecords(dns_servers)

    def wall(self) -> float:
        """Return the time of day."""
        return time.time()

    def udp(
        self,
        host: str,
        port: int,
        *,
        received: Callable[[bytes, Address], None],
        unreachable: Callable[[Address, str], None],
    ) -> UdpEndpoint:
        """Bind a UDP port."""
        loop = asyncio.get_running_loop()
        return UdpEndpoint(
            loop, host, port, received=received, unreachable=unreachable, marker=self._marker
        )

    async def listen(
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        ssl: SSLContext | None = None,
    ) -> Listener:
        """Accept connections at a TCP port."""
        sock = _bound(host, port)
        self._marker.mark(sock)  # and with it those that are accepted
        local = Address(host, sock.getsockname()[1])
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(factory, sock=sock, ssl=ssl, backlog=LISTEN_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return Listener(server, local)

    async def connect(
        self,
        factory: Callable[[], Stream],
        remote: Address,
        *,
        local_host: str | None = None,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.Transport, Stream]:
        """Open a TCP connection."""
        transport, protocol = await asyncio.get_running_loop().create_connection(
            factory,
            remote.host,
            remote.port,
            local_addr=None if local_host is None else (local_host, 0),
            family=family_of(remote.host),
            ssl=ssl,
            server_hostname=server_hostname,
        )
        self._mark(transport)
        return transport, protocol

    def _mark(self, transport: asyncio.Transport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            self._marker.mark(sock)

    def local_address_toward(self, host: str) -> str:
        """Return the address the kernel would send from."""
        return local_address_toward(host)

    async def naptr(self, name: str) -> Sequence[Naptr]:
        """Return the NAPTR records of a name."""
        return await self._records.naptr(name)

    async def srv(self, name: str) -> Sequence[Srv]:
        """Return the SRV records of a name."""
        return await self._records.srv(name)

    async def addresses(self, name: str) -> Sequence[str]:
        """Return the IP addresses of a name: as the system finds them, or as its servers say."""
        if self._records.servers:
            return await self._records.addresses(name)
        return await self._resolver.addresses(name)

    def close(self) -> None:
        """End the resolver's thread."""
        self._resolver.close()


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(family_of(host), socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(LISTEN_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock

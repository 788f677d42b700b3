"""The network of a simulated host, as SIP's endpoint asks for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import TYPE_CHECKING, TypeVar, cast

from voip.errors import SimulationError, TransportError
from voip.sim.connections import SimServer, open_server, open_stream
from voip.sim.datagrams import UdpPort
from voip.sim.dns import SimDns
from voip.sim.host import Host
from voip.sip.locating import Naptr, Srv
from voip.types import Address

if TYPE_CHECKING:
    from voip.sim.loop import SimLoop

__all__ = ["SimSipNetwork"]

Stream = TypeVar("Stream", bound=asyncio.Protocol)


class _SipPort:
    """A UDP port that tells of what cannot be sent instead of raising."""

    def __init__(self, port: UdpPort, unreachable: Callable[[Address, str], None]) -> None:
        self._port = port
        self._unreachable = unreachable

    @property
    def local(self) -> Address:
        """What is bound."""
        return self._port.local

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram."""
        try:
            self._port.send(data, remote)
        except (OSError, SimulationError) as error:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
            self._unreachable(remote, f"sending to {remote} failed: {why}")

    def close(self) -> None:
        """Let go of the port."""
        self._port.close()


class _Listener:
    """A port that accepts connections."""

    def __init__(self, server: SimServer, local: Address) -> None:
        self._server = server
        self.local = local

    def close(self) -> None:
        """Accept no more."""
        self._server.close()


class SimSipNetwork:
    """`voip.sip.endpoint.network.SipNetwork` of one host, from wherever it is called."""

    def __init__(self, loop: SimLoop, host: Host, dns: SimDns) -> None:
        self._loop = loop
        self._host = host
        self._dns = dns

    def wall(self) -> float:
        """Return the host's time of day."""
        return self._host.clock.wall(self._loop.world_time())

    def udp(
        self,
        host: str,
        port: int,
        *,
        received: Callable[[bytes, Address], None],
        unreachable: Callable[[Address, str], None],
    ) -> _SipPort:
        """Bind a UDP port."""

        def refused(peer: Address, there: bool) -> None:
            why = f"nobody listens at {peer}" if there else f"{peer} cannot be reached"
            unreachable(peer, why)

        with self._host.here():
            bound = UdpPort(
                self._loop, self._host, Address(host, port), received=received, refused=refused
            )
        return _SipPort(bound, unreachable)

    async def listen(
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        ssl: SSLContext | None = None,
    ) -> _Listener:
        """Accept connections."""
        with self._host.here():
            server = open_server(
                self._loop,
                self._host,
                factory,
                [Address(host, port)],
                ssl=ssl,
                handshake_s=None,
                shutdown_s=None,
                start=True,
            )
        return _Listener(server, server.addresses[0])

    async def connect(
        self,
        factory: Callable[[], Stream],
        remote: Address,
        *,
        local_host: str | None = None,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.Transport, Stream]:
        """Open a connection."""
        with self._host.here():
            transport, protocol = await open_stream(
                self._loop,
                self._host,
                factory,
                remote,
                None if local_host is None else Address(local_host, 0),
                ssl=ssl,
                server_hostname=server_hostname,
                handshake_s=None,
                shutdown_s=None,
            )
        return transport, cast(Stream, protocol)

    def local_address_toward(self, host: str) -> str:
        """Return the address the host sends from."""
        try:
            return self._host.address_toward(host)
        except SimulationError as error:
            raise TransportError(f"there is no route to {host}", hint=str(error)) from error

    async def naptr(self, name: str) -> Sequence[Naptr]:
        """Return the NAPTR records that `world.dns` has of a name."""
        return self._dns.naptr(name)

    async def srv(self, name: str) -> Sequence[Srv]:
        """Return the SRV records that `world.dns` has of a name."""
        return self._dns.srv(name)

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses that `world.dns` has of a name."""
        found = self._dns.addresses(name)
        if not found:
            raise TransportError(f"the name {name!r} has no address", hint="world.dns.add has none")
        return found

    def close(self) -> None:
        """Look-ups take no time: there is nothing to give up."""

"""What SIP's endpoint asks of a network: `voip.net` has the kernel's, `voip.sim` a simulated one.

Addresses are IP literals. Time is the running loop's. Nothing here is called from another thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from ssl import SSLContext
from typing import Protocol, TypeVar

from voip.sip.locating import Naptr, Srv
from voip.types import Address

__all__ = ["DatagramPort", "SipNetwork", "StreamListener"]

Stream = TypeVar("Stream", bound=asyncio.Protocol)


class DatagramPort(Protocol):
    """A bound UDP port."""

    @property
    def local(self) -> Address:
        """What is bound: a wildcard as it is, the port as it became."""
        ...

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram; what comes of it is told by `unreachable`, never raised."""
        ...

    def close(self) -> None:
        """Let go of the port; closing twice does nothing."""
        ...


class StreamListener(Protocol):
    """A port that accepts connections."""

    @property
    def local(self) -> Address:
        """What is bound: a wildcard as it is, the port as it became."""
        ...

    def close(self) -> None:
        """Accept no more; what is connected stays. Closing twice does nothing."""
        ...


class SipNetwork(Protocol):
    """Ports, connections, names and routes of one host."""

    def wall(self) -> float:
        """Return the time of day, seconds since 1970: for traces."""
        ...

    def udp(
        self,
        host: str,
        port: int,
        *,
        received: Callable[[bytes, Address], None],
        unreachable: Callable[[Address, str], None],
    ) -> DatagramPort:
        """Bind a UDP port (0: any); raises OSError, EADDRINUSE among them, where it cannot be had.

        `received(data, source)` and `unreachable(peer, why)` are called in the loop, `unreachable`
        possibly inside `send`. An IPv6 port takes nothing of IPv4.
        """
        ...

    async def listen(
        self,
        factory: Callable[[], asyncio.Protocol],
        host: str,
        port: int,
        *,
        ssl: SSLContext | None = None,
    ) -> StreamListener:
        """Accept connections, each handed to a protocol of `factory`; raises OSError as `udp` does.

        Transports tell `sockname` and `peername` by `get_extra_info`, as asyncio's do.
        """
        ...

    async def connect(
        self,
        factory: Callable[[], Stream],
        remote: Address,
        *,
        local_host: str | None = None,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.Transport, Stream]:
        """Open a connection to `remote`, from `local_host` if given; raises OSError."""
        ...

    def local_address_toward(self, host: str) -> str:
        """Return the address of ours that `host` sees; raises `TransportError` without a route."""
        ...

    async def naptr(self, name: str) -> Sequence[Naptr]:
        """Return the NAPTR records of a name; none where nobody can be asked."""
        ...

    async def srv(self, name: str) -> Sequence[Srv]:
        """Return the SRV records of a name; none where nobody can be asked."""
        ...

    async def addresses(self, name: str) -> Sequence[str]:
        """Return the IP addresses of a name, best first; raises `TransportError` for none."""
        ...

    def close(self) -> None:
        """Give up look-ups under way and what they need; ports and connections have their own."""
        ...

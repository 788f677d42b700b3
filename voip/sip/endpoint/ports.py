"""The ports of a SIP endpoint: UDP and TCP share one, further transports have their own."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from ssl import SSLContext

from voip.errors import TransportError, hint_for_files
from voip.ip import version_of
from voip.sip.endpoint.network import DatagramPort, SipNetwork, StreamListener
from voip.sip.flow import SECURE
from voip.types import Address

__all__ = ["SAME_PORT", "Ports"]

SAME_PORT = ("udp", "tcp")
"""Transports that share a port."""
EPHEMERAL_TRIES = 16
"""Ports tried until one is free for UDP and for TCP."""

Accept = Callable[[str], asyncio.Protocol]
"""Returns what takes a connection of a transport."""


class Ports:
    """What is bound: `udp` by version of IP, `streams` the ports by transport, `listeners` with it.

    `received` and `unreachable` as `SipNetwork.udp` calls them.
    """

    def __init__(
        self,
        network: SipNetwork,
        received: Callable[[bytes, Address], None],
        unreachable: Callable[[Address, str], None],
    ) -> None:
        self.udp: dict[int, DatagramPort] = {}
        self.streams: dict[str, int] = {}
        self.listeners: list[tuple[str, StreamListener]] = []
        self._network = network
        self._received = received
        self._unreachable = unreachable

    async def bind(self, host: str, port: int, transports: Collection[str], accept: Accept) -> int:
        """Bind UDP, TCP or both to one port of `host` (0: any); return which it became.

        Raises `TransportError` where it cannot be had.
        """
        for attempt in range(EPHEMERAL_TRIES):
            with ExitStack() as undo:
                try:
                    bound, listener = port, None
                    if "tcp" in transports:
                        listener = await self._network.listen(partial(accept, "tcp"), host, port)
                        undo.callback(listener.close)
                        bound = listener.local.port
                    if "udp" in transports:
                        datagrams = self._network.udp(
                            host, bound, received=self._received, unreachable=self._unreachable
                        )
                        self.udp[version_of(host)] = datagrams
                        bound = datagrams.local.port
                except OSError as error:
                    if port == 0 and attempt + 1 < EPHEMERAL_TRIES and _in_use(error):
                        continue
                    raise _cannot_bind(Address(host, port), error) from error
                undo.pop_all()
                if listener is not None:
                    self.listeners.append(("tcp", listener))
                    self.streams["tcp"] = bound
                return bound
        raise TransportError(f"no port of {host} is free for UDP and TCP")

    async def listen(
        self, transport: str, host: str, port: int, tls: SSLContext | None, accept: Accept
    ) -> None:
        """Accept connections of another transport; raises `TransportError` as `bind`."""
        try:
            listener = await self._network.listen(
                partial(accept, transport), host, port, ssl=tls if transport in SECURE else None
            )
        except OSError as error:
            raise _cannot_bind(Address(host, port), error) from error
        self.listeners.append((transport, listener))
        self.streams[transport] = listener.local.port

    def close(self) -> None:
        """Let go of all of them; what is connected stays."""
        for port in self.udp.values():
            port.close()
        for _, listener in self.listeners:
            listener.close()


def _in_use(error: OSError) -> bool:
    return error.errno == errno.EADDRINUSE


def _cannot_bind(address: Address, error: OSError) -> TransportError:
    if _in_use(error):
        return TransportError(f"{address} is in use", hint="choose another port, or 0 for any")
    if error.errno == errno.EADDRNOTAVAIL:
        return TransportError(f"{address.host} is not an address of this machine")
    if error.errno == errno.EACCES:
        return TransportError(f"{address} may not be bound", hint="ports below 1024 need root")
    return TransportError(
        f"cannot bind {address}: {error.strerror or error}", hint=hint_for_files(error)
    )

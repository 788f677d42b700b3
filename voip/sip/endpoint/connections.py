"""SIP over streams in an asyncio loop: one connection per remote address.

A connection serves both directions, whoever opened it (RFC 3261 section 18, RFC 5923).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import dataclass

from voip.errors import SipError, TransportError
from voip.ip import from_socket
from voip.sip.endpoint.network import SipNetwork
from voip.sip.endpoint.tasks import is_cancelled
from voip.sip.stream import PONG, StreamFramer
from voip.types import Address

__all__ = ["ConnectionCounters", "Connections"]

MAX_CONNECTIONS = 1024
MAX_UNSENT_BYTES = 1 << 20
"""A peer that lets more than this pile up does not read; its connection is cut."""
MAX_WAITING_MESSAGES = 64
"""Messages kept for a connection that is being opened."""
CONNECT_TIMEOUT_S = 10.0
PATIENCE_S = 32.0
"""A peer that connects and says nothing, or half a message, for this long (64*T1) is sent away."""
CLOSE_TIMEOUT_S = 1.0
"""How long closing waits for what is not sent yet."""


@dataclass(slots=True)
class ConnectionCounters:
    """What went wrong, since the start."""

    refused: int = 0  # connections beyond the limit
    silent: int = 0  # connections on which no message came, or half of one
    unreadable: int = 0  # connections cut because what came was not SIP
    clogged: int = 0  # connections cut because the peer did not read


class Connections:
    """All connections of one SIP endpoint.

    `received(message, local, remote)` gets whole messages. `lost(remote, message)` tells of a
    connection that ended or could not be opened. Both are called in the loop.
    """

    def __init__(
        self,
        network: SipNetwork,
        *,
        received: Callable[[bytes, Address, Address], None],
        lost: Callable[[Address, str], None],
        bind_host: str | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.counters = ConnectionCounters()
        self._network = network
        self._received = received
        self._lost = lost
        self._bind_host = bind_host
        self._max = max_connections
        self._open: set[_Connection] = set()
        self._by_remote: dict[Address, _Connection] = {}
        self._opening: dict[Address, asyncio.Task[_Connection]] = {}
        self._waiting: dict[Address, list[bytes]] = {}
        self._closed = False

    # ------------------------------------------------------------ opening

    def accept(self) -> asyncio.Protocol:
        """Return what takes a connection that somebody opens to us."""
        return _Connection(self, incoming=True)

    async def connect(self, remote: Address) -> Address:
        """Return our address of the connection to `remote`, opened if there is none.

        Raises `TransportError` when nobody listens there, or nobody answers in time.
        """
        return (await self._connection(remote)).local

    async def _connection(self, remote: Address) -> _Connection:
        present = self._by_remote.get(remote)
        if present is not None:
            return present
        opening = self._begin(remote)
        try:
            return await asyncio.shield(opening)  # others may wait for it too
        except asyncio.CancelledError:
            if opening.cancelled() and not is_cancelled():
                raise TransportError(f"closed before {remote} answered") from None
            raise

    def _begin(self, remote: Address) -> asyncio.Task[_Connection]:
        """Open a connection to `remote`, unless one is being opened."""
        task = self._opening.get(remote)
        if task is None:
            task = self._opening[remote] = asyncio.get_running_loop().create_task(
                self._dial(remote)
            )
            task.add_done_callback(lambda done: self._dialled(remote, done))
        return task

    async def _dial(self, remote: Address) -> _Connection:
        if len(self._open) >= self._max:
            raise TransportError(f"{self._max} connections are open", hint="close some")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await self._network.connect(
                    lambda: _Connection(self, incoming=False), remote, local_host=self._bind_host
                )
        except TimeoutError as error:
            raise TransportError(
                f"no answer from {remote} in {CONNECT_TIMEOUT_S:g} s", hint="check the address"
            ) from error
        except OSError as error:
            raise TransportError(_reason(remote, error)) from error
        return connection

    def _dialled(self, remote: Address, task: asyncio.Task[_Connection]) -> None:
        self._opening.pop(remote, None)
        waiting = self._waiting.pop(remote, [])
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            connection = task.result()
            for message in waiting:
                connection.write(message)
        elif waiting:
            self._lost(remote, error.message if isinstance(error, TransportError) else str(error))

    # ------------------------------------------------------------ sending

    def send(self, data: bytes, remote: Address) -> None:
        """Send a message to `remote`, over a new connection if there is none.

        Never raises: a message that cannot be sent is told by `lost`.
        """
        if self._closed:
            return
        connection = self._by_remote.get(remote)
        if connection is not None:
            connection.write(data)
            return
        waiting = self._waiting.setdefault(remote, [])
        if len(waiting) >= MAX_WAITING_MESSAGES:
            self._lost(remote, f"too many messages wait for a connection to {remote}")
            return
        waiting.append(data)
        self._begin(remote)

    @property
    def count(self) -> int:
        """Connections that are open."""
        return len(self._open)

    # ------------------------------------------------------------ closing

    async def close(self) -> None:
        """Let what was written go out for a moment, and close everything."""
        self._closed = True
        dialling = list(self._opening.values())
        for task in dialling:
            task.cancel()
        await asyncio.gather(*dialling, return_exceptions=True)
        ending = [connection.gone for connection in self._open]
        for connection in self._open:
            connection.finish()
        if ending:
            await asyncio.wait(ending)

    # ------------------------------------------------------------ a connection's side

    def opened(self, connection: _Connection) -> bool:
        """Keep a new connection; False when it is one too many."""
        if self._closed or len(self._open) >= self._max:
            self.counters.refused += 1
            return False
        self._open.add(connection)
        self._by_remote[connection.remote] = connection
        return True

    def message(self, connection: _Connection, data: bytes) -> None:
        """Hand on a message that came."""
        if not self._closed:
            self._received(data, connection.local, connection.remote)

    def ended(self, connection: _Connection, message: str) -> None:
        """Forget a connection."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        if self._by_remote.get(connection.remote) is connection:
            del self._by_remote[connection.remote]
        if not self._closed:
            self._lost(connection.remote, message)


class _Connection(asyncio.Protocol):
    """One connection: bytes to messages and back."""

    def __init__(self, owner: Connections, *, incoming: bool) -> None:
        self._owner = owner
        self._incoming = incoming
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._why = ""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.local = Address("", 0)
        self.remote = Address("", 0)

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self._transport = transport
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if local is None or remote is None:  # it was reset before we looked
            transport.abort()
            return
        self.local, self.remote = from_socket(local), from_socket(remote)
        if not self._owner.opened(self):
            transport.abort()
        elif self._incoming:
            self._wait_for_message()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._framer.feed(data)
        except SipError:
            messages = []
        for _ in range(self._framer.take_pings()):
            self.write(PONG)
        if messages:
            self._message_came()
        for message in messages:
            self._owner.message(self, message)
        broken = self._framer.broken
        if broken is not None:
            self._owner.counters.unreadable += 1
            self._why = f"{self.remote} sent what is not SIP: {broken.message}"
            self.finish()  # after the answer to it, if there is one
        elif self._framer.buffered > len(PONG):
            self._wait_for_message()

    def connection_lost(self, exc: Exception | None) -> None:
        self._message_came()
        message = self._why or f"the connection to {self.remote} was closed"
        if exc is not None and not self._why:
            message = f"the connection to {self.remote} broke: {exc}"
        self._owner.ended(self, message)
        if not self.gone.done():
            self.gone.set_result(None)

    # ------------------------------------------------------------ our side

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._owner.counters.clogged += 1
            self._cut(f"{self.remote} does not read what it is sent")

    def finish(self) -> None:
        """Close once everything has been sent, or after a moment."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.close()
        self._message_came()
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _cut(self, why: str) -> None:
        self._why = why
        self.abort()

    def _wait_for_message(self) -> None:
        if self._patience is None:
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(PATIENCE_S, self._out_of_patience)

    def _message_came(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _out_of_patience(self) -> None:
        self._owner.counters.silent += 1
        self._cut(f"no whole message came from {self.remote} in {PATIENCE_S:g} s")


def _reason(remote: Address, error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return f"nobody listens at {remote}"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"there is no route to {remote}"
    return f"no connection to {remote}: {error.strerror or error}"

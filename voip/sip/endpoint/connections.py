"""SIP over TCP, TLS and WebSocket in an asyncio loop: one connection per peer.

A connection serves both directions for responses and within what it has begun, whoever opened it
(RFC 3261 section 18); for other requests, where its owner says so and may (RFC 5923, `aliases.py`).
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from voip.errors import TransportError, hint_for_files
from voip.sip.endpoint.aliases import Aliases
from voip.sip.endpoint.connection import Connection
from voip.sip.endpoint.network import SipNetwork
from voip.sip.endpoint.tasks import is_cancelled
from voip.sip.endpoint.tls import refusal
from voip.sip.flow import SECURE, Peer
from voip.sip.framing import Framing, StreamFraming
from voip.sip.websocket import WebSocketFraming
from voip.types import Address

__all__ = ["ConnectionCounters", "Connections"]

MAX_CONNECTIONS = 1024
MAX_WAITING_MESSAGES = 64
"""Messages kept for a connection that is being opened."""
CONNECT_TIMEOUT_S = 10.0


@dataclass(slots=True)
class ConnectionCounters:
    """What went wrong, since the start."""

    refused: int = 0  # connections beyond the limit
    silent: int = 0  # connections on which no message came, or half of one
    unreadable: int = 0  # connections cut because what came was not SIP
    clogged: int = 0  # connections cut because the peer did not read


class Connections:
    """All connections of one SIP endpoint.

    `received(message, local, peer)` gets whole messages. `lost(peer, message)` tells of a
    connection that ended or could not be opened. `heard(peer, pong)` tells that something came. All
    are called in the loop. `client_tls` returns what TLS connections of ours are opened with.
    `aliases`: which connections others let us use for what is for them.
    """

    def __init__(
        self,
        network: SipNetwork,
        *,
        received: Callable[[bytes, Address, Peer], None],
        lost: Callable[[Peer, str], None],
        heard: Callable[[Peer, bool], None],
        client_tls: Callable[[], ssl.SSLContext],
        bind_host: str | None = None,
        ws_path: str = "/",
        aliases: Aliases | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.counters = ConnectionCounters()
        self._network = network
        self._received = received
        self._lost = lost
        self.heard = heard
        self._client_tls = client_tls
        self._bind_host = bind_host
        self._ws_path = ws_path
        self._max = max_connections
        self._aliases = aliases or Aliases()
        self._open: dict[Connection, None] = {}  # in order: a simulation repeats
        self._by_peer: dict[Peer, Connection] = {}
        self._opening: dict[Peer, asyncio.Task[Connection]] = {}
        self._waiting: dict[Peer, list[bytes]] = {}
        self._closed = False

    # ------------------------------------------------------------ opening

    def accept(self, transport: str) -> asyncio.Protocol:
        """Return what takes a connection that somebody opens to us."""
        return Connection(self, transport, self._framing(transport), incoming=True)

    async def connect(self, peer: Peer) -> tuple[Address, Peer]:
        """Return our address of the connection to `peer`, and its peer; opened if there is none.

        That is another peer where it has opened a connection that is to be used instead. Raises
        `TransportError` when nobody listens there, or nobody answers in time.
        """
        connection = None if peer in self._by_peer else self._aliases.find(peer)
        if connection is not None:
            return connection.local, connection.peer
        return (await self._connection(peer)).local, peer

    def is_ours(self, peer: Peer) -> bool:
        """Whether there is a connection to `peer` that we have opened."""
        connection = self._by_peer.get(peer)
        return connection is not None and not connection.incoming

    async def _connection(self, peer: Peer) -> Connection:
        present = self._by_peer.get(peer)
        if present is not None:
            return present
        opening = self._begin(peer)
        try:
            return await asyncio.shield(opening)  # others may wait for it too
        except asyncio.CancelledError:
            if opening.cancelled() and not is_cancelled():
                raise TransportError(f"closed before {peer.remote} answered") from None
            raise

    def _begin(self, peer: Peer) -> asyncio.Task[Connection]:
        """Open a connection to `peer`, unless one is being opened."""
        task = self._opening.get(peer)
        if task is None:
            task = self._opening[peer] = asyncio.get_running_loop().create_task(self._dial(peer))
            task.add_done_callback(lambda done: self._dialled(peer, done))
        return task

    async def _dial(self, peer: Peer) -> Connection:
        remote = peer.remote
        if len(self._open) >= self._max:
            raise TransportError(f"{self._max} connections are open", hint="close some")
        connection: Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await self._network.connect(
                    lambda: Connection(
                        self,
                        peer.transport,
                        self._framing(peer.transport, peer),
                        domain=peer.domain,
                    ),
                    remote,
                    local_host=self._bind_host,
                    ssl=self._tls_towards(peer),
                    server_hostname=peer.domain if peer.transport in SECURE else None,
                )
                await connection.ready
                if (failure := connection.failure) is not None:
                    raise failure
                return connection
        except TimeoutError as error:
            raise TransportError(
                f"no answer from {remote} in {CONNECT_TIMEOUT_S:g} s", hint="check the address"
            ) from error
        except ssl.SSLError as error:
            raise refusal(error, peer.domain, remote) from error
        except OSError as error:
            if peer.transport in SECURE and isinstance(error, ConnectionResetError):
                raise TransportError(
                    f"{remote} ended the TLS handshake", hint="does it speak TLS there?"
                ) from error
            raise _unreachable(remote, error) from error
        finally:
            if connection is not None and connection.failure is not None:
                connection.abort()

    def _framing(self, transport: str, peer: Peer | None = None) -> Framing:
        if transport not in ("ws", "wss"):
            return StreamFraming()
        if peer is None:
            return WebSocketFraming()
        host = peer.domain or peer.remote.host
        return WebSocketFraming(host, peer.remote.port, self._ws_path)

    def _tls_towards(self, peer: Peer) -> ssl.SSLContext | None:
        if peer.transport not in SECURE:
            return None
        if not peer.domain:  # the peer had opened the connection, and it is gone
            raise TransportError(f"nobody can tell whose certificate {peer.remote} has to have")
        return self._client_tls()

    def _dialled(self, peer: Peer, task: asyncio.Task[Connection]) -> None:
        self._opening.pop(peer, None)
        waiting = self._waiting.pop(peer, [])
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            connection = task.result()
            for message in waiting:
                connection.write(message)
        elif waiting:
            self._lost(peer, error.message if isinstance(error, TransportError) else str(error))

    # ------------------------------------------------------------ sending

    def send(self, data: bytes, peer: Peer) -> None:
        """Send a message to `peer`, over a new connection if there is none.

        Never raises: a message that cannot be sent is told by `lost`.
        """
        if self._closed:
            return
        connection = self._by_peer.get(peer)
        if connection is not None:
            connection.write(data)
            return
        waiting = self._waiting.setdefault(peer, [])
        if len(waiting) >= MAX_WAITING_MESSAGES:
            self._lost(peer, f"too many messages wait for a connection to {peer.remote}")
            return
        waiting.append(data)
        self._begin(peer)

    def is_open(self, peer: Peer) -> bool:
        """Whether there is a connection to `peer`."""
        return peer in self._by_peer

    def ping(self, peer: Peer) -> None:
        """Ask whether `peer` is there, if there is a connection to it."""
        connection = self._by_peer.get(peer)
        if connection is not None:
            connection.ping()

    def cut(self, peer: Peer, why: str) -> None:
        """End the connection to `peer` at once, if there is one; `lost` is told `why`."""
        connection = self._by_peer.get(peer)
        if connection is not None:
            connection.cut(why)

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
        for connection in tuple(self._open):
            connection.finish()
        if ending:
            await asyncio.wait(ending)

    # ------------------------------------------------------------ a connection's side

    def admit(self, connection: Connection) -> bool:
        """Count a new connection; False when it is one too many."""
        if self._closed or len(self._open) >= self._max:
            self.counters.refused += 1
            return False
        self._open[connection] = None
        return True

    def opened(self, connection: Connection) -> None:
        """Use a connection for all that goes to its peer, now that it carries messages."""
        self._by_peer[connection.peer] = connection

    def message(self, connection: Connection, data: bytes) -> None:
        """Hand on a message that came."""
        if not self._closed:
            self._aliases.look(connection, data)
            self._received(data, connection.local, connection.peer)

    def ended(self, connection: Connection, message: str) -> None:
        """Forget a connection."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._aliases.forget(connection)
        if self._by_peer.get(connection.peer) is connection:
            del self._by_peer[connection.peer]
        if not self._closed:
            self._lost(connection.peer, message)


def _unreachable(remote: Address, error: OSError) -> TransportError:
    if error.errno == errno.ECONNREFUSED:
        hint = "check the address and the transport"
        return TransportError(f"nobody listens at {remote}", hint=hint)
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return TransportError(f"there is no route to {remote}")
    return TransportError(
        f"no connection to {remote}: {error.strerror or error}", hint=hint_for_files(error)
    )

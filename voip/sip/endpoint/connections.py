"""SIP over TCP and TLS in an asyncio loop: one connection per peer.

A connection serves both directions, whoever opened it (RFC 3261 section 18, RFC 5923).
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from voip.errors import SipError, TransportError
from voip.ip import from_socket
from voip.sip.endpoint.network import SipNetwork
from voip.sip.endpoint.tasks import is_cancelled
from voip.sip.endpoint.tls import check_domain, refusal
from voip.sip.flow import Peer
from voip.sip.keepalive import PING
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

    `received(message, local, peer)` gets whole messages. `lost(peer, message)` tells of a
    connection that ended or could not be opened. `heard(peer, pong)` tells that something came. All
    are called in the loop. `client_tls` returns what TLS connections of ours are opened with.
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
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.counters = ConnectionCounters()
        self._network = network
        self._received = received
        self._lost = lost
        self.heard = heard
        self._client_tls = client_tls
        self._bind_host = bind_host
        self._max = max_connections
        self._open: set[_Connection] = set()
        self._by_peer: dict[Peer, _Connection] = {}
        self._opening: dict[Peer, asyncio.Task[_Connection]] = {}
        self._waiting: dict[Peer, list[bytes]] = {}
        self._closed = False

    # ------------------------------------------------------------ opening

    def accept(self, transport: str) -> asyncio.Protocol:
        """Return what takes a connection that somebody opens to us."""
        return _Connection(self, transport, incoming=True)

    async def connect(self, peer: Peer) -> Address:
        """Return our address of the connection to `peer`, opened if there is none.

        Raises `TransportError` when nobody listens there, or nobody answers in time.
        """
        return (await self._connection(peer)).local

    async def _connection(self, peer: Peer) -> _Connection:
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

    def _begin(self, peer: Peer) -> asyncio.Task[_Connection]:
        """Open a connection to `peer`, unless one is being opened."""
        task = self._opening.get(peer)
        if task is None:
            task = self._opening[peer] = asyncio.get_running_loop().create_task(self._dial(peer))
            task.add_done_callback(lambda done: self._dialled(peer, done))
        return task

    async def _dial(self, peer: Peer) -> _Connection:
        remote = peer.remote
        if len(self._open) >= self._max:
            raise TransportError(f"{self._max} connections are open", hint="close some")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await self._network.connect(
                    lambda: _Connection(self, peer.transport, domain=peer.domain),
                    remote,
                    local_host=self._bind_host,
                    ssl=self._tls_towards(peer),
                    server_hostname=peer.domain or None,
                )
        except TimeoutError as error:
            raise TransportError(
                f"no answer from {remote} in {CONNECT_TIMEOUT_S:g} s", hint="check the address"
            ) from error
        except ssl.SSLError as error:
            raise refusal(error, peer.domain, remote) from error
        except OSError as error:
            if peer.transport == "tls" and isinstance(error, ConnectionResetError):
                raise TransportError(
                    f"{remote} ended the TLS handshake", hint="does it speak TLS there?"
                ) from error
            raise TransportError(_reason(remote, error)) from error
        if connection.refused is not None:
            raise connection.refused
        return connection

    def _tls_towards(self, peer: Peer) -> ssl.SSLContext | None:
        if peer.transport != "tls":
            return None
        if not peer.domain:  # the peer had opened the connection, and it is gone
            raise TransportError(f"nobody can tell whose certificate {peer.remote} has to have")
        return self._client_tls()

    def _dialled(self, peer: Peer, task: asyncio.Task[_Connection]) -> None:
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

    def ping(self, peer: Peer) -> None:
        """Ask whether `peer` is there, if there is a connection to it."""
        connection = self._by_peer.get(peer)
        if connection is not None:
            connection.write(PING)

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
        self._by_peer[connection.peer] = connection
        return True

    def message(self, connection: _Connection, data: bytes) -> None:
        """Hand on a message that came."""
        if not self._closed:
            self._received(data, connection.local, connection.peer)

    def ended(self, connection: _Connection, message: str) -> None:
        """Forget a connection."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        if self._by_peer.get(connection.peer) is connection:
            del self._by_peer[connection.peer]
        if not self._closed:
            self._lost(connection.peer, message)


class _Connection(asyncio.Protocol):
    """One connection: bytes to messages and back."""

    def __init__(
        self, owner: Connections, kind: str, *, domain: str = "", incoming: bool = False
    ) -> None:
        self._owner = owner
        self._kind = kind
        self._domain = domain
        self._incoming = incoming
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._why = ""
        self._has_heard = False
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.local = Address("", 0)
        self.peer = Peer(kind, Address("", 0), domain)
        self.refused: TransportError | None = None

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self._transport = transport
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if local is None or remote is None:  # it was reset before we looked
            transport.abort()
            return
        self.local = from_socket(local)
        self.peer = Peer(self._kind, from_socket(remote), self._domain)
        if self._is_somebody_else(transport) or not self._owner.opened(self):
            transport.abort()
        elif self._incoming:
            self._wait_for_message()

    def data_received(self, data: bytes) -> None:
        self._has_heard = True
        self._owner.heard(self.peer, data == PONG)
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
        self._owner.ended(self, self._why or self._reason(exc))
        if not self.gone.done():
            self.gone.set_result(None)

    def _reason(self, error: Exception | None) -> str:
        """Say why the connection ended, when it was not we who wanted it."""
        if isinstance(error, ssl.SSLError):
            return refusal(error, self._domain, self.remote).message
        if error is not None:
            return f"the connection to {self.remote} broke: {error}"
        closed = f"the connection to {self.remote} was closed"
        if self._kind == "tls" and not self._incoming and not self._has_heard:
            return f"{closed} before anything came: it may want a certificate of ours"
        return closed

    # ------------------------------------------------------------ our side

    @property
    def remote(self) -> Address:
        """Address of the other end."""
        return self.peer.remote

    def _is_somebody_else(self, transport: asyncio.Transport) -> bool:
        """Judge the certificate of the peer we have called, where certificates are looked at."""
        tls = transport.get_extra_info("ssl_object")
        if self._incoming or tls is None or tls.context.verify_mode is ssl.CERT_NONE:
            return False
        try:
            check_domain(tls.getpeercert() or {}, self._domain, self.remote)
        except TransportError as error:
            self.refused = error
            return True
        return False

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._owner.counters.clogged += 1
            self.cut(f"{self.remote} does not read what it is sent")

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

    def cut(self, why: str) -> None:
        """End it at once."""
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
        self.cut(f"no whole message came from {self.remote} in {PATIENCE_S:g} s")


def _reason(remote: Address, error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return f"nobody listens at {remote}"
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"there is no route to {remote}"
    return f"no connection to {remote}: {error.strerror or error}"

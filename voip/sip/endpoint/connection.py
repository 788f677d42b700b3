"""One connection of an endpoint: bytes to messages and back, and whether it is wanted at all."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from voip.errors import TransportError
from voip.ip import from_socket
from voip.sip.endpoint.tls import check_domain, identities, refusal
from voip.sip.flow import SECURE, Peer
from voip.sip.framing import Framing
from voip.types import Address

if TYPE_CHECKING:
    from voip.sip.endpoint.connections import Connections

__all__ = ["Connection"]

MAX_UNSENT_BYTES = 1 << 20
"""A peer that lets more than this pile up does not read; its connection is cut."""
PATIENCE_S = 32.0
"""A peer that connects and says nothing, or half a message, for this long (64*T1) is sent away."""
CLOSE_TIMEOUT_S = 1.0
"""How long closing waits for what is not sent yet."""


class Connection(asyncio.Protocol):
    """One connection: bytes to messages and back."""

    def __init__(
        self,
        owner: Connections,
        kind: str,
        framing: Framing,
        *,
        domain: str = "",
        incoming: bool = False,
    ) -> None:
        self._owner = owner
        self._kind = kind
        self._domain = domain
        self._incoming = incoming
        self._framing = framing
        self._transport: asyncio.Transport | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._why = ""
        self._has_heard = False
        self._proven: tuple[str, ...] | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.local = Address("", 0)
        self.peer = Peer(kind, Address("", 0), domain)
        self.refused: TransportError | None = None

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self._transport = transport
        local, remote = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if local is None or remote is None:  # it was reset before we looked
            transport.abort()
            return
        self.local = from_socket(local)
        self.peer = Peer(self._kind, from_socket(remote), self._domain)
        if self._is_somebody_else(transport) or not self._owner.admit(self):
            transport.abort()
            return
        if self._incoming:
            self._wait_for_message()
        transport.write(self._framing.open())
        self._look_whether_ready()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._has_heard = True
        heard = self._framing.feed(data)
        self._owner.heard(self.peer, heard.pong)
        if heard.answer:
            self._send(heard.answer)
        self._look_whether_ready()
        if heard.messages:
            self._message_came()
        for message in heard.messages:
            self._owner.message(self, message)
        if heard.broken is not None:
            self._owner.counters.unreadable += not heard.closed
            self._why = f"{self.remote} {heard.broken}"
            self.finish()  # after the answer to it, if there is one
        elif self._framing.has_part:
            self._wait_for_message()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of the end."""
        self._message_came()
        self._owner.ended(self, self._why or self._reason(exc))
        if not self.ready.done():
            self.ready.set_result(None)
        if not self.gone.done():
            self.gone.set_result(None)

    def _look_whether_ready(self) -> None:
        if self._framing.is_ready and not self.ready.done():
            self.ready.set_result(None)
            self._owner.opened(self)

    def _reason(self, error: Exception | None) -> str:
        """Say why the connection ended, when it was not we who wanted it."""
        if isinstance(error, ssl.SSLError):
            return refusal(error, self._domain, self.remote).message
        if error is not None:
            return f"the connection to {self.remote} broke: {error}"
        closed = f"the connection to {self.remote} was closed"
        if self._kind in SECURE and not self._incoming and not self._has_heard:
            return f"{closed} before anything came: it may want a certificate of ours"
        return closed

    # ------------------------------------------------------------ our side

    @property
    def remote(self) -> Address:
        """Address of the other end."""
        return self.peer.remote

    @property
    def incoming(self) -> bool:
        """Whether the other side has opened it."""
        return self._incoming

    @property
    def proven(self) -> tuple[str, ...]:
        """The SIP domains that the other side's certificate is for, where it was checked."""
        if self._proven is None:
            tls = None if self._transport is None else self._transport.get_extra_info("ssl_object")
            if tls is None or tls.context.verify_mode is ssl.CERT_NONE:
                self._proven = ()
            else:
                self._proven = tuple(identities(tls.getpeercert() or {}))
        return self._proven

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

    @property
    def failure(self) -> TransportError | None:
        """Why it could not be used, None where it can."""
        if self.refused is not None or self._framing.is_ready:
            return self.refused
        return TransportError(self._why or self._reason(None))

    def write(self, message: bytes) -> None:
        """Send a message."""
        if self._framing.is_ready:
            self._send(self._framing.frame(message))

    def ping(self) -> None:
        """Ask whether the other side is there."""
        self._send(self._framing.ping())

    def _send(self, data: bytes) -> None:
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
        self._transport.write(self._framing.close())
        self._transport.close()
        self._message_came()
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        """End it, whatever was to be sent."""
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

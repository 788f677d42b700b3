"""Connections that others have opened, used for what is for them (RFC 5923: `alias` in Via)."""

from __future__ import annotations

from voip.errors import SipError
from voip.ip import literal
from voip.sip.endpoint.connection import Connection
from voip.sip.flow import Peer
from voip.sip.message import Request, parse_message
from voip.sip.via import default_port
from voip.types import Address

__all__ = ["Aliases"]


class Aliases:
    """Which connection leads where its owner listens: one address for each connection.

    A connection over TLS is used where its owner has shown a certificate for the domain that is
    asked for (section 8.2), so only where certificates are asked for. Over TCP nobody can show who
    he is: whoever shares an address with others (a NAT, a host of several users) could take what
    is for them. It is used with `tcp` only, for networks where that cannot be.
    """

    def __init__(self, *, tcp: bool = False) -> None:
        self._tcp = tcp
        self._by_address: dict[tuple[str, Address], Connection] = {}
        self._of: dict[Connection, tuple[str, Address]] = {}

    def look(self, connection: Connection, data: bytes) -> None:
        """Look whether the owner of a connection offers it: by the first request that does."""
        if connection in self._of or not self._may_offer(connection) or b"alias" not in data:
            return
        try:
            message = parse_message(data)
            via = message.via
        except SipError:
            return
        if isinstance(message, Request) and via.param("alias") is not None:
            transport = connection.peer.transport
            listens = Address(connection.remote.host, via.port or default_port(transport))
            self.forget(self._by_address.get((transport, listens)))
            self._of[connection] = transport, listens
            self._by_address[transport, listens] = connection

    def _may_offer(self, connection: Connection) -> bool:
        if not connection.incoming:
            return False
        transport = connection.peer.transport
        return self._tcp if transport == "tcp" else transport == "tls" and bool(connection.proven)

    def find(self, peer: Peer) -> Connection | None:
        """Return the connection by which `peer` wants what is for it, None where there is none."""
        connection = self._by_address.get((peer.transport, peer.remote))
        if connection is None or peer.transport == "tcp":
            return connection
        domain = literal(peer.domain) or peer.domain.lower().removesuffix(".")
        return connection if domain in connection.proven else None

    def forget(self, connection: Connection | None) -> None:
        """Use it no longer."""
        if connection is not None and connection in self._of:
            del self._by_address[self._of.pop(connection)]

"""Which way a message came or goes: a transport between two addresses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from voip.types import Address

__all__ = ["SECURE", "Flow", "Peer"]

SECURE: Final = ("tls", "wss")
"""Transports that nobody else can read or change."""


class Peer(NamedTuple):
    """The other end of a flow. Two of one address differ where one was opened for a `domain`."""

    transport: str
    remote: Address
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """A UDP address pair or a connection. Equal flows are the same way.

    `transport` is "udp", "tcp", "tls", "ws" or "wss"; `local` is the address to tell others in
    Via, so never the wildcard; `remote` is where datagrams go, or the other end of the connection.
    `domain` is whom a connection of ours was opened for (TLS has proven that it is them), ""
    where the name does not matter and for connections that others opened. `alias` is told instead
    of `local` where nobody can connect to us (RFC 7118 appendix B.1). `reuse`: the other end may
    send by this connection what it has for `local` (RFC 5923); it is told so.
    """

    transport: str
    local: Address
    remote: Address
    domain: str = ""
    alias: str = ""
    reuse: bool = field(default=False, compare=False)

    @property
    def sent_by(self) -> tuple[str, int | None]:
        """Host and port to tell others in Via and Contact."""
        return (self.alias, None) if self.alias else self.local

    @property
    def reliable(self) -> bool:
        """Whether the transport itself repeats what is lost (RFC 3261 section 17)."""
        return self.transport != "udp"

    @property
    def secure(self) -> bool:
        """Whether nobody else can read or change what is sent."""
        return self.transport in SECURE

    @property
    def peer(self) -> Peer:
        """The other end."""
        return Peer(self.transport, self.remote, self.domain)

    def to(self, remote: Address) -> Flow:
        """Return the flow from the same local address to `remote`."""
        if remote == self.remote:
            return self
        return replace(self, remote=remote)

    def __str__(self) -> str:
        return f"{self.transport} {self.local} -> {self.remote}"

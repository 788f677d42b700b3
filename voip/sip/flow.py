"""Which way a message came or goes: a transport between two addresses."""

from __future__ import annotations

from dataclasses import dataclass

from voip.types import Address

__all__ = ["Flow"]


@dataclass(frozen=True, slots=True)
class Flow:
    """A UDP address pair or a connection. Equal flows are the same way.

    `transport` is "udp" or "tcp" (lower case, as in a URI's `transport`); `local` is the address
    to tell others in Via, so never the wildcard; `remote` is where datagrams go, or the other end
    of the connection.
    """

    transport: str
    local: Address
    remote: Address

    @property
    def reliable(self) -> bool:
        """Whether the transport itself repeats what is lost (RFC 3261 section 17)."""
        return self.transport != "udp"

    def to(self, remote: Address) -> Flow:
        """Return the flow from the same local address to `remote`."""
        return self if remote == self.remote else Flow(self.transport, self.local, remote)

    def __str__(self) -> str:
        return f"{self.transport} {self.local} -> {self.remote}"

"""IP literals: as people write them, as the socket module knows them, as the ground floor does."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import Any, TypeAlias

from voip.errors import TransportError
from voip.types import Address

__all__ = [
    "SocketAddress",
    "family_of",
    "from_socket",
    "is_loopback",
    "is_wildcard",
    "literal",
    "to_socket",
]

SocketAddress: TypeAlias = tuple[Any, ...]
"""(host, port) of IPv4, (host, port, flow label, scope id) of IPv6."""


def literal(host: str) -> str | None:
    """Return an IP literal without brackets and as the kernel spells it; None for a name."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    scope = f"%{address.scope_id}" if address.scope_id else ""
    return socket.inet_ntop(socket.AF_INET6, address.packed) + scope


def family_of(host: str) -> socket.AddressFamily:
    """Return the address family of an IP literal."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def is_loopback(host: str) -> bool:
    """Whether an IP literal means this machine itself."""
    return ipaddress.ip_address(host).is_loopback


def is_wildcard(host: str) -> bool:
    """Whether an IP literal means every address of this machine."""
    return ipaddress.ip_address(host).is_unspecified


def to_socket(family: socket.AddressFamily, host: str, port: int) -> SocketAddress:
    """Return the tuple that `recvfrom` reports for an IP literal and a port.

    Raises `TransportError` for a name, for a literal of another family and for a port out of range.
    """
    bare = literal(host)
    if bare is None:
        raise TransportError(
            f"{host!r} is not an IP address", hint="a name must be resolved before it gets here"
        )
    if family_of(bare) is not family or not 0 < port < 65536:
        raise TransportError(
            f"a socket of {family.name} cannot reach {host} port {port}",
            hint="both ends must speak the same version of IP",
        )
    if family is socket.AF_INET:
        return (bare, port)
    bare, _, scope = bare.partition("%")
    return (bare, port, 0, _scope_number(scope))


def from_socket(source: SocketAddress) -> Address:
    """Return what `recvfrom` reports as an `Address`; a link-local one keeps its scope."""
    if len(source) == 4 and source[3]:
        return Address(f"{source[0]}%{source[3]}", source[1])
    return Address(source[0], source[1])


def _scope_number(scope: str) -> int:
    if not scope or scope.isdigit():
        return int(scope or 0)
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(scope)
    raise TransportError(f"there is no network interface {scope!r}")

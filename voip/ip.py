"""IP literals: as people write them, as the kernel spells them, as the ground floor keeps them."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any, Final, TypeAlias

from voip.types import Address

__all__ = [
    "SocketAddress",
    "address_of",
    "from_socket",
    "is_loopback",
    "is_wildcard",
    "literal",
    "version_of",
]

SocketAddress: TypeAlias = tuple[Any, ...]
"""(host, port) of IPv4, (host, port, flow label, scope id) of IPv6."""

_LONGEST: Final = 64  # characters of a literal, its scope included


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return what an IP literal stands for; ValueError for a name.

    A call asks this of the same few addresses a dozen times, and the answer costs as much as the
    rest of a line of SDP: the last ones are remembered.
    """
    if len(host) > _LONGEST:
        raise ValueError(f"not an IP literal: {host[:_LONGEST]!r}...")
    return _read(host)


_read = lru_cache(maxsize=256)(ipaddress.ip_address)


def literal(host: str) -> str | None:
    """Return an IP literal without brackets and as the kernel spells it; None for a name."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = address_of(bare)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        scope = f"%{address.scope_id}" if address.scope_id else ""
        return f"::ffff:{address.ipv4_mapped}{scope}"
    return str(address)


def version_of(host: str) -> int:
    """Return 4 or 6 for an IP literal."""
    return 6 if ":" in host else 4


def is_loopback(host: str) -> bool:
    """Whether an IP literal means this machine itself."""
    return address_of(host).is_loopback


def is_wildcard(host: str) -> bool:
    """Whether an IP literal means every address of this machine."""
    return address_of(host).is_unspecified


def from_socket(source: SocketAddress) -> Address:
    """Return what a socket reports as an `Address`; a link-local one keeps its scope."""
    if len(source) == 4 and source[3]:
        return Address(f"{source[0]}%{source[3]}", source[1])
    return Address(source[0], source[1])

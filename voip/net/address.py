"""IP literals as the socket module knows them."""

from __future__ import annotations

import contextlib
import socket

from voip.errors import TransportError
from voip.ip import SocketAddress, literal

__all__ = ["family_of", "to_socket"]


def family_of(host: str) -> socket.AddressFamily:
    """Return the address family of an IP literal."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


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


def _scope_number(scope: str) -> int:
    if not scope or scope.isdigit():
        return int(scope or 0)
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(scope)
    raise TransportError(f"there is no network interface {scope!r}")

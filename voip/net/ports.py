"""UDP sockets in even/odd pairs for RTP and RTCP (RFC 3550 section 11), from a range of ports."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from dataclasses import dataclass

from voip.errors import ConfigError, TransportError
from voip.types import Random

__all__ = ["DEFAULT_PORT_RANGE", "DSCP_EF", "PortRange", "SocketPairs", "socket_address"]

DSCP_EF = 46
"""Expedited forwarding (RFC 3246): what routers give to voice."""

RTP_BUFFER_BYTES = 128 * 1024
"""Asked of the kernel, which doubles it: room for seconds of one call."""

_TIMESTAMPNS = 35  # SO_TIMESTAMPNS of asm-generic/socket.h; the socket module has no name for it


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports `first` to `last`, both included, of which even/odd pairs are taken."""

    first: int = 10000
    last: int = 19999

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last <= 65535 or self.pairs < 1:
            raise ConfigError(
                f"RTP ports {self.first}-{self.last} hold no even/odd pair",
                hint="give a range like 10000-19999",
            )

    @property
    def first_even(self) -> int:
        """The lowest RTP port."""
        return self.first + (self.first & 1)

    @property
    def pairs(self) -> int:
        """How many pairs the range holds."""
        return max(0, (self.last - self.first_even + 1) // 2)


DEFAULT_PORT_RANGE = PortRange()


def socket_address(
    family: socket.AddressFamily, host: str, port: int
) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return the tuple by which the socket module knows an IP literal (scope id resolved).

    It equals what `recvfrom` reports for that peer. Raises `TransportError` for a name, or for a
    literal of another family.
    """
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        raise TransportError(
            f"{host!r} is not an IP address", hint="resolve names before media is connected"
        ) from None
    wanted = socket.AF_INET6 if literal.version == 6 else socket.AF_INET
    if wanted is not family or not 0 < port < 65536:
        raise TransportError(
            f"a socket of {family.name} cannot reach {host} port {port}",
            hint="both ends must speak the same version of IP",
        )
    if isinstance(literal, ipaddress.IPv4Address):
        return (str(literal), port)
    spelled = socket.inet_ntop(socket.AF_INET6, literal.packed)  # as the kernel's is
    return (spelled, port, 0, _scope_number(literal.scope_id))


def _scope_number(scope: str | None) -> int:
    if scope is None:
        return 0
    if scope.isdigit():
        return int(scope)
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(scope)
    raise TransportError(f"there is no network interface {scope!r}")


class SocketPairs:
    """Opens pairs one after the other from a random start; ports in use are stepped over.

    Going round the whole range keeps a port that was just closed out of use for long, so that
    late packets of the old call do not reach a new one.
    """

    def __init__(
        self,
        random: Random,
        ports: PortRange = DEFAULT_PORT_RANGE,
        *,
        dscp: int = DSCP_EF,
        kernel_timestamps: bool = True,
    ) -> None:
        self._ports = ports
        self._dscp = dscp
        self._timestamps = kernel_timestamps
        self._next = random.below(ports.pairs)
        self._taken: set[int] = set()

    def open(self, host: str) -> tuple[socket.socket, socket.socket]:
        """Bind two adjacent ports on `host`; return the RTP and the RTCP socket, non-blocking.

        Raises `TransportError` when `host` is no address of this machine or no pair is free.
        """
        family = _family_of(host)
        for _ in range(self._ports.pairs):
            port = self._ports.first_even + 2 * self._next
            self._next = (self._next + 1) % self._ports.pairs
            if port in self._taken:
                continue
            try:
                pair = self._bind_pair(family, host, port)
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue
                raise TransportError(
                    f"cannot bind RTP on {host}: {error.strerror}", hint=_hint(error)
                ) from error
            self._taken.add(port)
            return pair
        raise TransportError(
            f"no free pair of RTP ports in {self._ports.first}-{self._ports.last} on {host}",
            hint="widen the range of RTP ports, or end some calls",
        )

    def release(self, port: int) -> None:
        """Say that the pair whose RTP port is `port` has been closed."""
        self._taken.discard(port)

    def _bind_pair(
        self, family: socket.AddressFamily, host: str, port: int
    ) -> tuple[socket.socket, socket.socket]:
        with contextlib.ExitStack() as undo:
            rtp = undo.enter_context(self._bind(family, host, port))
            rtcp = undo.enter_context(self._bind(family, host, port + 1))
            undo.pop_all()
        return rtp, rtcp

    def _bind(self, family: socket.AddressFamily, host: str, port: int) -> socket.socket:
        with contextlib.ExitStack() as undo:
            one = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            if family is socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(socket_address(family, host, port))
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RTP_BUFFER_BYTES)
            self._mark(one, family)
            if self._timestamps:
                one.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
            undo.pop_all()
        return one

    def _mark(self, one: socket.socket, family: socket.AddressFamily) -> None:
        traffic_class = self._dscp << 2
        with contextlib.suppress(OSError):  # a container may forbid it: voice goes unmarked
            if family is socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
            else:
                one.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)


def _family_of(host: str) -> socket.AddressFamily:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        raise TransportError(
            f"cannot bind RTP on {host!r}: not an IP address", hint="give an address, not a name"
        ) from None
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "it is not an address of this machine"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit of open files (ulimit -n)"
    return ""

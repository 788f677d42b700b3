"""UDP sockets in even/odd pairs for RTP and RTCP (RFC 3550 section 11), from a range of ports."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass

from voip.config import DSCP_EF
from voip.errors import ConfigError, TransportError, hint_for_files
from voip.ip import literal
from voip.net.address import family_of, to_socket
from voip.net.marking import Marker
from voip.types import Random

__all__ = ["DEFAULT_PORT_RANGE", "PortRange", "SocketPairs"]

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
        self._marker = Marker(dscp)
        self._timestamps = kernel_timestamps
        self._next = random.below(ports.pairs)
        self._taken: set[int] = set()

    def open(self, host: str) -> tuple[socket.socket, socket.socket]:
        """Bind two adjacent ports on `host`; return the RTP and the RTCP socket, non-blocking.

        Raises `TransportError` when `host` is no address of this machine or no pair is free.
        """
        bare = literal(host)
        if bare is None:
            raise TransportError(
                f"cannot bind RTP on {host!r}: not an IP address",
                hint="give an address, not a name",
            )
        family = family_of(bare)
        for _ in range(self._ports.pairs):
            port = self._ports.first_even + 2 * self._next
            self._next = (self._next + 1) % self._ports.pairs
            if port in self._taken:
                continue
            try:
                pair = self._bind_pair(family, bare, port)
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
            one.bind(to_socket(family, host, port))
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RTP_BUFFER_BYTES)
            self._marker.mark(one)
            if self._timestamps:
                one.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
            undo.pop_all()
        return one


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "it is not an address of this machine"
    return hint_for_files(error)

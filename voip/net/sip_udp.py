"""One UDP socket for SIP in an asyncio loop, which learns at once when nobody listens.

asyncio's own datagram endpoint hears of an ICMP error only on a connected socket. Linux keeps the
errors of an unconnected one in a queue, together with the address each datagram was sent to
(IP_RECVERR, ip(7)), so this reads the socket by itself.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from voip.ip import from_socket
from voip.net.address import family_of
from voip.net.marking import Marker
from voip.types import Address

__all__ = ["UdpCounters", "UdpEndpoint"]

MAX_DATAGRAM_BYTES = 65535
READS_PER_WAKEUP = 64
"""Datagrams read before the loop gets its turn again."""
RECEIVE_BUFFER_BYTES = 1 << 20

_IP_RECVERR = 11  # linux/in.h; the socket module names neither these nor IP_MTU_DISCOVER
_IPV6_RECVERR = 25
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT = 0
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # struct sock_extended_err, linux/errqueue.h
_CONTROL_BYTES = 512
_MSG_ERRQUEUE = int(socket.MSG_ERRQUEUE)

_FATAL = {
    errno.ECONNREFUSED: "nobody listens at {0}",
    errno.EHOSTUNREACH: "{0} cannot be reached",
    errno.ENETUNREACH: "there is no route to {0}",
    errno.ENOPROTOOPT: "{0} takes no UDP",
    errno.EACCES: "sending to {0} is forbidden",
    errno.EPERM: "sending to {0} is forbidden",
    errno.EINVAL: "{0} cannot be reached from the address we are bound to",
    errno.EMSGSIZE: "the message is too long for UDP to {0}",
}


@dataclass(slots=True)
class UdpCounters:
    """What an endpoint did."""

    received: int = 0
    sent: int = 0
    not_sent: int = 0  # the kernel had no room, or would not
    refused: int = 0  # ICMP errors that came back


class UdpEndpoint:
    """A bound, unconnected socket. `unreachable(peer, message)` tells of a peer that is not there.

    Both callbacks run in the loop, `unreachable` possibly inside `send`. Raises OSError when
    `host`:`port` cannot be bound.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: str,
        port: int,
        *,
        received: Callable[[bytes, Address], None],
        unreachable: Callable[[Address, str], None],
        marker: Marker | None = None,
    ) -> None:
        self.counters = UdpCounters()
        self._loop = loop
        self._received = received
        self._unreachable = unreachable
        self._family = family_of(host)
        self._sock = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            self._configure()
            if marker is not None:
                marker.mark(self._sock)
            self._sock.bind((host, port))
        except BaseException:
            self._sock.close()
            raise
        self.local = Address(host, self._sock.getsockname()[1])
        loop.add_reader(self._sock.fileno(), self._readable)

    def _configure(self) -> None:
        sock = self._sock
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if self._family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            # long messages go in fragments rather than into a path-MTU black hole
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram; what comes of it is told by `unreachable`, never raised."""
        for _ in range(2):
            try:
                self._sock.sendto(data, remote)
            except BlockingIOError:
                self.counters.not_sent += 1
            except OSError as error:
                # the error of an earlier datagram is reported by the next call, whoever that is for
                if self._read_errors():
                    continue
                self.counters.not_sent += 1
                self._tell(remote, error.errno or 0)
            else:
                self.counters.sent += 1
            return
        self.counters.not_sent += 1

    def close(self) -> None:
        """Close the socket; closing twice does nothing."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    # ------------------------------------------------------------ reading

    def _readable(self) -> None:
        for _ in range(READS_PER_WAKEUP):
            if self._sock.fileno() < 0:  # a callback closed us
                return
            try:
                data, source = self._sock.recvfrom(MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error: the queue of errors knows whose
            self.counters.received += 1
            self._received(data, from_socket(source))
        if self._sock.fileno() >= 0:
            self._read_errors()

    def _read_errors(self) -> int:
        """Tell of every ICMP error that has come back; return how many there were."""
        count = 0
        while count < READS_PER_WAKEUP and self._sock.fileno() >= 0:
            try:
                _, control, _, peer = self._sock.recvmsg(0, _CONTROL_BYTES, _MSG_ERRQUEUE)
            except OSError:
                break
            count += 1
            self.counters.refused += 1
            for _level, kind, data in control:
                if kind in (_IP_RECVERR, _IPV6_RECVERR) and len(data) >= _EXTENDED_ERROR.size:
                    self._tell(from_socket(peer), _EXTENDED_ERROR.unpack_from(data)[0])
        return count

    def _tell(self, peer: Address, number: int) -> None:
        message = _FATAL.get(number)
        if message is not None:
            self._unreachable(peer, message.format(peer))
        elif number:
            self._unreachable(peer, f"sending to {peer} failed: {os.strerror(number)}")

"""One port of a row, and what carries packets over many of them at a time."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from voip.ip import SocketAddress, from_socket
from voip.media.io import PacketBatch
from voip.net.address import to_socket
from voip.net.drops import socket_drops
from voip.types import Address

__all__ = ["MAX_RTCP_READS", "MAX_RTP_READS", "Carrier", "IoCounters", "Line", "Reads"]

MAX_RTP_READS = 32
MAX_RTCP_READS = 4
"""Packets per line and call of `read`: a flood on one line takes nothing from the others."""


@dataclass(slots=True)
class IoCounters:
    """What went wrong without anybody having to know at once. All since the start."""

    send_full: int = 0  # the kernel had no room: EAGAIN, ENOBUFS
    send_failed: int = 0  # any other reason: no route, forbidden, refused
    receive_failed: int = 0
    oversize: int = 0  # longer than a slot of the batch
    flooded: int = 0  # dropped: there was far more for one line than may be read in one go
    clock_jumps: int = 0  # the wall clock was set; time stamps were re-based


class Line:
    """A row's RTP or RTCP port: its socket, and whom it expects.

    `tag` is the row and the kind in one number: twice the row, and one more for RTCP.
    """

    __slots__ = ("drops", "expected", "local", "peer", "rtcp", "sock", "tag")

    def __init__(self, sock: socket.socket, row: int, rtcp: bool) -> None:
        self.sock = sock
        self.rtcp = rtcp
        self.tag = row << 1 | rtcp
        self.local = from_socket(sock.getsockname())
        self.peer: Address | None = None
        self.drops = 0  # packets that the kernel had dropped when last asked
        self.expected: SocketAddress | None = None  # the peer as `recvmsg` reports it

    def connect(self, peer: Address | None) -> None:
        """Set the peer; raises `TransportError` for what this socket cannot reach."""
        self.expected = None if peer is None else to_socket(self.sock.family, peer.host, peer.port)
        self.peer = peer

    def look_for_drops(self) -> int:
        """Ask the kernel how many packets it has dropped of this line, and return that.

        What it said before stays where the socket has been closed by another thread.
        """
        self.drops = max(self.drops, socket_drops(self.sock))
        return self.drops


@dataclass(frozen=True, slots=True)
class Reads:
    """What a call of `read` brought: k packets, in the order of their arrival at each line.

    tags: int32 (k,); slots: intp (k,), where in the batch's data they lie; lengths: uint32 (k,);
    stamps: int64 (k, 2), seconds and nanoseconds of the wall clock, 0 where the kernel gave none;
    strangers: (position, source) of those that came from somebody else.
    """

    tags: npt.NDArray[np.int32]
    slots: npt.NDArray[np.intp]
    lengths: npt.NDArray[np.uint32]
    stamps: npt.NDArray[np.int64]
    strangers: list[tuple[int, SocketAddress]]


class Carrier(Protocol):
    """Reads and writes many lines with as few calls as it can; counts what fails."""

    counters: IoCounters

    def add(self, line: Line) -> None:
        """Carry a line from now on."""
        ...

    def connect(self, line: Line) -> None:
        """Note that the line's peer has changed."""
        ...

    def remove(self, line: Line) -> None:
        """Carry a line no longer; its socket is still open."""
        ...

    def read(self, batch: PacketBatch) -> Reads | None:
        """Read what has arrived into slots of `batch`, until it is full; None: there is nothing.

        At most `MAX_RTP_READS` or `MAX_RTCP_READS` packets of a line; the rest waits.
        """
        ...

    def read_at_once(
        self, batch: PacketBatch, now: float, offset: float, latest: float
    ) -> int | None:
        """Read what has arrived into the columns of `batch`, where that can be done in one go.

        Returns the count; None: it cannot, `read` does it. Arrivals are the kernel's stamps less
        `offset` (of wall-clock time), none later than `latest`; `now` where there is no stamp, and
        everywhere if `offset` is not a number.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Wait until there is something to read, at most so long; other threads run meanwhile."""
        ...

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.int32]:
        """Send `packets[row, :length]` for each of `rows`; return the rows for which it went."""
        ...

    def close(self) -> None:
        """Release everything but the lines' sockets."""
        ...

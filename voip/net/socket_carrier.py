"""Carries packets with one system call each: what every Linux can do."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voip.ip import SocketAddress
from voip.media.io import PacketBatch
from voip.net.line import MAX_RTCP_READS, MAX_RTP_READS, IoCounters, Line, Reads

__all__ = ["SocketCarrier"]

_STAMP_BYTES = 16  # struct timespec
_CONTROL_BYTES = socket.CMSG_SPACE(_STAMP_BYTES)
_NO_STAMP = bytes(_STAMP_BYTES)
_TRUNCATED = int(socket.MSG_TRUNC)  # `int & IntFlag` costs as much as reading a packet
_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS)


class _Port:
    """A line, and the calls into its socket at hand."""

    __slots__ = ("line", "receive", "send", "view", "view_length")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.receive = line.sock.recvmsg_into
        self.send: Callable[[memoryview, SocketAddress], int] = line.sock.sendto
        self.view: memoryview | None = None
        self.view_length = -1


@dataclass(slots=True)
class _Found:
    """What was read so far; packet `i` lies in slot `i`."""

    tags: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    stamps: list[bytes] = field(default_factory=list)
    strangers: list[tuple[int, SocketAddress]] = field(default_factory=list)


class SocketCarrier:
    """`voip.net.line.Carrier` with recvmsg, sendto and one epoll."""

    def __init__(self) -> None:
        self.counters = IoCounters()
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Port] = {}
        self._by_row: list[_Port | None] = []  # for RTP
        self._packets: npt.NDArray[np.uint8] | None = None  # that the send views look into
        self._batch: PacketBatch | None = None  # that the receive views look into
        self._slots: list[list[memoryview]] = []

    def add(self, line: Line) -> None:
        """Carry a line from now on."""
        port = self._by_fd[line.sock.fileno()] = _Port(line)
        self._epoll.register(line.sock.fileno(), select.EPOLLIN)
        if not line.rtcp:
            row = line.tag >> 1
            self._by_row += [None] * (row + 1 - len(self._by_row))
            self._by_row[row] = port

    def connect(self, line: Line) -> None:
        """Nothing to do: the line itself is asked for every packet."""

    def remove(self, line: Line) -> None:
        """Carry a line no longer."""
        self._epoll.unregister(line.sock.fileno())
        del self._by_fd[line.sock.fileno()]
        if not line.rtcp:
            self._by_row[line.tag >> 1] = None

    def read_at_once(
        self, batch: PacketBatch, now: float, offset: float, latest: float
    ) -> int | None:
        """Leave it to `read`: each packet is an object already."""
        return None

    def read(self, batch: PacketBatch) -> Reads | None:
        """Read what has arrived, round by round: one packet of every line that has one.

        A second read of a socket would mostly find nothing and cost as much as a packet; asking
        epoll again which of them still have something costs a tenth of that.
        """
        if batch is not self._batch:
            self._batch = batch
            self._slots = [[memoryview(slot)] for slot in batch.data]
        found = _Found()
        for turn in range(MAX_RTP_READS):
            if not self._round(found, rtcp=turn < MAX_RTCP_READS):
                break
        count = len(found.tags)
        if not count:
            return None
        return Reads(
            np.array(found.tags, np.int32),
            np.arange(count),
            np.array(found.lengths, np.uint32),
            np.frombuffer(b"".join(found.stamps), np.int64).reshape(-1, 2),
            found.strangers,
        )

    def wait(self, seconds: float) -> None:
        """Wait until something comes, at most so long, in whole milliseconds and then without."""
        before = time.monotonic()
        whole = int(seconds * 1000)
        if whole and self._epoll.poll((whole - 0.5) / 1000, 1):
            return
        time.sleep(max(0.0, seconds - (time.monotonic() - before)))

    def _round(self, found: _Found, *, rtcp: bool) -> bool:
        """Read one packet of every line that has one; False where none has, or no slot is left.

        Lines for RTCP only with `rtcp`.
        """
        by_fd, slots = self._by_fd, self._slots
        capacity, slot = len(slots), len(found.tags)
        ready = self._epoll.poll(0, len(by_fd)) if by_fd and slot < capacity else []
        if not rtcp:
            ready = [item for item in ready if not by_fd[item[0]].line.rtcp]
        for descriptor, _event in ready:
            if slot == capacity:
                break
            port = by_fd[descriptor]
            try:
                length, control, flags, source = port.receive(slots[slot], _CONTROL_BYTES)
            except OSError:  # an ICMP error, or a packet whose checksum turned out wrong
                self.counters.receive_failed += 1
                continue
            if flags & _TRUNCATED:
                self.counters.oversize += 1
                continue
            if source != port.line.expected:
                found.strangers.append((slot, source))
            found.tags.append(port.line.tag)
            found.lengths.append(length)
            found.stamps.append(control[0][2] if control else _NO_STAMP)
            slot += 1
        return bool(ready)

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.int32]:
        """Send one packet for each of `rows`."""
        if packets is not self._packets:
            self._packets = packets
            for port in self._by_row:
                if port is not None:
                    port.view_length = -1
        ports = self._by_row
        sent: list[int] = []
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            port = ports[row] if row < len(ports) else None
            if port is None or port.line.expected is None:
                continue
            view = port.view
            if view is None or port.view_length != length:
                view = port.view = memoryview(packets[row])[:length]
                port.view_length = length
            try:
                port.send(view, port.line.expected)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self.counters.send_full += 1
                else:
                    self.counters.send_failed += 1
            else:
                sent.append(row)
        return np.array(sent, np.int32)

    def close(self) -> None:
        """Close the epoll."""
        self._epoll.close()

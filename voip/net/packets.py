"""RTP and RTCP over UDP on Linux: `PacketIO` with one socket pair per row and one epoll for all.

Cost on the reference machine (docs/performance.md), loopback: 3 us to send a packet, most of it
the kernel delivering it on the spot, and 2 us to receive one with its time stamp. A socket
connected to the peer would send 0.7 us cheaper, but would hear nobody else: no stranger could be
counted, and no new source learned. So sockets stay unconnected, and sources are compared here.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from voip.errors import TransportError
from voip.media.io import PacketBatch
from voip.net.address import SocketAddress, from_socket, to_socket
from voip.net.clock import SystemClock, WallOffset
from voip.net.drops import socket_drops
from voip.net.ports import DEFAULT_PORT_RANGE, PortRange, SocketPairs
from voip.types import Address, Clock, Random

__all__ = ["MAX_RTCP_READS", "MAX_RTP_READS", "IoCounters", "PacketTap", "UdpPacketIO"]

MAX_RTP_READS = 32
MAX_RTCP_READS = 4
"""Packets per row and call of `receive`: a flood on one row takes nothing from the others."""

_STAMP_BYTES = 16  # struct timespec
_CONTROL_BYTES = socket.CMSG_SPACE(_STAMP_BYTES)
_NO_STAMP = bytes(_STAMP_BYTES)
_TRUNCATED = int(socket.MSG_TRUNC)  # `int & IntFlag` costs as much as reading a packet

PacketTap: TypeAlias = Callable[[bool, int, Address, Address, memoryview, float], None]
"""Sees every packet: (sent, row, local, remote, packet, monotonic time). Must not keep the view."""


@dataclass(slots=True)
class IoCounters:
    """What went wrong without anybody having to know at once. All since the start."""

    send_full: int = 0  # the kernel had no room: EAGAIN, ENOBUFS
    send_failed: int = 0  # any other reason: no route, forbidden, refused
    receive_failed: int = 0
    oversize: int = 0  # longer than a slot of the batch
    clock_jumps: int = 0  # the wall clock was set; time stamps were re-based


class _Line:
    """A row's RTP or RTCP port: its socket, its peer, and what a call into it needs at hand."""

    __slots__ = (
        "expected",
        "local",
        "peer",
        "receive",
        "rtcp",
        "send",
        "sock",
        "tag",
        "view",
        "view_length",
    )

    def __init__(self, sock: socket.socket, row: int, rtcp: bool) -> None:
        self.sock = sock
        self.rtcp = rtcp
        self.tag = row << 1 | rtcp
        self.receive = sock.recvmsg_into
        self.send: Callable[[memoryview | bytes, SocketAddress], int] = sock.sendto
        self.local = from_socket(sock.getsockname())
        self.expected: SocketAddress | None = None
        self.peer: Address | None = None
        self.view: memoryview | None = None
        self.view_length = -1

    def connect(self, peer: Address | None) -> None:
        self.expected = None if peer is None else to_socket(self.sock.family, peer.host, peer.port)
        self.peer = peer


class UdpPacketIO:
    """`voip.media.io.PacketIO` on real sockets. Used by one thread: the one that ticks.

    `kernel_timestamps`: whether arrival times are the kernel's (else the time of reading).
    `tap`: when set, is called with every packet sent and received; a packet capture.
    """

    def __init__(
        self,
        random: Random,
        *,
        ports: PortRange = DEFAULT_PORT_RANGE,
        clock: Clock | None = None,
        kernel_timestamps: bool = True,
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._offset = WallOffset(self._clock)
        self._sockets = SocketPairs(random, ports, kernel_timestamps=kernel_timestamps)
        self._epoll = select.epoll()
        self._by_fd: dict[int, _Line] = {}
        self._rtp: list[_Line | None] = []  # by row
        self._rtcp: list[_Line | None] = []
        self._packets: npt.NDArray[np.uint8] | None = None  # that the send views look into
        self._batch: PacketBatch | None = None  # that the receive views look into
        self._slots: list[list[memoryview]] = []
        self._closed_drops = 0
        self.kernel_timestamps = kernel_timestamps
        self.counters = IoCounters()
        self.tap: PacketTap | None = None

    # ------------------------------------------------------------ rows

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        """Bind a port pair on `host`; raises `TransportError` when none can be had."""
        self.close(row)
        pair = self._sockets.open(host)
        while len(self._rtp) <= row:
            self._rtp.append(None)
            self._rtcp.append(None)
        rtp, rtcp = (_Line(sock, row, rtcp) for sock, rtcp in zip(pair, (False, True), strict=True))
        self._rtp[row], self._rtcp[row] = rtp, rtcp
        for line in (rtp, rtcp):
            descriptor = line.sock.fileno()
            self._by_fd[descriptor] = line
            self._epoll.register(descriptor, select.EPOLLIN)
        return rtp.local, rtcp.local

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        """Set the peer of `row`; raises `TransportError` for what is no address of its family."""
        for line, peer in ((self._line(self._rtp, row), rtp), (self._line(self._rtcp, row), rtcp)):
            if line is None:
                raise TransportError(f"row {row} is not open")
            line.connect(peer)

    def close(self, row: int) -> None:
        """Release the row's ports."""
        for lines in (self._rtp, self._rtcp):
            line = self._line(lines, row)
            if line is None:
                continue
            lines[row] = None
            self._closed_drops += socket_drops(line.sock)
            descriptor = line.sock.fileno()
            del self._by_fd[descriptor]
            self._epoll.unregister(descriptor)
            line.sock.close()
            if not line.rtcp:
                self._sockets.release(line.local.port)

    def close_all(self) -> None:
        """Release every row and the epoll; nothing can be opened afterwards."""
        for row in range(len(self._rtp)):
            self.close(row)
        self._epoll.close()

    def kernel_drops(self) -> int:
        """How many packets the kernel dropped since the start because a buffer was full."""
        return self._closed_drops + sum(socket_drops(line.sock) for line in self._by_fd.values())

    @staticmethod
    def _line(lines: list[_Line | None], row: int) -> _Line | None:
        return lines[row] if row < len(lines) else None

    # ------------------------------------------------------------ receiving

    def receive(self, batch: PacketBatch, now: float) -> int:
        """Fill `batch`. Each round reads one packet of every socket that has one.

        A second read of a socket would mostly find nothing and cost as much as a packet; asking
        epoll again which of them still have something costs a tenth of that.
        """
        if batch is not self._batch:
            self._batch = batch
            self._slots = [[memoryview(slot)] for slot in batch.data]
        batch.count = 0
        batch.strangers.clear()
        if not self._by_fd:
            return 0
        tags: list[int] = []
        lengths: list[int] = []
        stamps: list[bytes] = []
        others: dict[SocketAddress, list[int]] = {}
        most = len(self._by_fd)
        for turn in range(MAX_RTP_READS):
            ready = self._epoll.poll(0, most)
            if turn >= MAX_RTCP_READS:
                ready = [item for item in ready if not self._by_fd[item[0]].rtcp]
            if not ready or not self._read_each(ready, tags, lengths, stamps, others):
                break
        count = len(tags)
        if count:
            self._finish(batch, now, tags, lengths, stamps, others)
        return count

    def _read_each(
        self,
        ready: list[tuple[int, int]],
        tags: list[int],
        lengths: list[int],
        stamps: list[bytes],
        others: dict[SocketAddress, list[int]],
    ) -> bool:
        """Read one packet of each ready socket; False when the batch is full."""
        by_fd = self._by_fd
        slots = self._slots
        capacity = len(slots)
        count = len(tags)
        for descriptor, _event in ready:
            if count == capacity:
                return False
            line = by_fd[descriptor]
            try:
                length, control, flags, source = line.receive(slots[count], _CONTROL_BYTES)
            except OSError:  # an ICMP error, or a packet whose checksum turned out wrong
                self.counters.receive_failed += 1
                continue
            if flags & _TRUNCATED:
                self.counters.oversize += 1
                continue
            if source != line.expected:
                others.setdefault(source, []).append(count)
            tags.append(line.tag)
            lengths.append(length)
            stamps.append(control[0][2] if control else _NO_STAMP)
            count += 1
        return True

    def _finish(
        self,
        batch: PacketBatch,
        now: float,
        tags: list[int],
        lengths: list[int],
        stamps: list[bytes],
        others: dict[SocketAddress, list[int]],
    ) -> None:
        count = batch.count = len(tags)
        packed = np.array(tags, np.int32)
        np.right_shift(packed, 1, out=batch.rows[:count])
        np.not_equal(packed & 1, 0, out=batch.rtcp[:count])
        batch.lengths[:count] = lengths
        batch.source[:count] = -1
        for index, (source, positions) in enumerate(others.items()):
            batch.strangers.append(from_socket(source))
            batch.source[positions] = index
        self._arrivals(stamps, now, batch.arrival[:count])
        if self.tap is not None:
            self._tap_received(batch, self.tap)

    def _arrivals(self, stamps: list[bytes], now: float, out: npt.NDArray[np.float64]) -> None:
        """Convert the kernel's wall-clock stamps to monotonic seconds, never later than now."""
        jumped = self._offset.sample()
        self.counters.clock_jumps = self._offset.jumps
        if not self.kernel_timestamps or jumped:  # stamped before the jump or after: who knows
            out[:] = now
            return
        stamp = np.frombuffer(b"".join(stamps), np.int64).reshape(-1, 2)
        np.multiply(stamp[:, 1], 1e-9, out=out)
        # whole seconds first: a double keeps 0.2 us of a wall-clock time
        whole = int(self._offset.seconds)
        np.add(out, stamp[:, 0] - whole, out=out)
        np.subtract(out, self._offset.seconds - whole, out=out)
        np.minimum(out, self._clock.monotonic(), out=out)
        out[stamp[:, 0] == 0] = now

    def _tap_received(self, batch: PacketBatch, tap: PacketTap) -> None:
        for position in range(batch.count):
            row = int(batch.rows[position])
            line = (self._rtcp if batch.rtcp[position] else self._rtp)[row]
            stranger = int(batch.source[position])
            if line is None:
                continue
            remote = line.peer if stranger < 0 else batch.strangers[stranger]
            if remote is None:
                continue
            packet = self._slots[position][0][: int(batch.lengths[position])]
            tap(False, row, line.local, remote, packet, float(batch.arrival[position]))

    # ------------------------------------------------------------ sending

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        """Send `packets[row, :length]` for each row; `lengths` lies beside `rows`."""
        if packets is not self._packets:
            self._packets = packets
            for line in self._rtp:
                if line is not None:
                    line.view_length = -1
        lines = self._rtp
        tap = self.tap
        sent = 0
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            line = lines[row] if row < len(lines) else None
            if line is None or line.expected is None:
                continue
            view = line.view
            if view is None or line.view_length != length:
                view = line.view = memoryview(packets[row])[:length]
                line.view_length = length
            try:
                line.send(view, line.expected)
            except OSError as error:
                self._count(error)
            else:
                sent += 1
                if tap is not None and line.peer is not None:
                    tap(True, row, line.local, line.peer, view, self._clock.monotonic())
        return sent

    def send_one(self, row: int, packet: bytes, *, rtcp: bool, to: Address | None = None) -> bool:
        """Send one packet to the row's peer, or to `to`; False when it did not go out."""
        line = self._line(self._rtcp if rtcp else self._rtp, row)
        if line is None:
            return False
        peer = line.peer if to is None else to
        if peer is None:
            return False
        try:
            line.send(packet, to_socket(line.sock.family, peer.host, peer.port))
        except TransportError:
            self.counters.send_failed += 1
            return False
        except OSError as error:
            self._count(error)
            return False
        if self.tap is not None:
            now = self._clock.monotonic()
            self.tap(True, row, line.local, peer, memoryview(packet), now)
        return True

    def _count(self, error: OSError) -> None:
        if isinstance(error, BlockingIOError) or error.errno == errno.ENOBUFS:
            self.counters.send_full += 1
        else:
            self.counters.send_failed += 1

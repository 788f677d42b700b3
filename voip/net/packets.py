"""RTP and RTCP over UDP on Linux: `PacketIO` with one socket pair per row.

What a packet costs, and why sockets stay unconnected, is in docs/performance.md.
"""

from __future__ import annotations

import errno
import logging
import math
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from voip.config import DSCP_EF
from voip.errors import TransportError
from voip.ip import SocketAddress, from_socket
from voip.media.io import PacketBatch, PacketTap
from voip.net.address import to_socket
from voip.net.clock import SystemClock, WallOffset
from voip.net.file_table import make_room_for_files
from voip.net.line import Carrier, IoCounters, Line
from voip.net.ports import DEFAULT_PORT_RANGE, PortRange, SocketPairs
from voip.net.socket_carrier import SocketCarrier
from voip.net.uring_carrier import UringCarrier
from voip.types import Address, Clock, Random

__all__ = ["UdpPacketIO"]

log = logging.getLogger(__name__)

_OTHER_FILES = 256


class UdpPacketIO:
    """`voip.media.io.PacketIO` on real sockets. Used by one thread: the one that ticks.

    `kernel_timestamps`: whether arrival times are the kernel's (else the time of reading).
    `batched`: whether io_uring is used; None: where the kernel allows it, True: or OSError.
    `dscp`: what packets are marked with, 0 to 63.
    `tap`: when set, is called with every packet sent and received; a packet capture.
    """

    def __init__(
        self,
        random: Random,
        *,
        ports: PortRange = DEFAULT_PORT_RANGE,
        clock: Clock | None = None,
        kernel_timestamps: bool = True,
        batched: bool | None = None,
        dscp: int = DSCP_EF,
    ) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._offset = WallOffset(self._clock)
        self._sockets = SocketPairs(random, ports, dscp=dscp, kernel_timestamps=kernel_timestamps)
        make_room_for_files(2 * ports.pairs + _OTHER_FILES)
        self._carrier = _carrier(batched)
        self._rtp: list[Line | None] = []  # by row
        self._rtcp: list[Line | None] = []
        self._closed_drops = 0
        self._next_asked = 0
        self.kernel_timestamps = kernel_timestamps
        self.counters: IoCounters = self._carrier.counters
        self.tap: PacketTap | None = None

    @property
    def batched(self) -> bool:
        """Whether io_uring is used."""
        return isinstance(self._carrier, UringCarrier)

    # ------------------------------------------------------------ rows

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        """Bind a port pair on `host`; raises `TransportError` when none can be had."""
        self.close(row)
        pair = self._sockets.open(host)
        missing = row + 1 - len(self._rtp)
        self._rtp += [None] * missing
        self._rtcp += [None] * missing
        rtp, rtcp = Line(pair[0], row, False), Line(pair[1], row, True)
        self._rtp[row], self._rtcp[row] = rtp, rtcp
        self._carrier.add(rtp)
        self._carrier.add(rtcp)
        return rtp.local, rtcp.local

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        """Set the peer of `row`; raises `TransportError` for what is no address of its family."""
        for lines, peer in ((self._rtp, rtp), (self._rtcp, rtcp)):
            line = self._line(lines, row)
            if line is None:
                raise TransportError(f"row {row} is not open")
            line.connect(peer)
            self._carrier.connect(line)

    def close(self, row: int) -> None:
        """Release the row's ports."""
        for lines in (self._rtp, self._rtcp):
            line = self._line(lines, row)
            if line is None:
                continue
            lines[row] = None
            self._closed_drops += line.look_for_drops()
            self._carrier.remove(line)
            line.sock.close()
            if not line.rtcp:
                self._sockets.release(line.local.port)

    def close_all(self) -> None:
        """Release every row and all else; nothing can be opened afterwards."""
        for row in range(len(self._rtp)):
            self.close(row)
        self._carrier.close()

    def kernel_drops(self, lines: int | None = None) -> int:
        """How many packets the kernel dropped since the start because a buffer was full.

        It is asked about so many lines, each in its turn, which takes some microseconds each; None:
        about all.
        """
        closed = self._closed_drops  # first: another thread may close a line meanwhile
        rtp, rtcp = self._rtp, self._rtcp
        tags = 2 * len(rtcp)
        tag = self._next_asked
        for _ in range(tags if lines is None else min(lines, tags)):
            tag = (tag + 1) % tags
            line = (rtcp if tag & 1 else rtp)[tag >> 1]
            if line is not None:
                line.look_for_drops()
        self._next_asked = tag
        return closed + sum(line.drops for line in (*rtp, *rtcp) if line is not None)

    def counted(self, lines: int | None = None) -> dict[str, int]:
        """Return what went wrong since the start, by kind. May be called from any thread.

        `lines`: of how many of them the kernel is asked for its share (see `kernel_drops`).
        """
        return {**asdict(self.counters), "kernel_drops": self.kernel_drops(lines)}

    @staticmethod
    def _line(lines: list[Line | None], row: int) -> Line | None:
        return lines[row] if row < len(lines) else None

    # ------------------------------------------------------------ receiving

    def receive(self, batch: PacketBatch, now: float) -> int:
        """Fill `batch`; see `PacketIO`."""
        batch.strangers.clear()
        offset = self._wall_offset()
        count = self._carrier.read_at_once(batch, now, offset, self._clock.monotonic())
        if count is None:
            count = self._read(batch, now, offset)
        batch.count = count
        if self.tap is not None:
            self._tap_received(batch, self.tap)
        return count

    def _read(self, batch: PacketBatch, now: float, offset: float) -> int:
        """Fill `batch`; return the count."""
        reads = self._carrier.read(batch)
        if reads is None:
            return 0
        count = int(reads.tags.size)
        np.right_shift(reads.tags, 1, out=batch.rows[:count])
        np.not_equal(reads.tags & 1, 0, out=batch.rtcp[:count])
        batch.slots[:count] = reads.slots
        batch.lengths[:count] = reads.lengths
        batch.source[:count] = -1
        if reads.strangers:
            index_of: dict[SocketAddress, int] = {}
            for position, source in reads.strangers:
                batch.source[position] = index_of.setdefault(source, len(index_of))
            batch.strangers += map(from_socket, index_of)
        self._arrivals(reads.stamps, now, offset, batch.arrival[:count])
        return count

    def _wall_offset(self) -> float:
        """Return what the kernel's stamps are ahead of monotonic time; nan: that cannot be told."""
        jumped = self._offset.sample()
        self.counters.clock_jumps = self._offset.jumps
        if not self.kernel_timestamps or jumped:  # stamped before the jump or after: who knows
            return math.nan
        return self._offset.seconds

    def wait(self, seconds: float) -> None:
        """Wait until a packet comes, at most so long; other threads run meanwhile."""
        self._carrier.wait(seconds)

    def _arrivals(
        self,
        stamps: npt.NDArray[np.int64],
        now: float,
        offset: float,
        out: npt.NDArray[np.float64],
    ) -> None:
        """Convert the kernel's wall-clock stamps to monotonic seconds, never later than now."""
        if math.isnan(offset):
            out[:] = now
            return
        seconds = stamps[:, 0]
        # whole seconds first: a double keeps 0.2 us of a wall-clock time
        whole = int(offset)
        np.multiply(stamps[:, 1], 1e-9, out=out)
        np.add(out, seconds - whole, out=out)
        np.subtract(out, offset - whole, out=out)
        np.minimum(out, self._clock.monotonic(), out=out)
        out[seconds == 0] = now

    def _tap_received(self, batch: PacketBatch, tap: PacketTap) -> None:
        for i in range(batch.count):
            row = int(batch.rows[i])
            line = self._line(self._rtcp if batch.rtcp[i] else self._rtp, row)
            stranger = int(batch.source[i])
            if line is None:
                continue
            remote = line.peer if stranger < 0 else batch.strangers[stranger]
            if remote is not None:
                tap(False, row, line.local, remote, batch.packet(i), float(batch.arrival[i]))

    # ------------------------------------------------------------ sending

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        """Send `packets[row, :length]` for each row; `lengths` lies beside `rows`."""
        sent = self._carrier.send(rows, packets, lengths)
        if self.tap is not None:
            now = self._clock.monotonic()
            length_of = dict(zip(rows.tolist(), lengths.tolist(), strict=True))
            for row in sent.tolist():
                line = self._line(self._rtp, row)
                if line is not None and line.peer is not None:
                    packet = memoryview(packets[row])[: length_of[row]]
                    self.tap(True, row, line.local, line.peer, packet, now)
        return int(sent.size)

    def send_one(self, row: int, packet: bytes, *, rtcp: bool, to: Address | None = None) -> bool:
        """Send one packet to the row's peer, or to `to`; False when it did not go out."""
        line = self._line(self._rtcp if rtcp else self._rtp, row)
        peer = to if line is None or to is not None else line.peer
        if line is None or peer is None:
            return False
        try:
            line.sock.sendto(packet, to_socket(line.sock.family, peer.host, peer.port))
        except TransportError:
            self.counters.send_failed += 1
            return False
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                self.counters.send_full += 1
            else:
                self.counters.send_failed += 1
            return False
        if self.tap is not None:
            view = memoryview(packet)
            self.tap(True, row, line.local, peer, view, self._clock.monotonic())
        return True


def _carrier(batched: bool | None) -> Carrier:
    if batched is False:
        return SocketCarrier()
    try:
        return UringCarrier()
    except OSError as error:
        if batched:
            raise
        log.info("packets are carried one by one: %s", error)
        return SocketCarrier()

"""Carries packets with two system calls for all of them: io_uring reads, io_uring sends.

No packet costs a Python object. The sockets that send are known to the kernel by number
(`uring_files.py`).
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from voip.ip import SocketAddress
from voip.media.columns import every
from voip.media.io import SLOT_BYTES, PacketBatch
from voip.net.line import IoCounters, Line, Reads
from voip.net.uring import OP_SEND, SKIP_SUCCESS, SQE, Ring
from voip.net.uring_files import FIXED_FILE, FixedFiles
from voip.net.uring_native import Outlet, available
from voip.net.uring_receiver import NAME_WORDS, UringReceiver

__all__ = ["UringCarrier"]

_Scalar = TypeVar("_Scalar", bound=np.generic)


class UringCarrier:
    """`voip.net.line.Carrier` over io_uring. Raises OSError where that may not be used."""

    def __init__(self) -> None:
        self.counters = IoCounters()
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError(errno.ENOSYS, "io_uring is used on 64-bit machines only")
        self._ring = Ring()
        try:
            self._receiver = UringReceiver()
        except BaseException:
            self._ring.close()
            raise
        self._files = FixedFiles(self._ring)
        # by tag
        self._expected: npt.NDArray[np.uint64] = np.zeros((0, NAME_WORDS), np.uint64)
        # by row: how its RTP is sent
        self._names: npt.NDArray[np.uint64] = np.zeros((0, NAME_WORDS), np.uint64)
        self._sends: npt.NDArray[np.void] = np.zeros(0, SQE)
        # the same memory as plain numbers, which NumPy moves many times faster
        self._sends_words: npt.NDArray[np.uint64] = np.zeros((0, 8), np.uint64)
        self._packets: npt.NDArray[np.uint8] | None = None  # what `_sends` points to
        self._ready: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)  # there is somebody to send to
        self._outlet: Outlet | None = None  # of all these, where it was built

    # ------------------------------------------------------------ lines

    def add(self, line: Line) -> None:
        """Carry a line from now on."""
        row = line.tag >> 1
        self._receiver.add(line.tag, line.sock.fileno())
        self._expected = _grown(self._expected, line.tag + 1)
        if row >= self._ready.size:
            self._names = _grown(self._names, row + 1)
            self._sends = _grown(self._sends, row + 1)
            self._ready = _grown(self._ready, row + 1)
            self._sends["addr2"] = _addresses(self._names)
            self._sends_words = self._sends.view(np.uint64).reshape(len(self._sends), -1)
            self._packets = None
            if available():
                self._outlet = Outlet(self._ring, self._sends_words, self._ready)
        self.connect(line)

    def connect(self, line: Line) -> None:
        """Note the line's peer."""
        name = b"" if line.expected is None else _pack(line.expected)
        padded = np.frombuffer(name.ljust(8 * NAME_WORDS, b"\0"), np.uint64)
        self._expected[line.tag] = padded
        if line.rtcp:
            return
        row, number = line.tag >> 1, line.sock.fileno()
        self._names[row] = padded
        self._ready[row] = bool(name)
        fixed = self._files.set(row, number)
        send = self._sends[row : row + 1]
        send["opcode"] = OP_SEND
        send["flags"] = SKIP_SUCCESS | (FIXED_FILE if fixed else 0)
        send["user_data"] = row
        send["fd"] = row if fixed else number
        send["msg_flags"] = int(socket.MSG_DONTWAIT)
        send["addr_length"] = len(name)

    def remove(self, line: Line) -> None:
        """Carry a line no longer."""
        self._receiver.remove(line.tag)
        if not line.rtcp:
            self._files.set(line.tag >> 1, -1)
            self._ready[line.tag >> 1] = False

    # ------------------------------------------------------------ packets

    def read(self, batch: PacketBatch) -> Reads | None:
        """Read what has arrived."""
        received = self._receiver.read(batch)
        self.counters.receive_failed = self._receiver.failed
        self.counters.flooded = self._receiver.flooded
        if received is None:
            return None
        tags, slots, lengths = received.tags, received.slots, received.lengths
        names, stamps = received.names, received.stamps
        if lengths.max() > SLOT_BYTES:
            fits = lengths <= SLOT_BYTES
            self.counters.oversize += int(np.count_nonzero(~fits))
            tags, slots, lengths = tags[fits], slots[fits], lengths[fits]
            names, stamps = names[fits], stamps[fits]
            if not tags.size:
                return None
        strange = names != self._expected.take(tags, axis=0)
        strangers = []
        if np.count_nonzero(strange):
            strangers = [(int(i), _unpack(names[i])) for i in np.flatnonzero(strange.any(axis=1))]
        return Reads(tags, slots, lengths, stamps, strangers)

    def read_at_once(
        self, batch: PacketBatch, now: float, offset: float, latest: float
    ) -> int | None:
        """Read what has arrived into the columns of `batch`, if all of it is ordinary."""
        return self._receiver.read_at_once(batch, self._expected, now, offset, latest)

    def wait(self, seconds: float) -> None:
        """Wait until something comes, at most so long."""
        self._receiver.wait(seconds)

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.int32]:
        """Send one packet for each of `rows`."""
        self._point_to(packets)
        most = self._ring.entries
        if rows.size <= most:
            return self._send_part(rows, lengths)
        parts = [slice(begin, begin + most) for begin in range(0, rows.size, most)]
        return np.concatenate([self._send_part(rows[part], lengths[part]) for part in parts])

    def _send_part(
        self, rows: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int32]:
        """Send as `send`, no more than there are entries in the ring."""
        ring = self._ring
        taken = None if self._outlet is None else self._outlet.send(rows, lengths)
        if taken is not None:
            failures = ring.finish(rows.size, taken)
        else:
            able = self._ready.take(rows, mode="clip")
            able &= rows < self._ready.size
            if not every(able):
                rows, lengths = rows[able], lengths[able]
            if not rows.size:
                return rows
            self._sends_words.take(rows, axis=0, out=ring.words[: rows.size], mode="clip")
            ring.lengths[: rows.size] = lengths
            failures = ring.run(rows.size)
        if not failures.size:
            return rows
        self._count(failures[:, 1])
        return rows[~np.isin(rows, failures[:, 0])]

    def close(self) -> None:
        """Close the rings."""
        self._outlet = None
        self._ring.close()
        self._receiver.close()

    def _point_to(self, packets: npt.NDArray[np.uint8]) -> None:
        """Let what sends know where the packets of its row lie; they rarely move."""
        if packets is self._packets:
            return
        if packets.strides[1] != 1:
            raise ValueError("the bytes of a packet must lie side by side")
        self._packets = packets
        address, stride = packets.ctypes.data, packets.strides[0]
        each = np.arange(self._sends.size, dtype=np.uint64)
        self._sends["addr"] = np.uint64(address) + each * np.uint64(stride)

    def _count(self, errors: npt.NDArray[np.int32]) -> None:
        full = int(np.isin(errors, (errno.EAGAIN, errno.ENOBUFS)).sum())
        refused = int(np.count_nonzero(errors == errno.ECONNREFUSED))  # nobody is there: not ours
        self.counters.send_full += full
        self.counters.send_failed += errors.size - full - refused


def _addresses(array: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """Return where each row of an array lies in memory, uint64 (n,)."""
    each = np.arange(len(array), dtype=np.uint64)
    return np.uint64(array.ctypes.data) + each * np.uint64(array.strides[0])


def _grown(array: npt.NDArray[_Scalar], needed: int) -> npt.NDArray[_Scalar]:
    """Return the array with room for `needed` rows, doubled so that this is rare."""
    if needed <= len(array):
        return array
    larger = np.zeros((max(needed, 2 * len(array)), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def _pack(address: SocketAddress) -> bytes:
    """Return the sockaddr_in or sockaddr_in6 of an address."""
    if len(address) == 2:
        host = socket.inet_pton(socket.AF_INET, address[0])
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H", address[1]) + host + bytes(8)
    host = socket.inet_pton(socket.AF_INET6, address[0])
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", address[1], address[2])
    return head + host + struct.pack("=I", address[3])


def _unpack(words: npt.NDArray[np.uint64]) -> SocketAddress:
    """Return the address that a sockaddr says."""
    name = words.tobytes()
    family, port = struct.unpack_from("=H", name)[0], struct.unpack_from("!H", name, 2)[0]
    if family == socket.AF_INET6:
        flow, scope = struct.unpack_from("!I", name, 4)[0], struct.unpack_from("=I", name, 24)[0]
        return (socket.inet_ntop(socket.AF_INET6, name[8:24]), port, flow, scope)
    return (socket.inet_ntop(socket.AF_INET, name[4:8]), port)

"""Carries packets with a few system calls for all of them.

epoll says who has something, one io_uring call reads it all, another sends everything. No packet
costs a Python object.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import select
import socket
import struct
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from voip.ip import SocketAddress
from voip.media.io import SLOT_BYTES, PacketBatch
from voip.net.line import IoCounters, Line, Reads
from voip.net.uring import OP_RECVMSG, OP_SEND, SQE, Ring

__all__ = ["UringCarrier"]

_Scalar = TypeVar("_Scalar", bound=np.generic)

_NAME_WORDS = 4  # 32 bytes for a sockaddr_in (16) or sockaddr_in6 (28), the rest zero
_CONTROL_BYTES = socket.CMSG_SPACE(16)  # one time stamp: struct cmsghdr and struct timespec
_STAMP_WORD = _NAME_WORDS + 2  # after the control message's header: the timespec
_DONTWAIT_TRUNC = int(socket.MSG_DONTWAIT) | int(socket.MSG_TRUNC)  # the result: the true length
_HEADER = np.dtype(  # struct msghdr of 64-bit Linux
    [
        ("name", "u8"),
        ("name_length", "u8"),
        ("iovec", "u8"),
        ("iovecs", "u8"),
        ("control", "u8"),
        ("control_length", "u8"),
        ("flags", "u8"),
    ]
)
_IOVEC = np.dtype([("base", "u8"), ("length", "u8")])
_EVENT = (  # struct epoll_event, packed on x86-64 only
    np.dtype([("events", "u4"), ("fd", "i4"), ("unused", "u4")])
    if platform.machine() == "x86_64"
    else np.dtype([("events", "u4"), ("pad", "u4"), ("fd", "i4"), ("unused", "u4")])
)


class _Slots:
    """What the kernel needs to know of a batch's slots, written once.

    `beside`: what it tells of a packet, next to its bytes: uint64 (capacity, 8), the source's
    sockaddr in the first four words, the control message in the others; `operations`: uint64
    (capacity, 8), the SQEs but for their sockets.
    """

    def __init__(self, batch: PacketBatch) -> None:
        count = batch.capacity
        self.batch = batch
        self.beside = np.zeros((count, _NAME_WORDS + _CONTROL_BYTES // 8), np.uint64)
        self._iovecs = np.zeros(count, _IOVEC)
        self._iovecs["base"] = _addresses(batch.data)
        self._iovecs["length"] = SLOT_BYTES
        headers = np.zeros(count, _HEADER)
        headers["name"] = _addresses(self.beside)
        headers["name_length"] = 8 * _NAME_WORDS
        headers["iovec"] = _addresses(self._iovecs)
        headers["iovecs"] = 1
        headers["control"] = headers["name"] + np.uint64(8 * _NAME_WORDS)
        headers["control_length"] = _CONTROL_BYTES
        self._headers = _words(headers)
        self._fresh = self._headers.copy()
        sqes = np.zeros(count, SQE)
        sqes["opcode"] = OP_RECVMSG
        sqes["addr"] = _addresses(headers)
        sqes["length"] = 1
        sqes["msg_flags"] = _DONTWAIT_TRUNC
        self.operations = _words(sqes)

    def prepare(self, begin: int, end: int) -> None:
        """Undo what the last use left behind."""
        self.beside[begin:end] = 0
        self._headers[begin:end] = self._fresh[begin:end]

    def compact(self, begin: int, good: npt.NDArray[np.intp]) -> None:
        """Move the packets at `begin + good` together."""
        end = begin + good.size
        for array in (self.batch.data, self.beside):
            array[begin:end] = array[begin + good]


class UringCarrier:
    """`voip.net.line.Carrier` over io_uring. Raises OSError where that may not be used."""

    def __init__(self) -> None:
        self.counters = IoCounters()
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise OSError(errno.ENOSYS, "io_uring is used on 64-bit machines only")
        self._ring = Ring()
        self._epoll = select.epoll()
        self._epoll_fd = self._epoll.fileno()
        self._wait = ctypes.PyDLL(None, use_errno=True).epoll_wait
        self._events: npt.NDArray[np.void]
        self._event_fds: npt.NDArray[np.int32]
        self._make_room(64)
        self._tag_of_fd: npt.NDArray[np.int32] = np.zeros(64, np.int32)
        self._lines = 0
        # by tag: the expected source, and what sends to it
        self._expected: npt.NDArray[np.uint64] = np.zeros((0, _NAME_WORDS), np.uint64)
        self._sends: npt.NDArray[np.void] = np.zeros(0, SQE)
        self._packets_at = (0, 0)  # address and stride of the packets that `_sends` points to
        self._ready: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)  # there is somebody to send to
        self._slots: _Slots | None = None

    # ------------------------------------------------------------ lines

    def add(self, line: Line) -> None:
        """Carry a line from now on."""
        descriptor = line.sock.fileno()
        self._epoll.register(descriptor, select.EPOLLIN)
        self._lines += 1
        self._tag_of_fd = _grown(self._tag_of_fd, descriptor + 1)
        self._tag_of_fd[descriptor] = line.tag
        if self._lines > self._events.size:
            self._make_room(2 * self._lines)
        if line.tag >= self._ready.size:
            self._expected = _grown(self._expected, line.tag + 1)
            self._sends = _grown(self._sends, line.tag + 1)
            self._ready = _grown(self._ready, line.tag + 1)
            self._sends["addr2"] = _addresses(self._expected)
            self._packets_at = (0, 0)
        send = self._sends[line.tag : line.tag + 1]
        send["opcode"] = OP_SEND
        send["fd"] = descriptor
        send["msg_flags"] = int(socket.MSG_DONTWAIT)
        self.connect(line)

    def connect(self, line: Line) -> None:
        """Note the line's peer."""
        name = b"" if line.expected is None else _pack(line.expected)
        self._ready[line.tag] = bool(name)
        self._sends["addr_length"][line.tag] = len(name)
        padded = name.ljust(8 * _NAME_WORDS, b"\0")
        self._expected[line.tag] = np.frombuffer(padded, np.uint64)

    def remove(self, line: Line) -> None:
        """Carry a line no longer."""
        self._epoll.unregister(line.sock.fileno())
        self._lines -= 1
        self._ready[line.tag] = False

    # ------------------------------------------------------------ packets

    def read(self, batch: PacketBatch, first: int, *, rtcp: bool) -> Reads | None:
        """Read one packet of every line that has one."""
        slots = self._slots
        if slots is None or slots.batch is not batch:
            slots = self._slots = _Slots(batch)
        descriptors = self._descriptors()
        tags = self._tag_of_fd.take(descriptors)
        if not rtcp:
            media = (tags & 1) == 0
            descriptors, tags = descriptors[media], tags[media]
        count = min(tags.size, batch.capacity - first, self._ring.entries)
        if not count:
            return None
        tags = tags[:count]
        slots.prepare(first, first + count)
        self._ring.words[:count] = slots.operations[first : first + count]
        self._ring.sqes["fd"][:count] = descriptors[:count]
        lengths = self._ring.run(count)
        fits = lengths.view(np.uint32) <= SLOT_BYTES  # an error, below 0, is a large number then
        if np.count_nonzero(fits) < count:
            good = np.flatnonzero(fits)
            failed = int(np.count_nonzero(lengths < 0))
            self.counters.receive_failed += failed
            self.counters.oversize += count - good.size - failed
            slots.compact(first, good)
            tags, lengths, count = tags[good], lengths[good], good.size
        beside = slots.beside[first : first + count]
        names = beside[:, :_NAME_WORDS]
        strange = names != self._expected.take(tags, axis=0)
        strangers = []
        if np.count_nonzero(strange):
            which = np.flatnonzero(strange.any(axis=1))
            strangers = [(first + int(i), _unpack(names[i])) for i in which]
        stamps = beside[:, _STAMP_WORD : _STAMP_WORD + 2].view(np.int64)
        return Reads(tags, lengths, stamps, strangers)

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.int32]:
        """Send one packet for each of `rows`."""
        tags = rows * 2
        able = tags < self._ready.size
        able &= self._ready.take(tags, mode="clip")
        if np.count_nonzero(able) < able.size:
            rows, tags, lengths = rows[able], tags[able], lengths[able]
        self._point_to(packets)
        sends = _words(self._sends)
        sent = np.zeros(rows.size, np.bool_)
        for begin in range(0, rows.size, self._ring.entries):
            part = slice(begin, begin + self._ring.entries)
            count = rows[part].size
            sends.take(tags[part], axis=0, out=self._ring.words[:count], mode="clip")
            self._ring.sqes["length"][:count] = lengths[part]
            results = self._ring.run(count)
            np.greater_equal(results, 0, out=sent[part])
            if np.count_nonzero(sent[part]) < count:
                self._count(results)
        return rows if np.count_nonzero(sent) == sent.size else rows[sent]

    def close(self) -> None:
        """Close the ring and the epoll."""
        self._ring.close()
        self._epoll.close()

    def _descriptors(self) -> npt.NDArray[np.int32]:
        """Return the sockets that have something."""
        if not self._lines:
            return np.zeros(0, np.int32)
        count = self._wait(self._epoll_fd, self._events_at, self._lines, 0)
        found: npt.NDArray[np.int32] = self._event_fds[: max(0, count)]
        return found

    def _make_room(self, events: int) -> None:
        """Let epoll tell of as many as `events` sockets at a time."""
        self._events = np.zeros(events, _EVENT)
        self._events_at = ctypes.c_void_p(self._events.ctypes.data)
        self._event_fds = self._events["fd"]

    def _point_to(self, packets: npt.NDArray[np.uint8]) -> None:
        """Let what sends know where the packets of its row lie; they rarely move."""
        at = packets.__array_interface__["data"][0], packets.strides[0]
        if at == self._packets_at:
            return
        if packets.strides[1] != 1:
            raise ValueError("the bytes of a packet must lie side by side")
        self._packets_at = at
        each = np.arange(self._sends.size, dtype=np.uint64) >> np.uint64(1)  # rows, from tags
        self._sends["addr"] = np.uint64(at[0]) + each * np.uint64(at[1])

    def _count(self, results: npt.NDArray[np.int32]) -> None:
        full = int(np.isin(results, (-errno.EAGAIN, -errno.ENOBUFS)).sum())
        self.counters.send_full += full
        self.counters.send_failed += int(np.count_nonzero(results < 0)) - full


def _words(structures: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """Return the same memory as uint64 (n, words), which NumPy moves many times faster."""
    return structures.view(np.uint64).reshape(len(structures), -1)


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

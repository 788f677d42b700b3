"""Datagrams of many sockets without a system call for each, nor one to ask which have something.

Every socket has one receive operation that goes on for as long as it is open ("multishot"): the
kernel notes at the packet's arrival that there is something, and when it is entered, once a tick,
it reads all of that into the slots of a batch, which lie in a ring of their own
(io_uring_prep_recvmsg_multishot(3), io_uring_setup_buf_ring(3); kernel 6.1 and newer).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.media.io import HEAD_BYTES, SLOT_BYTES, PacketBatch
from voip.net.line import MAX_RTCP_READS, MAX_RTP_READS
from voip.net.uring import Queues
from voip.net.uring_native import Inlet, available

__all__ = ["NAME_WORDS", "Received", "UringReceiver"]

NAME_WORDS = 4
"""64-bit words for a sockaddr_in (two) or sockaddr_in6 (three and a half), the rest zero."""
_CONTROL_BYTES = socket.CMSG_SPACE(16)  # one time stamp: struct cmsghdr and struct timespec
_LENGTH_WORD = 2  # of 32 bits; the datagram's, whole
_NAME_WORD = (
    2  # of 64 bits, as the others: after struct io_uring_recvmsg_out: four 32-bit lengths and flags
)
_STAMP_WORD = _NAME_WORD + NAME_WORDS + 2  # after the control message's header

_SETUP_DISABLED, _SETUP_SINGLE_ISSUER, _SETUP_DEFER_TASKRUN = 1 << 6, 1 << 12, 1 << 13
_REGISTER_ENABLE, _REGISTER_BUFFERS, _UNREGISTER_BUFFERS = 12, 22, 23
_OP_RECVMSG, _OP_CANCEL = 10, 14
_MULTISHOT = 1 << 1  # in `ioprio`
_BUFFER_SELECT = 1 << 5
_HAS_BUFFER, _GOES_ON = 1, 2  # flags of a completion; its upper half is the buffer's number
_NOBODY = 0xFFFFFFFF  # the tag of what concerns no line
_ENTRIES, _COMPLETIONS = 1024, 4096
_BUFFER = np.dtype([("addr", "u8"), ("length", "u4"), ("number", "u2"), ("tail", "u2")])
_TAIL_AT = 14  # bytes: the ring's tail lies in its first entry


@dataclass(frozen=True, slots=True)
class Received:
    """k packets: tags int32, slots intp, lengths uint32 (k,), and what the kernel says of them.

    names: uint64 (k, NAME_WORDS), the source's sockaddr; stamps: int64 (k, 2), seconds and
    nanoseconds of the wall clock, 0 where there is none.
    """

    tags: npt.NDArray[np.int32]
    slots: npt.NDArray[np.intp]
    lengths: npt.NDArray[np.uint32]
    names: npt.NDArray[np.uint64]
    stamps: npt.NDArray[np.int64]


class UringReceiver:
    """Receives for lines, which are known by tag and descriptor.

    All calls from one thread: the first to add a line. `failed` counts receptions that failed,
    `flooded` packets that were dropped because a line had far more than its share.
    """

    def __init__(self) -> None:
        self.failed = 0
        self.flooded = 0
        flags = _SETUP_DISABLED | _SETUP_SINGLE_ISSUER | _SETUP_DEFER_TASKRUN
        self._queues = Queues(_ENTRIES, flags, _COMPLETIONS)
        self._native = available()
        self._enabled = False
        self._descriptors: npt.NDArray[np.int32] = np.zeros(0, np.int32)  # by tag
        # of a tag's present line: what comes late for the one before is not its own
        self._generation: npt.NDArray[np.uint32] = np.zeros(0, np.uint32)
        self._unarmed: dict[int, None] = {}  # tags whose operation has ended, or not begun
        self._starved = False  # the kernel had more than there were slots for
        # struct msghdr, of which only the room for name and control message is read
        self._header = np.zeros(7, np.uint64)
        self._header[1], self._header[5] = 8 * NAME_WORDS, _CONTROL_BYTES
        self._batch: PacketBatch | None = None
        self._buffers: _Buffers | None = None
        # packets that wait for the next `read`: whose they are, and where they lie
        self._held_tags: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._held: npt.NDArray[np.intp] = np.zeros(0, np.intp)

    # ------------------------------------------------------------ lines

    def add(self, tag: int, descriptor: int) -> None:
        """Receive for a line from the next `read` on."""
        if not self._enabled:
            self._queues.register(_REGISTER_ENABLE, None, 0)
            self._enabled = True
        if tag >= self._descriptors.size:
            more = max(64, tag + 1 - self._descriptors.size, self._descriptors.size)
            self._descriptors = np.append(self._descriptors, np.full(more, -1, np.int32))
            self._generation = np.append(self._generation, np.zeros(more, np.uint32))
        self._descriptors[tag] = descriptor
        self._unarmed[tag] = None

    def remove(self, tag: int) -> None:
        """Receive no longer; the kernel has let go of the socket when this returns."""
        self._descriptors[tag] = -1
        if tag in self._unarmed:
            del self._unarmed[tag]
        else:
            self._cancel(tag)
        self._generation[tag] += 1
        if self._held.size:
            others = self._held_tags != tag
            self._held_tags, self._held = self._held_tags[others], self._held[others]

    def _cancel(self, tag: int) -> None:
        operation = self._queues.sqes[:1]
        self._queues.words[:1] = 0
        operation["opcode"] = _OP_CANCEL
        operation["fd"] = -1
        operation["addr"] = self._name(tag)
        operation["user_data"] = _NOBODY
        self._submit(1)

    def _arm(self) -> None:
        """Begin to receive for the lines that do not."""
        tags = np.fromiter(self._unarmed, np.intp, len(self._unarmed))
        self._unarmed.clear()
        for begin in range(0, tags.size, self._queues.entries):
            part = tags[begin : begin + self._queues.entries]
            operations = self._queues.sqes[: part.size]
            self._queues.words[: part.size] = 0
            operations["opcode"] = _OP_RECVMSG
            operations["flags"] = _BUFFER_SELECT
            operations["ioprio"] = _MULTISHOT
            operations["fd"] = self._descriptors[part]
            operations["addr"] = self._header.ctypes.data
            operations["length"] = 1
            operations["msg_flags"] = int(socket.MSG_TRUNC)  # tell the true length
            operations["user_data"] = self._name(part)
            if (refused := part[self._submit(part.size) :]).size:
                self._unarmed.update(dict.fromkeys(refused.tolist()))
                return

    def _name(self, tags: int | npt.NDArray[np.intp]) -> npt.NDArray[np.uint64]:
        """Return what the kernel knows an operation of ours by."""
        generation = self._generation[tags].astype(np.uint64)
        name: npt.NDArray[np.uint64] = generation << np.uint64(32) | np.uint64(tags)
        return name

    def _submit(self, count: int) -> int:
        """Let the kernel take `sqes[:count]`; return how many it took."""
        tail = self._queues.submit(count)
        taken = 0
        while taken < count:
            more = self._queues.enter_now(count - taken)
            if more <= 0 and more != -errno.EINTR:
                self._queues.take_back(tail + taken)
                break
            taken += max(0, more)
        return taken

    # ------------------------------------------------------------ packets

    def read(self, batch: PacketBatch) -> Received | None:
        """Read what has arrived into slots of `batch`, those of the call before among them.

        At most 32 RTP and 4 RTCP packets of a line; more of them wait for the next call.
        """
        buffers = self._buffers
        if batch is not self._batch or buffers is None:
            buffers = self._adopt(batch)
        if self._queues.any_completed:  # a line was removed meanwhile
            self._hold(*self._collect(buffers))
        buffers.offer(self._held)
        if self._unarmed:
            self._arm()
        if self._queues.enter_now(0) == -errno.EEXIST:
            raise OSError(errno.EEXIST, "io_uring: another thread receives for these sockets")
        tags, slots = self._collect(buffers)
        for _ in range(MAX_RTP_READS):
            if not self._unarmed or self._starved:
                break
            self._hold(tags, slots)  # an empty datagram ends a reception: there may be more
            self._arm()
            tags, slots = self._collect(buffers)
        if self._held.size:
            self._hold(tags, slots)
            tags, slots = self._held_tags, self._held
            self._held_tags, self._held = tags[:0], slots[:0]
        if tags.size > MAX_RTCP_READS:
            tags, slots = self._share(tags, slots, buffers.count // 2)
        if not tags.size:
            return None
        heads = buffers.heads[slots]
        buffers.long_names[slots] = 0  # of a name only as much is written as there is
        return Received(
            tags,
            slots,
            heads.view(np.uint32)[:, _LENGTH_WORD],
            heads[:, _NAME_WORD : _NAME_WORD + NAME_WORDS],
            heads[:, _STAMP_WORD : _STAMP_WORD + 2].view(np.int64),
        )

    def read_at_once(
        self,
        batch: PacketBatch,
        expected: npt.NDArray[np.uint64],
        now: float,
        offset: float,
        latest: float,
    ) -> int | None:
        """Read as `read` does, straight into the columns of `batch`: the count, see `Inlet.read`.

        expected: uint64 (lines, NAME_WORDS), whom each tag hears. None: it is left to `read`.
        """
        buffers = self._buffers
        if not self._native or self._unarmed or self._held.size or self._starved:
            return None
        if batch is not self._batch or buffers is None:
            return None
        inlet = buffers.inlet
        if inlet is None or not inlet.is_of(self._generation, expected):
            inlet = Inlet(self._queues, buffers.ring, batch, self._generation, expected)
            buffers.inlet = inlet
        count = inlet.read(buffers.used, now, offset, latest)
        if count < 0:
            return None
        buffers.used += count
        return count

    def wait(self, seconds: float) -> None:
        """Wait until something comes, at most so long; what comes, `read` has."""
        if self._held.size or self._starved or self._queues.any_completed:
            return
        if self._buffers is None or not self._enabled:  # there is nothing to receive into, or for
            time.sleep(seconds)
            return
        if self._unarmed:
            self._arm()
        self._queues.wait(seconds)

    def _hold(self, tags: npt.NDArray[np.int32], slots: npt.NDArray[np.intp]) -> None:
        self._held_tags = np.concatenate((self._held_tags, tags))
        self._held = np.concatenate((self._held, slots))

    def _collect(self, buffers: _Buffers) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
        """Take what is completed: tags and slots of packets."""
        done = self._queues.completed()
        tags, generation, flags = done[:, 0], done[:, 1], done[:, 3]
        slots = (flags >> 16).astype(np.intp)
        present = self._generation.take(tags, mode="clip") == generation
        fine = (flags & (_HAS_BUFFER | _GOES_ON)) == (_HAS_BUFFER | _GOES_ON)
        if np.count_nonzero(fine & present) < tags.size:
            filled = (flags & _HAS_BUFFER) != 0
            buffers.used += int(np.count_nonzero(filled))
            present &= tags < self._generation.size
            ended = tags[present & ((flags & _GOES_ON) == 0)]
            self._unarmed.update(dict.fromkeys(ended.tolist()))
            results = done[:, 2].view(np.int32)
            starved = results == -errno.ENOBUFS  # of slots
            self._starved = bool(np.count_nonzero(starved))
            self.failed += int(
                np.count_nonzero(
                    present & (results < 0) & ~starved & (results != -errno.ECONNREFUSED)
                )
            )
            present &= filled
            return tags[present].astype(np.int32), slots[present]
        self._starved = False
        buffers.used += slots.size
        return tags.astype(np.int32), slots

    def _share(
        self, tags: npt.NDArray[np.int32], slots: npt.NDArray[np.intp], most: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.intp]]:
        """Return what a line may have in one go; hold the rest, at most `most` slots of it."""
        counts = np.bincount(tags)
        if counts.max() <= MAX_RTCP_READS:
            return tags, slots
        if counts[::2].max() <= MAX_RTP_READS and counts[1::2].max(initial=0) <= MAX_RTCP_READS:
            return tags, slots
        order = tags.argsort(kind="stable")
        ordered = tags[order]
        place = np.empty(tags.size, np.int64)  # of a packet among those of its line
        place[order] = np.arange(tags.size) - np.searchsorted(ordered, ordered)
        now = place < np.where(tags & 1, MAX_RTCP_READS, MAX_RTP_READS)
        later = np.flatnonzero(~now)
        self.flooded += max(0, later.size - most)
        self._held_tags, self._held = tags[later[:most]], slots[later[:most]]
        return tags[now], slots[now]

    def _adopt(self, batch: PacketBatch) -> _Buffers:
        """Receive into the slots of this batch from now on; what lies in another one is lost."""
        if self._buffers is not None:
            self._collect(self._buffers)
            self._buffers.close(self._queues)
        self._held_tags, self._held = self._held_tags[:0], self._held[:0]
        self._batch, self._buffers = batch, _Buffers(self._queues, batch)
        return self._buffers

    def close(self) -> None:
        """Release everything but the sockets."""
        self._queues.close()
        self._buffers = self._batch = None


class _Buffers:
    """The slots of a batch, as the ring from which the kernel takes them in turn.

    It looks at the ring when it is entered and no sooner, so that each time the same first slots
    can be offered first: the next one in turn would lie in memory the processor has forgotten.
    """

    def __init__(self, queues: Queues, batch: PacketBatch) -> None:
        self.count = 1 << batch.capacity.bit_length() - 1  # the kernel wants a power of two
        self.used = 0
        """Slots the kernel has taken since the start: where it goes on in the ring."""
        self.heads = batch.memory[:, :HEAD_BYTES].view(np.uint64)
        self.long_names = self.heads[:, _NAME_WORD + 2 : _NAME_WORD + NAME_WORDS]
        """What a name of IPv6 has beyond one of IPv4."""
        self._memory = mmap.mmap(-1, self.count * _BUFFER.itemsize)
        self.ring = np.frombuffer(self._memory, np.uint64).reshape(-1, 2)
        self.inlet: Inlet | None = None
        self._tail = np.frombuffer(self._memory, np.uint16, 1, _TAIL_AT)
        entries = np.zeros(self.count, _BUFFER)
        each = np.arange(self.count, dtype=np.uint64)
        entries["addr"] = np.uint64(batch.memory.ctypes.data)
        entries["addr"] += each * np.uint64(batch.memory.strides[0])
        entries["length"] = HEAD_BYTES + SLOT_BYTES
        entries["number"] = each
        self._entries = entries.view(np.uint64).reshape(-1, 2)
        # struct io_uring_buf_reg; group 0
        registration = np.array([self.ring.ctypes.data, 0, 0, 0, 0], np.uint64)
        registration.view(np.uint32)[2] = self.count
        queues.register(_REGISTER_BUFFERS, ctypes.c_void_p(registration.ctypes.data), 1)

    def offer(self, held: npt.NDArray[np.intp]) -> None:
        """Let the kernel fill all slots but those that are `held` (k,)."""
        entries = self._entries
        if held.size:
            free = np.ones(self.count, np.bool_)
            free[held] = False
            entries = entries[free]
        begin = self.used % self.count
        before = self.count - begin
        self.ring[begin : begin + len(entries)] = entries[:before]
        self.ring[: max(0, len(entries) - before)] = entries[before:]
        self._tail[0] = (self.used + len(entries)) & 0xFFFF  # lies in the first entry: last

    def close(self, queues: Queues) -> None:
        """Let the kernel use these slots no longer."""
        registration = np.zeros(5, np.uint64)
        queues.register(_UNREGISTER_BUFFERS, ctypes.c_void_p(registration.ctypes.data), 1)
        del self.ring, self._tail, self.inlet
        self._memory.close()

"""Many operations on many sockets with one system call: Linux io_uring, by ctypes.

What is used of it is the least there is: operations that finish at once are written into the
submission queue, one call runs them all, their results are read from the completion queue
(io_uring(7), kernel 6.0 and newer). The calls keep the interpreter's lock: to give it away for some
hundred microseconds would cost, beside a busy thread, its whole switch interval each time.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys

import numpy as np
import numpy.typing as npt

__all__ = ["OP_RECVMSG", "OP_SEND", "SQE", "Ring"]

OP_RECVMSG = 10
OP_SEND = 26

SQE = np.dtype(
    [
        ("opcode", "u1"),
        ("flags", "u1"),
        ("ioprio", "u2"),
        ("fd", "i4"),
        ("addr2", "u8"),
        ("addr", "u8"),
        ("length", "u4"),
        ("msg_flags", "u4"),
        ("user_data", "u8"),
        ("buffer", "u2"),
        ("personality", "u2"),
        ("addr_length", "u2"),
        ("pad", "u2"),
        ("addr3", "u8"),
        ("pad2", "u8"),
    ]
)
"""struct io_uring_sqe, with the names that OP_SEND and OP_RECVMSG give its unions."""
_CQE_WORDS = 4  # struct io_uring_cqe as 32-bit words: user_data (its low half first), result, flags
_USER_DATA, _RESULT = (0, 2) if sys.byteorder == "little" else (1, 2)

_SYS_SETUP, _SYS_ENTER = 425, 426  # the same on every architecture
_ENTER_GETEVENTS = 1
_SETUP_COOP_TASKRUN = 1 << 8
_FEATURE_SINGLE_MMAP = 1
_FEATURE_NODROP = 1 << 1
_OFFSET_SQES = 0x10000000
_PARAMS_WORDS = 30  # struct io_uring_params, 32-bit words
_SQ_OFFSETS, _CQ_OFFSETS = 10, 20  # where in it the offsets of the two queues begin


class Ring:
    """A submission and a completion queue of `entries` (a power of two) operations.

    Fill `sqes[:n]` and call `run(n)`; `words` is the same memory, uint64 (entries, 8): NumPy moves
    plain numbers many times faster than structures. Raises OSError where the kernel has no
    io_uring or does not allow it.
    """

    def __init__(self, entries: int = 1024) -> None:
        library = ctypes.PyDLL(None, use_errno=True)
        self._call = library.syscall
        self._call.restype = ctypes.c_long
        params = (ctypes.c_uint32 * _PARAMS_WORDS)()
        params[2] = _SETUP_COOP_TASKRUN
        self._fd = int(self._call(_SYS_SETUP, entries, params))
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"io_uring: {os.strerror(number)}")
        try:
            self._map(list(params))
        except BaseException:
            os.close(self._fd)
            raise

    def _map(self, params: list[int]) -> None:
        self.entries, completions = params[0], params[1]
        wanted = _FEATURE_SINGLE_MMAP | _FEATURE_NODROP
        if params[5] & wanted != wanted:
            raise OSError(errno.ENOSYS, "io_uring: the kernel is too old")
        _, tail, _, _, _, _, array = params[_SQ_OFFSETS : _SQ_OFFSETS + 7]
        cq_head, cq_tail, _, _, _, cqes = params[_CQ_OFFSETS : _CQ_OFFSETS + 6]
        size = max(array + 4 * self.entries, cqes + 4 * _CQE_WORDS * completions)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._queues = mmap.mmap(self._fd, size, flags=flags)
        self._slots = mmap.mmap(
            self._fd, self.entries * SQE.itemsize, flags=flags, offset=_OFFSET_SQES
        )
        words = np.frombuffer(self._queues, np.uint32, size // 4)
        self.sqes = np.frombuffer(self._slots, SQE)
        self.words = self.sqes.view(np.uint64).reshape(self.entries, -1)
        self._sq_tail = words[tail // 4 : tail // 4 + 1]
        self._sq_array = words[array // 4 : array // 4 + self.entries]
        self._cq_head = words[cq_head // 4 : cq_head // 4 + 1]
        self._cq_tail = words[cq_tail // 4 : cq_tail // 4 + 1]
        done = words[cqes // 4 : cqes // 4 + _CQE_WORDS * completions].reshape(-1, _CQE_WORDS)
        self._done_which = done[:, _USER_DATA]
        self._done_result = done[:, _RESULT].view(np.int32)
        self._each = np.arange(self.entries, dtype=np.uint32)

    def run(self, count: int) -> npt.NDArray[np.int32]:
        """Run `sqes[:count]`; return their results, int32 (count,), negative error numbers.

        What the kernel would not take at all has its reason as the result.
        """
        self.sqes["user_data"][:count] = self._each[:count]
        tail = int(self._sq_tail[0])
        first = tail % self.entries
        head = min(count, self.entries - first)
        self._sq_array[first : first + head] = self._each[:head]
        if head < count:
            self._sq_array[: count - head] = self._each[head:count]
        self._sq_tail[0] = (tail + count) & 0xFFFFFFFF
        results = np.full(count, -errno.EIO, np.int32)
        submitted = done = 0
        while done < count:
            taken = self._enter(count - submitted, count - done)
            if taken >= 0:
                submitted += taken
            elif taken != -errno.EINTR:
                results[done:] = taken
                self._sq_tail[0] = (tail + submitted) & 0xFFFFFFFF  # take the rest back
                break
            done += self._reap(results)
        return results

    def _enter(self, submit: int, complete: int) -> int:
        """Submit operations, wait for completions; return how many were taken, or -errno."""
        taken = self._call(_SYS_ENTER, self._fd, submit, complete, _ENTER_GETEVENTS, None, 0)
        return int(taken) if taken >= 0 else -ctypes.get_errno()

    def _reap(self, results: npt.NDArray[np.int32]) -> int:
        begin = int(self._cq_head[0])
        count = (int(self._cq_tail[0]) - begin) & 0xFFFFFFFF
        first = begin % self._done_which.size
        end = first + count
        results[self._done_which[first:end]] = self._done_result[first:end]
        if (over := end - self._done_which.size) > 0:
            results[self._done_which[:over]] = self._done_result[:over]
        self._cq_head[0] = (begin + count) & 0xFFFFFFFF
        return count

    def close(self) -> None:
        """Release the ring; closing twice does nothing."""
        if self._fd < 0:
            return
        # a mapping can be closed only when no array looks into it any more
        del self.sqes, self.words, self._sq_tail, self._sq_array
        del self._cq_head, self._cq_tail, self._done_which, self._done_result
        self._queues.close()
        self._slots.close()
        os.close(self._fd)
        self._fd = -1

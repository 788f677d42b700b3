"""Many operations on many sockets with one system call: Linux io_uring, by ctypes.

What is used of it is the least there is (io_uring(7), kernel 6.1 and newer). `Queues` are the two
rings of memory that the kernel shares with us; `Ring` runs operations that finish at once: they are
written into one, one call runs them all, their results are read from the other. What goes on for
longer is in `uring_receiver.py`. The calls keep the interpreter's lock, but for `wait`: to give it
away for some hundred microseconds would cost, beside a busy thread, its whole switch interval.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys

import numpy as np
import numpy.typing as npt

__all__ = ["OP_SEND", "SKIP_SUCCESS", "SQE", "Queues", "Ring"]

OP_SEND = 26
SKIP_SUCCESS = 1 << 6
"""Among the flags of an operation: it completes without a word unless it fails."""

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
"""struct io_uring_sqe, with the names that sending and receiving give its unions."""
_CQE_WORDS = 4  # struct io_uring_cqe as 32-bit words: user_data, result, flags

_SYS_SETUP, _SYS_ENTER, _SYS_REGISTER = 425, 426, 427  # the same on every architecture
_ENTER_GETEVENTS, _ENTER_EXT_ARG = 1, 1 << 3
_SETUP_CQSIZE = 1 << 3
_SETUP_COOP_TASKRUN = 1 << 8
_FEATURE_SINGLE_MMAP = 1
_FEATURE_NODROP = 1 << 1
_OFFSET_SQES = 0x10000000
_PARAMS_WORDS = 30  # struct io_uring_params, 32-bit words
_SQ_OFFSETS, _CQ_OFFSETS = 10, 20  # where in it the offsets of the two queues begin


class Queues:
    """A submission queue of `entries` operations and a completion queue, both powers of two.

    Fill `sqes[:n]` and `submit(n)`; `words` is the same memory, uint64 (entries, 8): NumPy moves
    plain numbers many times faster than structures. `completed` returns what has been done since.
    Raises OSError where the kernel has no io_uring of this kind or does not allow it.
    """

    def __init__(self, entries: int, flags: int, completions: int = 0) -> None:
        library = ctypes.PyDLL(None, use_errno=True)
        self._call = library.syscall
        self._call.restype = ctypes.c_long
        self._waiting_call = ctypes.CDLL(None, use_errno=True).syscall
        self._waiting_call.restype = ctypes.c_long
        params = (ctypes.c_uint32 * _PARAMS_WORDS)()
        params[1] = completions
        params[2] = flags | (_SETUP_CQSIZE if completions else 0)
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
        self.entries, self.completions = params[0], params[1]
        wanted = _FEATURE_SINGLE_MMAP | _FEATURE_NODROP
        if params[5] & wanted != wanted:
            raise OSError(errno.ENOSYS, "io_uring: the kernel is too old")
        _, tail, _, _, _, _, array = params[_SQ_OFFSETS : _SQ_OFFSETS + 7]
        cq_head, cq_tail, _, _, _, cqes = params[_CQ_OFFSETS : _CQ_OFFSETS + 6]
        size = max(array + 4 * self.entries, cqes + 4 * _CQE_WORDS * self.completions)
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        self._queues = mmap.mmap(self._fd, size, flags=flags)
        self._slots = mmap.mmap(
            self._fd, self.entries * SQE.itemsize, flags=flags, offset=_OFFSET_SQES
        )
        words = np.frombuffer(self._queues, np.uint32, size // 4)
        self.sqes = np.frombuffer(self._slots, SQE)
        self.words = self.sqes.view(np.uint64).reshape(self.entries, -1)
        self.lengths = self.sqes["length"]
        self._sq_tail = words[tail // 4 : tail // 4 + 1]
        self._sq_array = words[array // 4 : array // 4 + self.entries]
        self._cq_head = words[cq_head // 4 : cq_head // 4 + 1]
        self._cq_tail = words[cq_tail // 4 : cq_tail // 4 + 1]
        done = words[cqes // 4 : cqes // 4 + _CQE_WORDS * self.completions]
        self._done = done.reshape(-1, _CQE_WORDS)
        self._each = np.arange(self.entries, dtype=np.uint32)
        # struct io_uring_getevents_arg, whose last word points to a struct __kernel_timespec
        self._no_time = np.zeros(2, np.int64)
        self._argument = np.array([0, 0, self._no_time.ctypes.data], np.uint64)
        self._argument_at = ctypes.c_void_p(self._argument.ctypes.data)
        self._time = np.zeros(2, np.int64)
        self._wait_argument = np.array([0, 0, self._time.ctypes.data], np.uint64)
        self._wait_argument_at = ctypes.c_void_p(self._wait_argument.ctypes.data)

    def submit(self, count: int) -> int:
        """Offer `sqes[:count]` to the kernel, which takes them when it is entered.

        Returns the queue's tail from before: `take_back` needs it.
        """
        tail = int(self._sq_tail[0])
        first = tail % self.entries
        head = min(count, self.entries - first)
        self._sq_array[first : first + head] = self._each[:head]
        if head < count:
            self._sq_array[: count - head] = self._each[head:count]
        self._sq_tail[0] = (tail + count) & 0xFFFFFFFF
        return tail

    def take_back(self, tail: int) -> None:
        """Offer no longer what lies behind `tail`."""
        self._sq_tail[0] = tail & 0xFFFFFFFF

    def enter(self, submit: int, complete: int) -> int:
        """Submit operations, wait for completions; return how many were taken, or -errno."""
        taken = self._call(_SYS_ENTER, self._fd, submit, complete, _ENTER_GETEVENTS, None, 0)
        return int(taken) if taken >= 0 else -ctypes.get_errno()

    def enter_now(self, submit: int) -> int:
        """Submit operations and let all that can be completed now be; as `enter`."""
        taken = self._call(
            _SYS_ENTER,
            self._fd,
            submit,
            self.completions,  # as many as there could be, but ...
            _ENTER_GETEVENTS | _ENTER_EXT_ARG,
            self._argument_at,  # ... without waiting for them
            ctypes.c_size_t(self._argument.nbytes),
        )
        return int(taken) if taken >= 0 else -ctypes.get_errno()

    def wait(self, seconds: float) -> None:
        """Wait for a completion, at most so long; other threads run meanwhile."""
        whole = int(seconds)
        self._time[0], self._time[1] = whole, int((seconds - whole) * 1e9)
        self._waiting_call(
            _SYS_ENTER,
            self._fd,
            0,
            1,
            _ENTER_GETEVENTS | _ENTER_EXT_ARG,
            self._wait_argument_at,
            ctypes.c_size_t(self._wait_argument.nbytes),
        )

    def completion_words(self) -> list[int]:
        """Return what code in C takes completions by: descriptor, size, addresses."""
        places = (self._cq_head, self._cq_tail, self._done, self._argument)
        addresses = [place.ctypes.data for place in places]
        return [self._fd, self.completions, *addresses, self._argument.nbytes]

    def submission_words(self) -> list[int]:
        """Return what code in C submits operations by: descriptor, size, addresses."""
        places = (self.sqes, self._sq_tail, self._sq_array)
        return [self._fd, self.entries, *(place.ctypes.data for place in places)]

    def register(self, operation: int, argument: object, count: int) -> None:
        """Call io_uring_register(2); raises OSError."""
        if self._call(_SYS_REGISTER, self._fd, operation, argument, count) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"io_uring: {os.strerror(number)}")

    @property
    def any_completed(self) -> bool:
        """Whether there is anything in the completion queue."""
        return bool(self._cq_head[0] != self._cq_tail[0])

    def completed(self) -> npt.NDArray[np.uint32]:
        """Take what is in the completion queue; valid until the kernel is entered again.

        uint32 (n, 4): user_data (its lower and its upper half), result, flags.
        """
        begin = int(self._cq_head[0])
        count = (int(self._cq_tail[0]) - begin) & 0xFFFFFFFF
        first = begin % self.completions
        done = self._done[first : first + count]
        if (over := first + count - self.completions) > 0:
            done = np.concatenate((done, self._done[:over]))
        self._cq_head[0] = (begin + count) & 0xFFFFFFFF
        return done if sys.byteorder == "little" else done[:, [1, 0, 2, 3]]

    def close(self) -> None:
        """Release the queues; closing twice does nothing."""
        if self._fd < 0:
            return
        # a mapping can be closed only when no array looks into it any more
        del self.sqes, self.words, self.lengths, self._sq_tail, self._sq_array
        del self._cq_head, self._cq_tail, self._done
        self._queues.close()
        self._slots.close()
        os.close(self._fd)
        self._fd = -1


_NONE = np.zeros((0, 2), np.int32)


class Ring(Queues):
    """Runs operations that finish at once, or fail: fill `sqes[:n]` and call `run(n)`.

    Let them have `SKIP_SUCCESS` among their flags: what went well is not worth a word.
    """

    def __init__(self, entries: int = 1024) -> None:
        super().__init__(entries, _SETUP_COOP_TASKRUN)

    def run(self, count: int) -> npt.NDArray[np.int32]:
        """Run `sqes[:count]`; return what failed: int32 (k, 2), user_data and error number.

        What the kernel would not take at all has its reason as its error.
        """
        self.submit(count)
        return self.finish(count, self.enter(count, 0))

    def finish(self, count: int, taken: int) -> npt.NDArray[np.int32]:
        """Run what is left of `sqes[:count]`, of which the kernel took so many, or -errno; `run`.

        Returns what failed of all.
        """
        tail = int(self._sq_tail[0]) - count
        submitted = refused = 0
        while True:
            if taken > 0:
                submitted += taken
            elif taken != -errno.EINTR:
                refused = -taken or errno.EAGAIN
                self.take_back(tail + submitted)
            if refused or submitted == count:
                break
            taken = self.enter(count - submitted, 0)
        if not refused and not self.any_completed:
            return _NONE
        failed = self.completed()[:, [0, 2]].view(np.int32)
        failed[:, 1] *= -1
        left = np.full((count - submitted, 2), refused, np.int32)
        left[:, 0] = self.sqes["user_data"][submitted:count]
        return np.concatenate((failed, left))

"""Sockets that io_uring knows by number: it need not look them up with each packet."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from voip.net.file_table import allowed_files
from voip.net.uring import Queues

__all__ = ["FIXED_FILE", "FixedFiles"]

FIXED_FILE = 1 << 0
"""Among the flags of an operation: its `fd` is a number of `FixedFiles`."""
_REGISTER, _UPDATE = 2, 6
_MOST = 16384


class FixedFiles:
    """Descriptors by number, small ones; the kernel holds each until it is cleared.

    The table is as large as it will ever be from the beginning, and no larger than the process may
    have open files by then; what has no place goes by its descriptor. `usable` is False where the
    kernel does not allow it.
    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        most = allowed_files(_MOST)  # the kernel has no larger table
        self._descriptors: npt.NDArray[np.int32] = np.full(most, -1, np.int32)
        self.usable = self._call(_REGISTER, self._address(0), most)

    def set(self, number: int, descriptor: int) -> bool:
        """Let `number` stand for a descriptor, -1: for none; say whether it does."""
        if not self.usable or number >= self._descriptors.size:
            return False
        self._descriptors[number] = descriptor
        # struct io_uring_files_update: offset, padding, address of the descriptors
        update = np.array([number, self._address(number)], np.uint64)
        return self._call(_UPDATE, update.ctypes.data, 1)

    def _address(self, number: int) -> int:
        return self._descriptors.ctypes.data + number * self._descriptors.itemsize

    def _call(self, operation: int, address: int, count: int) -> bool:
        try:
            self._queues.register(operation, ctypes.c_void_p(address), count)
        except OSError:
            return False
        return True

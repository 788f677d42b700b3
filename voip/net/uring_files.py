"""Sockets that io_uring knows by number: it need not look them up with each packet."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt

from voip.net.uring import Queues

__all__ = ["FIXED_FILE", "FixedFiles"]

FIXED_FILE = 1 << 0
"""Among the flags of an operation: its `fd` is a number of `FixedFiles`."""
_REGISTER, _UNREGISTER, _UPDATE = 2, 3, 6
_LEAST = 256


class FixedFiles:
    """Descriptors by number, small ones; the kernel holds each until it is cleared.

    `usable` is False where the kernel, or a limit, does not allow it.
    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._descriptors: npt.NDArray[np.int32] = np.full(_LEAST, -1, np.int32)
        self.usable = self._register()

    def set(self, number: int, descriptor: int) -> bool:
        """Let `number` stand for a descriptor, -1: for none; say whether it does."""
        if not self.usable:
            return False
        if number >= self._descriptors.size:
            more = max(number + 1, 2 * self._descriptors.size) - self._descriptors.size
            self._call(_UNREGISTER)
            self._descriptors = np.append(self._descriptors, np.full(more, -1, np.int32))
            self.usable = self._register()
            if not self.usable:
                return False
        self._descriptors[number] = descriptor
        # struct io_uring_files_update: offset, padding, address of the descriptors
        update = np.array([number, self._address(number)], np.uint64)
        return self._call(_UPDATE, update.ctypes.data, 1)

    def _register(self) -> bool:
        return self._call(_REGISTER, self._address(0), self._descriptors.size)

    def _address(self, number: int) -> int:
        return self._descriptors.ctypes.data + number * self._descriptors.itemsize

    def _call(self, operation: int, address: int | None = None, count: int = 0) -> bool:
        try:
            argument = None if address is None else ctypes.c_void_p(address)
            self._queues.register(operation, argument, count)
        except OSError:
            return False
        return True

"""Memory for audio rings that engines in other processes see, too (Linux: memfd).

It has no name in any file system, so that nothing of it is left when its processes end, however
they end. What is written by one process is seen by others in the order in which it was written:
that is so on x86; elsewhere a ring may give out a step of silence, or of what was there before.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections import defaultdict, deque

import numpy as np

from voip.errors import MediaError

__all__ = ["MemfdMemory", "has_memfd"]

_BYTES = 1 << 30  # of addresses: a page is memory once it has been written to
_PAGE = 4096
_PAGE_BITS = 18  # a block's number: how many were taken before, then its first page
_WORDS = _PAGE // 8
_SIZE, _NUMBER = 0, 1  # words before a block
_BEFORE_BYTES = 64
RESTED_S = 2.0
"""A block that was given back is taken again after this: a tick is over by then."""


def has_memfd() -> bool:
    """Return whether this machine has such memory."""
    return hasattr(os, "memfd_create")


class MemfdMemory:
    """`voip.media.rings.RingMemory` in a memfd of `size` bytes of addresses.

    The process that makes it takes blocks and gives them back; others open its `fd`, and find
    them. `retire` and `recycle` may be called from any thread.
    """

    def __init__(self, size: int = _BYTES, fd: int | None = None) -> None:
        if fd is None:
            fd = os.memfd_create("voip-rings", os.MFD_CLOEXEC)
            os.ftruncate(fd, size)
        self.fd = fd
        """To be handed to other processes; -1 after `close`."""
        self._mapped = mmap.mmap(fd, os.fstat(fd).st_size)
        self._pages = len(self._mapped) // _PAGE
        self._words = np.frombuffer(self._mapped, np.int64)
        self._next_page = 0
        self._taken = 0
        self._rest: dict[int, deque[tuple[int, float]]] = defaultdict(deque)  # pages -> page, when
        self._closed = False

    def take(self, size: int) -> int:
        """Return the number of a block of `size` bytes, all zero."""
        if self._closed:
            raise MediaError("the media engine has been closed")
        pages = _pages(size)
        resting = self._rest[pages]
        if resting and time.monotonic() - resting[0][1] >= RESTED_S:
            page = resting.popleft()[0]
            # not zeros that are written: a ring is memory only as far as it is used
            self._mapped.madvise(mmap.MADV_REMOVE, page * _PAGE, pages * _PAGE)
        elif self._next_page + pages <= self._pages:
            page = self._next_page
            self._next_page += pages
        else:
            raise MediaError("the memory for audio rings is full", hint="close some calls")
        self._taken += 1
        number = self._taken << _PAGE_BITS | page
        self._words[page * _WORDS + _SIZE] = size
        self._words[page * _WORDS + _NUMBER] = number
        return number

    def holds(self, number: int) -> bool:
        """Return whether there is such a block, and it has not been retired."""
        at = (number & ((1 << _PAGE_BITS) - 1)) * _WORDS + _NUMBER
        words = self._words
        return at < words.size and bool(words[at] == number)

    def view(self, number: int) -> memoryview:
        """Return the block."""
        at = number & ((1 << _PAGE_BITS) - 1)
        size = int(self._words[at * _WORDS + _SIZE])
        begin = at * _PAGE + _BEFORE_BYTES
        return memoryview(self._mapped)[begin : begin + size]

    def retire(self, number: int) -> None:
        """Let `holds` say no from now on, in all processes."""
        if self.holds(number):
            self._words[(number & ((1 << _PAGE_BITS) - 1)) * _WORDS + _NUMBER] = 0

    def recycle(self, number: int) -> None:
        """Let a retired block be taken again after a while."""
        if not self._closed:
            page = number & ((1 << _PAGE_BITS) - 1)
            pages = _pages(int(self._words[page * _WORDS + _SIZE]))
            self._rest[pages].append((page, time.monotonic()))

    def close(self) -> None:
        """Let go of the memory; who still holds a block of it keeps it until then."""
        if self._closed:
            return
        self._closed = True
        self._words = np.zeros(0, np.int64)
        os.close(self.fd)
        self.fd = -1
        with contextlib.suppress(BufferError):  # it is let go of with the last block
            self._mapped.close()


def _pages(size: int) -> int:
    """Return how many pages a block of `size` bytes takes, with what is before it."""
    return -(-(_BEFORE_BYTES + size) // _PAGE)

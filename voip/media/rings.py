"""Audio between the tick and everybody else: single-producer single-consumer rings.

A ring is a block of memory: a header of counters and int16 samples. One side writes, the other
reads, neither waits for a lock; each counter has one writer. The engine knows rings by number, so
that the same commands serve a thread and, with the block in shared memory, another process.
"""

from __future__ import annotations

import weakref
from typing import Protocol

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError

__all__ = ["AudioRing", "RingArena", "RingMemory"]

_WRITTEN, _READ, _LOST, _CLOSED, _CLAIMED, _RATE = range(6)
_HEADER_BYTES = 64
_FEW = 64
_GAIN, _GAIN_NOW = 6, 7  # float64, less 1: a new ring is neither louder nor softer


class AudioRing:
    """A ring of int16 mono samples over `memory`, `rate_hz` of them a second.

    Counters only grow: `written` and `read` count samples since the start; `claimed` runs ahead of
    `written` while the writer is at work, so that a reader sees what is being overwritten. `push`
    keeps what is there and takes what fits (an application feeding the engine); `overwrite` takes
    all and lets the reader lose the oldest (the engine feeding an application).
    """

    def __init__(self, memory: memoryview) -> None:
        self._header = np.frombuffer(memory, np.int64, _HEADER_BYTES // 8)
        self._gains = self._header.view(np.float64)
        self._data = np.frombuffer(memory, np.int16, offset=_HEADER_BYTES)
        self.capacity = self._data.size

    @property
    def rate_hz(self) -> int:
        """Samples a second; the engine converts where a stream has another rate."""
        return int(self._header[_RATE])

    @rate_hz.setter
    def rate_hz(self, rate_hz: int) -> None:
        self._header[_RATE] = rate_hz

    @property
    def available(self) -> int:
        """Samples that can be read."""
        return max(0, int(self._header[_WRITTEN]) - max(int(self._header[_READ]), self._oldest))

    @property
    def space(self) -> int:
        """Samples that `push` would take."""
        return max(0, self.capacity - int(self._header[_WRITTEN] - self._header[_READ]))

    @property
    def lost(self) -> int:
        """Samples the reader was too slow for, since the start."""
        return int(self._header[_LOST])

    @property
    def written(self) -> int:
        """Samples written since the start: the number of the next one."""
        return int(self._header[_WRITTEN])

    @property
    def position(self) -> int:
        """Number of the next sample to be read."""
        return int(self._header[_READ])

    @property
    def gain(self) -> float:
        """How loud the reader of `take` makes it, linear; below 0: it takes nothing (paused)."""
        return float(self._gains[_GAIN]) + 1.0

    @gain.setter
    def gain(self, gain: float) -> None:
        self._gains[_GAIN] = gain - 1.0

    def start_at(self, gain: float) -> None:
        """Begin with this gain, and not with a ramp to it; before anybody reads."""
        self._gains[_GAIN] = self._gains[_GAIN_NOW] = gain - 1.0

    @property
    def paused(self) -> bool:
        """Whether the reader takes nothing: it was paused, and has faded out."""
        return self.gain < 0 and float(self._gains[_GAIN_NOW]) == -1.0

    @property
    def closed(self) -> bool:
        """The writer has said that nothing more will come."""
        return bool(self._header[_CLOSED])

    def close(self) -> None:
        """Say that nothing more will be written."""
        self._header[_CLOSED] = 1

    def push(self, samples: npt.NDArray[np.int16]) -> int:
        """Write as many of `samples`, int16 (n,), as there is space for; return how many."""
        count = min(samples.size, self.space)
        self._put(samples[:count])
        return count

    def overwrite(self, samples: npt.NDArray[np.int16]) -> None:
        """Write all of `samples`, int16 (n,); the oldest may be lost."""
        for start in range(0, samples.size, self.capacity):
            self._put(samples[start : start + self.capacity])

    def read(self, count: int) -> npt.NDArray[np.int16]:
        """Take at most `count` samples, int16 (n,), the oldest first; empty where none is there.

        Samples that were overwritten before they were read are skipped and counted in `lost`.
        """
        while True:
            start = int(self._header[_READ])
            if start < self._oldest:
                # the writer went round: go on a little after the oldest that is whole, or it
                # would be overwritten while it is copied
                ahead = self._oldest + self.capacity // 8 - start
                skip = min(ahead, int(self._header[_WRITTEN]) - start)
                self._header[_LOST] += skip
                self._header[_READ] = start = start + skip
            count = min(count, int(self._header[_WRITTEN]) - start)
            at = start % self.capacity
            first = self._data[at : at + count]
            out = np.concatenate((first, self._data[: count - first.size]))
            if start >= self._oldest:
                self._header[_READ] = start + count
                return out

    def take(self, count: int) -> npt.NDArray[np.int16] | npt.NDArray[np.float32]:
        """As `read`, as loud as `gain` says: float32 of the same scale where that is not 1.

        A gain that has changed is reached within what is taken, by a ramp; paused, nothing is.
        """
        if not (self._header[_GAIN] or self._header[_GAIN_NOW]):
            return self.read(count)
        if self.paused:
            return np.zeros(0, np.int16)
        pcm = self.read(count)
        now, gain = float(self._gains[_GAIN_NOW]) + 1.0, max(self.gain, 0.0)
        if now == gain:
            return pcm * np.float32(gain)
        self._gains[_GAIN_NOW] = gain - 1.0
        ramp = np.linspace(now, gain, max(count, 1), dtype=np.float32)
        return pcm * ramp[: pcm.size]

    def clear(self) -> None:
        """Reader's side: drop what is there."""
        self._header[_READ] = self._header[_WRITTEN]

    def keep_last(self, count: int) -> int:
        """Reader's side: drop all but the last `count` samples, and say how many are there."""
        written = int(self._header[_WRITTEN])
        self._header[_READ] = start = max(written - count, self._oldest + self.capacity // 8, 0)
        return written - start

    @property
    def _oldest(self) -> int:
        """Number of the oldest sample that nobody is overwriting."""
        return int(self._header[_CLAIMED]) - self.capacity

    def _put(self, samples: npt.NDArray[np.int16]) -> None:
        written = int(self._header[_WRITTEN])
        self._header[_CLAIMED] = written + samples.size
        at = written % self.capacity
        head = min(samples.size, self.capacity - at)
        self._data[at : at + head] = samples[:head]
        self._data[: samples.size - head] = samples[head:]
        self._header[_WRITTEN] = written + samples.size


class RingMemory(Protocol):
    """Memory that several processes see. A block's number says where it lies, in all of them."""

    def take(self, size: int) -> int:
        """Return the number of a block of `size` bytes, all zero; `MediaError` when it is full."""
        ...

    def holds(self, number: int) -> bool:
        """Return whether there is such a block, and it has not been retired."""
        ...

    def view(self, number: int) -> memoryview:
        """Return the block."""
        ...

    def retire(self, number: int) -> None:
        """Let `holds` say no from now on, in all processes."""
        ...

    def recycle(self, number: int) -> None:
        """Let a retired block be taken again, when nobody can be at work on it any more."""
        ...


class RingArena:
    """The rings of one engine, by number; over `memory`, of several in several processes.

    What one process has allocated the others find by its number. Only who has allocated may
    release.
    """

    def __init__(self, limit: int = 65536, memory: RingMemory | None = None) -> None:
        self._limit = limit
        self._next = 0
        self._rings: dict[int, AudioRing] = {}
        self._swept_at = _FEW
        self._memory = memory

    def __len__(self) -> int:
        return len(self._rings)

    def allocate(self, samples: int, rate_hz: int = 8000) -> int:
        """Make a ring with room for `samples` int16 samples, `rate_hz` a second; return its number.

        Raises `MediaError` when the arena is full.
        """
        if len(self._rings) >= self._limit:
            raise MediaError(f"{self._limit} audio rings are in use", hint="close some calls")
        size = _HEADER_BYTES + 2 * samples
        if self._memory is None:
            number = self._next
            self._next += 1
            ring = AudioRing(memoryview(bytearray(size)))
        else:
            number = self._memory.take(size)
            ring = AudioRing(self._memory.view(number))
        ring.rate_hz = rate_hz
        self._rings[number] = ring
        return number

    def ring(self, number: int) -> AudioRing:
        """Return ring `number`; `MediaError` when it is gone."""
        ring = self._rings.get(number)
        memory = self._memory
        if memory is not None:
            if not memory.holds(number):
                self._rings.pop(number, None)  # where it was found, not allocated
                ring = None
            elif ring is None:
                self._forget_retired(memory)
                ring = self._rings[number] = AudioRing(memory.view(number))
        if ring is None:
            raise MediaError(f"there is no audio ring {number}")
        return ring

    def release(self, number: int) -> None:
        """Forget ring `number`; whoever still holds it keeps a ring nobody serves."""
        ring, memory = self._rings.get(number), self._memory
        if ring is not None and memory is not None:
            memory.retire(number)  # before it is forgotten: another thread would find it again
            weakref.finalize(ring, memory.recycle, number).atexit = False
        self._rings.pop(number, None)

    def _forget_retired(self, memory: RingMemory) -> None:
        """Forget what was found and has been given back since, whenever some have come to it.

        Nobody says so to an engine that is done with a ring before its owner is.
        """
        if len(self._rings) >= self._swept_at:
            for number in tuple(self._rings):
                if not memory.holds(number):
                    self._rings.pop(number, None)
            self._swept_at = len(self._rings) + max(_FEW, len(self._rings) // 8)

    def block(self, number: int) -> memoryview:
        """Return memory that was taken for something else; `MediaError` where there is none."""
        if self._memory is None or not self._memory.holds(number):
            raise MediaError(f"there is no block {number} of shared memory")
        return self._memory.view(number)

    def take(self, size: int) -> int:
        """Take a block for something else; return its number. `MediaError` where there is none."""
        if self._memory is None:
            raise MediaError("the rings of this engine are seen by no other")
        return self._memory.take(size)

    def give_back(self, number: int) -> None:
        """Give back what was taken by `take`."""
        if self._memory is not None and self._memory.holds(number):
            self._memory.retire(number)
            self._memory.recycle(number)

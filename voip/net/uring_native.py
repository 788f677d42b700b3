"""What io_uring's queues do in C, where it was built: `_uring.c`, decision 0125.

Its words say where everything lies; they are written anew when an array has moved.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.media.io import HEAD_BYTES, SLOT_BYTES, PacketBatch
from voip.net.line import MAX_RTCP_READS, MAX_RTP_READS
from voip.net.uring import Queues
from voip.optional_c import c_is_wanted

try:
    from voip.net import _uring
except ImportError:  # there was no compiler
    _uring = None  # type: ignore[assignment]

__all__ = ["Inlet", "Outlet", "available"]


def available() -> bool:
    """Whether it was built; VOIP_NATIVE=0 in the environment does without it all the same."""
    return _uring is not None and c_is_wanted()


class Inlet:
    """From a completion queue to the columns of a batch.

    ring: uint64 (slots, 2), from which the kernel takes the batch's slots; generations: uint32
    (lines,); expected: uint64 (lines, words of a name).
    """

    def __init__(
        self,
        queues: Queues,
        ring: npt.NDArray[np.uint64],
        batch: PacketBatch,
        generations: npt.NDArray[np.uint32],
        expected: npt.NDArray[np.uint64],
    ) -> None:
        lines = min(len(generations), len(expected))
        counts = np.zeros(max(1, lines), np.uint8)
        self._keeps = ring, batch, generations, expected, counts
        columns = (
            batch.slots, batch.lengths, batch.rows, batch.arrival, batch.rtcp, batch.source,
        )  # fmt: skip
        self._words = np.array(
            [
                *queues.completion_words(), ring.ctypes.data, len(ring),
                batch.memory.ctypes.data, batch.memory.strides[0], HEAD_BYTES, SLOT_BYTES,
                lines, generations.ctypes.data, expected.ctypes.data, counts.ctypes.data,
                MAX_RTP_READS, MAX_RTCP_READS, *(column.ctypes.data for column in columns),
            ],
            np.uint64,
        )  # fmt: skip

    def is_of(self, generations: npt.NDArray[np.uint32], expected: npt.NDArray[np.uint64]) -> bool:
        """Whether it still looks at these arrays."""
        return self._keeps[2] is generations and self._keeps[3] is expected

    def read(self, used: int, now: float, offset: float, latest: float) -> int:
        """Read what has arrived, into the first places of the batch; -1: not all is ordinary.

        used: slots that the kernel has taken since the start. Arrivals are the kernel's wall-clock
        stamps less `offset`, none later than `latest`; `now` where there is none, and everywhere
        if `offset` is not a number.
        """
        return _uring.read(self._words, used, now, offset, latest)


class Outlet:
    """From prepared operations, bytes (rows, 64), to a submission queue. ready: bool (rows,)."""

    def __init__(
        self,
        queues: Queues,
        prepared: npt.NDArray[np.uint64],
        ready: npt.NDArray[np.bool_],
    ) -> None:
        self._keeps = prepared, ready
        self._words = np.array(
            [*queues.submission_words(), len(ready), prepared.ctypes.data, ready.ctypes.data],
            np.uint64,
        )

    def send(self, rows: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> int | None:
        """Send a packet for each of `rows`, no more than there are entries.

        Returns how many the kernel took, or -errno; None: some rows cannot send, nothing was done.
        """
        return _uring.send(self._words, rows, lengths)

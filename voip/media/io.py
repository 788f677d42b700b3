"""What the engine asks of a network: packets in batches, never one by one.

`net` implements it with one UDP socket per stream, `sim` with a virtual network. A *row* is the
engine's index of a stream; the implementation keeps what it needs per row and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from voip.types import Address

__all__ = ["HEAD_BYTES", "SLOT_BYTES", "PacketBatch", "PacketIO", "PacketTap"]

SLOT_BYTES = 1536
"""Room for one received packet (an Ethernet MTU); longer datagrams are dropped and counted."""
HEAD_BYTES = 80
"""Room before it, for what a kernel writes there of its source and its arrival."""

PacketTap: TypeAlias = Callable[[bool, int, Address, Address, memoryview, float], None]
"""Sees every packet: (sent, row, local, remote, packet, monotonic time). Must not keep the view."""


class PacketBatch:
    """Preallocated arrays that one `PacketIO.receive` fills; entries `[:count]` are valid.

    What it has received it does not read again: the engine may move packets within the batch.

    data: uint8 (capacity, SLOT_BYTES), each row of it a slot for a packet; slots: intp
    (capacity,), where in `data` the packets lie; rows: intp, lengths: int32, (capacity,);
    arrival: float64 (capacity,), monotonic seconds; rtcp: bool (capacity,), came to the RTCP port;
    source: int32 (capacity,), -1 where the packet came from the address the row is connected to
    (RTP or RTCP respectively), else an index into `strangers`.
    """

    def __init__(self, capacity: int = 2048) -> None:
        self.capacity = capacity
        self.count = 0
        self.memory: npt.NDArray[np.uint8] = np.zeros((capacity, HEAD_BYTES + SLOT_BYTES), np.uint8)
        self.data: npt.NDArray[np.uint8] = self.memory[:, HEAD_BYTES:]
        self.slots: npt.NDArray[np.intp] = np.arange(capacity)
        self.lengths: npt.NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.rows: npt.NDArray[np.intp] = np.zeros(capacity, np.intp)
        self.arrival: npt.NDArray[np.float64] = np.zeros(capacity, np.float64)
        self.rtcp: npt.NDArray[np.bool_] = np.zeros(capacity, np.bool_)
        self.source: npt.NDArray[np.int32] = np.full(capacity, -1, np.int32)
        self.strangers: list[Address] = []

    def packet(self, i: int) -> memoryview:
        """Return packet `i`: a view, which the next `receive` may overwrite."""
        return memoryview(self.data[self.slots[i]])[: int(self.lengths[i])]


class PacketIO(Protocol):
    """Carries packets for the rows of one engine. Called by the engine's tick only.

    Never raises for what the network does: a refused or full send is counted. `open` raises
    `TransportError` when no port can be had. `kernel_timestamps`: whether arrival times are the
    kernel's, and not when the packet was read.
    """

    @property
    def kernel_timestamps(self) -> bool:
        """Whether arrival times are the kernel's."""
        ...

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        """Bind a port pair on `host` for `row`; return the local RTP and RTCP addresses."""
        ...

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        """Set where the row sends to and whom it expects. None: nobody (yet)."""
        ...

    def close(self, row: int) -> None:
        """Release the row's ports. Closing a row that is not open does nothing."""
        ...

    def receive(self, batch: PacketBatch, now: float) -> int:
        """Fill `batch` with what has arrived, at most its capacity; return the count.

        At most 32 RTP and 4 RTCP packets per row and call, so that a flood on one row takes
        nothing from the others; the rest stays queued.
        """
        ...

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        """Send one RTP packet for each of `rows`: `packets[row, :length]`, uint8 (table, width).

        `packets` is indexed by row, not by position, and is the same array call after call
        until the table grows. Return how many were handed to the network.
        """
        ...

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        """Send a single packet (telephone-event, RTCP) to the row's peer: for what is rare."""
        ...

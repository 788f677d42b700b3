"""RTCP by the port of RTP (RFC 5761): told apart as packets come, and sent there.

Between an engine and its network, so that nobody above asks by which port a report came. What is
encrypted leaves both kinds their first octets (RFC 3711), so it does not matter here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.media.columns import Bools
from voip.media.io import PacketBatch, PacketIO
from voip.rtp.rtcp import RTCP_TYPES
from voip.types import Address

__all__ = ["Multiplexer"]


class Multiplexer:
    """A `PacketIO` over another one. `batch.rtcp` says what is RTCP, whatever its port."""

    def __init__(self, io: PacketIO) -> None:
        self._io = io
        self._rows: Bools = np.zeros(0, np.bool_)
        self.used = False
        """Whether any row's RTCP may come to its RTP port."""

    def set(self, row: int, multiplexed: bool) -> None:
        """Let RTCP of a row take the way of its RTP, or its own."""
        if row >= self._rows.size:
            self._rows = np.concatenate((self._rows, np.zeros(row + 8, np.bool_)))
        self._rows[row] = multiplexed
        self.used = bool(self._rows.any())

    def is_set(self, row: int) -> bool:
        """Whether RTCP of a row takes the way of its RTP."""
        return row < self._rows.size and bool(self._rows[row])

    @property
    def kernel_timestamps(self) -> bool:
        """Whether arrival times are the kernel's."""
        return self._io.kernel_timestamps

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        """Bind a port pair; each has its own use."""
        self.set(row, False)
        return self._io.open(row, host)

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        """Set where the row sends to and whom it expects."""
        self._io.connect(row, rtp, rtcp)

    def close(self, row: int) -> None:
        """Release the row's ports."""
        self.set(row, False)
        self._io.close(row)

    def receive(self, batch: PacketBatch, now: float) -> int:
        """Fill `batch`, and say what of it is RTCP."""
        received = self._io.receive(batch, now)
        if self.used and received:
            rows = batch.rows[:received]
            known = rows < self._rows.size
            kind = batch.data[batch.slots[:received], 1]
            known &= (kind >= RTCP_TYPES.start) & (kind < RTCP_TYPES.stop)
            known[known] = self._rows[rows[known]]
            batch.rtcp[:received] |= known
        return received

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        """Send one RTP packet for each of `rows`."""
        return self._io.send(rows, packets, lengths)

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        """Send a single packet; RTCP by whichever port."""
        return self._io.send_one(row, packet, rtcp=rtcp and not self.is_set(row))

"""SRTP in the tick: what stands between an engine and its network, and lets nothing by in clear.

All packets of an engine go through here, of RTP and of RTCP. What comes for a protected row is
authenticated and decrypted where it lies in the batch, before anybody has looked at it: neither
sequence numbers nor sources are believed of what is forged. What such a row sends is encrypted in
its packet buffer, right before it goes out. A row whose keys are not known (yet) sends and hears
nothing. While no row is protected, all this is one look at a dictionary for each batch.

Where it was built, `_srtp.c` takes the ordinary packets through libsrtp in one loop; the rest, and
all of it elsewhere, goes packet by packet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.media.columns import Ints, Rows, every, where
from voip.media.commands import ProtectStream
from voip.media.io import HEAD_BYTES, SLOT_BYTES, PacketBatch, PacketIO
from voip.media.phases import Phases
from voip.media.srtp_rows import (
    PLAIN,
    SINGLY,
    Way,
    available,
    functions,
    has_counter_mode,
    is_looped_by_us,
)
from voip.media.table import StreamTable
from voip.rtp.srtp.context import REFUSED, REPLAYED, Receiver, Sender
from voip.rtp.srtp.keys import ROOM_BYTES, SrtpKeys
from voip.rtp.srtp.stream import Inbound, Outbound, require
from voip.types import Address

__all__ = ["Protection", "available"]

_PASSED, _ALONE, _FORGED, _REPLAYED, _WITHHELD = range(5)
"""And a packet: it is fine, is to be treated alone, or is to be dropped."""


@dataclass(slots=True)
class _Keys:
    """What protects a row."""

    outbound: Outbound
    inbound: Inbound


class Protection:
    """The `PacketIO` of an engine, over the one of its network.

    native: whether the loop in C is used; None: where it is there. library: whether libsrtp is;
    None: where it has the suite.
    """

    def __init__(
        self,
        table: StreamTable,
        io: PacketIO,
        *,
        native: bool | None = None,
        library: bool | None = None,
        phases: Phases | None = None,
    ) -> None:
        self._phases = Phases() if phases is None else phases
        self._table = table
        self._io = io
        self._library = library
        self._wants_native = native is not False
        self._native = False  # before anything is protected, libsrtp is not even loaded
        self._rows: dict[int, _Keys] = {}
        self._inward, self._outward = Way(), Way()
        # of rows that have but one key
        self._only_inbound: dict[int, Receiver | None] = {}
        # and, of those, no MKI, and are none of C's
        self._own_inbound: dict[int, Receiver] = {}
        self._own_outbound: dict[int, Sender] = {}
        self._functions = np.zeros(0, np.uint64)

    def apply(self, command: ProtectStream, now: float) -> None:
        """Protect a stream by other keys from now on.

        Raises `MediaError` where there is no such stream, or nothing installed has the suite; then
        nothing has changed.
        """
        row = self._table.row(command.stream)
        for keys in (command.send, command.receive):
            if keys is not None:
                require(keys, self._library)
        if self._wants_native and not self._native and available():
            self._native, self._functions = True, functions()
        of_row = self._rows.get(row)
        if of_row is None:
            of_row = _Keys(Outbound(library=self._library), Inbound(library=self._library))
        for way in (self._inward, self._outward):
            way.room_for(row, self._table.active.size)
            way.settle(row)
            way.change(row, None, None, native=False)
        self._rows[row] = of_row  # from here on nothing gets by, whatever happens
        for own in (self._own_inbound, self._own_outbound, self._only_inbound):
            own.pop(row, None)
        of_row.outbound.rekey(command.send, library=self._library_for(command.send))
        of_row.inbound.rekey(command.receive, now, library=self._library_for(command.receive))
        sender, keys = of_row.outbound.sender, of_row.outbound.keys
        self._outward.change(row, sender, keys, native=self._native)
        if sender and keys and not keys.mki and self._outward.mode[row] == SINGLY:
            self._own_outbound[row] = sender
        self._hear(row, of_row.inbound)

    def _library_for(self, keys: SrtpKeys | None) -> bool | None:
        """Whether libsrtp is used for these keys: not where the loop in C needs none of it."""
        sooner = self._library is None and self._native and is_looped_by_us(keys)
        return False if sooner and has_counter_mode() else None

    def _hear(self, row: int, inbound: Inbound) -> None:
        """Hear a row the quickest way."""
        receiver, keys = inbound.receiver, inbound.keys
        self._only_inbound[row] = receiver
        self._inward.change(row, receiver, keys, native=self._native)
        self._own_inbound.pop(row, None)
        if receiver and keys and not keys.mki and self._inward.mode[row] == SINGLY:
            self._own_inbound[row] = receiver

    # ------------------------------------------------------------ rows

    @property
    def kernel_timestamps(self) -> bool:
        """Whether arrival times are the kernel's."""
        return self._io.kernel_timestamps

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        """Bind a port pair; the row is not protected."""
        self._forget(row)
        return self._io.open(row, host)

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        """Set where the row sends to and whom it expects."""
        self._io.connect(row, rtp, rtcp)

    def close(self, row: int) -> None:
        """Release the row's ports, and forget its keys."""
        self._io.close(row)
        self._forget(row)

    def _forget(self, row: int) -> None:
        self._rows.pop(row, None)
        self._only_inbound.pop(row, None)
        self._own_inbound.pop(row, None)
        self._own_outbound.pop(row, None)
        self._inward.forget(row)
        self._outward.forget(row)

    # ------------------------------------------------------------ received

    def receive(self, batch: PacketBatch, now: float) -> int:
        """Fill `batch` with what has arrived and is to be believed; return the count."""
        received = self._io.receive(batch, now)
        if not self._rows or not received:
            return received
        self._phases.end("receive")
        way = self._inward
        way.room_for(int(batch.rows[:received].max()), self._table.active.size)
        verdicts = way.judge(received)
        rows = batch.rows[:received]
        if self._native:
            others = way.unprotect(self._functions, batch, rows, verdicts)
        else:
            np.not_equal(way.mode[rows], PLAIN, out=verdicts.view(np.bool_))
            others = int(verdicts.sum())
        if others:
            received = self._receive_others(batch, verdicts, now)
        self._phases.end("unprotect")
        return received

    def _receive_others(
        self, batch: PacketBatch, verdicts: npt.NDArray[np.uint8], now: float
    ) -> int:
        """Unprotect what is to be treated alone, drop what is forged; return the rest."""
        alone = where(verdicts == _ALONE)
        if alone.size:
            lengths = self._unprotect_each(batch, alone, now)
            batch.lengths[alone] = np.maximum(lengths, 0)
            verdicts[alone] = np.where(
                lengths >= 0, _PASSED, np.where(lengths == REPLAYED, _REPLAYED, _FORGED)
            )
        passed = verdicts == _PASSED
        received = verdicts.size
        if every(passed):
            return received
        rows = batch.rows[:received]
        np.add.at(self._table.forged, rows[verdicts == _FORGED], 1)
        np.add.at(self._table.replayed, rows[verdicts == _REPLAYED], 1)
        left = int(np.count_nonzero(passed))
        for column in (
            batch.slots, batch.rows, batch.lengths, batch.arrival, batch.rtcp, batch.source,
        ):  # fmt: skip
            column[:left] = column[:received][passed]
        batch.count = left
        return left

    def _unprotect_each(self, batch: PacketBatch, alone: Rows, now: float) -> Ints:
        """Unprotect the packets `alone` (k,); return their lengths (k,), or what is wrong."""
        memory = batch.memory.data.cast("B")
        own, lengths = self._own_inbound, []
        for row, begin, length, rtcp in zip(
            batch.rows[alone].tolist(),
            (batch.slots[alone] * (HEAD_BYTES + SLOT_BYTES) + HEAD_BYTES).tolist(),
            batch.lengths[alone].tolist(),
            batch.rtcp[alone].tolist(),
            strict=True,
        ):
            packet = memory[begin : begin + SLOT_BYTES]
            if row in own and not rtcp:
                lengths.append(own[row].unprotect(packet, length))
            else:
                lengths.append(self._unprotect(row, packet, length, now, rtcp=rtcp))
        return np.array(lengths, np.int64)

    def _unprotect(
        self, row: int, packet: memoryview, length: int, now: float, *, rtcp: bool
    ) -> int:
        way, inbound = self._inward, self._rows[row].inbound
        if rtcp:
            return inbound.unprotect(packet, length, now, rtcp=True)
        way.settle(row)
        length = inbound.unprotect(packet, length, now, rtcp=False)
        if length >= 0:
            if inbound.receiver is not self._only_inbound.get(row):  # old keys have run out
                self._hear(row, inbound)
            way.follow(row, _ssrc(packet))
        return length

    # ------------------------------------------------------------ sent

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        """Send one RTP packet for each of `rows`; of protected ones `packets` are written to."""
        if not self._rows:
            return self._io.send(rows, packets, lengths)
        way = self._outward
        verdicts = way.judge(rows.size)
        way.room_for(len(packets) - 1, self._table.active.size)
        if self._native:
            others = way.protect(self._functions, rows, packets, lengths, verdicts)
        else:
            np.not_equal(way.mode[rows], PLAIN, out=verdicts.view(np.bool_))
            others = int(verdicts.sum())
        if others:
            passed = self._protect_others(rows, packets, lengths, verdicts)
            if not every(passed):
                np.add.at(self._table.withheld, rows[~passed], 1)
                rows, lengths = rows[passed], lengths[passed]
        self._phases.end("protect")
        return self._io.send(rows, packets, lengths) if rows.size else 0

    def _protect_others(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
        verdicts: npt.NDArray[np.uint8],
    ) -> npt.NDArray[np.bool_]:
        """Protect what is to be treated alone; return which of the packets (k,) may go out."""
        alone = where(verdicts == _ALONE)
        memory, width = packets.data.cast("B"), packets.shape[1]
        own, most, found = self._own_outbound, width - ROOM_BYTES, []
        for row, length in zip(rows[alone].tolist(), lengths[alone].tolist(), strict=True):
            packet = memory[row * width : (row + 1) * width]
            if row in own and length <= most:
                found.append(own[row].protect(packet, length))
            else:
                found.append(self._protect(row, packet, length, rtcp=False))
        lengths[alone] = found
        verdicts[alone] = np.where(lengths[alone] == REFUSED, _WITHHELD, _PASSED)
        passed: npt.NDArray[np.bool_] = verdicts == _PASSED
        return passed

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        """Send a single packet; False when it did not go out."""
        if row in self._rows:
            room = memoryview(bytearray(len(packet) + ROOM_BYTES))
            room[: len(packet)] = packet
            length = self._protect(row, room, len(packet), rtcp=rtcp)
            if length == REFUSED:
                self._table.withheld[row] += not rtcp
                return False
            packet = bytes(room[:length])
        return self._io.send_one(row, packet, rtcp=rtcp)

    def _protect(self, row: int, packet: memoryview, length: int, *, rtcp: bool) -> int:
        way, outbound = self._outward, self._rows[row].outbound
        if length + ROOM_BYTES > len(packet):
            return REFUSED
        if rtcp:
            return outbound.protect(packet, length, rtcp=True)
        way.settle(row)
        length = outbound.protect(packet, length, rtcp=False)
        if length != REFUSED:
            way.follow(row, _ssrc(packet))
        return length


def _ssrc(packet: memoryview) -> int:
    return int.from_bytes(packet[8:12], "big")

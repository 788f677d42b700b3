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

import os
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.columns import ColumnSpec, Ints, Rows, every, grow, make, reset, where
from voip.media.commands import ProtectStream
from voip.media.io import HEAD_BYTES, SLOT_BYTES, PacketBatch, PacketIO
from voip.media.phases import Phases
from voip.media.table import StreamTable
from voip.rtp.srtp.context import REFUSED, REPLAYED, Looped, Receiver, Sender
from voip.rtp.srtp.keys import ROOM_BYTES
from voip.rtp.srtp.stream import Inbound, Outbound, has_library, require
from voip.types import Address

try:
    from voip.media import _srtp
except ImportError:  # there was no compiler
    _srtp = None  # type: ignore[assignment]

__all__ = ["Protection", "available"]

_PLAIN, _SINGLY, _FAST = range(3)
"""How a row's packets are treated: not at all, one by one, in C. `_srtp.c` has them, too."""
_PASSED, _ALONE, _FORGED, _REPLAYED, _WITHHELD = range(5)
"""And a packet: it is fine, is to be treated alone, or is to be dropped."""


def available() -> bool:
    """Whether there is a loop in C, and what it calls; VOIP_NATIVE=0 does without it."""
    return _srtp is not None and has_library() and os.environ.get("VOIP_NATIVE") != "0"


class _Way:
    """One direction of all rows, as `_srtp.c` sees it."""

    mode: npt.NDArray[np.uint8]
    session: npt.NDArray[np.uint64]
    ssrc: Ints
    index: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "mode": (np.uint8, _PLAIN, ()),
        "session": (np.uint64, 0, ()),  # libsrtp's, where the loop in C may use it
        "ssrc": (np.int64, -1, ()),  # of the source whose packets it may take
        "index": (np.int64, 0, ()),  # the highest of that source's
    }

    def __init__(self) -> None:
        make(self, 0)
        self.contexts: dict[int, Looped] = {}  # of the rows that may be treated in C
        self.verdicts: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)

    def room_for(self, row: int, rows: int) -> None:
        """Make room for a row, of so many in all."""
        if row >= self.mode.size:
            grow(self, max(rows, row + 1))

    def judge(self, count: int) -> npt.NDArray[np.uint8]:
        """Return room for the verdicts on so many packets."""
        if self.verdicts.size < count:
            self.verdicts = np.zeros(2 * count, np.uint8)
        return self.verdicts[:count]

    def settle(self, row: int) -> None:
        """Tell the context of a row what was done in C, before it is asked anything."""
        context = self.contexts.get(row)
        if context is not None and self.ssrc[row] >= 0:
            context.indexes[int(self.ssrc[row])] = int(self.index[row])

    def change(self, row: int, context: object, *, native: bool) -> None:
        """Treat a row by another context from now on; None: by none that C knows."""
        self.contexts.pop(row, None)
        self.mode[row], self.session[row], self.ssrc[row] = _SINGLY, 0, -1
        if native and isinstance(context, Looped):
            self.contexts[row] = context
            self.mode[row], self.session[row] = _FAST, context.handle

    def follow(self, row: int, ssrc: int) -> None:
        """Let C take the packets of this source, which the context has got to know."""
        context = self.contexts.get(row)
        if context is not None and ssrc in context.indexes:
            self.ssrc[row], self.index[row] = ssrc, context.indexes[ssrc]

    def forget(self, row: int) -> None:
        """Treat a row not at all: it is another one's now."""
        if row < self.mode.size:
            self.contexts.pop(row, None)
            reset(self, row)


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
        self._inward, self._outward = _Way(), _Way()
        # of rows that have but one key and no MKI, and are none of C's
        self._own_inbound: dict[int, Receiver] = {}
        self._own_outbound: dict[int, Sender] = {}
        self._functions = (0, 0)

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
            self._native, self._functions = True, _functions()
        of_row = self._rows.get(row)
        if of_row is None:
            of_row = _Keys(Outbound(library=self._library), Inbound(library=self._library))
        for way in (self._inward, self._outward):
            way.room_for(row, self._table.active.size)
            way.settle(row)
        self._rows[row] = of_row  # from here on nothing gets by, whatever happens
        self._outward.change(row, None, native=False)
        self._hear_by(row, None)
        self._own_outbound.pop(row, None)
        of_row.outbound.rekey(command.send)
        of_row.inbound.rekey(command.receive, now)
        simple = not (command.send and command.send.mki)
        sender = of_row.outbound.sender if simple else None
        self._outward.change(row, sender, native=self._native)
        if sender is not None and self._outward.mode[row] == _SINGLY:
            self._own_outbound[row] = sender
        self._hear_by(row, of_row.inbound.receiver)

    def _hear_by(self, row: int, receiver: Receiver | None) -> None:
        """Hear a row by one context, the quickest way; None: by several, or with an MKI."""
        self._inward.change(row, receiver, native=self._native)
        self._own_inbound.pop(row, None)
        if receiver is not None and self._inward.mode[row] == _SINGLY:
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
            others = _srtp.unprotect(
                self._functions[1], way.mode, way.session, way.ssrc, way.index,
                rows, batch.rtcp, batch.memory, HEAD_BYTES, batch.slots, batch.lengths, verdicts,
            )  # fmt: skip
        else:
            np.not_equal(way.mode[rows], _PLAIN, out=verdicts.view(np.bool_))
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
            if way.mode[row] == _SINGLY and inbound.receiver is not None:  # old keys have run out
                self._hear_by(row, inbound.receiver)
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
            others = _srtp.protect(
                self._functions[0], way.mode, way.session, way.ssrc, way.index,
                rows, packets, packets.shape[1], lengths, verdicts,
            )  # fmt: skip
        else:
            np.not_equal(way.mode[rows], _PLAIN, out=verdicts.view(np.bool_))
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


def _functions() -> tuple[int, int]:
    from voip.rtp.srtp.library import PROTECT, UNPROTECT

    return PROTECT, UNPROTECT

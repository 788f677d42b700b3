"""From PCM to packets: encode a step of many rows, fill packets, hand them to the network.

Every row has its own sample clock and packet time; a packet goes out when it is full. The packet
buffer of a row is written in place and sent from there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from voip.codecs.pcm import Octets, Rounding
from voip.media.adapter import MAX_PAYLOAD, Encoding, Pcm
from voip.media.columns import (
    Bools,
    ColumnSpec,
    Ints,
    Rows,
    blocks,
    distinct,
    every,
    grow,
    make,
    reset,
    where,
)
from voip.media.extensions import EXTENSION_BYTES, ExtensionWriter
from voip.media.io import PacketIO
from voip.media.lane import Lane
from voip.media.red_sender import RedSender
from voip.media.voices import STEPS_PER_SECOND, Voice
from voip.media.voicing import TOGETHER, Voicing
from voip.rtp.packet import HEADER_BYTES, pack_header, write_headers
from voip.rtp.srtp.keys import ROOM_BYTES

__all__ = ["DTX_OCTETS", "GATHERED", "KEPT", "MAX_PTIME_MS", "OTHERS", "Transmitter"]

MAX_PTIME_MS = 120
_PACKET_BYTES = HEADER_BYTES + EXTENSION_BYTES + MAX_PAYLOAD + ROOM_BYTES
OTHERS, KEPT, GATHERED = -1, -2, -3
"""Instead of a payload's size: the row's voice is to be asked; more is needed for it; it is to be
coded together with others."""
DTX_OCTETS = 2
"""A payload no longer than this says that nothing is said: it need not go out (RFC 7587, 3.1.3)."""


class Transmitter:
    """Sending state of every row."""

    sending: Bools
    code: npt.NDArray[np.uint8]
    payload_type: npt.NDArray[np.uint8]
    ssrc: Ints
    clock: Ints
    span: Ints
    first: Ints
    sequence: Ints
    origin: Ints
    start: Ints
    full: Ints
    filled: Ints
    marker: Bools
    octets: Ints
    packets_before: Ints
    octets_before: Ints
    packet: npt.NDArray[np.uint8]

    COLUMNS: ClassVar[ColumnSpec] = {
        "sending": (np.bool_, False, ()),
        "code": (np.uint8, 0, ()),
        "payload_type": (np.uint8, 0, ()),
        "ssrc": (np.int64, 0, ()),
        "clock": (np.int64, 8000, ()),  # what timestamps count, Hz
        "span": (np.int64, 160, ()),  # of a packet, in these
        "first": (np.int64, 0, ()),  # sequence number of the first packet
        "sequence": (np.int64, 0, ()),  # of the next one
        "origin": (np.int64, 0, ()),  # what the timestamps count from
        "start": (np.int64, 0, ()),  # timestamp of the packet being filled
        "full": (np.int64, 160, ()),  # payload bytes of a full packet
        "filled": (np.int64, 0, ()),
        "marker": (np.bool_, True, ()),  # on the next packet: a talkspurt begins
        "octets": (np.int64, 0, ()),
        "packets_before": (np.int64, 0, ()),  # as SSRCs that have since changed
        "octets_before": (np.int64, 0, ()),
        "packet": (np.uint8, 0, (_PACKET_BYTES,)),
    }

    def __init__(self, rows: int, lane: Lane) -> None:
        make(self, rows)
        self._lane = lane
        self.red = RedSender(rows)
        self.extensions = ExtensionWriter(rows)
        self._round = Rounding()

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)
        self.red.grow(rows)
        self.extensions.grow(rows)

    @property
    def packets(self) -> Ints:
        """How many packets each row has sent: int64 (rows,)."""
        return self.sequence - self.first

    def open(self, row: int, *, ssrc: int, sequence: int, timestamp: int) -> None:
        """Start a row afresh with random start values (RFC 3550, 5.1)."""
        reset(self, row)
        self.ssrc[row] = ssrc
        self.first[row] = self.sequence[row] = sequence
        self.origin[row] = timestamp

    def become(self, row: int, *, ssrc: int, sequence: int) -> None:
        """Go on as another source, of which nothing has been sent yet (RFC 3550, 6.4.1, 8.2)."""
        self.packets_before[row] += self.packets[row]
        self.octets_before[row] += self.octets[row]
        self.octets[row] = 0
        self.ssrc[row] = ssrc
        self.first[row] = self.sequence[row] = sequence
        self.marker[row] = True

    def timestamp(self, row: int, now: float) -> int:
        """Return the RTP timestamp of `row` at `now`, not cut to 32 bits; it never stands still."""
        return int(self.origin[row]) + round(now * int(self.clock[row]))

    def count_by(self, row: int, clock_hz: int, now: float) -> None:
        """Let timestamps count another clock from `now` on, without a jump (RFC 7160, 4.1)."""
        before = round(now * int(self.clock[row]))
        self.origin[row] += before - round(now * clock_hz)
        self.clock[row] = clock_hz

    def pause(self, row: int) -> None:
        """Stop sending."""
        self.sending[row] = False
        self.filled[row] = 0
        self.marker[row] = True
        self.red.forget(row)

    def leave_out(self, rows: Rows, steps: Ints) -> None:
        """Let base steps (k,) pass unsent for `rows`: what is in a packet moves behind the gap."""
        self.start[rows] += steps * self.clock[rows] // STEPS_PER_SECOND

    def fill(self, rows: Rows, pcm: npt.NDArray[np.float32], clock: Ints) -> Rows:
        """Put `pcm`, float32 (k, samples), into the packets of `rows` (k,), which are sending.

        `clock` (k,) counts the samples of all time up to the first of these. Returns the rows
        whose packet is full: it is to be sent (`send`) or replaced (`single`).
        """
        coded = self._lane.encode(self.code[rows], pcm)
        size = coded.shape[1]
        filled = self.filled[rows]
        puts = distinct(filled)
        for put in puts:
            here = slice(None) if len(puts) == 1 else filled == put
            if put == 0:
                self.start[rows[here]] = self.origin[rows[here]] + clock[here]
            room = blocks(self.packet, HEADER_BYTES + put, size)
            room[rows[here]] = blocks(coded, 0, size)[here]
        filled += size
        self.filled[rows] = filled
        full = filled >= self.full[rows]
        return rows if every(full) else rows[full]

    def fill_each(
        self,
        rows: Rows,
        pcm: npt.NDArray[np.float32],
        slots: Ints,
        voices: Mapping[int, Voice],
        wanted: Collection[int],
        voicing: Voicing,
    ) -> Rows:
        """As `fill`, for rows with voices of their own; `slots` (k,) count base steps of all time.

        A packet that says nothing is none, but for rows in `wanted`: in theirs goes something else.
        """
        ready, begins = voicing.begun(rows, pcm.shape[1])
        whole = begins & (voicing.says[rows] == pcm.shape[1])
        together = ready & (voicing.say_by[rows] == TOGETHER)
        begins = (begins & together) | whole
        self.begin_each(rows[begins], slots[begins])
        full, sizes = np.zeros(rows.size, np.bool_), np.full(rows.size, OTHERS, np.int32)
        self.say_together(rows, pcm, together, sizes, voices, voicing)
        for at, (row, direct) in enumerate(zip(rows.tolist(), whole.tolist(), strict=True)):
            if sizes[at] != OTHERS:
                full[at] = sizes[at] > 0 and self.keep_payload(
                    row, int(sizes[at]), wanted=row in wanted
                )
            elif direct:
                size = voices[row].say_whole(pcm[at], self.packet[row, HEADER_BYTES:])
                full[at] = self.keep_payload(row, size, wanted=row in wanted)
            else:
                full[at] = self.fill_one(
                    row, pcm[at], int(slots[at]), voices[row], voicing, wanted=row in wanted
                )
        return rows[full]

    def say_together(
        self,
        rows: Rows,
        pcm: Pcm,
        chosen: Bools,
        sizes: npt.NDArray[np.int32],
        voices: Mapping[int, Voice],
        voicing: Voicing,
    ) -> None:
        """Put `pcm` (k, samples) into packets of `chosen` of `rows` (k,), which are coded together.

        `sizes` (k,) says how many octets those took that are full, KEPT where more is needed.
        """
        places, count = where(chosen), pcm.shape[1]
        if not places.size:
            return
        there = rows[places]
        says, in_hand = voicing.says[there], voicing.in_hand[there]
        for at, row, held in zip(places.tolist(), there.tolist(), in_hand.tolist(), strict=True):
            voicing.encodings[row].waiting[held : held + count, 0] = pcm[at]
        sizes[places] = KEPT
        voicing.in_hand[there] += count
        ends = in_hand + count == says
        places, there, says = places[ends], there[ends], says[ends]
        for group in voicing.groups(there, says, hear=False):
            here = there[group]
            encodings = [voicing.encodings[row] for row in here.tolist()]
            octets = self._encode(encodings, int(says[group[0]]))
            if octets is None:
                voices[int(here[0])].tell_broken()
                voicing.in_hand[here] -= count
                sizes[places[group]] = OTHERS
                continue
            voicing.in_hand[here] = 0
            self.packet[here, HEADER_BYTES : HEADER_BYTES + octets.shape[1]] = octets
            sizes[places[group]] = octets.shape[1]

    def _encode(self, encodings: Sequence[Encoding], samples: int) -> Octets | None:
        """Encode what waits in these in one operation: uint8 (k, octets); None where that fails."""
        directs = [encoding.direct for encoding in encodings]
        first = directs[0]
        assert first is not None and first.together is not None  # `groups` has no others
        sound = np.stack([encoding.waiting[:, 0] for encoding in encodings])
        whole = np.empty((len(encodings), samples), np.int16)
        self._round(sound.ravel(), whole.ravel())
        try:
            states = [direct.keeps for direct in directs if direct is not None]
            return first.together.encode(states, whole)
        except Exception:
            return None

    def begin_each(self, rows: Rows, slots: Ints) -> None:
        """Note that with base steps `slots` (k,) new packets of `rows` (k,) begin."""
        self.start[rows] = self.origin[rows] + slots * self.clock[rows] // STEPS_PER_SECOND

    def fill_one(
        self, row: int, pcm: Pcm, slot: int, voice: Voice, voicing: Voicing, *, wanted: bool
    ) -> bool:
        """Put `pcm` (samples,) into the packet of a row with a voice; say whether it is full."""
        encoding = voice.encoding
        if encoding is None:
            return False
        voicing.speaks(row, encoding)
        if encoding.is_empty:
            now = slot * int(self.clock[row]) // STEPS_PER_SECOND
            self.start[row] = int(self.origin[row]) + now
        payload = voice.say(pcm)
        voicing.spoken(row, encoding)
        if payload is None:
            return False
        size = min(payload.size, self.packet.shape[1] - HEADER_BYTES)
        self.packet[row, HEADER_BYTES : HEADER_BYTES + size] = payload[:size]
        return self.keep_payload(row, payload.size, wanted=wanted)

    def keep_payload(self, row: int, octets: int, *, wanted: bool) -> bool:
        """Note that a row's packet holds a payload; say whether it is to be sent."""
        if DTX_OCTETS < octets <= MAX_PAYLOAD or (wanted and octets):
            self.filled[row] = min(octets, MAX_PAYLOAD)
            return True
        self.marker[row] = True
        return False

    def send(self, rows: Rows, io: PacketIO) -> None:
        """Send what is in the packets of `rows`, and what they repeat."""
        kinds, size = self.payload_type[rows], self.filled[rows]
        if self.red.used:
            mine = np.ones(rows.size, np.bool_)
            kinds, size = self.red.wrap(rows, self.packet, kinds, size, self.start[rows], mine)
        level = self.extensions.level[rows] if self.extensions.used else None
        self._send(
            rows, size, level, io, payload_type=kinds, marker=self.marker[rows],
            sequence=self.sequence[rows], timestamp=self.start[rows],
        )  # fmt: skip
        self.sequence[rows] += 1
        self.marker[rows] = False
        self.filled[rows] = 0

    def forward(
        self,
        rows: Rows,
        data: npt.NDArray[np.uint8],
        slots: Rows,
        offset: Ints,
        size: Ints,
        io: PacketIO,
        *,
        payload_type: npt.NDArray[np.uint8],
        marker: Bools,
        sequence: Ints,
        timestamp: Ints,
        level: npt.NDArray[np.int16] | None,
    ) -> None:
        """Send payloads that came for others: `data[slots, offset : offset + size]`, (k,) each.

        `rows` (k,), each at most once, have nothing in hand. Their counters are the caller's.
        Header extensions stay behind, but for what is told of levels (k,): -1, or None, is nothing.
        """
        for start in distinct(offset):
            here = offset == start
            width = int(size[here].max())
            room = blocks(self.packet, HEADER_BYTES, width)
            room[rows[here]] = blocks(data, start, width)[slots[here]]
        if self.red.used:
            mine = payload_type == self.payload_type[rows]
            payload_type, size = self.red.wrap(
                rows, self.packet, payload_type, size, timestamp, mine
            )
        self._send(
            rows, size, level, io, payload_type=payload_type, marker=marker, sequence=sequence,
            timestamp=timestamp,
        )  # fmt: skip

    def _send(
        self,
        rows: Rows,
        size: Ints,
        level: npt.NDArray[Any] | None,
        io: PacketIO,
        *,
        payload_type: npt.NDArray[np.uint8],
        marker: Bools,
        sequence: Ints,
        timestamp: Ints,
    ) -> None:
        """Put headers before the payloads of `rows`, of `size` octets (k,), and send them."""
        write_headers(
            self.packet,
            rows,
            payload_type=payload_type,
            marker=marker,
            sequence=sequence,
            timestamp=timestamp,
            ssrc=self.ssrc[rows],
        )
        length = size + HEADER_BYTES
        if self.extensions.used:
            length += self.extensions.write(rows, self.packet, size, level)
        io.send(rows.astype(np.int32), self.packet, length.astype(np.int32))
        self.octets[rows] += size

    def single(
        self,
        row: int,
        payload_type: int,
        timestamp: int,
        payload: bytes,
        *,
        marker: bool,
        level: int | None = None,
    ) -> bytes:
        """Return a packet of another kind as the next one of `row`, instead of what is in hand.

        level: of its sound, -dBov, where it has any: only then it has the row's header extension.
        """
        header = pack_header(
            payload_type, int(self.sequence[row]), timestamp, int(self.ssrc[row]), marker=marker
        )
        if level is not None:
            header = self.extensions.extend(row, header, level)
        self.octets[row] += len(payload)
        self.sequence[row] += 1
        self.filled[row] = 0
        return header + payload

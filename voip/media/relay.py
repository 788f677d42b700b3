"""Payloads that go from one row to another as they came: a route on which sound is left alone.

Where a row is to send what another hears, both in the same format, and nothing is done to it, the
packets go on when they come: no decoding, no jitter buffer, no encoding. Header and SSRC are the
row's own, numbers and timestamps continue its own and keep the source's gaps, so that the far end
conceals what is lost (a translator in RFC 3550's words, section 7.1, but with RTCP of each leg's
own). As soon as anything is to be done to the sound the row sends PCM, and goes back afterwards.
Decision 0107.

A row is a *candidate* while nothing stands against it, and *active* from the first packet on that
can be relayed until one comes that cannot, or none for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.codecs.core import CodecFormat
from voip.media.adapter import MAX_PAYLOAD
from voip.media.columns import (
    Bools,
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    every,
    grow,
    make,
    reset,
    some,
    where,
)
from voip.media.io import PacketBatch, PacketIO
from voip.media.receive import Accepted
from voip.media.table import EVENT, NOISE, RED, UNKNOWN, StreamTable
from voip.media.voices import FIRST_CODE, PLAIN
from voip.rtp.packet import RtpHeaders

__all__ = ["POLL_S", "Relay"]

POLL_S = 0.001
"""How often packets are looked for while there is anything to relay: what is added to their delay
is half of it on an average."""
_QUIET_S = 1.0
"""A source from which nothing comes for so long is filled in for by silence of our own."""
_HOLD_S = 2.0
"""Packets that cannot be relayed must have stayed away for so long before others are."""
_WINDOW = 64
"""Packets so far behind the latest are dropped, as those are that were relayed before: to send two
under one number would break SRTP (RFC 3711, section 9.1)."""
_NONE = 255
_FREE = frozenset(("pcmu", "pcma", "g722", "l16", "opus", "gsm"))
"""Encodings whose payloads anybody reads who knows the name, whatever the parameters."""
_NAMES = {code: CodecFormat(*key) for key, code in PLAIN.items()}


class Relay:
    """Which rows relay, and how; its arrays have a row for each of the table's."""

    active: Bools
    types: npt.NDArray[np.uint8]
    route: Ints
    stream: Ints
    ssrc: Ints
    sequence: Ints
    timestamp: Ints
    first: Ints
    top: Ints
    seen: npt.NDArray[np.uint64]
    end: Ints
    unfit_at: Floats
    last_at: Floats
    paused: Bools

    COLUMNS: ClassVar[ColumnSpec] = {
        "active": (np.bool_, False, ()),
        "types": (np.uint8, _NONE, (128,)),  # what its source's payload types are to it
        "route": (np.int64, -1, ()),  # its source, as a candidate
        "stream": (np.int64, -1, ()),  # whose row it was then
        "ssrc": (np.int64, -1, ()),  # of its source
        "sequence": (np.int64, 0, ()),  # to be added to its source's numbers
        "timestamp": (np.int64, 0, ()),  # likewise
        "first": (np.int64, 0, ()),  # of the source's numbers: with which it began
        "top": (np.int64, 0, ()),  # the highest
        "seen": (np.uint64, 0, ()),  # bit n: number top - n was relayed
        "end": (np.int64, 0, ()),  # timestamp after the last sample relayed
        "unfit_at": (np.float64, -np.inf, ()),  # when the last packet came that cannot be relayed
        "last_at": (np.float64, -np.inf, ()),  # when the last one was relayed
        "paused": (np.bool_, False, ()),  # which was comfort noise
    }

    def __init__(self, table: StreamTable, io: PacketIO) -> None:
        make(self, table.active.size)
        self._table = table
        self._io = io
        self.rows: Rows = np.zeros(0, np.intp)
        """The candidates."""
        self._busy: set[int] = set()  # rows that something is sent on which ends by itself
        self._place: Ints = np.full(table.active.size, -1)

    # ------------------------------------------------------------ who relays

    def judge(self, now: float, streams: Iterable[int] | None = None) -> None:
        """Decide anew which rows are candidates, of those that `streams` concern.

        None: of those that had something to send of their own, which may have ended.
        """
        table = self._table
        if self.active.size < table.active.size:
            grow(self, table.active.size)
            self._place = np.full(table.active.size, -1)
        source = table.source
        if streams is None:
            if not self._busy:
                return
            wanted = table.relays & (source >= 0)
            rows = np.array([row for row in sorted(self._busy) if wanted[row]], np.intp)
            self._busy.clear()
        else:
            wanted = table.relays & (source >= 0)
            rows = where(wanted)
            if not rows.size and not self.rows.size:
                return
            touched = np.zeros(table.active.size, np.bool_)
            touched[[row for stream in streams if (row := table.rows.get(stream)) is not None]] = 1
            rows = rows[touched[rows] | touched[source[rows]] | (self.route[rows] != source[rows])]
        ours = self.rows
        gone = ~wanted[ours] | (self.route[ours] != source[ours])
        gone |= self.stream[ours] != table.stream[ours]
        gone = ours[gone]
        origins = {*self.route[gone].tolist(), *source[rows].tolist()}
        for row in gone.tolist():
            self._dismiss(row, now)
        for row in rows.tolist():
            types = self._types(row)
            if types is None:
                self._dismiss(row, now)
            else:
                self.types[row] = types
                self.route[row], self.stream[row] = source[row], table.stream[row]
        self.rows = where(self.route >= 0)
        table.relayed.fill(False)
        table.relayed[self.route[self.rows]] = True
        for origin in origins:
            self._settle(origin)

    def _dismiss(self, row: int, now: float) -> None:
        """Let a row be no candidate."""
        if self.route[row] < 0:
            return
        if self.active[row]:
            self._stop(row, now)
        reset(self, row)
        self._table.wordless[row] = False

    def _types(self, row: int) -> npt.NDArray[np.uint8] | None:
        """Return what each payload type of its source is to a row; None: it is to send PCM."""
        table, source = self._table, int(self._table.source[row])
        if (
            source == row
            or not table.transmitter.sending[row]
            or not table.listening[source]
            or table.muted[row]
            or table.mixer.mix[row] >= 0
            or row in table.beeps
            or source in table.beeps
            or row in table.links.into
        ):
            return None
        if row in table.pcm_source or row in table.event_senders:
            self._busy.add(row)
            return None
        types = np.full(128, _NONE, np.uint8)
        sends, able = self._sends(row), False
        for number in where(table.meaning[source] != UNKNOWN).tolist():
            code = int(table.meaning[source, number])
            if code == RED:  # what it holds goes on
                continue
            if code == EVENT:
                clock = table.event_clocks.get(source, {}).get(number)
                ours = table.event_format.get(row)
                clocks = {clock, int(table.transmitter.clock[row])}
                if ours is not None and clocks == {ours[1]}:
                    types[number] = ours[0]
                continue
            if code == NOISE:
                silences = table.silences
                same_clock = table.receiver.clock[source] == table.transmitter.clock[row]
                if silences.agreed[row] and same_clock:
                    types[number] = silences.payload_type[row]
                continue
            heard = _NAMES.get(code)
            if heard is None:
                heard = table.voices[source].receive[code - FIRST_CODE]
            if heard.key == sends.key and (sends.name in _FREE or heard.fmtp == sends.fmtp):
                types[number] = table.transmitter.payload_type[row]
                able = True
        return types if able else None

    def _sends(self, row: int) -> CodecFormat:
        voice = self._table.voices.get(row)
        if voice is not None and voice.send is not None:
            return voice.send
        return _NAMES[int(self._table.transmitter.code[row])]

    def _settle(self, source: int) -> None:
        """See who still needs the sound of a source, and the sound of those who relay it."""
        table = self._table
        needed = bool(table.mixer.mix[source] >= 0) or bool(table.needs_tones[source])
        needed |= any(not sent for _, sent in table.sinks.get(source, ()))
        needed |= source in table.pair_sinks or source in table.links.out
        for row in where(table.source == source).tolist():
            recorded = any(sent for _, sent in table.sinks.get(row, ()))
            recorded |= row in table.pair_sinks
            table.wordless[row] = self.active[row] and not recorded
            needed |= not table.wordless[row]
        unheard = bool(table.relayed[source]) and not needed
        if unheard and not table.unheard[source]:
            table.playout.stop(source)
        table.unheard[source] = unheard
        table.list_routed()

    # ------------------------------------------------------------ beginning and ending

    def _begin(self, row: int, sequence: int, timestamp: int, arrival: float) -> None:
        """Relay from this packet of the source's on, as what follows the row's own."""
        table, sender = self._table, self._table.transmitter
        if self.active[row]:
            sent_until = int(self.end[row])
        else:
            sent_until = int(sender.start[row])
            if not sender.filled[row]:
                sent_until += int(sender.span[row] if table.coded[row] else sender.full[row])
        sender.filled[row] = 0
        sender.marker[row] = True
        voice = table.voices.get(row)
        if voice is not None and voice.encoding is not None:
            voice.encoding.drop()
        table.feed.clear(row)
        self.timestamp[row] = max(sender.timestamp(row, arrival), sent_until) - timestamp
        self.ssrc[row] = table.receiver.ssrc[self.route[row]]
        self.sequence[row] = sender.sequence[row] - sequence
        self.first[row], self.top[row], self.seen[row] = sequence, sequence - 1, 0
        self.end[row] = sent_until
        if not self.active[row]:
            self.active[row] = True
            self._settle(int(table.source[row]))

    def _stop(self, row: int, now: float) -> None:
        """Let a row send PCM from now on, later than all that was relayed."""
        self.paused[row] = False
        table, sender = self._table, self._table.transmitter
        sender.origin[row] += max(0, int(self.end[row]) - sender.timestamp(row, now))
        sender.marker[row] = True
        table.feed.clear(row)
        self.active[row] = False
        self._settle(int(self.route[row]))

    def rest(self, now: float) -> None:
        """Let rows whose sources have fallen silent send silence of their own.

        Not where these have said so by comfort noise.
        """
        rows = self.rows
        if rows.size:
            quiet = self.active[rows] & ~self.paused[rows] & (now - self.last_at[rows] > _QUIET_S)
            for row in rows[quiet].tolist():
                self._stop(row, now)

    # ------------------------------------------------------------ packets

    def forward(
        self,
        packets: Rows,
        rows: Rows,
        headers: RtpHeaders,
        meaning: npt.NDArray[np.uint8],
        accepted: Accepted,
        batch: PacketBatch,
        told: npt.NDArray[np.int16] | None,
    ) -> None:
        """Send on what of `packets` (k,) of the batch can be relayed, one for each of `rows` (k,).

        meaning: of these packets (k,); told: what they tell of their levels (k,), -1 or None where
        they do not. One row may be the source of several.
        """
        table = self._table
        self._place[rows] = np.arange(rows.size)
        at = self._place[self.route[self.rows]]
        self._place[rows] = -1
        there = where(at >= 0)
        at = at[there]
        good = accepted.ok[at] & (headers.size[packets[at]] > 0)
        to, at = self.rows[there[good]], at[good]
        if not to.size:
            return
        packet = packets[at]
        noise = meaning[at] == NOISE
        size, event = headers.size[packet], noise | (meaning[at] == EVENT)
        kind = self.types[to, headers.payload_type[packet]]
        fits = (kind != _NONE) & (size <= MAX_PAYLOAD)
        # of G.711 the packet time is plain to see; where another was asked for it is packed anew
        fits &= event | table.coded[to] | (size == table.transmitter.full[to])
        arrival = batch.arrival[packet]
        if not every(fits):
            self._give_way(to, ~fits & (noise | ~event), arrival)
        begins = fits & ~event
        begins &= ~self.active[to] & (arrival - self.unfit_at[to] >= _HOLD_S)
        # the source has restarted, or something else was sent (a keep-alive, by another SSRC)
        other = table.transmitter.sequence[to] != self.top[to] + self.sequence[to] + 1
        other |= table.receiver.ssrc[self.route[to]] != self.ssrc[to]
        begins |= self.active[to] & (accepted.restarted[at] | other)
        if some(begins):
            for i in where(begins).tolist():
                number, time = int(accepted.sequence[at[i]]), int(accepted.timestamp[at[i]])
                self._begin(int(to[i]), number, time, float(arrival[i]))
        fits &= self.active[to]
        fits &= self._is_new(to, accepted.sequence[at])
        if not every(fits):
            to, at, packet, size, event = to[fits], at[fits], packet[fits], size[fits], event[fits]
            kind, arrival, noise = kind[fits], arrival[fits], noise[fits]
            if not to.size:
                return
        for i in where(event & ~noise).tolist():
            source, began = int(rows[at[i]]), int(headers.timestamp[packet[i]])
            latest, _ = table.relayed_digits.get(source, (-1, -1))
            if began != latest:
                table.relayed_digits[source] = began, latest
        levels = None if told is None else told[at]
        self._send(to, packet, kind, event, size, accepted, at, headers, batch, levels)
        self.last_at[to] = arrival
        self.paused[to] = noise | (event & self.paused[to])
        table.silences.packets[to] += noise

    def _give_way(self, to: Rows, unfit: Bools, arrival: Floats) -> None:
        """Let rows send PCM whose source has sent what cannot be relayed."""
        self.unfit_at[to[unfit]] = arrival[unfit]
        for i in where(unfit & self.active[to]).tolist():
            self._stop(int(to[i]), float(arrival[i]))

    def _is_new(self, to: Rows, sequence: Ints) -> Bools:
        """Say which numbers (k,) have not been relayed yet, and are not from before."""
        behind = self.top[to] - sequence
        new: Bools = behind < 0
        if not every(new):
            bit = np.uint64(1) << np.clip(behind, 0, _WINDOW - 1).astype(np.uint64)
            unseen = (self.seen[to] & bit) == 0
            new |= unseen & (behind < _WINDOW) & (sequence >= self.first[to])
        return new

    def _send(
        self,
        to: Rows,
        packet: Rows,
        kind: npt.NDArray[np.uint8],
        event: Bools,
        size: Ints,
        accepted: Accepted,
        at: Rows,
        headers: RtpHeaders,
        batch: PacketBatch,
        levels: npt.NDArray[np.int16] | None,
    ) -> None:
        """Send on `packet` (k,) of the batch for rows `to` (k,), all of them new."""
        table, sender = self._table, self._table.transmitter
        sequence = accepted.sequence[at]
        step = sequence - self.top[to]
        ahead = step > 0
        seen, far = self.seen[to], np.minimum(np.abs(step), _WINDOW - 1).astype(np.uint64)
        one = np.uint64(1)
        moved = np.where(step < _WINDOW, seen << far, np.uint64(0)) | one
        self.seen[to] = np.where(ahead, moved, seen | one << far)
        self.top[to] += np.where(ahead, step, 0)
        # so that numbers that were never sent are not counted as packets
        sender.first[to] += np.where(ahead, step - 1, -1)
        sender.sequence[to] = self.top[to] + self.sequence[to] + 1
        timestamp = accepted.timestamp[at] + self.timestamp[to]
        length = np.where(event, 0, np.where(table.coded[to], sender.span[to], size))
        self.end[to] = np.maximum(self.end[to], timestamp + length)
        marker = headers.marker[packet] | (sender.marker[to] & ~event)
        sender.marker[to] &= event
        sender.forward(
            to,
            batch.data,
            batch.slots[packet],
            headers.offset[packet],
            size,
            self._io,
            payload_type=kind,
            marker=marker,
            sequence=sequence + self.sequence[to],
            timestamp=timestamp,
            level=levels,
        )

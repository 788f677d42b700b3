"""From a batch of packets to the rows: read, believe, count, and hand on.

receive -> parse -> believe -> accept -> digits, or the jitter buffer

Where it was built, `native.py` takes the ordinary packets out of the batch first.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from voip.media.answers import EngineEvent, SourceLearned
from voip.media.columns import Bools, Ints, Rows, every, some, where
from voip.media.comfort import MAX_OCTETS
from voip.media.digits import Digits
from voip.media.durations import in_samples
from voip.media.io import PacketBatch, PacketIO
from voip.media.native import Native
from voip.media.phases import Phases
from voip.media.receive import Accepted
from voip.media.red_intake import RedIntake
from voip.media.relay import Relay
from voip.media.reports import Reporter
from voip.media.table import EVENT, NOISE, RED, UNKNOWN, StreamTable
from voip.media.voices import FIRST_CODE
from voip.media.watch import TroubleWatch
from voip.rtp.packet import RtpHeaders, parse_headers
from voip.rtp.source import GRACE_S, SILENCE_S, SourceLearner
from voip.types import Address

__all__ = ["MAX_REPORTS", "Intake"]

MAX_BATCHES = 3
"""Read in a tick: after one that was late more may have come than a batch holds, all in time."""
MAX_REPORTS = 4
"""RTCP packets of a row that are read in a tick, whichever port they came to."""


class Intake:
    """Takes what has arrived, once a tick."""

    def __init__(
        self,
        table: StreamTable,
        io: PacketIO,
        reporter: Reporter,
        digits: Digits,
        relay: Relay,
        watch: TroubleWatch,
        phases: Phases,
        *,
        native: bool,
    ) -> None:
        self._table = table
        self._io = io
        self._reporter = reporter
        self._digits = digits
        self._phases = phases
        self._relay = relay
        self._watch = watch
        self._batch = PacketBatch()
        self._turn: Ints = np.zeros(0, np.int64)  # of a row: its first packet in hand
        self.native = Native(table, self._batch) if native else None
        self._red = RedIntake(table, relay, self._batch)

    def receive(self, now: float, wall: float) -> list[EngineEvent]:
        """Read what has come and give every packet to whom it concerns; return what it told."""
        events = self._receive_batch(now, wall)
        for _ in range(MAX_BATCHES - 1):
            if self._batch.count < self._batch.capacity:
                break
            events += self._receive_batch(now, wall)
        return events

    def _receive_batch(self, now: float, wall: float) -> list[EngineEvent]:
        batch, table = self._batch, self._table
        received = self._io.receive(batch, now)
        self._phases.end("receive")
        if received and self.native is not None:
            received = self.native.take(received)
        events: list[EngineEvent] = []
        if not received:
            return events
        rows = batch.rows[:received]
        headers = parse_headers(batch.data, batch.lengths[:received], batch.slots[:received])
        meaning = table.meaning[rows, headers.payload_type]
        rtcp = batch.rtcp[:received]
        if table.redundant:
            self._red.unfold(rows, headers, meaning, rtcp)
        known = headers.valid & (meaning != UNKNOWN)
        if some(rtcp):
            known &= ~rtcp
            for i in self._few_of_each_row(where(rtcp), rows):
                self._receive_report(int(i), int(rows[i]), now, wall)
        believed = known
        if not every(known) or batch.strangers:
            strange = batch.source[:received] >= 0
            unknown = ~(known | rtcp | strange)
            empty = unknown & headers.valid & (headers.size == 0)
            if some(empty):  # keep-alive packets (RFC 6263, 4.6)
                unknown &= ~empty
                self._take_keepalives(where(empty), rows[empty], headers)
            np.add.at(table.discarded, rows[unknown], 1)
            unknown &= headers.valid
            self._watch.note_unknown(rows[unknown], headers.payload_type[unknown])
            believed = known & ~strange
            for i in where(strange & ~rtcp):
                believed[i] = self._believe(
                    int(i), int(rows[i]), headers, now, events, known=bool(known[i])
                )
        left = where(believed)
        while left.size:
            first = self._first_of_each_row(rows[left])
            if every(first):
                events += self._accept(left, rows[left], headers, meaning)
                break
            chosen = left[first]
            events += self._accept(chosen, rows[chosen], headers, meaning)
            left = left[~first]
        return events

    def _first_of_each_row(self, rows: Rows) -> Bools:
        """Say which of the packets for `rows` (k,) is the first one for its row."""
        if self._turn.size != self._table.active.size:
            self._turn = np.zeros(self._table.active.size, np.int64)
        number = np.arange(rows.size)
        self._turn[rows[::-1]] = number[::-1]  # the last to be written is the first packet
        first: Bools = self._turn[rows] == number
        return first

    def _accept(
        self, packets: Rows, rows: Rows, headers: RtpHeaders, meaning: npt.NDArray[np.uint8]
    ) -> list[EngineEvent]:
        """Take `packets` (k,) of the batch for `rows` (k,), one for each of them."""
        table, batch = self._table, self._batch
        events: list[EngineEvent] = []
        arrival, size = batch.arrival[packets], headers.size[packets]
        marker = headers.marker[packets]
        meaning = meaning[packets]
        clock: Ints | int = table.lane.rate_hz
        if table.voices:
            meaning = self._heed_voices(packets, rows, headers, meaning)
            clock = table.receiver.clock[rows]
        noise = meaning == NOISE
        audio = (meaning != EVENT) & ~noise
        accepted = table.receiver.accept(
            rows,
            headers.sequence[packets],
            headers.timestamp[packets],
            headers.ssrc[packets],
            size,
            arrival,
            audio,
            clock,
        )
        told = None
        if table.told.used:
            told = table.told.read(rows, batch.data, batch.slots[packets])
            newest = accepted.ok & (accepted.sequence == table.receiver.last_sequence[rows])
            newest &= told >= 0
            table.told.octet[rows[newest]] = told[newest]
        if some(accepted.restarted) or not every(accepted.ok):
            self._look_for_own(packets, rows, headers)
            for row in rows[accepted.restarted]:
                table.playout.stop(int(row))
                events += self._digits.forget(int(row))
        if self._relay.rows.size:
            self._relay.forward(packets, rows, headers, meaning, accepted, batch, told)
        if some(noise):
            self._hear_noise(packets, rows, headers, accepted, where(noise & accepted.ok))
        if not every(audio):
            for j in where(accepted.ok & ~audio & ~noise):
                i, start = int(packets[j]), int(headers.offset[packets[j]])
                events += self._digits.hear(
                    int(rows[j]),
                    int(headers.payload_type[i]),
                    int(headers.timestamp[i]),
                    batch.data[batch.slots[i], start : start + int(size[j])].tobytes(),
                    float(arrival[j]),
                    marker=bool(marker[j]),
                )
        play = accepted.ok & audio & table.listening[rows] & (size > 0)
        if self._relay.rows.size:
            play &= ~table.unheard[rows]
        if some(play):
            self._insert(packets, rows, headers, meaning, accepted, play)
        self._red.hear(packets, rows, headers, accepted)
        if table.voices:
            self._look_back(packets, rows, headers, meaning, accepted, play)
        return events

    def _look_back(
        self,
        packets: Rows,
        rows: Rows,
        headers: RtpHeaders,
        meaning: npt.NDArray[np.uint8],
        accepted: Accepted,
        play: Bools,
    ) -> None:
        """Note where one of `packets` (k,) has in itself what the lost one before it had: FEC."""
        table, batch, ring = self._table, self._batch, self._table.playout.ring
        before = accepted.sequence - 1
        lost = play & table.playout.voicing.repeats[rows] & table.coded[rows]
        lost &= ring.sequence[ring.slots(rows, before)] != before
        for at in where(lost):
            row, packet, code = int(rows[at]), packets[at], int(meaning[at])
            start = int(headers.offset[packet])
            payload = batch.data[batch.slots[packet], start : start + int(headers.size[packet])]
            if table.voices[row].repeats_in(code, payload):
                rate, clock = int(table.playout.rate[row]), int(table.receiver.clock[row])
                samples = table.voices[row].samples(code, payload)
                begins = int(accepted.timestamp[at]) * rate // clock - samples
                table.playout.recovery.miss(
                    rows[at : at + 1], before[at : at + 1], np.array([begins]),
                    np.array([samples]), batch.arrival[packet : packet + 1],
                )  # fmt: skip

    def _insert(
        self,
        packets: Rows,
        rows: Rows,
        headers: RtpHeaders,
        meaning: npt.NDArray[np.uint8],
        accepted: Accepted,
        play: Bools,
    ) -> None:
        """Give those of `packets` (k,), one for each of `rows`, that are to `play` to playout."""
        table, batch = self._table, self._batch
        arrival, size, marker = (
            batch.arrival[packets],
            headers.size[packets],
            headers.marker[packets],
        )
        sequence, timestamp = accepted.sequence, accepted.timestamp
        if not every(play):
            packets, rows, meaning, marker = packets[play], rows[play], meaning[play], marker[play]
            sequence, timestamp, arrival, size = (
                sequence[play], timestamp[play], arrival[play], size[play],
            )  # fmt: skip
        duration = size  # of G.711: an octet is a sample
        if table.voices:
            timestamp, duration = in_samples(
                table, batch.data, rows, batch.slots[packets], headers.offset[packets], size,
                meaning, timestamp,
            )  # fmt: skip
            unread = duration <= 0
            if some(unread):
                self._watch.note_unread(rows[unread])
        table.playout.arrivals.take(
            rows,
            sequence,
            timestamp,
            duration,
            arrival,
            marker,
            meaning,
            batch.data,
            batch.slots[packets],
            headers.offset[packets],
            size,
        )

    def _hear_noise(
        self, packets: Rows, rows: Rows, headers: RtpHeaders, accepted: Accepted, chosen: Rows
    ) -> None:
        """Take what the `chosen` ones of packets (k,) for `rows` (k,) tell of comfort noise."""
        table, batch = self._table, self._batch
        table.playout.comfort.packets[rows[chosen]] += 1
        hears = table.listening[rows[chosen]] & ~table.unheard[rows[chosen]]
        for j in chosen[hears].tolist():
            row, packet = int(rows[j]), packets[j]
            start, size = int(headers.offset[packet]), int(headers.size[packet])
            rate, clock = int(table.playout.rate[row]), int(table.receiver.clock[row])
            table.playout.arrivals.take_noise(
                row,
                batch.data[batch.slots[packet], start : start + min(size, MAX_OCTETS)].tobytes(),
                int(accepted.sequence[j]),
                int(accepted.timestamp[j]) * rate // clock,
                float(batch.arrival[packet]),
                newest=bool(accepted.sequence[j] >= table.receiver.last_sequence[row]),
            )

    def _few_of_each_row(self, packets: Rows, rows: Rows) -> Rows:
        """Return those of the packets with reports that are read: by RTP's port many may come."""
        if not self._reporter.multiplexer.used or packets.size <= MAX_REPORTS:
            return packets
        counts = Counter[int]()
        few = []
        for i, row in zip(packets.tolist(), rows[packets].tolist(), strict=True):
            counts[row] += 1
            if counts[row] <= MAX_REPORTS:
                few.append(i)
            else:
                self._table.discarded[row] += 1
        return np.array(few, np.intp)

    def _take_keepalives(self, packets: Rows, rows: Rows, headers: RtpHeaders) -> None:
        """Count packets (k,) that keep the way open, of known sources: they have numbers, too."""
        receiver = self._table.receiver
        counted = self._first_of_each_row(rows) & (headers.ssrc[packets] == receiver.ssrc[rows])
        packets, rows = packets[counted], rows[counted]
        if rows.size:
            receiver.accept(
                rows,
                headers.sequence[packets],
                headers.timestamp[packets],
                headers.ssrc[packets],
                headers.size[packets],
                self._batch.arrival[packets],
                np.zeros(rows.size, np.bool_),
                receiver.clock[rows],
            )

    def _look_for_own(self, packets: Rows, rows: Rows, headers: RtpHeaders) -> None:
        """Look for our own SSRC in packets (k,) that are no more of the known sources."""
        table = self._table
        for j in where(headers.ssrc[packets] == table.transmitter.ssrc[rows]):
            whence = table.remote.get(int(rows[j]))
            if whence is not None:
                at = float(self._batch.arrival[packets[j]])
                self._reporter.conflict(int(rows[j]), whence, at)

    def _heed_voices(
        self, packets: Rows, rows: Rows, headers: RtpHeaders, meaning: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.uint8]:
        """Prepare `rows` (k,) for what comes; return what it is, which may be another code now.

        A stream that hears more than G.711 for the first time is heard by its own voice from now
        on; one whose clock is another begins anew.
        """
        table = self._table
        voicing = table.playout.voicing
        fresh = (meaning >= FIRST_CODE) & (meaning < RED) & ~table.coded[rows]
        for row in rows[fresh]:
            table.hear_by_voice(int(row))
        meaning = table.meaning[rows, headers.payload_type[packets]]
        other = table.coded[rows] & (meaning < RED) & (meaning != voicing.code[rows])
        for at in where(other):
            row, code = int(rows[at]), int(meaning[at])
            voice = table.voices[row]
            clock = voice.clock(code)
            if table.receiver.clock[row] != clock:
                table.receiver.count_by(row, clock)
                table.playout.stop(row)
            voicing.expect(row, voice, code)
        return meaning

    def _believe(
        self,
        i: int,
        row: int,
        headers: RtpHeaders,
        now: float,
        events: list[EngineEvent],
        *,
        known: bool,
    ) -> bool:
        """Decide on packet `i` of the batch, which came from a stranger to its row."""
        table = self._table
        if not table.active[row]:
            return False
        address = self._batch.strangers[self._batch.source[i]]
        if known and address == table.remote.get(row):
            return True  # learned a moment ago, in this very batch
        if known and address == table.negotiated.get(row):
            self._trust(row, address)  # the one we were told of is always believed
            return True
        if headers.valid[i] and headers.ssrc[i] == table.transmitter.ssrc[row]:
            self._reporter.conflict(row, address, now)
        learner = table.learners.setdefault(row, SourceLearner())
        if not known or not table.symmetric[row]:
            learner.count(address)
            return False
        described, heard = table.described[row], table.receiver.last_arrival[row]
        unheard = heard < described and now - described >= GRACE_S
        may_learn = bool(unheard or now - max(heard, described) >= SILENCE_S)
        learned = learner.packet(
            address, int(headers.ssrc[i]), int(headers.sequence[i]), may_learn=may_learn
        )
        if learned:
            self._trust(row, address)
            events.append(SourceLearned(int(table.stream[row]), address))
        return learned

    def _trust(self, row: int, address: Address) -> None:
        table = self._table
        table.remote[row] = address
        self._io.connect(row, address, table.rtcp_remote[row])

    def _receive_report(self, i: int, row: int, now: float, wall: float) -> None:
        batch, table = self._batch, self._table
        if not table.active[row] or not table.connected[row]:
            return
        place = int(batch.source[i])
        address = batch.strangers[place] if place >= 0 else None
        payload = batch.packet(i).tobytes()
        self._reporter.receive(row, payload, address, float(batch.arrival[i]), now, wall)

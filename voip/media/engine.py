"""The media engine: `tick(now)` does everything for every row that is due.

    receive -> parse -> believe -> insert -> play out -> process -> route -> encode -> send

No thread, no socket and no clock are in it: a driver calls `tick` when `next_due` says so and
hands what `events` returns to whom it concerns. Commands come through one bounded queue and are
applied in order at the start of a tick.
"""

from __future__ import annotations

from collections import deque
from itertools import count

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError, VoipError
from voip.media.columns import Bools, Floats, Ints, Rows
from voip.media.commands import (
    Applied,
    Command,
    DtmfReceived,
    DtmfSent,
    EngineEvent,
    MediaSilent,
    Refused,
    SourceDrained,
    SourceLearned,
    StreamEnded,
)
from voip.media.control import Control
from voip.media.io import PacketBatch, PacketIO
from voip.media.lane import G711Lane
from voip.media.reports import Reporter
from voip.media.rings import RingArena
from voip.media.stats import StatsSnapshot, snapshot
from voip.media.table import EVENT, UNKNOWN, StreamTable
from voip.rtp.packet import RtpHeaders, pack_header, parse_headers
from voip.rtp.source import GRACE_S, SILENCE_S, SourceLearner
from voip.rtp.telephone_event import Digit, EventReceiver
from voip.types import Random, SecureRandom

__all__ = ["MAX_COMMANDS", "MEDIA_SILENT_S", "Engine"]

MAX_COMMANDS = 4096
"""Commands that may wait for a tick."""
_BEHIND_S = 0.2
"""Steps this late are left out: sound that old helps nobody."""
_LEVEL_STEPS = 50
MEDIA_SILENT_S = 5.0
"""A peer that sends nothing for so long is asked after."""
_ROUND_S = 1.0


class Engine:
    """All streams of one process. `submit` may be called from any thread, all else from one."""

    def __init__(
        self, io: PacketIO, *, random: Random | None = None, arena: RingArena | None = None
    ) -> None:
        random = random or SecureRandom()
        self.arena = arena or RingArena()
        self.skipped_steps = 0
        self.snapshot: StatsSnapshot | None = None
        """The figures of all streams, once a second anew; any thread may read it."""
        self._io = io
        self._table = StreamTable(G711Lane())
        self._reporter = Reporter(self._table, io, random)
        self._control = Control(self._table, io, self._reporter, self.arena, random)
        self._commands: deque[tuple[int, Command]] = deque()
        self._tokens = count(1)
        self._events: list[EngineEvent] = []
        self._batch = PacketBatch()
        self._next_round = 0.0
        self._hearing: set[int] = set()  # rows in the middle of a digit
        self._position: Ints = np.zeros(0, np.int64)  # of a row in the present step's arrays

    # ------------------------------------------------------------ the driver's side

    def submit(self, command: Command) -> int:
        """Queue a command; its token comes back in `Applied` or `Refused`.

        Raises `MediaError` when the queue is full: the driver has stopped.
        """
        if len(self._commands) >= MAX_COMMANDS:
            raise MediaError(
                f"{MAX_COMMANDS} commands wait for the media engine", hint="its driver has stopped"
            )
        token = next(self._tokens)
        self._commands.append((token, command))
        return token

    @property
    def pending(self) -> bool:
        """Whether a command waits for a tick."""
        return bool(self._commands)

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._table)

    def next_due(self) -> float | None:
        """When to tick next, monotonic seconds; None while no stream takes part."""
        return self._table.next_due()

    def events(self) -> list[EngineEvent]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        return events

    def tick(self, now: float, wall: float) -> bool:
        """Do what is due at `now` (monotonic); `wall` is the time of day for RTCP.

        Returns whether there are events to fetch.
        """
        self._apply_commands(now)
        table = self._table
        if table.rows:
            self._receive(now, wall)
            self._time_out_digits(now)
            due = table.due_rows(now)
            if due.size:
                self._catch_up(due, now)
                steps = table.step[due]
                for samples in np.unique(steps):
                    self._step(due[steps == samples], int(samples))
            if now >= self._next_round:
                self._next_round = now + _ROUND_S
                self._miss_peers(now)
                self._publish(now)
            for stream, reason in self._reporter.tick(now, wall):
                self._events.append(StreamEnded(stream, reason))
        return bool(self._events)

    # ------------------------------------------------------------ commands

    def _apply_commands(self, now: float) -> None:
        for _ in range(len(self._commands)):
            token, command = self._commands.popleft()
            try:
                self._events.append(Applied(token, self._control.apply(command, now)))
            except VoipError as error:
                self._events.append(Refused(token, error.message, error.hint))

    # ------------------------------------------------------------ receiving

    def _receive(self, now: float, wall: float) -> None:
        batch, table = self._batch, self._table
        received = self._io.receive(batch, now)
        if not received:
            return
        rows = batch.rows[:received].astype(np.intp)
        lengths = batch.lengths[:received]
        rtcp = batch.rtcp[:received]
        source = batch.source[:received]
        if rtcp.any():
            for i in np.flatnonzero(rtcp):
                self._receive_report(int(i), int(rows[i]), now, wall)
        headers = parse_headers(batch.data[:received], lengths)
        meaning = table.meaning[rows, headers.payload_type]
        known = headers.valid & (meaning != UNKNOWN) & table.connected[rows] & ~rtcp
        ours = source < 0
        unknown = ~known & ~rtcp & ours
        if unknown.any():
            np.add.at(table.discarded, rows[unknown], 1)
        believed = known & ours
        for i in np.flatnonzero(~ours & ~rtcp):
            believed[i] = self._believe(int(i), int(rows[i]), bool(known[i]), headers, now)

        left = np.flatnonzero(believed)
        while left.size:
            _, first = np.unique(rows[left], return_index=True)
            if first.size == left.size:
                self._accept(left, rows, headers, meaning)
                break
            self._accept(left[np.sort(first)], rows, headers, meaning)  # one packet a row
            left = np.delete(left, first)

    def _accept(
        self, which: Rows, rows: Rows, headers: RtpHeaders, meaning: npt.NDArray[np.uint8]
    ) -> None:
        """Take the packets `which` of the batch, at most one for each row."""
        batch, table = self._batch, self._table
        at, code = rows[which], meaning[which]
        arrival = batch.arrival[which]
        audio = code != EVENT
        accepted = table.receiver.accept(
            at,
            headers.sequence[which],
            headers.timestamp[which],
            headers.ssrc[which],
            headers.size[which],
            arrival,
            np.full(at.size, float(table.lane.rate_hz)),
            audio,
        )
        for row in at[accepted.restarted]:
            table.playout.stop(int(row))
            self._events += self._digits(int(row), self._forget_events(int(row)))
        for j in np.flatnonzero(accepted.ok & ~audio):
            i = int(which[j])
            start, size = int(headers.offset[i]), int(headers.size[i])
            payload = batch.data[i, start : start + size].tobytes()
            self._hear_event(
                int(at[j]), int(headers.timestamp[i]), bool(headers.marker[i]), payload,
                float(arrival[j]),
            )  # fmt: skip
        play = accepted.ok & audio & table.listening[at]
        if play.all():
            chosen = slice(None)
        elif play.any():
            chosen = play
        else:
            return
        table.playout.arrive(
            at[chosen],
            accepted.sequence[chosen],
            accepted.timestamp[chosen],
            arrival[chosen],
            code[chosen],
            batch.data,
            which[chosen],
            headers.offset[which][chosen],
            headers.size[which][chosen],
        )

    def _believe(self, i: int, row: int, known: bool, headers: RtpHeaders, now: float) -> bool:
        """Decide on packet `i` of the batch, which came from a stranger to its row."""
        table = self._table
        if not table.active[row]:
            return False
        address = self._batch.strangers[self._batch.source[i]]
        if known and address == table.negotiated.get(row):
            self._trust(row, address)  # the one we were told of is always believed
            return True
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
            self._events.append(SourceLearned(int(table.stream[row]), address))
        return learned

    def _trust(self, row: int, address: object) -> None:
        table = self._table
        table.remote[row] = address  # type: ignore[assignment]
        self._io.connect(row, table.remote[row], table.rtcp_remote[row])

    def _receive_report(self, i: int, row: int, now: float, wall: float) -> None:
        batch, table = self._batch, self._table
        if not table.active[row] or not table.connected[row]:
            return
        place = int(batch.source[i])
        address = batch.strangers[place] if place >= 0 else None
        payload = batch.data[i, : batch.lengths[i]].tobytes()
        self._reporter.receive(row, payload, address, float(batch.arrival[i]), now, wall)

    def _publish(self, now: float) -> None:
        version = self.snapshot.version + 1 if self.snapshot else 1
        self.snapshot = snapshot(
            self._table,
            self._reporter,
            version,
            now,
            kernel_timestamps=self._io.kernel_timestamps,
        )

    def _miss_peers(self, now: float) -> None:
        """Tell of peers from whom nothing comes; again every so often while that lasts."""
        table = self._table
        heard = np.maximum(table.receiver.last_arrival, table.described)
        silent = table.listening & (now - np.maximum(heard, table.missed) >= MEDIA_SILENT_S)
        for row in np.flatnonzero(silent):
            table.missed[row] = now
            since = float(now - heard[row])
            self._events.append(MediaSilent(int(table.stream[row]), since))

    # ------------------------------------------------------------ digits

    def _hear_event(
        self, row: int, timestamp: int, marker: bool, payload: bytes, arrival: float
    ) -> None:
        receivers = self._table.event_receivers
        if row not in receivers:
            receivers[row] = EventReceiver(self._table.lane.rate_hz)
        receiver = receivers[row]
        self._events += self._digits(row, receiver.feed(timestamp, marker, payload, arrival))
        self._watch(row, receiver)

    def _time_out_digits(self, now: float) -> None:
        for row in list(self._hearing):
            receiver = self._table.event_receivers.get(row)
            if receiver is None:
                self._hearing.discard(row)
                continue
            self._events += self._digits(row, receiver.poll(now))
            self._watch(row, receiver)

    def _watch(self, row: int, receiver: EventReceiver) -> None:
        if receiver.next_timer() is None:
            self._hearing.discard(row)
        else:
            self._hearing.add(row)

    def _forget_events(self, row: int) -> list[Digit]:
        receiver = self._table.event_receivers.get(row)
        return receiver.reset() if receiver else []

    def _digits(self, row: int, digits: list[Digit]) -> list[EngineEvent]:
        stream = int(self._table.stream[row])
        return [DtmfReceived(stream, digit.digit, digit.duration_ms) for digit in digits]

    # ------------------------------------------------------------ one step

    def _catch_up(self, rows: Rows, now: float) -> None:
        table = self._table
        late = now - table.due[rows]
        far = late > _BEHIND_S
        if not far.any():
            return
        behind = rows[far]
        period = table.step[behind] / table.lane.rate_hz
        steps = np.floor(late[far] / period).astype(np.int64)
        samples = steps * table.step[behind]
        table.due[behind] += steps * period
        table.transmitter.timestamp[behind] += samples
        table.playout.skip(behind, samples)
        self.skipped_steps += int(steps.sum())

    def _step(self, rows: Rows, samples: int) -> None:
        """Hear and send `samples` samples of `rows`, which are all due and of this step."""
        table = self._table
        due = table.due[rows]
        table.due[rows] = due + samples / table.lane.rate_hz
        heard = table.playout.play(rows, samples, due)
        self._meter(rows, heard, table.level_in, table.level_in_before)
        self._index(rows)
        self._feed_listeners(heard)

        sending = table.transmitter.sending[rows]
        speakers = rows[sending]
        if speakers.size:
            sound = self._gather(speakers, heard)
            self._meter(speakers, sound, table.level_out, table.level_out_before)
            self._write_sinks(speakers, sound, sent=True)
            audible = self._send_digits(speakers, samples)
            if audible is None:
                table.transmitter.step(speakers, sound, self._io)
            elif audible.any():
                table.transmitter.step(speakers[audible], sound[audible], self._io)
        self._write_sinks(rows, heard, sent=False)
        table.transmitter.advance(rows, samples)

    def _index(self, rows: Rows) -> None:
        """Note where the rows of this step stand in its arrays; -1 for all others."""
        if self._position.size != self._table.active.size:
            self._position = np.full(self._table.active.size, -1, np.int64)
        self._position.fill(-1)
        self._position[rows] = np.arange(rows.size)

    def _feed_listeners(self, heard: npt.NDArray[np.float32]) -> None:
        """Queue what was heard for the rows that send it on, but not in this very step."""
        table = self._table
        routed = np.flatnonzero(table.source >= 0)
        if not routed.size:
            return
        place = self._position[table.source[routed]]
        later = (place >= 0) & ((self._position[routed] < 0) | (table.feed.fill[routed] > 0))
        if later.any():
            table.feed.append(routed[later], heard[place[later]])

    def _gather(self, rows: Rows, heard: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return what `rows` are to send: float32 (k, samples), an array of its own."""
        table = self._table
        samples = heard.shape[1]
        source = table.source[rows]
        fill = table.feed.fill[rows]
        place = np.where((source >= 0) & (fill == 0), self._position[source], -1)
        if (place >= 0).all():
            sound = heard[place]
        else:
            sound = np.zeros((rows.size, samples), np.float32)
            direct = place >= 0
            sound[direct] = heard[place[direct]]
            queued = (source >= 0) & (fill >= samples)
            if queued.any():
                sound[queued] = table.feed.take(rows[queued], samples)
        if table.pcm_source:
            for i, row in enumerate(rows.tolist()):
                number = table.pcm_source.get(row)
                if number is not None:
                    sound[i] += self._read_source(row, number, samples)
        muted = table.muted[rows]
        if muted.any():
            sound[muted] = 0.0
        return sound

    def _read_source(self, row: int, number: int, samples: int) -> npt.NDArray[np.float32]:
        out = np.zeros(samples, np.float32)
        try:
            ring = self.arena.ring(number)
        except MediaError:
            self._table.pcm_source.pop(row, None)
            return out
        pcm = ring.read(samples)
        out[: pcm.size] = pcm
        out /= 32768.0
        if pcm.size < samples and not ring.closed:
            self._table.underrun[row] += samples - pcm.size
        elif ring.closed and not ring.available:
            self._table.pcm_source.pop(row, None)
            self._events.append(SourceDrained(int(self._table.stream[row]), number))
        return out

    def _send_digits(self, rows: Rows, samples: int) -> Bools | None:
        """Send telephone-events; return which of `rows` send audio (None: all)."""
        table = self._table
        if not table.event_senders:
            return None
        audible = np.ones(rows.size, np.bool_)
        transmitter = table.transmitter
        for i, row in enumerate(rows.tolist()):
            sender = table.event_senders.get(row)
            if sender is None or row not in table.event_format:
                continue
            packet = sender.next_packet(int(transmitter.timestamp[row]) & 0xFFFFFFFF, samples)
            sent = sender.take_sent()
            if sent:
                self._events.append(DtmfSent(int(table.stream[row]), sent))
            if packet is None:
                if sender.idle:
                    del table.event_senders[row]
                continue
            audible[i] = False
            transmitter.filled[row] = 0
            header = pack_header(
                table.event_format[row][0],
                int(transmitter.sequence[row]),
                packet.timestamp,
                int(transmitter.ssrc[row]),
                marker=packet.marker,
            )
            self._io.send_one(row, header + packet.payload, rtcp=False)
            transmitter.sequence[row] += 1
            transmitter.packets[row] += 1
            transmitter.octets[row] += len(packet.payload)
        return audible

    def _write_sinks(self, rows: Rows, pcm: npt.NDArray[np.float32], *, sent: bool) -> None:
        table = self._table
        for row, sinks in list(table.sinks.items()):
            if not any(kind == sent for _, kind in sinks):
                continue
            place = int(self._position[row]) if not sent else _place(rows, row)
            if place < 0:
                continue
            scaled = np.rint(pcm[place] * np.float32(32768.0))
            samples = np.clip(scaled, -32768, 32767).astype(np.int16)
            for number, kind in sinks:
                if kind == sent:
                    try:
                        self.arena.ring(number).overwrite(samples)
                    except MediaError:
                        sinks.remove((number, kind))

    def _meter(
        self, rows: Rows, pcm: npt.NDArray[np.float32], level: Floats, before: Floats
    ) -> None:
        """Keep the loudest step of this second and of the one before."""
        table = self._table
        power = np.einsum("ij,ij->i", pcm, pcm) / np.float32(pcm.shape[1])
        level[rows] = np.maximum(level[rows], power)
        if level is table.level_in:
            table.level_steps[rows] += 1
        turned = rows[table.level_steps[rows] % _LEVEL_STEPS == 0]
        if turned.size:
            before[turned] = level[turned]
            level[turned] = 0.0


def _place(rows: Rows, row: int) -> int:
    """Return where `row` stands in the sorted `rows`, -1 if nowhere."""
    at = int(np.searchsorted(rows, row))
    return at if at < rows.size and rows[at] == row else -1

"""The media engine: `tick(now)` does everything for every row that is due.

    receive -> parse -> believe -> insert -> play out -> process -> route -> encode -> send

No thread, no socket and no clock are in it: a driver calls `tick` when `next_due` says so and
hands what `events` returns to whom it concerns. Commands come through one bounded queue and are
applied in order at the start of a tick.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count

import numpy as np

from voip.codecs.registry import Registry, default_registry
from voip.errors import MediaError, VoipError
from voip.media.answers import Applied, EngineEvent, MediaHeard, MediaSilent, Refused, StreamRefused
from voip.media.columns import Rows, every, some, where
from voip.media.commands import Command, ConnectStream
from voip.media.control import Control
from voip.media.digits import Digits
from voip.media.intake import Intake
from voip.media.io import PacketIO
from voip.media.keepalive import KeepAlive
from voip.media.lane import G711Lane
from voip.media.multiplex import Multiplexer
from voip.media.native import Native, available
from voip.media.pairs import Pairs
from voip.media.phases import Phases
from voip.media.playout import Playout
from voip.media.protection import Protection
from voip.media.relay import POLL_S, Relay
from voip.media.reports import GONE_S, Reporter
from voip.media.rings import RingArena
from voip.media.router import Router, Step
from voip.media.stats import StatsSnapshot, snapshot
from voip.media.table import BASE_STEP_S, Group, StreamTable
from voip.media.transmit import Transmitter
from voip.media.voices import STEPS_PER_SECOND
from voip.media.watch import TroubleWatch
from voip.types import Random, SecureRandom

__all__ = ["MAX_COMMANDS", "Engine"]

MAX_COMMANDS = 4096
"""Commands that may wait for a tick."""
_COMMANDS_S = 0.001
"""What commands may take of a tick's time before its sound; what is left over is done after it."""
_SPARE_S = 0.003
"""How long before the next tick no more commands are applied."""
_BEHIND_S = 0.2
"""Steps this late are left out: sound that old helps nobody."""
_PAUSE_S = 300.0
"""A pause that was announced may be as long as the longest that people make on the telephone."""
_ROUND_S = 1.0
_MISSED_S = 0.1
"""How often peers are missed."""


class Engine:
    """All streams of one process. `submit` may be called from any thread, all else from one.

    `native`: whether the part in C is used; None: where it is there. `codecs`: what there is beside
    G.711; None: what comes with the package. `clock`: what `now` is by, so that many commands at
    once make no tick late, but wait for the next one; None: all are applied. `poll_s`: how often
    packets are looked for while there is anything to relay; None: when a row takes a step.
    """

    def __init__(
        self,
        io: PacketIO,
        *,
        random: Random | None = None,
        arena: RingArena | None = None,
        native: bool | None = None,
        codecs: Registry | None = None,
        clock: Callable[[], float] | None = None,
        poll_s: float | None = POLL_S,
    ) -> None:
        self._clock = clock
        random = random or SecureRandom()
        self.native = available() if native is None else native
        self.arena = RingArena() if arena is None else arena
        self.skipped_steps = 0
        self.phases = Phases()
        """What a tick's parts take; give it a clock to have it counted."""
        self.snapshot: StatsSnapshot | None = None
        """The figures of all streams, once a second anew; any thread may read it."""
        multiplexer = Multiplexer(io)
        self._table = StreamTable(G711Lane())
        self._io = io = protection = Protection(
            self._table, multiplexer, native=self.native, phases=self.phases
        )
        self._reporter = Reporter(self._table, io, random, multiplexer)
        self._keep_alive = KeepAlive(self._table, io, self._reporter)
        self._digits = Digits(self._table, io)
        self._relay = Relay(self._table, io)
        self._watch = TroubleWatch(self._table)
        self._intake = Intake(
            self._table,
            io,
            self._reporter,
            self._digits,
            self._relay,
            self._watch,
            self.phases,
            native=self.native,
        )
        self._playout: Playout | Native = self._intake.native or self._table.playout
        self._transmitter: Transmitter | Native = self._intake.native or self._table.transmitter
        self._router = Router(self._table, self.arena)
        self._pairs = Pairs(self._table, self.arena)
        self._control = Control(
            self._table, io, self._reporter, self._digits, self.arena, random,
            default_registry() if codecs is None else codecs, self._keep_alive, protection,
        )  # fmt: skip
        self._commands: deque[tuple[int, Command]] = deque()
        self._tokens = count(1)
        self._events: list[EngineEvent] = []
        self._next_round = self._next_missed = 0.0
        self._judged = False  # the second that is over, and not told yet
        self._poll_s, self._ticked = poll_s, 0.0

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

    def jitter_log(self, stream: int) -> str:
        """Return what `LogJitter` has kept of a stream, as CSV; MediaError: nothing is kept."""
        return self._table.jitter_log(stream).to_csv()

    def next_step(self) -> float | None:
        """When a stream takes its next step, monotonic seconds; None while none takes part."""
        return self._table.next_due()

    def next_due(self) -> float | None:
        """When to tick next; None while no stream takes part.

        That is before the next step where packets are to be looked for, which may be put off until
        some have come: until the next step there is nothing else to do.
        """
        due = self._table.next_due()
        if due is None or self._poll_s is None or not self._relay.rows.size:
            return due
        return min(due, self._ticked + self._poll_s)

    def events(self) -> list[EngineEvent]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        return events

    def tick(self, now: float, wall: float) -> bool:
        """Do what is due at `now` (monotonic); `wall` is the time of day for RTCP.

        Returns whether there are events to fetch.
        """
        phases = self.phases
        phases.begin()
        self._ticked = now
        if self._commands:
            self._apply_commands(now, now + _COMMANDS_S)
            phases.end("commands")
        if (extensions := self._table.transmitter.extensions).used:
            extensions.at(wall)
        if self._table.rows:
            self._events += self._intake.receive(now, wall)
            phases.end("parse and insert")
            self._events += self._digits.poll(now)
            phases.end("digits")
            due = self._table.due_rows(now)
            if due.size:
                self._play_and_send(due, now)
            if self._judged:  # a tick later: neither waits for the other
                self._publish(now)
            elif now >= self._next_round:
                self._next_round = now + _ROUND_S
                self._judge(now)
            if now >= self._next_missed:
                self._next_missed = now + _MISSED_S
                self._miss_peers(now)
                self._relay.rest(now)
            phases.end("figures")
            self._events += self._reporter.tick(now, wall)
            self._keep_alive.tick(now)
            phases.end("reports")
            if self._commands:
                self._apply_commands(now, (self._table.next_due() or now) - _SPARE_S)
                phases.end("commands")
            if self._clock is not None and self._table.is_nearly_full:
                self._make_room(self._clock(), (self._table.next_due() or now) - _SPARE_S)
                phases.end("commands")
        if not self._table.rows and self.snapshot is not None and self.snapshot.rows:
            self._judge(now)
            self._publish(now)  # nothing is kept of the last streams while there are none
        return bool(self._events)

    # ------------------------------------------------------------ commands

    def _apply_commands(self, now: float, until: float) -> None:
        """Apply what waits, in order; where there is a clock, until then."""
        streams = set()
        for _ in range(len(self._commands)):
            if self._clock is not None and self._table.rows and self._clock() >= until:
                break
            token, command = self._commands.popleft()
            streams.add(command.stream)
            try:
                self._events.append(Applied(token, self._control.apply(command, now)))
            except VoipError as error:
                self._events.append(Refused(token, command.stream, error.message, error.hint))
                if isinstance(command, ConnectStream):
                    self._events.append(StreamRefused(command.stream, error.message))
        if streams:
            self._relay.judge(now, streams)

    def _make_room(self, now: float, until: float) -> None:
        """Have rows that are not needed yet, where there is time left."""
        if now < until:
            for part in (self._table, self._reporter, self._keep_alive):
                part.make_room()

    # ------------------------------------------------------------ steps

    def _play_and_send(self, due: Rows, now: float) -> None:
        table = self._table
        if table.behind(now) > _BEHIND_S:
            skipped = table.leave_out(due, now, _BEHIND_S)
            table.transmitter.leave_out(due, skipped)
            table.playout.skip(due, skipped * table.playout.rate[due] // STEPS_PER_SECOND)
            spans = table.step[due] * STEPS_PER_SECOND // table.playout.rate[due]
            self.skipped_steps += int((skipped // spans).sum())
        heard = [self._hear(group) for group in table.groups(due)]
        self._events += self._router.mix(heard)
        self.phases.end("route and mix")
        for step in heard:
            self._speak(step)
            if table.pair_sinks:
                self._pairs.write(step.group, step.slot)

    def _hear(self, group: Group) -> Step:
        """Hear a step of a group, whose rows are all due."""
        table, rows = self._table, group.rows
        slot = table.begin_step(rows, group.slots)
        due = slot * np.float64(BASE_STEP_S)
        heard = self._playout.play(rows, group.samples, due, coded=group.coded)
        if table.jitter_logs:
            for at, row in enumerate(rows.tolist()):
                if row in table.jitter_logs:
                    table.jitter_logs[row].note(
                        table.playout, row, float(due[at]) + group.slots * BASE_STEP_S
                    )
        self.phases.end("play out")
        if some(table.hears_tones):
            self._events += self._digits.listen(rows, heard)
            self.phases.end("digits")
        if table.pair_sinks or table.beeps:
            self._pairs.hear(group, slot, heard)
        power = table.levels.hear(rows, heard)
        self.phases.end("levels")
        step = Step(group, slot, heard, power)
        self._router.hear(step)
        self._router.record(rows, heard, sent=False)
        self.phases.end("route and mix")
        return step

    def _speak(self, step: Step) -> None:
        """Send what a group says in this step."""
        table = self._table
        rows, slot = step.group.rows, step.slot
        sending = table.transmitter.sending[rows]
        if self._relay.rows.size:
            sending &= ~table.wordless[rows]
        if not every(sending):
            rows, slot = rows[sending], slot[sending]
        if not rows.size:
            return
        sound, events = self._router.gather(rows, step)
        self._events += events
        if table.pair_sinks or table.beeps:
            self._pairs.say(step.group, rows, slot, sound)
        self._router.record(rows, sound, sent=True)
        self.phases.end("route and mix")
        power = table.levels.send(rows, sound)
        self.phases.end("levels")
        if self._relay.rows.size and some(relaying := self._relay.active[rows]):
            rows, sound, slot = rows[~relaying], sound[~relaying], slot[~relaying]
            power = power[~relaying]
            if not rows.size:
                return
        table.silences.listen(rows, sound)
        if step.group.coded:
            full = self._transmitter.fill_each(
                rows, sound, slot, table.voices, table.event_senders, table.playout.voicing
            )
        else:
            full = self._transmitter.fill(rows, sound, slot * table.base_step)
        if (extensions := table.transmitter.extensions).used:
            start, spoken = table.transmitter.start[rows], table.silences.spoken[rows]
            extensions.measure(rows, power, sound.shape[1], start, spoken, full)
        self.phases.end("encode")
        full, events = self._digits.replace(full)
        self._events += events
        self.phases.end("digits")
        full = table.silences.hold_back(full, table.transmitter, self._io)
        if full.size:
            self._transmitter.send(full, self._io)
            self.phases.end("send")

    # ------------------------------------------------------------ every now and then

    def _judge(self, now: float) -> None:
        """Judge the second that is over."""
        self._judged = True
        self._relay.judge(now)
        self._events += self._watch.judge(self._reporter, now)

    def _publish(self, now: float) -> None:
        """Tell its figures."""
        self._judged = False
        version = self.snapshot.version + 1 if self.snapshot else 1
        self.snapshot = snapshot(
            self._table,
            self._reporter,
            version,
            now,
            kernel_timestamps=self._io.kernel_timestamps,
        )
        self._table.levels.turn()

    def _miss_peers(self, now: float) -> None:
        """Tell of peers from whom nothing comes, again every so often, and when they are back.

        RTCP counts: who says nothing for a while on purpose goes on to report. Where nobody is to
        be heard and we speak, reports are all that comes, and their stopping is all that is told.
        Who has announced silence by comfort noise, and reports nothing, may say nothing for longer.
        """
        table, reporter = self._table, self._reporter
        came = np.maximum(table.receiver.last_arrival, reporter.heard_at)
        since = np.maximum(came, np.maximum(table.described, table.watched))
        if some(paused := table.playout.comfort.on & ~reporter.reporting):
            since[paused] += _PAUSE_S
        quiet = np.maximum(now - since, 0.0)
        times = quiet // table.patience
        gone = reporter.reporting & (quiet >= GONE_S)
        may_come = table.listening | (gone & table.transmitter.sending)
        for row in where((times != table.missed) & (may_come | (table.missed > 0))):
            stream = int(table.stream[row])
            if may_come[row] and times[row] > table.missed[row]:
                told = MediaSilent(stream, float(quiet[row]), bool(gone[row]))
                self._events.append(told)
                table.missed[row] = int(times[row])
            else:
                self._events.append(MediaHeard(stream))
                table.missed[row] = 0

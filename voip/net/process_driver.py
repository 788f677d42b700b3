"""Runs a media engine in a process of its own: what this one does with the interpreter is its own.

Commands go out once in each turn of the loop, what the engine tells comes in at most once in a
tick. Sound passes through rings in memory that both see.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from voip.config import DSCP_EF, ENGINE_NICE
from voip.errors import MediaError
from voip.logs.lines import event
from voip.media.answers import Applied, EngineEvent, Refused, StreamStats
from voip.media.commands import Command
from voip.media.driver import EngineFigures
from voip.media.engine import MAX_COMMANDS
from voip.media.io import PacketTap
from voip.media.stats import StatsSnapshot
from voip.net.engine_messages import Channel, EngineSettings, Orders, Report, ReportedFigures
from voip.net.listeners import Listeners, Result, not_running
from voip.net.ring_memory import MemfdMemory
from voip.net.ticks import TickTimes

__all__ = ["ProcessDriver"]

log = logging.getLogger(__name__)

CLOSE_S = 5.0
"""An engine that does not end by itself in this time is killed."""
_POLL_S = 0.02
ALIVE_S = 5.0
"""How often the engine is asked whether it ticks."""
STUCK = 3
"""One that has not answered so often is killed: its calls hear nothing any more."""
STUCK_AT_START = 12
"""The same for one that has not begun to tick."""

_START = (
    "import sys; sys.path.append(sys.argv[1]); from voip.net.engine_process import main; main()"
)


def _nobody(reason: str) -> None:
    """Hear that the engine is gone."""


class ProcessDriver:
    """`voip.media.driver.EngineDriver` on a child process.

    `ports`: the first and the last of its RTP ports; `dscp`: what packets are marked with;
    `nice`: what priority it asks for.
    `memory`: where the rings are that commands name. `tap` is told of every packet, in the loop.
    `lost` is called in the loop, once, when the process ends though nobody has closed it; commands
    are refused from then on.
    """

    def __init__(
        self,
        memory: MemfdMemory,
        *,
        ports: tuple[int, int] = (10000, 19999),
        dscp: int = DSCP_EF,
        nice: int | None = ENGINE_NICE,
        tap: PacketTap | None = None,
        lost: Callable[[str], None] = _nobody,
        remembered_ticks: int = 8192,
    ) -> None:
        self.times = TickTimes(remembered_ticks)
        self.is_ready = False
        """Whether it has begun to tick."""
        self._memory = memory
        self._ports = ports
        self._dscp = dscp
        self._nice = nice
        self._tap = tap
        self._lost = lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._pidfd: int | None = None
        self._ended: asyncio.Future[None] | None = None
        self._closing = False
        self._commands: list[Command] = []
        self._token = 0  # of the last command
        self._unanswered = 0
        self._flush_due = False
        self._ticks_wanted = False
        self._listeners = Listeners()
        self._snapshot: StatsSnapshot | None = None
        self._io: dict[str, int] = {}
        self._streams = 0
        self._asked = 0
        self._spoke = True
        self._silences = 0
        self._alive: asyncio.TimerHandle | None = None
        self._answers: dict[int, asyncio.Future[None]] = {}

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process is not None and self.runs else None

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._ended is not None and not self._ended.done()

    def start(self) -> None:
        """Start the process; events will be delivered in the running loop."""
        loop = self._loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        ours, theirs = socket.socketpair()
        with theirs:
            fds = theirs.fileno(), self._memory.fd
            root = str(Path(__file__).parents[2])
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _START, root, *map(str, fds)],
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    process_group=0,  # a terminal's Ctrl-C is not for it
                )
            except OSError as error:
                ours.close()
                self._ended.set_result(None)
                raise MediaError(f"the media engine cannot be started: {error}") from error
        channel = self._channel = Channel(ours)
        level = logging.getLogger("voip").getEffectiveLevel()
        tapped = self._tap is not None
        channel.send(
            EngineSettings(self._ports, self._dscp, tapped, level, os.getpid(), self._nice)
        )
        loop.add_reader(channel.sock, self._on_readable)
        self._watch_exit()
        self._ask_if_alive()
        words = "a media engine runs in process %d"
        event(log, logging.DEBUG, "media_started", words, self._process.pid)

    async def close(self) -> None:
        """End the process, which closes its streams first, and refuse what was still waiting."""
        if self._ended is None or self._closing:
            return
        self._closing = True
        if not self._ended.done():
            self._flush()
            if not self.is_ready:  # it has opened nothing yet
                self._kill()
            elif self._channel is not None and not self._channel.has_unsent:
                self._channel.say_no_more()
            # else: when all is sent
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await asyncio.shield(self._ended)
            if not self._ended.done():
                self._kill()
                await asyncio.shield(self._ended)
        self._listeners.refuse_waiting("the media engine has been closed")
        event(
            log, logging.DEBUG, "media_stopped", "the media engine has stopped",
            ticks=self.times.ticks, late=self.times.late, failed=self.times.failures,
        )  # fmt: skip

    async def apply(self, command: Command) -> Result:
        """Queue a command, and return its result or raise `MediaError`."""
        token = self._submit(command)
        if asyncio.get_running_loop() is not self._loop:
            raise MediaError("the media engine belongs to another event loop")
        return await self._listeners.answer_to(token)

    def post(self, command: Command) -> None:
        """Queue a command; nobody waits for its answer."""
        self._submit(command)

    def stats(self, stream: int) -> StreamStats | None:
        """Return figures of a stream at most a second old, None where there are none yet."""
        return self._snapshot.of(stream) if self._snapshot is not None else None

    def figures(self, since_tick: int = 0) -> EngineFigures:
        """Return what has been counted, up to a second ago."""
        ticks = self.times.figures(since_tick)
        return EngineFigures(self._snapshot, ticks, self._io, self._streams)

    async def fresh_figures(self, since_tick: int = 0) -> EngineFigures:
        """Ask for what has been counted by now; `MediaError` where the process does not run.

        What the kernel has dropped of open streams is asked of a few at a time, and may be older.
        """
        if not self.runs:
            raise not_running()
        loop = asyncio.get_running_loop()
        self._asked += 1
        answer = self._answers[self._asked] = loop.create_future()
        self._send(Orders(asked=self._asked))
        await answer
        return self.figures(since_tick)

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Call back with every event but what answers commands; refusals of posted ones too."""
        return self._listeners.subscribe(callback)

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once per tick; while anybody asks for it, every tick wakes the loop."""
        remove = self._listeners.on_tick(callback)
        self._flush_soon()
        return remove

    # ------------------------------------------------------------ to the engine

    def _submit(self, command: Command) -> int:
        if self._closing or not self.runs:
            raise not_running()
        if self._unanswered >= MAX_COMMANDS:
            raise MediaError(
                f"{MAX_COMMANDS} commands wait for the media engine", hint="its process is stuck"
            )
        self._token += 1
        self._unanswered += 1
        self._commands.append(command)
        self._flush_soon()
        return self._token

    def _flush_soon(self) -> None:
        if not self._flush_due and self._loop is not None and self.runs:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        wanted = self._listeners.want_ticks
        ticks = None if wanted == self._ticks_wanted else wanted
        self._ticks_wanted = wanted
        if self._commands or ticks is not None:
            commands, self._commands = tuple(self._commands), []
            self._send(Orders(commands, ticks))

    def _send(self, orders: Orders) -> None:
        channel, loop = self._channel, self._loop
        if channel is not None and loop is not None and self.runs:
            channel.send(orders)
            if channel.has_unsent:
                loop.add_writer(channel.sock, self._on_writable)

    def _ask_if_alive(self, before: float | None = None) -> None:
        """Ask, and ask again: who says nothing, whatever it is told, is stuck."""
        loop = self._loop
        if loop is None or not self.runs or self._closing:
            return
        now = loop.time()
        if self._spoke or (before is not None and now - before > 2 * ALIVE_S):
            self._silences = 0  # or this process itself had no time to listen
        else:
            self._silences += 1
        self._spoke = False
        if self._silences >= (STUCK if self.is_ready else STUCK_AT_START):
            event(log, logging.ERROR, "media_stuck", "a media engine is stuck, and is killed")
            self._kill()
            return
        self._asked += 1
        self._send(Orders(asked=self._asked))
        self._alive = loop.call_later(ALIVE_S, self._ask_if_alive, now)

    def _on_writable(self) -> None:
        channel, loop = self._channel, self._loop
        if channel is None or loop is None:
            return
        channel.flush()
        if not channel.has_unsent:
            loop.remove_writer(channel.sock)
            if self._closing:
                channel.say_no_more()

    # ------------------------------------------------------------ from the engine

    def _on_readable(self) -> None:
        channel, loop = self._channel, self._loop
        if channel is None or loop is None:
            return
        self._take_in(channel)
        if channel.ended:
            loop.remove_reader(channel.sock)
            if self._pidfd is None:
                self._poll_exit()

    def _take_in(self, channel: Channel) -> None:
        """Take what has come; whatever it is, who waits for ticks is woken once."""
        self._spoke = True
        ticked = False
        for report in channel.receive():
            ticked |= report.ticked
            self._take(report)
        if ticked:
            self._listeners.ticked()
            if not self._listeners.want_ticks:
                self._flush_soon()

    def _take(self, report: Report) -> None:
        for fields in report.log:
            record = logging.makeLogRecord(dict(fields))
            record.levelname = logging.getLevelName(record.levelno)
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        if self._tap is not None:
            for sent, row, local, remote, packet, at in report.packets:
                self._tap(sent, row, local, remote, memoryview(packet), at)
        if report.figures is not None:
            self._count(report.figures)
        if report.failed:
            self._unanswered = 0
            self._listeners.refuse_waiting("the media engine failed; the log says how")
        self._streams = report.streams
        answers = sum(isinstance(one, Applied | Refused) for one in report.events)
        self._unanswered = max(0, self._unanswered - answers)
        self._listeners.deliver(report.events)

    def _count(self, figures: ReportedFigures) -> None:
        self.is_ready = True
        self._snapshot = figures.snapshot or self._snapshot
        self._io = dict(figures.io)
        lateness_s = figures.lateness_s
        self.times.add(lateness_s, figures.late, figures.failures, len(lateness_s))
        for number in [one for one in self._answers if one <= figures.asked]:
            answer = self._answers.pop(number)
            if not answer.done():
                answer.set_result(None)

    # ------------------------------------------------------------ its end

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _watch_exit(self) -> None:
        if self._process is None or self._loop is None:
            return
        with suppress(OSError, AttributeError):  # else the end of the channel tells of it
            self._pidfd = os.pidfd_open(self._process.pid)
            self._loop.add_reader(self._pidfd, self._poll_exit)

    def _poll_exit(self) -> None:
        process, loop = self._process, self._loop
        if process is None or loop is None or not self.runs:
            return
        if process.poll() is None:
            if self._pidfd is None:
                loop.call_later(_POLL_S, self._poll_exit)
            return
        channel = self._channel
        if channel is not None:
            self._take_in(channel)  # its last words
            loop.remove_reader(channel.sock)
            loop.remove_writer(channel.sock)
            channel.close()
        if self._alive is not None:
            self._alive.cancel()
        if self._pidfd is not None:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(not_running())
        if not self._closing:
            reason = f"its media engine died ({_death(process.returncode)})"
            event(log, logging.ERROR, "media_died", "process %d: %s", process.pid, reason)
            self._listeners.refuse_waiting(reason)
            self._lost(reason)


def _death(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"

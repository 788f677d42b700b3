"""An engine in a process of its own: what `voip.net.process_driver` starts.

One thread: it does what it is told at the beginning of each tick, ticks at absolute deadlines, and
tells what there is to tell after it. It ends when the process that started it does, or says so.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from voip.media.engine import Engine
from voip.media.rings import RingArena
from voip.media.table import BASE_STEP_S
from voip.net.driver import LOGGED_FAILURES
from voip.net.engine_messages import Channel, EngineSettings, Orders, Report, ReportedFigures
from voip.net.packets import UdpPacketIO
from voip.net.pauses import sleep_until_due
from voip.net.ports import PortRange
from voip.net.priority import be_in_time
from voip.net.ring_memory import MemfdMemory
from voip.net.ticks import TickTimes
from voip.types import Address, SecureRandom

__all__ = ["EngineProcess", "main"]

log = logging.getLogger(__name__)

FIGURES_S = 1.0
_LOOKED_AT = 128
"""Lines whose drops the kernel is asked for at a time: thousands of calls to it take a tick."""
GOODBYE_S = 1.0
"""How long the last words may take."""


class EngineProcess:
    """The engine, its packets, and the channel to the process that it belongs to."""

    def __init__(self, channel: Channel, settings: EngineSettings, memory: MemfdMemory) -> None:
        random = SecureRandom()
        self._channel = channel
        self._parent = settings.parent
        self._log = _LogKeeper()
        logging.basicConfig(handlers=[self._log], level=settings.log_level, force=True)
        self._io = UdpPacketIO(random, ports=PortRange(*settings.ports), dscp=settings.dscp)
        self._packets: list[Any] = []
        self._packets_dropped = 0  # of the capture, because nobody took them
        if settings.tapped:
            self._io.tap = self._see
        self._engine = Engine(
            self._io, random=random, arena=RingArena(memory=memory), clock=time.monotonic
        )
        self._times = TickTimes()
        self._told = _Told()
        self._version = 0
        self._next_figures = 0.0
        self._watched = False  # every tick is to be reported
        self._asked = 0

    def run(self) -> None:
        """Tick until the other end is gone."""
        self._channel.send(Report(figures=self._figures()))
        try:
            while not self._channel.ended:
                deadline = self._wait()
                self.take(self._channel.receive())
                self._tick(deadline)
                if self._channel.has_unsent:
                    self._channel.flush()
        finally:
            self._tick(time.monotonic())  # what was ordered before the end is carried out
            self._io.close_all()
            self._channel.send(Report(figures=self._figures(), **self._written()))
            self._say_the_rest()

    def _wait(self) -> float:
        """Sleep until the next deadline and return it; without one, until there are orders."""
        deadline = sleep_until_due(self._engine, self._io.wait)
        if deadline is not None:
            return deadline
        if not self._engine.pending:
            _wait_for(self._channel.sock, writing=self._channel.has_unsent)
        return time.monotonic()

    def take(self, messages: Sequence[Orders]) -> None:
        """Do what is ordered: commands by the next tick."""
        for orders in messages:
            for command in orders.commands:
                self._engine.submit(command)
            if orders.ticks is not None:
                self._watched = orders.ticks
            self._asked = orders.asked or self._asked

    def _tick(self, deadline: float) -> None:
        started = time.monotonic()
        failed = False
        try:
            self._engine.tick(started, time.time())
            following = self._engine.next_step()
        except Exception:
            self._times.failures += 1
            failed = True
            if self._times.failures <= LOGGED_FAILURES:
                log.exception("a tick of the media engine failed")
        else:
            self._times.record(deadline, started, time.monotonic(), following)
        self._tell(failed)
        if failed:
            time.sleep(BASE_STEP_S)  # its next deadline may still be the old one

    def _tell(self, failed: bool) -> None:
        now = time.monotonic()
        figures = None
        snapshot = self._engine.snapshot
        if (
            self._asked
            or now >= self._next_figures
            or (snapshot is not None and snapshot.version != self._version)
        ):
            self._next_figures = now + FIGURES_S
            figures = self._figures()
            self._asked = 0
            if os.getppid() != self._parent:  # a child of its has kept the channel open
                self._channel.ended = True
        events = self._engine.events()
        written = self._written()
        if events or failed or self._watched or figures or written:
            streams = self._engine.streams
            report = Report(tuple(events), self._watched, failed, streams, figures, **written)
            self._channel.send(report)

    def _written(self) -> dict[str, Any]:
        """Return what there is of a report that most have nothing of."""
        written: dict[str, Any] = {}
        if self._log.records:
            written["log"], self._log.records = tuple(self._log.records), []
        if self._packets:
            if self._channel.is_clogged:
                self._packets_dropped += len(self._packets)
            else:
                written["packets"] = tuple(self._packets)
            self._packets = []
        return written

    def _figures(self) -> ReportedFigures:
        times, told = self._times, self._told
        snapshot = self._engine.snapshot
        if snapshot is not None and snapshot.version == self._version:
            snapshot = None
        elif snapshot is not None:
            self._version = snapshot.version
        io = {
            **self._io.counted(_LOOKED_AT),
            "skipped_steps": self._engine.skipped_steps,
            "reports_dropped": self._channel.dropped,
            "capture_dropped": self._packets_dropped,
        }
        figures = ReportedFigures(
            snapshot,
            times.since(told.ticks),
            times.late - told.late,
            times.failures - told.failures,
            io,
            self._asked,
        )
        told.ticks, told.late, told.failures = times.ticks, times.late, times.failures
        return figures

    def _see(
        self, sent: bool, row: int, local: Address, remote: Address, packet: memoryview, at: float
    ) -> None:
        self._packets.append((sent, row, local, remote, bytes(packet), at))

    def _say_the_rest(self) -> None:
        until = time.monotonic() + GOODBYE_S
        while self._channel.has_unsent and (left := until - time.monotonic()) > 0:
            _wait_for(self._channel.sock, reading=False, writing=True, seconds=left)
            self._channel.flush()


class _Told:
    """What of the ticks has been reported."""

    def __init__(self) -> None:
        self.ticks = self.late = self.failures = 0


class _LogKeeper(logging.Handler):
    """Keeps log records for the other process, as values."""

    LIMIT = 1000

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Mapping[str, Any]] = []
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one, unless nobody has fetched a thousand."""
        if len(self.records) >= self.LIMIT:
            return
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self._formatter.formatException(record.exc_info)
        fields = {name: str(value) for name, value in vars(record).items() if name == "event"}
        self.records.append(
            {"name": record.name, "levelno": record.levelno, "msg": message, **fields}
        )


def _wait_for(
    sock: socket.socket,
    *,
    reading: bool = True,
    writing: bool = False,
    seconds: float | None = None,
) -> None:
    """Wait until a socket can be read, or written; its number may be any: no select(2)."""
    poll = select.poll()
    poll.register(sock, (select.POLLIN if reading else 0) | (select.POLLOUT if writing else 0))
    poll.poll(None if seconds is None else 1000 * seconds)


def main() -> None:
    """Run the engine that the process which started this one wants: `ROOT CHANNEL MEMORY`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who has started us
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=int(sys.argv[2])))
    memory = MemfdMemory(fd=int(sys.argv[3]))
    messages: list[Any] = []
    while not messages:
        _wait_for(channel.sock)
        messages = channel.receive()
        if channel.ended and not messages:
            return
    settings, *orders = messages
    be_in_time(settings.nice)
    process = EngineProcess(channel, settings, memory)
    process.take(orders)
    gc.collect()
    gc.freeze()
    process.run()

"""Runs a media engine in a thread of its own, at absolute deadlines.

The thread ticks and nothing else. Commands go in through the engine's queue, events come out
through the asyncio loop: at most one wake-up of the loop per tick, none while one is under way.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from voip.errors import MediaError
from voip.logs.lines import event
from voip.media.answers import EngineEvent, StreamStats
from voip.media.commands import Command
from voip.media.driver import EngineFigures, TickingEngine
from voip.media.table import BASE_STEP_S
from voip.net.listeners import Listeners, Result, not_running
from voip.net.pauses import sleep_until_due
from voip.net.switch_interval import SwitchInterval
from voip.net.ticks import TickTimes

__all__ = ["LOGGED_FAILURES", "ThreadDriver", "TickTimes"]

log = logging.getLogger(__name__)

LOGGED_FAILURES = 3
"""A tick that raises is a fault of ours: the first few are logged in full, all are counted."""


class ThreadDriver:
    """`voip.media.driver.EngineDriver` on a daemon thread and the real clock.

    `release` is called by the thread when it has ended (`UdpPacketIO.close_all`). `counted` says
    what went wrong with packets, by kind. `wait` returns when a packet has come, or so many seconds
    later; None: they are looked for. While it runs the interpreter switches threads every 0.5 ms
    (`voip.net.switch_interval`), so that the engine has not to wait long for its turn.
    """

    def __init__(
        self,
        engine: TickingEngine,
        *,
        release: Callable[[], None],
        counted: Callable[[], Mapping[str, int]] = dict,
        wait: Callable[[float], None] | None = None,
        name: str = "voip-engine",
        remembered_ticks: int = 8192,
    ) -> None:
        self.times = TickTimes(remembered_ticks)
        self._engine = engine
        self._release = release
        self._counted = counted
        self._packets_come = wait
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._wake = threading.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._arrived: deque[EngineEvent] = deque()
        self._delivery_due = False
        self._listeners = Listeners()

    # ------------------------------------------------------------ in the loop

    def start(self) -> None:
        """Start the thread; events will be delivered in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        SwitchInterval.take()
        self._thread.start()
        event(log, logging.DEBUG, "media_started", "the media engine runs")

    async def close(self) -> None:
        """Stop the thread, release its sockets, and refuse what was still waiting."""
        if self._ended is None or self._loop is None:
            self._stopping = True
            self._release()
            return
        self._stopping = True
        self._wake.set()
        await asyncio.shield(self._ended)
        self._thread.join()
        self._deliver()
        self._listeners.refuse_waiting("the media engine has been closed")
        times = self.times
        event(
            log,
            logging.DEBUG,
            "media_stopped",
            "the media engine has stopped",
            ticks=times.ticks,
            late=times.late,
            failed=times.failures,
        )

    async def apply(self, command: Command) -> Result:
        """Queue a command, and return its result or raise `MediaError`."""
        token = self._submit(command)
        self._check_loop()
        return await self._listeners.answer_to(token)

    def post(self, command: Command) -> None:
        """Queue a command; nobody waits for its answer."""
        self._submit(command)

    def stats(self, stream: int) -> StreamStats | None:
        """Return figures of a stream at most a second old, None where there are none yet."""
        snapshot = self._engine.snapshot
        return snapshot.of(stream) if snapshot is not None else None

    def figures(self, since_tick: int = 0) -> EngineFigures:
        """Return what has been counted; the lateness of ticks from number `since_tick` on."""
        ticks = self.times.figures(since_tick)
        return EngineFigures(self._engine.snapshot, ticks, self._counted(), self._engine.streams)

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Call back with every event but what answers commands; refusals of posted ones too."""
        return self._listeners.subscribe(callback)

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once per tick; while anybody asks for it, every tick wakes the loop."""
        return self._listeners.on_tick(callback)

    def _submit(self, command: Command) -> int:
        if self._stopping or self._loop is None:
            raise not_running()
        token = self._engine.submit(command)
        self._wake.set()
        return token

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise MediaError("the media engine belongs to another event loop")

    def _deliver(self) -> None:
        self._delivery_due = False  # first: what arrives from now on asks for another delivery
        arrived = self._arrived
        self._listeners.deliver(arrived.popleft() for _ in range(len(arrived)))
        self._listeners.ticked()

    def _thread_ended(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _refuse_after_failure(self) -> None:
        self._listeners.refuse_waiting("the media engine failed; the log says how")

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                deadline = self._wait()
                self._wake.clear()
                self._tick(deadline)
            self._tick(time.monotonic())  # what was queued before the end is carried out
            while self._engine.pending:
                self._tick(time.monotonic())
        finally:
            try:
                self._release()
            finally:
                SwitchInterval.restore()
                self._in_loop(self._thread_ended)

    def _wait(self) -> float:
        """Sleep until the next deadline and return it; without one, until there is a command."""
        deadline = sleep_until_due(self._engine, self._packets_come)
        if deadline is None:
            self._wake.wait()
            return time.monotonic()
        return deadline

    def _tick(self, deadline: float) -> None:
        started = time.monotonic()
        try:
            news = self._engine.tick(started, time.time())
            if news:
                self._arrived.extend(self._engine.events())
            following = self._engine.next_step()
        except Exception:
            self._tick_failed()
            return
        self.times.record(deadline, started, time.monotonic(), following)
        if (news or self._listeners.want_ticks) and not self._delivery_due:
            self._delivery_due = True
            self._in_loop(self._deliver)

    def _tick_failed(self) -> None:
        self.times.failures += 1
        if self.times.failures <= LOGGED_FAILURES:
            log.exception("a tick of the media engine failed")
        self._in_loop(self._refuse_after_failure)
        time.sleep(BASE_STEP_S)  # its next deadline may still be the old one

    def _in_loop(self, callback: Callable[[], None]) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop was closed without closing us
            self._stopping = True

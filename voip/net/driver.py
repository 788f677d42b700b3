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
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError
from voip.logs.lines import event
from voip.media.commands import Applied, Command, EngineEvent, Opened, Refused, StreamStats
from voip.media.driver import EngineFigures, TickFigures, TickingEngine
from voip.media.table import BASE_STEP_S

__all__ = ["ThreadDriver", "TickTimes"]

log = logging.getLogger(__name__)

_Listener = TypeVar("_Listener", bound=Callable[..., None])

LOGGED_FAILURES = 3
"""A tick that raises is a fault of ours: the first few are logged in full, all are counted."""


class TickTimes:
    """How late each tick began and ended, in seconds after its deadline: the last `capacity`.

    `late` counts ticks that were not done when the next one was due, and the deadlines that the
    engine left out because of that.
    """

    def __init__(self, capacity: int = 8192) -> None:
        self._figures = np.zeros((capacity, 2), np.float64)
        self.ticks = 0
        self.late = 0
        self.failures = 0

    def record(self, deadline: float, started: float, done: float, following: float | None) -> None:
        """Note one tick; `following` is the next deadline (None: nothing is due)."""
        started_s = max(0.0, started - deadline)
        self._figures[self.ticks % len(self._figures)] = started_s, done - deadline
        self.ticks += 1
        if following is None:
            return
        self.late += done > following
        if started_s > BASE_STEP_S:  # no row's step is longer than two base steps
            self.late += max(0, int((following - deadline) / BASE_STEP_S) - 2)

    def since(self, tick: int = 0, until: int | None = None) -> npt.NDArray[np.float64]:
        """Return (start, done) of the ticks from number `tick` on: float64 (ticks, 2), in order.

        `until`: and before that one; by default all that there were.
        """
        size = len(self._figures)
        end = self.ticks if until is None else until
        return self._figures[np.arange(max(tick, end - size), end) % size]


class ThreadDriver:
    """`voip.media.driver.EngineDriver` on a daemon thread and the real clock.

    `release` is called by the thread when it has ended (`UdpPacketIO.close_all`). `counted` says
    what went wrong with packets, by kind.
    """

    def __init__(
        self,
        engine: TickingEngine,
        *,
        release: Callable[[], None],
        counted: Callable[[], Mapping[str, int]] = dict,
        name: str = "voip-engine",
        remembered_ticks: int = 8192,
    ) -> None:
        self.times = TickTimes(remembered_ticks)
        self._engine = engine
        self._release = release
        self._counted = counted
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._wake = threading.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None
        self._arrived: deque[EngineEvent] = deque()
        self._delivery_due = False
        self._waiting: dict[int, asyncio.Future[Opened | StreamStats | None]] = {}
        self._listeners: list[Callable[[EngineEvent], None]] = []
        self._tick_listeners: list[Callable[[], None]] = []

    # ------------------------------------------------------------ in the loop

    def start(self) -> None:
        """Start the thread; events will be delivered in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
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
        self._refuse_waiting("the media engine has been closed")
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

    async def apply(self, command: Command) -> Opened | StreamStats | None:
        """Queue a command, and return its result or raise `MediaError`."""
        token = self._submit(command)
        answer: asyncio.Future[Opened | StreamStats | None] = self._running_loop().create_future()
        self._waiting[token] = answer
        try:
            return await answer
        finally:
            self._waiting.pop(token, None)

    def post(self, command: Command) -> None:
        """Queue a command; nobody waits for its answer."""
        self._submit(command)

    def stats(self, stream: int) -> StreamStats | None:
        """Return figures of a stream at most a second old, None where there are none yet."""
        snapshot = self._engine.snapshot
        return snapshot.of(stream) if snapshot is not None else None

    def figures(self, since_tick: int = 0) -> EngineFigures:
        """Return what has been counted; the lateness of ticks from number `since_tick` on."""
        times = self.times
        count = times.ticks  # the thread goes on
        lateness_s = times.since(since_tick, count)
        ticks = TickFigures(count, times.late, times.failures, lateness_s)
        return EngineFigures(self._engine.snapshot, ticks, self._counted(), self._engine.streams)

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Call back with every event but what answers commands; refusals of posted ones too."""
        return _add(self._listeners, callback)

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once per tick; while anybody asks for it, every tick wakes the loop."""
        return _add(self._tick_listeners, callback)

    def _submit(self, command: Command) -> int:
        if self._stopping or self._loop is None:
            raise MediaError("the media engine is not running", hint="start the driver first")
        token = self._engine.submit(command)
        self._wake.set()
        return token

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            raise MediaError("the media engine belongs to another event loop")
        return loop

    def _deliver(self) -> None:
        self._delivery_due = False  # first: what arrives from now on asks for another delivery
        while self._arrived:
            event = self._arrived.popleft()
            if isinstance(event, Applied | Refused):
                self._answer(event)
            else:
                self._tell(event)
        for waker in tuple(self._tick_listeners):
            _call(waker)

    def _tell(self, event: EngineEvent) -> None:
        for listener in tuple(self._listeners):
            _call(listener, event)

    def _answer(self, event: Applied | Refused) -> None:
        answer = self._waiting.get(event.token)
        if answer is None:  # posted, or its caller was cancelled
            if isinstance(event, Refused):
                self._tell(event)
        elif answer.done():
            return
        elif isinstance(event, Applied):
            answer.set_result(event.result)
        else:
            answer.set_exception(MediaError(event.message, hint=event.hint))

    def _thread_ended(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _refuse_after_failure(self) -> None:
        self._refuse_waiting("the media engine failed; the log says how")

    def _refuse_waiting(self, message: str) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(MediaError(message))

    # ------------------------------------------------------------ in the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                deadline = self._wait()
                self._wake.clear()
                self._tick(deadline)
            self._tick(time.monotonic())  # what was queued before the end is carried out
        finally:
            try:
                self._release()
            finally:
                self._in_loop(self._thread_ended)

    def _wait(self) -> float:
        """Sleep until the next deadline and return it; without one, until there is a command."""
        deadline = self._engine.next_due()
        if deadline is None:
            self._wake.wait()
            return time.monotonic()
        remaining = deadline - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)
        return deadline

    def _tick(self, deadline: float) -> None:
        started = time.monotonic()
        try:
            news = self._engine.tick(started, time.time())
            if news:
                self._arrived.extend(self._engine.events())
            following = self._engine.next_due()
        except Exception:
            self._tick_failed()
            return
        self.times.record(deadline, started, time.monotonic(), following)
        if (news or self._tick_listeners) and not self._delivery_due:
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


def _add(listeners: list[_Listener], listener: _Listener) -> Callable[[], None]:
    """Register a listener; return what removes it, and does no harm when called again."""
    listeners.append(listener)

    def remove() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return remove


def _call(listener: Callable[..., None], *arguments: object) -> None:
    try:
        listener(*arguments)
    except Exception:
        log.exception("a listener to the media engine failed")

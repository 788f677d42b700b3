"""Several engines behind one driver: streams are spread over them, and never move.

The first may be a thread of this process, which has the streams as long as there are few; all
others are processes. An engine whose process dies takes its own streams with it, each of which is
told of (`StreamLost`), and another takes its place for those that are opened from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from voip.errors import MediaError
from voip.logs.lines import event
from voip.media.answers import EngineEvent, SourceDrained, SpeakersChanged, StreamLost, StreamStats
from voip.media.commands import (
    AddSink,
    Announce,
    CloseStream,
    Command,
    MixStream,
    OpenMix,
    OpenStream,
    RemoveSink,
    RouteStream,
    SetSource,
    ShapeMix,
)
from voip.media.driver import EngineDriver, EngineFigures
from voip.media.links import LINK_BYTES
from voip.media.merged_stats import merged
from voip.media.rings import RingArena
from voip.net.crossings import Links, Mixes, Plan, Routes, Whispers
from voip.net.driver import ThreadDriver
from voip.net.listeners import Listeners, Result, not_running
from voip.net.process_driver import ProcessDriver
from voip.net.ticks import TickTimes

__all__ = ["THREAD_STREAMS", "Workers"]

log = logging.getLogger(__name__)

THREAD_STREAMS = 50
"""Streams of the engine in a thread, where there are processes for further ones."""
_EARLY = 0.8
"""Processes are started when the thread has this share of its streams: they take a second."""
RESTART_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""After how long an engine is replaced that died; the next where the last had not lived long."""
LIVED_S = 60.0


@dataclass(slots=True, eq=False)
class _Engine:
    """One place for an engine. `since`: when the present one was started."""

    number: int
    driver: ThreadDriver | ProcessDriver | None = None
    streams: set[int] = field(default_factory=set)
    stop_ticks: Callable[[], None] | None = None
    seen: tuple[int, int, int] = (0, 0, 0)  # of its ticks: how many, late, failed
    since: float = 0.0
    deaths: int = 0
    restart: asyncio.TimerHandle | None = None

    @property
    def is_ready(self) -> bool:
        driver = self.driver
        return driver is not None and (isinstance(driver, ThreadDriver) or driver.is_ready)


class Workers:
    """`voip.media.driver.EngineDriver` over several engines.

    `process`: makes a driver of a process, which is given whom to tell of its end. `processes`:
    how many. `thread`: the engine that has the first `THREAD_STREAMS` streams; None: processes
    have all. `arena`: the rings of all; `close` is called when every engine has ended.
    """

    def __init__(
        self,
        process: Callable[[Callable[[str], None]], ProcessDriver],
        processes: int,
        arena: RingArena,
        *,
        thread: ThreadDriver | None = None,
        close: Callable[[], None] = lambda: None,
        remembered_ticks: int = 8192,
    ) -> None:
        self._make = process
        self._arena = arena
        self._release = close
        self._thread = None if thread is None else _Engine(0, thread)
        first = 0 if thread is None else 1
        self._processes = [_Engine(first + n) for n in range(processes)]
        self._engines = [*([] if self._thread is None else [self._thread]), *self._processes]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        self._of: dict[int, _Engine] = {}  # stream -> where it is
        self._last: dict[int, StreamStats] = {}  # figures of streams that were lost
        self._listeners = Listeners()
        links = Links(lambda: arena.take(LINK_BYTES), arena.give_back)
        self._routes, self._mixes, self._whispers = Routes(links), Mixes(links), Whispers(links)
        self._times = TickTimes(remembered_ticks)
        self._ended_io: dict[str, int] = {}

    @property
    def pids(self) -> list[int]:
        """The processes that run engines now."""
        drivers = (engine.driver for engine in self._processes)
        pids = (one.pid for one in drivers if isinstance(one, ProcessDriver))
        return [pid for pid in pids if pid is not None]

    @property
    def drivers(self) -> list[ThreadDriver | ProcessDriver]:
        """The drivers of the engines that there are now."""
        return [engine.driver for engine in self._engines if engine.driver is not None]

    def engine_of(self, stream: int) -> int | None:
        """Return the number of the engine that has a stream."""
        engine = self._of.get(stream)
        return None if engine is None else engine.number

    # ------------------------------------------------------------ from the start to the end

    def start(self) -> None:
        """Start the engines that are needed at once."""
        self._loop = asyncio.get_running_loop()
        if self._thread is None:
            self._start_processes()
        elif self._thread.driver is not None:
            self._begin(self._thread, self._thread.driver)

    async def close(self) -> None:
        """End all engines."""
        if self._closing:
            return
        self._closing = True
        for engine in self._engines:
            if engine.restart is not None:
                engine.restart.cancel()
        try:
            await asyncio.gather(*(driver.close() for driver in self.drivers))
        finally:
            self._listeners.refuse_waiting("the media engine has been closed")
            self._release()

    def _start_processes(self) -> None:
        for engine in self._processes:
            if engine.driver is None and engine.restart is None:
                self._restart(engine)

    def _restart(self, engine: _Engine) -> None:
        engine.restart = None
        if self._closing or self._loop is None:
            return
        driver = self._make(partial(self._lost, engine))
        try:
            self._begin(engine, driver)
        except MediaError as error:
            engine.driver = None
            log.error("%s", error)
            self._restart_later(engine)

    def _begin(self, engine: _Engine, driver: ThreadDriver | ProcessDriver) -> None:
        engine.driver, engine.seen = driver, (0, 0, 0)
        if self._loop is not None:
            engine.since = self._loop.time()
        driver.start()
        driver.subscribe(partial(self._on_event, engine.number))
        if self._listeners.want_ticks:
            engine.stop_ticks = driver.on_tick(self._ticked)

    def _lost(self, engine: _Engine, reason: str) -> None:
        """A process has ended though nobody has closed it."""
        driver, streams = engine.driver, sorted(engine.streams)
        if driver is not None:
            self._add_times(engine, driver)
            for kind, count in driver.figures().io.items():
                self._ended_io[kind] = self._ended_io.get(kind, 0) + count
        for stream in streams:
            self._last[stream] = (driver and driver.stats(stream)) or StreamStats(stream)
            del self._of[stream]
        engine.driver, engine.stop_ticks = None, None
        engine.streams.clear()
        plan: Plan = []
        for stream in streams:
            plan += self._routes.forget(stream) + self._whispers.leave(stream, is_gone=True)
        self._post_all(plan + self._mixes.lose(engine.number))
        words = "a media engine is gone with %d streams; another takes its place"
        event(log, logging.WARNING, "media_lost", words, len(streams), streams=len(streams))
        self._restart_later(engine)
        for stream in streams:
            self._listeners.tell(StreamLost(stream, reason))

    def _restart_later(self, engine: _Engine) -> None:
        if self._loop is None or self._closing:
            return
        if self._loop.time() - engine.since > LIVED_S:
            engine.deaths = 0
        delay_s = RESTART_S[min(engine.deaths, len(RESTART_S) - 1)]
        engine.deaths += 1
        engine.restart = self._loop.call_later(delay_s, self._restart, engine)

    # ------------------------------------------------------------ commands

    async def apply(self, command: Command) -> Result:
        """Have a command applied where it concerns, and return its result."""
        self._check_running()
        match command:
            case OpenStream():
                return await self._open(command)
            case CloseStream():
                return await self._close(command)
            case OpenMix():
                self._open_mix(command)
                return None
        mix = self._mixes.mix_of(command.stream)
        plan, engine, main = self._planned(command)
        self._post_all(plan)
        if engine is None:
            return None
        try:
            return await self._driver(engine).apply(main)
        except MediaError:
            if isinstance(command, MixStream) and mix != command.mix:
                self._post_all(self._leave_mix(command.stream))
            raise

    def post(self, command: Command) -> None:
        """Have a command applied where it concerns; who has subscribed is told of a refusal."""
        self._check_running()
        match command:
            case OpenStream():
                self._driver(self._place(command.stream)).post(command)
            case CloseStream():
                self._last.pop(command.stream, None)
                self._post_all(self._closing_of(command))
            case OpenMix():
                with suppress(MediaError):
                    self._open_mix(command)
            case _:
                plan, engine, main = self._planned(command)
                self._post_all(plan)
                if engine is not None:
                    self._driver(engine).post(main)

    def _planned(self, command: Command) -> tuple[Plan, _Engine | None, Command]:
        """Return what is to be told first, and then whom (None: nobody) and what."""
        here = self._of.get(command.stream)
        match command:
            case RouteStream(sink, source):
                plan = self._routes.end(sink)
                there = None if source is None else self._of.get(source)
                if source is not None and here and there and here is not there:
                    with self._posted_if_it_fails(plan):
                        plan += self._routes.begin(sink, here.number, source, there.number)
                    return plan[:-1], here, plan[-1][1]
                return plan, here or self._any(), command
            case MixStream(stream, mix):
                plan = []
                if mix is None or mix != self._mixes.mix_of(stream):
                    plan = self._leave_mix(stream)
                if here is not None and mix is not None and mix in self._mixes:
                    with self._posted_if_it_fails(plan):
                        plan += self._mixes.join(stream, here.number, mix)
                        plan += self._whispers.enter(command, here.number)
                return plan, here or self._any(), command
            case ShapeMix(mix) if mix in self._mixes:
                parts = self._mixes.shape(command)
                plan = [(part, command) for part in parts[1:]]
                return plan, self._engines[parts[0]] if parts else None, command
            case SetSource(mix) | Announce(mix) | AddSink(mix) | RemoveSink(mix) if (
                mix in self._mixes
            ):
                home = self._mixes.serve(command)
                return [], None if home is None else self._engines[home], command
        return [], here or self._any(), command

    @contextmanager
    def _posted_if_it_fails(self, plan: Plan) -> Iterator[None]:
        """See to it that what has been decided is told, though there is no memory for more."""
        try:
            yield
        except MediaError:
            self._post_all(plan)
            raise

    async def _open(self, command: OpenStream) -> Result:
        stream = command.stream
        if stream in self._of or stream in self._mixes:
            raise MediaError(f"stream {stream} is open already")
        engine = self._place(stream)
        try:
            return await self._driver(engine).apply(command)
        except MediaError:
            if self._of.get(stream) is engine:
                self._drop(stream)
            raise

    def _open_mix(self, command: OpenMix) -> None:
        if command.stream in self._of or command.stream in self._mixes:
            raise MediaError(f"stream {command.stream} is open already")
        self._mixes.open(command.stream)

    async def _close(self, command: CloseStream) -> Result:
        lost = self._last.pop(command.stream, None)
        *plan, (number, main) = self._closing_of(command) or [(-1, command)]
        self._post_all(plan)
        if lost is not None or number < 0:
            return lost or StreamStats(command.stream)
        return await self._driver(self._engines[number]).apply(main)

    def _closing_of(self, command: CloseStream) -> Plan:
        """Return what is to be told, the command itself last; nothing where nobody has it."""
        stream = command.stream
        if stream in self._mixes:
            return self._whispers.close(stream) + self._mixes.close(stream)
        engine = self._of.get(stream)
        if engine is None:
            return []
        self._drop(stream)
        before = self._routes.forget(stream) + self._leave_mix(stream, is_gone=True)
        return [*before, (engine.number, command)]

    def _leave_mix(self, stream: int, *, is_gone: bool = False) -> Plan:
        return self._whispers.leave(stream, is_gone=is_gone) + self._mixes.leave(stream)

    def _drop(self, stream: int) -> None:
        self._of.pop(stream).streams.discard(stream)

    def _place(self, stream: int) -> _Engine:
        """Choose the engine for a new stream."""
        thread = self._thread
        if thread is not None:
            if len(thread.streams) + 1 >= int(_EARLY * THREAD_STREAMS):
                self._start_processes()
            ready = [engine for engine in self._processes if engine.is_ready]
            if len(thread.streams) < THREAD_STREAMS or not ready:
                ready = [thread]
        else:
            living = [engine for engine in self._processes if engine.driver is not None]
            ready = [engine for engine in living if engine.is_ready] or living
        if not ready:
            raise MediaError("no media engine runs", hint="they are started anew; try again")
        engine = min(ready, key=lambda one: len(one.streams))
        engine.streams.add(stream)
        self._of[stream] = engine
        return engine

    def _any(self) -> _Engine:
        """Return an engine that will refuse what concerns no stream."""
        for engine in self._engines:
            if engine.driver is not None:
                return engine
        raise not_running()

    def _driver(self, engine: _Engine) -> EngineDriver:
        if engine.driver is None:
            raise not_running()
        return engine.driver

    def _post_all(self, plan: Iterable[tuple[int, Command]]) -> None:
        for number, command in plan:
            driver = self._engines[number].driver
            if driver is not None:
                with suppress(MediaError):  # it has ended: so have its streams
                    driver.post(command)

    def _check_running(self) -> None:
        if self._closing or self._loop is None:
            raise not_running()

    # ------------------------------------------------------------ figures and events

    def stats(self, stream: int) -> StreamStats | None:
        """Return figures of a stream at most a second old; of one that was lost, the last."""
        engine = self._of.get(stream)
        if engine is None:
            return self._last.get(stream)
        return None if engine.driver is None else engine.driver.stats(stream)

    def figures(self, since_tick: int = 0) -> EngineFigures:
        """Return what all engines have counted, ticks in the order in which they were told of."""
        io = dict(self._ended_io)
        snapshots, streams = [], 0
        for engine in self._engines:
            if engine.driver is None:
                continue
            figures = self._add_times(engine, engine.driver)
            if figures.snapshot is not None:
                snapshots.append(figures.snapshot)
            streams += figures.streams
            for kind, count in figures.io.items():
                io[kind] = io.get(kind, 0) + count
        return EngineFigures(merged(snapshots), self._times.figures(since_tick), io, streams)

    async def fresh_figures(self, since_tick: int = 0) -> EngineFigures:
        """Ask for what has been counted by now."""
        drivers = [one for one in self.drivers if isinstance(one, ProcessDriver) and one.runs]
        await asyncio.gather(*(driver.fresh_figures() for driver in drivers))
        return self.figures(since_tick)

    def _add_times(self, engine: _Engine, driver: ThreadDriver | ProcessDriver) -> EngineFigures:
        """Count the ticks of an engine that have not been counted here."""
        figures = driver.figures(engine.seen[0])
        if figures.ticks is not None:
            ticks, late, failed = engine.seen
            new = figures.ticks
            self._times.add(new.lateness_s, new.late - late, new.failed - failed, new.count - ticks)
            engine.seen = new.count, new.late, new.failed
        return figures

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Call back with every event that nobody waits for."""
        return self._listeners.subscribe(callback)

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once after each tick of any engine that has streams."""
        remove = self._listeners.on_tick(callback)
        for engine in self._engines:
            if engine.driver is not None and engine.stop_ticks is None:
                engine.stop_ticks = engine.driver.on_tick(self._ticked)

        def stop() -> None:
            remove()
            if not self._listeners.want_ticks:
                for engine in self._engines:
                    if engine.stop_ticks is not None:
                        engine.stop_ticks()
                        engine.stop_ticks = None

        return stop

    def _ticked(self) -> None:
        self._listeners.ticked()

    def _on_event(self, engine: int, event: EngineEvent) -> None:
        if isinstance(event, SourceDrained):
            self._mixes.drained(event.stream, event.ring)
        elif isinstance(event, SpeakersChanged):
            merged_event = self._mixes.speakers(engine, event)
            if merged_event is None:
                return
            event = merged_event
        self._listeners.tell(event)

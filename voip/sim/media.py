"""Media engines of a simulated world, driven by virtual time.

All phones whose clocks run alike share one engine: however many calls there are, there is one tick
every 10 or 20 ms. A drift of its own takes an engine of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from voip.errors import MediaError
from voip.media.answers import Answer, Applied, EngineEvent, Refused, StreamStats
from voip.media.commands import CloseStream, Command, OpenMix, OpenStream
from voip.media.driver import EngineFigures
from voip.media.engine import Engine
from voip.media.io import PacketTap
from voip.platform import MediaPlane
from voip.sim.clock import HostClock
from voip.sim.flight import Flight
from voip.sim.host import Host
from voip.sim.network import Network
from voip.sim.packets import Mouth, SimPacketIO
from voip.sim.randomness import Randomness
from voip.types import Address, Random

if TYPE_CHECKING:
    from voip.sim.loop import SimLoop

__all__ = ["MediaPlanes", "PhoneMedia", "SimEngine"]

log = logging.getLogger(__name__)

_Result = Answer


class MediaPlanes:
    """The engines of a world, by drift, and the packets that are under way between them."""

    def __init__(self, loop: SimLoop, network: Network, randomness: Randomness) -> None:
        self.flight = Flight(network)
        self._loop = loop
        self._network = network
        self._randomness = randomness
        self._engines: dict[float, SimEngine] = {}

    def on_udp_change(self, host: Host, address: Address) -> None:
        """A UDP port of a host was bound or let go."""
        self.flight.changed(host, address)

    def phone(
        self, host: Host, random: Random, ports: tuple[int, int], tap: PacketTap | None
    ) -> MediaPlane:
        """Return the engine for a phone on `host`."""
        engine = self._engine(host.clock)
        mouth = Mouth(host, ports, tap, random.below(ports[1] - ports[0]))
        return MediaPlane(PhoneMedia(engine, mouth), engine.arena, engine.streams)

    def close(self) -> None:
        """Tick no more."""
        for engine in self._engines.values():
            engine.close()

    def _engine(self, clock: HostClock) -> SimEngine:
        engine = self._engines.get(clock.drift_ppm)
        if engine is None:
            number = len(self._engines)
            io = SimPacketIO(self._network, self.flight, number, clock)
            random = self._randomness.stream("media engine", str(clock.drift_ppm))
            engine = self._engines[clock.drift_ppm] = SimEngine(self._loop, clock, io, random)
        return engine


class SimEngine:
    """One engine and the timer that ticks it, for all phones whose clocks run alike."""

    def __init__(self, loop: SimLoop, clock: HostClock, io: SimPacketIO, random: Random) -> None:
        self.io = io
        self.streams = count(1)
        self._loop = loop
        self._clock = clock
        # a look each millisecond costs, and what is relayed need not be in time here
        self._engine = Engine(io, random=random, poll_s=None)
        self.arena = self._engine.arena
        self._context = Context()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[int, tuple[PhoneMedia, Command, asyncio.Future[_Result] | None]] = {}
        self._phone_of: dict[int, PhoneMedia] = {}
        self._watchers: dict[PhoneMedia, None] = {}

    def submit(
        self, phone: PhoneMedia, command: Command, answer: asyncio.Future[_Result] | None
    ) -> None:
        """Queue a command of a phone's."""
        token = self._engine.submit(command)
        self._waiting[token] = (phone, command, answer)
        if isinstance(command, OpenStream | OpenMix):
            self._phone_of.setdefault(command.stream, phone)
        if self._timer is None:
            self._set_timer(self._loop.world_time())

    def stats(self, stream: int) -> StreamStats | None:
        """Return figures of a stream that are at most a second old."""
        snapshot = self._engine.snapshot
        return snapshot.of(stream) if snapshot is not None else None

    def figures(self) -> EngineFigures:
        """Return the figures of all streams; ticks are never late in virtual time."""
        return EngineFigures(self._engine.snapshot, streams=self._engine.streams)

    def watch(self, phone: PhoneMedia, ticks: bool) -> None:
        """Tell a phone of every tick, or no more."""
        if ticks:
            self._watchers[phone] = None
        else:
            self._watchers.pop(phone, None)

    def close(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, when: float) -> None:
        self._timer = self._loop.at(when, self._tick, context=self._context)

    def _tick(self) -> None:
        world_s = self._loop.world_time()
        news = self._engine.tick(self._clock.local(world_s), self._clock.wall(world_s))
        due = self._engine.next_due()
        self._timer = None
        if due is not None:
            self._set_timer(max(self._clock.world(due), world_s))
        if news:
            for event in self._engine.events():
                self._tell(event)
        for phone in tuple(self._watchers):
            phone.ticked()

    def _tell(self, event: EngineEvent) -> None:
        if isinstance(event, Applied | Refused):
            phone, command, answer = self._waiting.pop(event.token)
            if isinstance(command, CloseStream):
                self._phone_of.pop(command.stream, None)
            phone.answered(event, answer)
            return
        owner = self._phone_of.get(event.stream)
        if owner is not None:
            owner.happened(event)


class PhoneMedia:
    """`voip.media.driver.EngineDriver` of one phone: its streams of an engine it shares."""

    def __init__(self, engine: SimEngine, mouth: Mouth) -> None:
        self._engine = engine
        self._mouth = mouth
        self._names: dict[str, str] = {}
        self._streams: dict[int, None] = {}
        self._context: Context | None = None
        self._closed = False
        self._listeners: dict[int, Callable[[EngineEvent], None]] = {}
        self._tick_listeners: dict[int, Callable[[], None]] = {}
        self._numbers = count()

    def start(self) -> None:
        """Begin; callbacks are called on the phone's host."""
        with self._mouth.host.here():
            self._context = copy_context()

    async def close(self) -> None:
        """Close the phone's streams, and let go of the engine."""
        if self._context is not None and not self._closed:
            closing = [self._submit(CloseStream(stream)) for stream in tuple(self._streams)]
            await asyncio.gather(*closing, return_exceptions=True)
        self._closed = True
        self._engine.watch(self, False)
        self._listeners.clear()
        self._tick_listeners.clear()
        for name in self._names.values():
            self._engine.io.forget_mouth(name)

    async def apply(self, command: Command) -> _Result:
        """Queue a command, and return its result or raise `MediaError`."""
        return await self._submit(command)

    def post(self, command: Command) -> None:
        """Queue a command; nobody waits for its answer."""
        self._check_running()
        self._engine.submit(self, self._mine(command), None)

    def stats(self, stream: int) -> StreamStats | None:
        """Return figures of a stream at most a second old, None where there are none yet."""
        return self._engine.stats(stream)

    def figures(self, since_tick: int = 0) -> EngineFigures:
        """Return what has been counted of all streams of the engine."""
        return self._engine.figures()

    def subscribe(self, callback: Callable[[EngineEvent], None]) -> Callable[[], None]:
        """Call back with every event of the phone's streams that nobody waits for."""
        number = next(self._numbers)
        self._listeners[number] = callback
        return lambda: _drop(self._listeners, number)

    def on_tick(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back once per tick."""
        number = next(self._numbers)
        self._tick_listeners[number] = callback
        self._engine.watch(self, True)

        def stop() -> None:
            _drop(self._tick_listeners, number)
            if not self._tick_listeners:
                self._engine.watch(self, False)

        return stop

    # ------------------------------------------------------------ the engine's side

    def answered(self, event: Applied | Refused, answer: asyncio.Future[_Result] | None) -> None:
        """A command was applied, or refused."""
        if answer is None or answer.done():  # posted, or its caller was cancelled
            if isinstance(event, Refused):
                self.happened(event)
        elif isinstance(event, Applied):
            answer.set_result(event.result)
        else:
            answer.set_exception(MediaError(event.message, hint=event.hint))

    def happened(self, event: EngineEvent) -> None:
        """Something happened to a stream of the phone's."""
        for listener in tuple(self._listeners.values()):
            self._call(listener, event)

    def ticked(self) -> None:
        """The engine has ticked."""
        for listener in tuple(self._tick_listeners.values()):
            self._call(listener)

    # ------------------------------------------------------------ within

    def _submit(self, command: Command) -> asyncio.Future[_Result]:
        self._check_running()
        answer: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._engine.submit(self, self._mine(command), answer)
        return answer

    def _mine(self, command: Command) -> Command:
        """Note which streams are the phone's, and say where it opens them."""
        if isinstance(command, CloseStream):
            self._streams.pop(command.stream, None)
        if isinstance(command, OpenMix):
            self._streams[command.stream] = None
        if not isinstance(command, OpenStream):
            return command
        self._streams[command.stream] = None
        name = self._names.get(command.host)
        if name is None:
            name = self._names[command.host] = self._engine.io.add_mouth(self._mouth, command.host)
        return replace(command, host=name)

    def _check_running(self) -> None:
        if self._context is None or self._closed:
            raise MediaError("the media engine is not running", hint="start the driver first")

    def _call(self, listener: Callable[..., None], *arguments: object) -> None:
        if self._context is None:
            return
        try:
            self._context.run(listener, *arguments)
        except Exception:
            log.exception("a listener to the media engine failed")


def _drop(listeners: dict[int, Callable[..., None]], number: int) -> None:
    listeners.pop(number, None)

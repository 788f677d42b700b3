"""Engines joined by a virtual network, driven through virtual time without a thread."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt
import pytest

from voip.media.answers import Applied, EngineEvent, Opened, Refused, StreamStats
from voip.media.commands import (
    AddSink,
    Command,
    ConnectStream,
    OpenStream,
    PayloadFormat,
    ReadStats,
    SetSource,
)
from voip.media.engine import Engine
from voip.sim.clock import HostClock
from voip.sim.flight import Flight
from voip.sim.host import Host as Machine
from voip.sim.network import Network
from voip.sim.packets import SimPacketIO
from voip.sim.path import Path
from voip.sim.randomness import Randomness
from voip.types import Address, SeededRandom

START = 1000.0
WALL = 1_700_000_000.0


@dataclass
class Host:
    """One engine at one address."""

    name: str
    engine: Engine
    machine: Machine
    events: list[EngineEvent] = field(default_factory=list)
    opened: dict[int, Opened] = field(default_factory=dict)
    heard_ring: dict[int, int] = field(default_factory=dict)
    heard: dict[int, list[npt.NDArray[np.int16]]] = field(default_factory=dict)
    next_read: float = 0.0


class World:
    """A network, hosts, each with an engine of its own, and one clock."""

    def __init__(self, seed: int = 1, path: Path | None = None) -> None:
        self.seed = seed
        self.now = START
        self.randomness = Randomness(seed)
        self.network = Network(self, self.randomness, path)
        self.flight = Flight(self.network)
        self.hosts: list[Host] = []
        self._timers: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._serial = count()
        self._outsider = self._machine("203.0.113.99")

    def world_time(self) -> float:
        return self.now

    def at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: Context | None = None,
    ) -> None:
        heapq.heappush(self._timers, (when, next(self._serial), callback, args))

    def _machine(self, name: str) -> Machine:
        clock = HostClock(START, WALL - START)
        machine = Machine(name, (name,), self.network.public, clock, self.randomness)
        machine.on_udp_change(self.flight.changed)
        return machine

    def host(self, name: str) -> Host:
        machine = self._machine(name)
        io = SimPacketIO(self.network, self.flight, len(self.hosts))
        io.add_host(machine)
        engine = Engine(io, random=SeededRandom(self.seed * 100 + len(self.hosts)))
        self.hosts.append(Host(name, engine, machine))
        return self.hosts[-1]

    def set_path(self, source: Host, destination: Host, path: Path) -> None:
        self.network.set_path(source.machine, destination.machine, path)

    def inject(self, source: Address, destination: Address, packet: bytes) -> None:
        """Let a packet come from wherever, as if from that address."""
        self.network.send(self._outsider, source, destination, packet)

    def do(self, host: Host, command: Command) -> Opened | StreamStats | None:
        """Apply a command now; fail the test when it is refused."""
        token = host.engine.submit(command)
        before = len(host.events)
        self._tick(host)
        for event in host.events[before:]:
            if isinstance(event, Applied) and event.token == token:
                return event.result
            assert not (isinstance(event, Refused) and event.token == token), event
        raise AssertionError("no answer to a command")

    def open(self, host: Host, stream: int = 1, **settings: object) -> Opened:
        opened = self.do(host, OpenStream(stream, host.name, f"{stream}@{host.name}", **settings))  # type: ignore[arg-type]
        assert isinstance(opened, Opened)
        host.opened[stream] = opened
        return opened

    def connect(
        self,
        host: Host,
        peer: Opened,
        stream: int = 1,
        codec: str = "pcmu",
        ptime_ms: int = 20,
        **more: object,
    ) -> None:
        send = PayloadFormat({"pcmu": 0, "pcma": 8}[codec], codec)
        self.do(
            host,
            ConnectStream(
                stream,
                peer.rtp,
                peer.rtcp,
                send,
                (PayloadFormat(0, "pcmu"), PayloadFormat(8, "pcma")),
                ptime_ms=ptime_ms,
                send_dtmf=PayloadFormat(101, "telephone-event"),
                receive_dtmf=(PayloadFormat(101, "telephone-event"),),
                **more,  # type: ignore[arg-type]
            ),
        )

    def feed(self, host: Host, pcm: npt.NDArray[np.int16], stream: int = 1) -> None:
        """Give the stream all of `pcm` to send."""
        number = host.engine.arena.allocate(pcm.size)
        ring = host.engine.arena.ring(number)
        ring.push(pcm)
        ring.close()
        self.do(host, SetSource(stream, number))

    def listen(self, host: Host, stream: int = 1) -> None:
        host.heard_ring[stream] = host.engine.arena.allocate(8000)
        host.heard[stream] = []
        self.do(host, AddSink(stream, host.heard_ring[stream]))

    def heard(self, host: Host, stream: int = 1) -> npt.NDArray[np.int16]:
        self._collect(host)
        return np.concatenate([np.zeros(0, np.int16), *host.heard[stream]])

    def stats(self, host: Host, stream: int = 1) -> StreamStats:
        stats = self.do(host, ReadStats(stream))
        assert isinstance(stats, StreamStats)
        return stats

    def run(self, seconds: float) -> None:
        """Let virtual time pass: every engine ticks when it says it is due."""
        end = self.now + seconds
        while True:
            dues = [(host.engine.next_due() or np.inf) for host in self.hosts]
            when = min(dues)
            if self._timers and self._timers[0][0] <= min(when, end):
                at, _, callback, args = heapq.heappop(self._timers)
                self.now = max(self.now, at)
                callback(*args)
                continue
            if when > end:
                break
            self.now = max(self.now, when)
            for host, due in zip(self.hosts, dues, strict=True):
                if due <= self.now:
                    self._tick(host)
        self.now = end

    def _tick(self, host: Host) -> None:
        if host.engine.tick(self.now, WALL + self.now - START):
            host.events += host.engine.events()
        if self.now >= host.next_read:  # rings hold a second
            host.next_read = self.now + 0.5
            self._collect(host)

    def forget(self, host: Host, stream: int = 1) -> None:
        """Leave out what was heard so far."""
        self._collect(host)
        host.heard[stream].clear()

    def _collect(self, host: Host) -> None:
        for stream, number in host.heard_ring.items():
            pcm = host.engine.arena.ring(number).read(8000)
            if pcm.size:
                host.heard[stream].append(pcm)


@pytest.fixture
def world() -> World:
    return World()


def joined(world: World, streams: int = 1, **settings: object) -> tuple[Host, Host]:
    """Two hosts with streams 1, 2, ... connected to each other, each heard by the test.

    Many streams in one world cost little more than one.
    """
    a, b = world.host("10.0.0.1"), world.host("10.0.0.2")
    for stream in range(1, streams + 1):
        for host in (a, b):
            world.open(host, stream, **settings)
            world.listen(host, stream)
        world.connect(a, b.opened[stream], stream)
        world.connect(b, a.opened[stream], stream)
    return a, b

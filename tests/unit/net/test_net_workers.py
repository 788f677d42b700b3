"""Several engines behind one driver, in real processes; and who is told what, without any."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from voip.errors import MediaError
from voip.media.commands import (
    AddSink,
    CloseStream,
    Command,
    ConnectStream,
    EngineEvent,
    LinkIn,
    LinkOut,
    MixStream,
    MuteStream,
    Opened,
    OpenMix,
    OpenStream,
    PayloadFormat,
    ReadStats,
    Refused,
    RouteStream,
    SetSource,
    SourceDrained,
    StreamLost,
    StreamStats,
    Unlink,
)
from voip.media.merged_stats import merged
from voip.media.rings import RingArena
from voip.net.crossings import Links, Mixes, Plan, Routes
from voip.net.process_driver import ProcessDriver
from voip.net.ring_memory import MemfdMemory
from voip.net.workers import Workers
from voip.types import Address

HOST = "127.0.0.1"
PCMU = PayloadFormat(0, "pcmu")


async def until(condition: object, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


@asynccontextmanager
async def engines(processes: int) -> AsyncIterator[tuple[Workers, RingArena]]:
    memory = MemfdMemory(1 << 24)
    arena = RingArena(memory=memory)
    workers = Workers(
        lambda lost: ProcessDriver(memory, lost=lost), processes, arena, close=memory.close
    )
    workers.start()
    try:
        await until(lambda: all_ready(workers, processes))
        yield workers, arena
    finally:
        await workers.close()


def all_ready(workers: Workers, processes: int) -> bool:
    ready = [one for one in workers.drivers if isinstance(one, ProcessDriver) and one.is_ready]
    return len(ready) == processes


async def open_stream(workers: Workers, stream: int) -> Address:
    opened = await workers.apply(OpenStream(stream, HOST, f"{stream}@{HOST}"))
    assert isinstance(opened, Opened)
    return opened.rtp


async def talk(workers: Workers, one: int, other: int) -> None:
    """Open two streams that send to each other."""
    ports = {stream: await open_stream(workers, stream) for stream in (one, other)}
    for stream, peer in ((one, ports[other]), (other, ports[one])):
        rtcp = Address(peer.host, peer.port + 1)
        await workers.apply(ConnectStream(stream, peer, rtcp, PCMU, (PCMU,)))


# ---------------------------------------------------------------- real processes


async def test_commands_events_rings_and_figures_pass_between_processes() -> None:
    events: list[EngineEvent] = []
    async with engines(2) as (workers, arena):
        workers.subscribe(events.append)
        await talk(workers, 1, 2)
        assert [workers.engine_of(stream) for stream in (1, 2)] == [0, 1]
        with pytest.raises(MediaError, match="no stream 9") as caught:
            await workers.apply(MuteStream(9, True))
        assert caught.value.hint == "it was closed"
        workers.post(MuteStream(9, True))
        with pytest.raises(MediaError, match="open already"):
            await workers.apply(OpenStream(1, HOST, "x"))
        several = await asyncio.gather(*(workers.apply(ReadStats(1)) for _ in range(200)))
        assert {stats.stream for stats in several if isinstance(stats, StreamStats)} == {1}

        said = np.arange(-4000, 4000, dtype=np.int16)
        mouth, ear = arena.allocate(8000), arena.allocate(16000)
        arena.ring(mouth).push(said)
        arena.ring(mouth).close()
        await workers.apply(AddSink(2, ear))
        await workers.apply(SetSource(1, mouth))
        ticks: list[float] = []
        stop = workers.on_tick(lambda: ticks.append(time.monotonic()))
        await until(lambda: SourceDrained(1, mouth) in events)
        await until(lambda: arena.ring(ear).available > 12000)
        stop()
        assert len(ticks) > 20
        heard = arena.ring(ear).read(16000).astype(int)
        assert heard.max() > 3900 and heard.min() < -3900
        assert [event.message for event in events if isinstance(event, Refused)] == [
            "there is no stream 9"
        ]

        await until(lambda: (stats := workers.stats(2)) and stats.packets_received > 50)
        figures = await workers.fresh_figures()
        assert figures.snapshot is not None and sorted(figures.snapshot.rows) == [1, 2]
        rows = figures.snapshot.rows_of([1, 2])
        both = [figures.snapshot.of(stream) for stream in (1, 2)]
        assert figures.snapshot.sums(rows)["packets_received"] == sum(
            one.packets_received for one in both if one
        )
        assert figures.ticks is not None and figures.ticks.count > 50
        assert len(figures.ticks.lateness_s) == figures.ticks.count
        assert figures.io["kernel_drops"] == 0
        assert figures.streams == 2
        last = await workers.apply(CloseStream(1))
        assert isinstance(last, StreamStats) and last.packets_sent > 50
        assert await workers.apply(CloseStream(1)) == StreamStats(1)
        waiting = asyncio.ensure_future(workers.apply(ReadStats(2)))
        await asyncio.sleep(0)
    assert isinstance(await waiting, StreamStats)  # it was asked before the end
    with pytest.raises(MediaError, match="not running"):
        await workers.apply(ReadStats(2))


@pytest.mark.long
async def test_a_process_that_dies_loses_its_streams_alone_and_others_follow(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voip.net.workers.RESTART_S", (0.0, 0.05))
    events: list[EngineEvent] = []
    async with engines(2) as (workers, _):
        workers.subscribe(events.append)
        await talk(workers, 1, 2)
        await talk(workers, 3, 4)
        await workers.apply(OpenMix(100))
        for stream in (1, 2, 3):
            await workers.apply(MixStream(stream, 100))
        await workers.apply(RouteStream(4, 1))
        await until(lambda: (stats := workers.stats(1)) and stats.packets_sent > 0)
        for round_ in range(2):
            victim = workers.pids[0]
            os.kill(victim, signal.SIGKILL)
            late = asyncio.ensure_future(workers.apply(ReadStats(1)))
            await until(lambda pid=victim: pid not in workers.pids)
            with pytest.raises(MediaError):
                await late
            await until(lambda: all_ready(workers, 2))
            assert workers.engine_of(5 + round_) is None
            if round_ == 0:
                lost = [event for event in events if isinstance(event, StreamLost)]
                assert [event.stream for event in lost] == [1, 3]
                assert all("SIGKILL" in event.reason for event in lost)
        assert workers.stats(1) is not None  # as it was last known
        last = await workers.apply(CloseStream(1))
        assert isinstance(last, StreamStats) and last.stream == 1 and last.packets_sent > 0
        assert workers.stats(1) is None
        for stream in (2, 4):
            assert isinstance(await workers.apply(ReadStats(stream)), StreamStats)
        await talk(workers, 5, 6)
        assert workers.engine_of(5) == workers.engine_of(6) == 0  # the one with fewer streams
        await workers.apply(MixStream(5, 100))
        await workers.apply(MixStream(5, None))
        await workers.apply(CloseStream(100))
    assert "SIGKILL" in caplog.text
    assert not any("refused" in record.message for record in caplog.records)


async def test_a_tick_that_fails_in_a_process_is_logged_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with engines(1) as (workers, arena):
        await talk(workers, 1, 2)
        ring = arena.allocate(100)
        await workers.apply(AddSink(1, ring))
        arena.ring(ring)._header[5] = 0  # no engine can convert to no rate
        with caplog.at_level(logging.ERROR):
            await until(lambda: "a tick of the media engine failed" in caplog.text)
        arena.ring(ring)._header[5] = 8000
        assert isinstance(await workers.apply(ReadStats(1)), StreamStats)
        figures = await workers.fresh_figures()
        assert figures.ticks is not None and figures.ticks.failed > 0


async def test_a_process_that_is_stuck_is_killed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("voip.net.process_driver.ALIVE_S", 0.3)
    events: list[EngineEvent] = []
    async with engines(1) as (workers, _):
        workers.subscribe(events.append)
        await asyncio.sleep(1.0)  # it has no stream and nothing to tell, and is asked
        (pid,) = workers.pids
        await talk(workers, 1, 2)
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: len(events) == 2)
        assert [type(event) for event in events] == [StreamLost, StreamLost]
        await until(lambda: all_ready(workers, 1))
        assert workers.pids != [pid]
    assert "is stuck" in caplog.text


@pytest.mark.parametrize("how", ["killed", "left"])
def test_a_process_ends_with_the_one_that_started_it(how: str) -> None:
    program = (
        "import asyncio, os, sys\n"
        "from voip.media.rings import RingArena\n"
        "from voip.net.process_driver import ProcessDriver\n"
        "from voip.net.ring_memory import MemfdMemory\n"
        "from voip.media.commands import OpenStream\n"
        "async def main():\n"
        "    driver = ProcessDriver(MemfdMemory(1 << 20))\n"
        "    driver.start()\n"
        "    await driver.apply(OpenStream(1, '127.0.0.1', 'x'))\n"
        "    print(driver.pid, flush=True)\n"
        "    if sys.argv[1] == 'left': os._exit(0)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, how], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if how == "killed":
            parent.kill()
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_ctrl_c_is_not_for_the_process() -> None:
    async with engines(1) as (workers, _):
        (pid,) = workers.pids
        assert os.getpgid(pid) != os.getpgid(0)
        assert os.getpriority(os.PRIO_PROCESS, pid) in (-10, os.getpriority(os.PRIO_PROCESS, 0))
        os.kill(pid, signal.SIGINT)
        await talk(workers, 1, 2)
        assert workers.pids == [pid]


# ---------------------------------------------------------------- who is told what


class Told:
    """Engines that only note which links and mixes they have."""

    def __init__(self) -> None:
        self.free = count(1)
        self.used: set[int] = set()
        self.ends: dict[tuple[int, int, str], tuple[int, int]] = {}
        self.mixes: set[tuple[int, int]] = set()
        self.links = Links(self._take, self.used.remove)

    def _take(self) -> int:
        number = next(self.free)
        self.used.add(number)
        return number

    def tell(self, plan: Plan) -> None:
        for engine, command in plan:
            self._tell(engine, command)

    def _tell(self, engine: int, command: Command) -> None:
        stream = command.stream
        match command:
            case LinkOut() | LinkIn():
                key = (engine, command.link, type(command).__name__)
                assert key not in self.ends
                self.ends[key] = (stream, command.link)
            case Unlink():
                gone = [key for key in self.ends if key[:2] == (engine, command.link)]
                assert len(gone) == 1, "a link that is not there"
                del self.ends[gone[0]]
            case OpenMix():
                assert (engine, stream) not in self.mixes
                self.mixes.add((engine, stream))
            case CloseStream():
                self.mixes.remove((engine, stream))
                self.lose(engine, stream)

    def lose(self, engine: int, stream: int | None = None) -> None:
        """A stream, a mix, or a whole engine is gone, and its ends of links with it."""
        self.ends = {
            key: end
            for key, end in self.ends.items()
            if key[0] != engine or (stream is not None and end[0] != stream)
        }
        if stream is None:
            self.mixes = {one for one in self.mixes if one[0] != engine}

    def pairs(self, mix: int) -> set[tuple[int, int]]:
        """From which engine to which a mix is linked."""
        out = {k[1]: k[0] for k, end in self.ends.items() if end[0] == mix and k[2] == "LinkOut"}
        into = {k[1]: k[0] for k, end in self.ends.items() if end[0] == mix and k[2] == "LinkIn"}
        assert out.keys() == into.keys()
        return {(out[link], into[link]) for link in out}


@pytest.mark.parametrize("seed", range(5))
def test_mixes_and_routes_leave_no_link_too_many_and_none_too_few(seed: int) -> None:
    """Streams of four engines are routed, mixed, closed and lost at random; after each step every
    engine that has members of a mix is linked with every other that has, both ways, and no link is
    in use beside these and those of routes.
    """
    rng = np.random.default_rng(seed)
    told = Told()
    routes, mixes = Routes(told.links), Mixes(told.links)
    open_mixes: set[int] = set()
    streams: dict[int, int] = {}
    of: dict[int, int] = {}
    routed: dict[int, int] = {}
    numbers = count(1)
    compared = 0

    def forget(stream: int) -> None:
        told.tell(routes.forget(stream))
        for sink in [s for s in routed if stream in (s, routed[s])]:
            del routed[sink]
        told.lose(streams[stream], stream)

    for _ in range(400):
        pick = int(rng.integers(100))
        names = list(streams)
        some = int(rng.choice(names)) if names else None
        if pick < 25 or some is None:
            streams[next(numbers)] = int(rng.integers(4))
        elif pick < 35:
            mixes.open(mix := next(numbers))
            open_mixes.add(mix)
        elif pick < 65 and open_mixes:
            mix = int(rng.choice(sorted(open_mixes)))
            if of.get(some) != mix:
                told.tell(mixes.leave(some))
                told.tell(mixes.join(some, streams[some], mix))
                of[some] = mix
        elif pick < 75:
            told.tell(mixes.leave(some))
            of.pop(some, None)
        elif pick < 85:
            other = int(rng.choice(names))
            told.tell(routes.end(some))
            routed.pop(some, None)
            if streams[some] != streams[other]:
                told.tell(routes.begin(some, streams[some], other, streams[other]))
                routed[some] = other
        elif pick < 92:
            forget(some)
            told.tell(mixes.leave(some))
            of.pop(some, None)
            del streams[some]
        elif pick < 96 and open_mixes:
            mix = int(rng.choice(sorted(open_mixes)))
            told.tell(mixes.close(mix))
            open_mixes.remove(mix)
            of = {stream: one for stream, one in of.items() if one != mix}
        else:
            engine = int(rng.integers(4))
            told.lose(engine)
            for stream in [s for s in streams if streams[s] == engine]:
                forget(stream)
                of.pop(stream, None)
                del streams[stream]
            told.tell([order for order in mixes.lose(engine) if order[0] != engine])

        wanted_links = len(routed)
        for mix in open_mixes:
            having = {streams[stream] for stream in of if of[stream] == mix}
            wanted = {(one, other) for one in having for other in having if one != other}
            assert told.pairs(mix) == wanted
            assert {engine for engine, one in told.mixes if one == mix} == having
            wanted_links += len(wanted)
            compared += 1
        assert len(told.used) == wanted_links
    assert compared > 500


def test_the_rings_of_a_mix_are_served_where_it_has_members() -> None:
    told = Told()
    mixes = Mixes(told.links)
    mixes.open(50)
    assert mixes.serve(AddSink(50, 7)) is None  # nobody is there
    plan = mixes.join(1, 2, 50)
    assert plan == [(2, OpenMix(50)), (2, AddSink(50, 7))]
    assert mixes.serve(SetSource(50, 8)) == 2
    mixes.join(2, 0, 50)
    assert mixes.leave(1)[-2:] == [(0, AddSink(50, 7)), (0, SetSource(50, 8))]
    mixes.drained(50, 8)
    assert mixes.join(3, 1, 50)[0] == (1, OpenMix(50))
    assert mixes.lose(0)[-1:] == [(1, AddSink(50, 7))]


def test_without_memory_for_links_nothing_is_begun_and_nothing_kept() -> None:
    told, left = Told(), 3

    def take() -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise MediaError("the memory for audio rings is full")
        return told.links.take()

    mixes = Mixes(Links(take, told.links.give_back))
    mixes.open(50)
    told.tell(mixes.join(1, 0, 50))
    told.tell(mixes.join(2, 1, 50))
    with pytest.raises(MediaError, match="full"):
        mixes.join(3, 2, 50)
    assert mixes.mix_of(3) is None and len(told.used) == 2
    told.tell(mixes.leave(1))
    assert not told.used and told.mixes == {(1, 50)}


def test_no_snapshots_are_none() -> None:
    assert merged([]) is None


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    left = [
        pid for pid in children if b"engine_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert left == []

"""Several engines behind one driver, in real processes."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from voip.errors import MediaError
from voip.media.answers import EngineEvent, Opened, Refused, SourceDrained, StreamLost, StreamStats
from voip.media.commands import (
    AddSink,
    CloseStream,
    ConnectStream,
    MixStream,
    MuteStream,
    OpenMix,
    OpenStream,
    PayloadFormat,
    ReadStats,
    RouteStream,
    SetSource,
)
from voip.media.merged_stats import merged
from voip.media.rings import RingArena
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
async def test_ctrl_c_is_not_for_the_process() -> None:
    async with engines(1) as (workers, _):
        (pid,) = workers.pids
        assert os.getpgid(pid) != os.getpgid(0)
        assert os.getpriority(os.PRIO_PROCESS, pid) in (-10, os.getpriority(os.PRIO_PROCESS, 0))
        os.kill(pid, signal.SIGINT)
        await talk(workers, 1, 2)
        assert workers.pids == [pid]


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


async def test_a_process_starts_though_its_channel_has_a_number_beyond_a_thousand() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    null = os.open(os.devnull, os.O_RDONLY)
    taken = [null]
    try:
        while taken[-1] < 1100:  # as a server with a thousand connections has
            taken.append(os.dup(null))
        async with engines(1) as (workers, _):
            await talk(workers, 1, 2)
            assert isinstance(await workers.apply(ReadStats(1)), StreamStats)
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("before", "asked", "after"), [(0, 5, 5), (0, None, 0), (3, 5, 3)])
def test_priority_is_asked_for_unless_somebody_has_chosen_one(
    before: int, asked: int | None, after: int
) -> None:
    program = (
        "import os\n"
        f"os.setpriority(os.PRIO_PROCESS, 0, {before})\n"
        "from voip.net.priority import be_in_time\n"
        f"be_in_time({asked})\n"
        "print(os.getpriority(os.PRIO_PROCESS, 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode and "Permission" in done.stderr:
        pytest.skip("priority cannot be set here")
    assert done.stdout.split() == [str(after)]

"""ThreadDriver: commands in, events out, one thread, deadlines kept."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from typing import Any

import numpy as np
import pytest

from voip.errors import MediaError
from voip.media.answers import Applied, DtmfReceived, EngineEvent, Refused, StreamEnded, StreamStats
from voip.media.commands import CloseStream, Command, MuteStream, ReadStats
from voip.media.driver import EngineDriver
from voip.media.table import BASE_STEP_S
from voip.net.driver import ThreadDriver, TickTimes
from voip.net.pauses import sleep_until_due
from voip.net.switch_interval import ENGINE_SWITCH_S


class ScriptedEngine:
    """An engine that answers commands and otherwise does what a test put into it."""

    def __init__(self, deadlines: list[float] | None = None) -> None:
        self.commands: deque[tuple[int, Command]] = deque()
        self.deadlines = deque(deadlines or [])
        self.ticked: list[float] = []
        self.happening: deque[EngineEvent] = deque()
        self.enough = threading.Event()  # set when the last deadline has been ticked
        self.fail_next = False
        self.deaf = False
        self._tokens = iter(range(1, 1_000_000))
        self._out: list[EngineEvent] = []

    @property
    def streams(self) -> int:
        return 0

    def submit(self, command: Command) -> int:
        token = next(self._tokens)
        self.commands.append((token, command))
        return token

    pending = False

    def next_step(self) -> float | None:
        return self.next_due()

    def next_due(self) -> float | None:
        return self.deadlines[0] if self.deadlines else None

    def tick(self, now: float, wall: float) -> bool:
        assert abs(wall - time.time()) < 60
        self.ticked.append(now)
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("as told")
        while self.commands and not self.deaf:
            token, command = self.commands.popleft()
            if isinstance(command, MuteStream):
                self._out.append(Refused(token, 9, "there is no stream 9", "it was closed"))
            elif isinstance(command, ReadStats):
                self._out.append(Applied(token, StreamStats(command.stream)))
            else:
                self._out.append(Applied(token))
        if self.deadlines and now >= self.deadlines[0]:
            self.deadlines.popleft()
            if self.happening:
                self._out.append(self.happening.popleft())
            if not self.deadlines:
                self.enough.set()
        return bool(self._out)

    def events(self) -> list[EngineEvent]:
        out, self._out = self._out, []
        return out


class Releases:
    def __init__(self) -> None:
        self.threads: list[str] = []

    def __call__(self) -> None:
        self.threads.append(threading.current_thread().name)


def _soon(count: int, step_s: float = 0.004) -> list[float]:
    begin = time.monotonic() + step_s
    return [begin + step_s * number for number in range(count)]


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_command_returns_what_the_tick_made_of_it() -> None:
    driver: EngineDriver = ThreadDriver(ScriptedEngine(), release=Releases())
    driver.start()
    assert await driver.apply(ReadStats(4)) == StreamStats(4)
    assert await driver.apply(CloseStream(4)) is None
    with pytest.raises(MediaError, match="no stream 9") as caught:
        await driver.apply(MuteStream(9, True))
    assert caught.value.hint == "it was closed"
    several = await asyncio.gather(*(driver.apply(ReadStats(number)) for number in range(50)))
    assert [stats.stream for stats in several if stats and isinstance(stats, StreamStats)] == list(
        range(50)
    )
    await driver.close()


async def test_a_refusal_that_nobody_waits_for_is_told_to_who_has_subscribed() -> None:
    driver = ThreadDriver(ScriptedEngine(), release=Releases())
    heard: list[EngineEvent] = []
    driver.subscribe(heard.append)
    driver.start()
    driver.post(ReadStats(9))
    driver.post(MuteStream(9, True))
    with pytest.raises(MediaError):
        await driver.apply(MuteStream(9, True))
    assert heard == [Refused(2, 9, "there is no stream 9", "it was closed")]
    await driver.close()


async def test_an_idle_engine_ticks_for_commands_only() -> None:
    engine = ScriptedEngine()
    driver = ThreadDriver(engine, release=Releases())
    driver.start()
    for number in range(20):
        await driver.apply(ReadStats(number))
    assert len(engine.ticked) <= 2 * 20 + 1
    await driver.close()


async def test_no_tick_comes_before_its_deadline_and_none_is_left_out() -> None:
    deadlines = _soon(12)
    engine = ScriptedEngine(deadlines)
    driver = ThreadDriver(engine, release=Releases())
    driver.start()
    await driver.apply(ReadStats(1))  # must not bring the first deadline forward
    await _until(engine.enough.is_set)
    on_time = list(zip(engine.ticked, deadlines, strict=False))
    assert len(on_time) == 12
    assert all(ticked >= deadline for ticked, deadline in on_time)
    await driver.close()
    assert driver.times.ticks == len(engine.ticked)
    lateness = driver.times.since()
    assert lateness.shape == (len(engine.ticked), 2)
    assert np.all(lateness[:, 0] >= 0) and np.all(lateness[:, 1] >= lateness[:, 0])


async def test_a_loop_that_is_busy_is_woken_once_and_gets_everything_in_order() -> None:
    engine = ScriptedEngine(_soon(10, 0.002))
    news = [DtmfReceived(1, str(number), 100.0) for number in range(10)]
    engine.happening.extend(news)
    driver = ThreadDriver(engine, release=Releases())
    heard: list[EngineEvent] = []
    driver.subscribe(heard.append)
    loop = asyncio.get_running_loop()
    wakeups = 0
    really = loop.call_soon_threadsafe

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal wakeups
        wakeups += 1
        return really(*arguments, **named)

    loop.call_soon_threadsafe = counted  # type: ignore[method-assign]
    try:
        driver.start()
        assert engine.enough.wait(5)  # the loop stands still while ten ticks have news
        assert heard == []
        await _until(lambda: len(heard) == 10)
        assert heard == news
        assert wakeups == 1
    finally:
        loop.call_soon_threadsafe = really  # type: ignore[method-assign]
        await driver.close()


async def test_readers_are_woken_once_a_tick_while_they_ask_for_it() -> None:
    engine = ScriptedEngine(_soon(5))
    driver = ThreadDriver(engine, release=Releases())
    woken: list[int] = []
    stop = driver.on_tick(lambda: woken.append(len(engine.ticked)))
    driver.start()
    await _until(lambda: 5 in woken)
    assert len(woken) == len(set(woken)) <= 5
    stop()
    stop()
    count = len(woken)
    await driver.apply(ReadStats(1))
    assert len(woken) == count
    await driver.close()


async def test_a_listener_that_raises_is_logged_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = ScriptedEngine(_soon(1))
    engine.happening.append(StreamEnded(3, "bye"))
    driver = ThreadDriver(engine, release=Releases())
    heard: list[EngineEvent] = []

    def clumsy(_event: EngineEvent) -> None:
        raise ValueError("clumsy")

    driver.subscribe(clumsy)
    silenced = driver.subscribe(lambda _event: pytest.fail("was told to stop"))
    driver.subscribe(heard.append)
    silenced()
    with caplog.at_level(logging.ERROR):
        driver.start()
        await _until(lambda: heard)
    assert heard == [StreamEnded(3, "bye")]
    assert "clumsy" in caplog.text
    await driver.close()


async def test_a_tick_that_raises_fails_its_commands_and_not_the_driver(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = ScriptedEngine()
    driver = ThreadDriver(engine, release=Releases())
    driver.start()
    engine.fail_next = True
    with caplog.at_level(logging.ERROR), pytest.raises(MediaError, match="failed"):
        await driver.apply(ReadStats(1))
    assert "as told" in caplog.text
    assert driver.times.failures == 1
    assert await driver.apply(ReadStats(2)) == StreamStats(2)
    await driver.close()


async def test_closing_leaves_no_thread_and_nobody_waiting() -> None:
    before = threading.active_count()
    release = Releases()
    engine = ScriptedEngine()
    driver = ThreadDriver(engine, release=release, name="engine-under-test")
    driver.start()
    engine.deaf = True
    waiting = asyncio.create_task(driver.apply(ReadStats(1)))
    await asyncio.sleep(0)
    await driver.close()
    with pytest.raises(MediaError, match="closed"):
        await waiting
    assert release.threads == ["engine-under-test"]
    assert threading.active_count() == before
    with pytest.raises(MediaError, match="not running"):
        await driver.apply(ReadStats(1))
    await driver.close()
    assert release.threads == ["engine-under-test"]


async def test_threads_are_switched_more_often_while_any_engine_runs_and_as_before_after() -> None:
    before = sys.getswitchinterval()
    one, other = (ThreadDriver(ScriptedEngine(), release=Releases()) for _ in range(2))
    one.start()
    during = sys.getswitchinterval()
    assert during == pytest.approx(ENGINE_SWITCH_S) and during < before
    other.start()
    await one.close()
    assert sys.getswitchinterval() == during
    await other.close()
    assert sys.getswitchinterval() == before

    another = ThreadDriver(ScriptedEngine(), release=Releases())
    another.start()
    sys.setswitchinterval(0.002)  # the application knows better
    await another.close()
    assert sys.getswitchinterval() == pytest.approx(0.002)
    sys.setswitchinterval(before)


async def test_what_was_posted_before_closing_is_carried_out() -> None:
    engine = ScriptedEngine()
    driver = ThreadDriver(engine, release=Releases())
    driver.start()
    for number in range(10):
        driver.post(CloseStream(number))
    await driver.close()
    assert not engine.commands


async def test_a_driver_that_never_started_still_releases() -> None:
    release = Releases()
    driver = ThreadDriver(ScriptedEngine(), release=release)
    with pytest.raises(MediaError, match="not running"):
        await driver.apply(ReadStats(1))
    await driver.close()
    assert len(release.threads) == 1


def test_a_loop_that_is_gone_ends_the_thread() -> None:
    release = Releases()
    engine = ScriptedEngine()
    driver = ThreadDriver(engine, release=release, name="orphan")

    async def begin() -> None:
        driver.start()
        await driver.apply(ReadStats(1))

    asyncio.run(begin())
    (thread,) = (one for one in threading.enumerate() if one.name == "orphan")
    driver.on_tick(lambda: None)
    driver.post(ReadStats(2))
    thread.join(5)
    assert not thread.is_alive() and release.threads == ["orphan"]


def test_late_ticks_are_those_not_done_when_the_next_is_due() -> None:
    step = BASE_STEP_S
    times = TickTimes(capacity=4)
    times.record(100.0, 100.0 + 0.1 * step, 100.0 + 0.9 * step, following=100.0 + step)
    assert times.late == 0
    times.record(100.0, 100.0, 100.0 + 1.5 * step, following=100.0 + 2 * step)  # every 20 ms
    assert times.late == 0
    times.record(100.0, 100.0, 100.0 + 1.5 * step, following=100.0 + step)
    assert times.late == 1
    times.record(100.0, 101.0, 101.0, following=101.0 + step / 2)  # a hundred deadlines left out
    assert times.late == 1 + 98
    times.record(100.0, 100.0, 100.5, following=None)
    assert times.late == 1 + 98
    assert times.ticks == 5
    assert times.since(0).shape == (4, 2)  # the first was overwritten
    assert times.since(4).tolist() == [[0.0, 0.5]]
    assert times.since(5).shape == (0, 2)


class Expecting(ScriptedEngine):
    """An engine that looks for packets before its next step."""

    def __init__(self, step: float, packets_from: float) -> None:
        super().__init__([step])
        self.packets_from = packets_from

    def next_step(self) -> float | None:
        return self.deadlines[0] if self.deadlines else None

    def next_due(self) -> float | None:
        return min(self.packets_from, *self.deadlines) if self.deadlines else None


def test_packets_are_waited_for_until_the_next_step_where_they_are_to_go_on_at_once() -> None:
    waited: list[float] = []
    now = time.monotonic()
    assert sleep_until_due(Expecting(now + 60, now + 0.001), waited.append) < now + 30
    assert 30 < waited.pop() < 60  # it was woken
    assert sleep_until_due(Expecting(now - 1, now - 2), waited.append) == now - 1
    assert sleep_until_due(Expecting(now + 0.01, now + 60), waited.append) == now + 0.01
    assert sleep_until_due(Expecting(now + 60, now - 1), None) == now - 1
    assert not waited
    assert sleep_until_due(ScriptedEngine(), waited.append) is None


def test_ticks_that_were_counted_elsewhere_count_though_only_the_last_are_remembered() -> None:
    elsewhere, here = TickTimes(capacity=4), TickTimes(capacity=8)
    for number in range(11):
        elsewhere.record(0.0, 0.001 * number, 0.002 * number, 1.0)
    told = elsewhere.figures()
    here.add(told.lateness_s, told.late, told.failed, told.count)
    assert here.ticks == 11
    assert here.since(7)[:, 0] == pytest.approx([0.007, 0.008, 0.009, 0.010])
    here.add(told.lateness_s[-1:], 1, 0, 1)
    assert (here.ticks, here.late) == (12, 1)
    assert here.since(11)[:, 1] == pytest.approx([0.020])

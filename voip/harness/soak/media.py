"""Calls with sound that come and go for long, in real time or in virtual time: what grows of them.

One phone calls another on the same machine, or on another host of a simulated world, again and
again; they talk, hold, send digits, record, listen and confer. Memory is looked at all the while,
and counted when now and then there is no call; at the end nothing may be left. Ctrl-C ends all
calls as they end in the end, and the report is of what there was.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from voip.call import Call
from voip.config import NetworkConfig
from voip.harness.soak.census import (
    forget_what_is_kept_for_speed,
    heap_kb,
    held_by_media,
    left_in_phone,
    living,
    rss_mb,
    small_blocks,
    taken_kb,
)
from voip.harness.soak.media_report import RUSH_PER_S, Look, MediaSoakPlan, MediaSoakReport, Sample
from voip.media.wav import read
from voip.phone import Softphone
from voip.sim import Host, World
from voip.sim import Path as NetworkPath
from voip.sim.loop import SimLoop
from voip.sounds import asset_path

__all__ = ["soak_media"]

SAMPLES: Final = 60
OWN_BLOCKS: Final = 4
"""Of small objects that a sample, and a look, itself is."""
QUIET_S: Final = 40.0
"""After so long the last transaction of a call is forgotten (64*T1, RFC 3261 section 17)."""
HEARD: Final = 0.9
"""Of the packets that a call should have received, how many it must have."""


def soak_media(
    plan: MediaSoakPlan,
    seed: int = 1,
    progress: Callable[[MediaSoakReport], None] = lambda report: None,
) -> MediaSoakReport:
    """Let calls come and go as `plan` says; `progress` gets the report now and then.

    In the main thread, which is where Ctrl-C is heard.
    """
    report = MediaSoakReport(plan)
    complaints = _Complaints(report)
    logger = logging.getLogger("voip")
    logger.addHandler(complaints)
    try:
        if plan.virtual:
            world = World(seed, path=NetworkPath(delay_s=0.02, jitter_s=0.01, loss=plan.loss))
            hosts = world.host("10.0.0.1"), world.host("10.0.0.2")
            soaking = _in_world(hosts, report, seed, progress)
            world.run(_looked_after(report, soaking), limit_s=float("inf"))
        else:
            asyncio.run(_looked_after(report, _on_loopback(report, seed, progress)))
    finally:
        logger.removeHandler(complaints)
    return report


async def _looked_after(report: MediaSoakReport, soaking: Coroutine[Any, Any, None]) -> None:
    """Await it, unless Ctrl-C comes, and see what the process has then that it had not before."""
    before = _in_use()
    try:
        with _cancelled_by_ctrl_c(report):
            await soaking
    except asyncio.CancelledError:
        if not report.interrupted:
            raise
    else:
        # an engine in a process of its own stays until its phone is closed
        if more := dict(Counter(_in_use()) - Counter(before)):
            report.left["process"] = more
        if left := living():
            report.left["objects"] = left


@contextmanager
def _cancelled_by_ctrl_c(report: MediaSoakReport) -> Iterator[None]:
    """Let Ctrl-C cancel this task, in virtual time as well; the next one is as ever."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        report.interrupted = True
        loop.call_soon_threadsafe(task.cancel)

    usual = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


async def _on_loopback(
    report: MediaSoakReport, seed: int, progress: Callable[[MediaSoakReport], None]
) -> None:
    host, ports = "127.0.0.1", (10000, 39999)
    async with _phone(host, 0, ports) as bob, _phone(host, 0, ports) as alice:
        await _Town(alice, bob, host, report, seed, progress).run()


async def _in_world(
    hosts: tuple[Host, Host],
    report: MediaSoakReport,
    seed: int,
    progress: Callable[[MediaSoakReport], None],
) -> None:
    here, there = hosts
    ports = (10000, 9999 + 2 * report.plan.pairs)
    with there.here():
        async with _phone(there.address, 5060, ports) as bob:
            with here.here():
                async with _phone(here.address, 5060, ports) as alice:
                    await _Town(alice, bob, there.address, report, seed, progress).run()


def _phone(host: str, port: int, ports: tuple[int, int]) -> Softphone:
    network = NetworkConfig(bind_host=host, bind_port=port, rtp_ports=ports, stranger_rate=None)
    return Softphone(network=network)


class _Town:
    """Alice, who calls, and Bob, who is called, on `host`."""

    def __init__(
        self,
        alice: Softphone,
        bob: Softphone,
        host: str,
        report: MediaSoakReport,
        seed: int,
        progress: Callable[[MediaSoakReport], None],
    ) -> None:
        self._alice, self._bob, self._host, self._report = alice, bob, host, report
        self._plan = report.plan
        self._random = random.Random(seed)
        self._progress = progress
        self._begun = asyncio.get_running_loop().time()
        with asset_path("speech-8k.wav") as path:
            self._speech: npt.NDArray[np.int16] = read(path, 8000)
        bob.on_incoming(self._take)

    async def run(self) -> None:
        """Let calls come for as long as planned, wait for the last to end, and look at the rest."""
        plan = self._plan
        try:
            with tempfile.TemporaryDirectory() as folder:
                async with asyncio.TaskGroup() as tasks:
                    sampling = tasks.create_task(self._sample())
                    for number in range(1, plan.looks + 1):
                        until = self._begun + plan.seconds * number / plan.looks
                        calls = await self._let_come(until, Path(folder), tasks)
                        if number == plan.looks:
                            await sampling
                        for task in tuple(calls):
                            task.cancel()  # which hangs up
                        while calls:
                            await asyncio.sleep(0.1)
                        await asyncio.sleep(QUIET_S)
                        self._count()
        finally:
            self._count_ticks()
        self._look()

    async def _let_come(
        self, until: float, folder: Path, tasks: asyncio.TaskGroup
    ) -> set[asyncio.Task[None]]:
        """Let calls come until a time; return those that are up then, which leave when they end."""
        loop, report, plan = asyncio.get_running_loop(), self._report, self._plan
        calls: set[asyncio.Task[None]] = set()
        due = loop.time()
        while True:
            rushing = report.most_at_once < plan.most
            due += self._random.expovariate(RUSH_PER_S if rushing else plan.calls_per_s)
            if due >= until:
                break
            await asyncio.sleep(due - loop.time())
            if len(calls) == plan.most:
                continue
            lasts = self._random.expovariate(1 / plan.mean_s)
            lasts = min(max(lasts, 1.0), 10 * plan.mean_s)
            path = folder / f"{report.begun}.wav"
            task = tasks.create_task(self._call(report.begun, lasts, path))
            calls.add(task)
            report.most_at_once = max(report.most_at_once, len(calls))
            task.add_done_callback(calls.discard)
            report.begun += 1
        await asyncio.sleep(max(0.0, until - loop.time()))
        return calls

    async def _call(self, number: int, lasts: float, path: Path) -> None:
        try:
            async with await self._alice.dial(self._to) as call:
                await self._talk(call, number, lasts, path)
        except asyncio.CancelledError:
            self._report.deeds["cut short at the end"] += 1
        except Exception as error:  # whatever it is: a call that should have gone well has not
            self._complain(f"call {number}: {error!r}")
        finally:
            self._report.ended += 1

    async def _talk(self, call: Call, number: int, lasts: float, path: Path) -> None:
        deeds = self._report.deeds
        async with AsyncExitStack() as stack, asyncio.timeout(2 * lasts + 30):
            if number % 10 == 1:
                deeds["recorded"] += 1
                await stack.enter_async_context(call.record(path))
            playing = asyncio.create_task(call.play(self._speech, loop=True))
            stack.callback(playing.cancel)
            await asyncio.sleep(lasts / 2)
            match number % 7:
                case 2:
                    deeds["held"] += 1
                    await call.hold()
                    await call.resume()
                case 3:
                    deeds["digits"] += 1
                    await call.send_dtmf("147")
                case 4:
                    deeds["listened"] += 1
                    await call.audio().read(0.5)
                case 5:
                    deeds["in a conference"] += 1
                    async with await self._alice.conference() as conference:
                        await conference.add(call)
                        await asyncio.sleep(lasts / 4)
                        await conference.dissolve()
                case _:
                    deeds["just talked"] += 1
            await asyncio.sleep(lasts / 2)
            stats = await call.measure()
            heard = stats.packets_received / max(1, stats.packets_sent)
            if lasts > 10 and heard < HEARD * (1 - self._plan.loss):
                self._complain(f"call {number} heard {heard:.0%} of what it should have")
        path.unlink(missing_ok=True)

    @property
    def _to(self) -> str:
        return f"sip:bob@{self._host}:{self._bob.port}"

    async def _take(self, call: Call) -> None:
        await call.answer()
        await call.echo()
        await call.wait_ended()

    async def _sample(self) -> None:
        loop, report, plan = asyncio.get_running_loop(), self._report, self._plan
        for number in range(1, SAMPLES + 1):
            await asyncio.sleep(self._begun + plan.seconds * number / SAMPLES - loop.time())
            up = len(self._alice.calls)
            if plan.virtual:
                _collect()  # in real time it would hold up the engine's thread
            since = loop.time() - self._begun
            taken_mb = taken_kb(children=True) / 1000
            sample = Sample(since, report.begun, up, rss_mb(children=True), taken_mb)
            report.samples.append(sample)
            self._progress(report)

    def _count(self) -> None:
        """Note what memory there is now that there is no call."""
        report = self._report
        forget_what_is_kept_for_speed()
        _collect()
        blocks = small_blocks() - OWN_BLOCKS * (len(report.samples) + len(report.looks))
        report.looks.append(Look(report.begun, blocks, heap_kb() or 0.0, taken_kb()))

    def _count_ticks(self) -> None:
        report = self._report
        report.seconds = asyncio.get_running_loop().time() - self._begun
        for phone in (self._alice, self._bob):
            ticks = phone.driver.figures().ticks
            if ticks is not None:
                report.ticks += ticks.count
                report.late_ticks += ticks.late

    def _look(self) -> None:
        for name, phone in (("alice", self._alice), ("bob", self._bob)):
            held = {**left_in_phone(phone), **held_by_media(phone)}
            if held:
                self._report.left[name] = held

    def _complain(self, text: str) -> None:
        if len(self._report.wrong) < 100:
            self._report.wrong.append(text)


def _in_use() -> dict[str, int]:
    """Count files and tasks."""
    _collect()
    return {
        "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "tasks": len(asyncio.all_tasks()),
    }


def _collect() -> None:
    loop = asyncio.get_running_loop()
    if isinstance(loop, SimLoop):
        loop.drop_done_tasks()
        loop.world.network.forget_counts()
    gc.collect()


class _Complaints(logging.Handler):
    """Takes everything logged as an error for something wrong."""

    def __init__(self, report: MediaSoakReport) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self._report.wrong.append(f"{record.name}: {record.getMessage()}")

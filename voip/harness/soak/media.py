"""Calls with sound that come and go for long, in real time or in virtual time: what grows of them.

One phone calls another on the same machine, or on another host of a simulated world, again and
again; they talk, hold, send digits, record, listen and confer. Memory is looked at all the while,
and counted when now and then there is no call; at the end nothing may be left.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
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
)
from voip.media.wav import read
from voip.phone import Softphone
from voip.sim import Host, World
from voip.sim import Path as NetworkPath
from voip.sim.loop import SimLoop
from voip.sounds import asset_path

__all__ = [
    "REAL",
    "VIRTUAL",
    "Growth",
    "Look",
    "MediaSoakPlan",
    "MediaSoakReport",
    "Slope",
    "soak_media",
]

SAMPLES: Final = 60
SAMPLE_BLOCKS: Final = 4
"""Of small objects that a sample itself is."""
SETTLED: Final = 0.4
"""The part of a run after which as many calls end as begin, and what is kept for speed is there."""
ENOUGH: Final = 200
"""Calls that tell a slope: the memory of fewer may as well be the interpreter's."""
NOISE: Final = 3.0
"""A slope below so many standard errors cannot be told from zero."""
TRIFLE_KB: Final = 0.25
"""What a call may leave at most, where the slope can be told: a call takes some 100 kB."""
TRIFLE_BLOCKS: Final = 0.5
"""So many small objects may be left of each call, where they are counted; it takes thousands."""
QUIET_S: Final = 40.0
"""After so long the last transaction of a call is forgotten (64*T1, RFC 3261 section 17)."""
HEARD: Final = 0.9
"""Of the packets that a call should have received, how many it must have."""


@dataclass(frozen=True, slots=True)
class MediaSoakPlan:
    """How long calls come, how many a second, and how long they last (mean; exponential).

    looks: how often all calls end, and what is left of them is counted; the last time at the end.
    """

    seconds: float
    calls_per_s: float
    mean_s: float
    virtual: bool
    loss: float = 0.0
    looks: int = 1

    @property
    def pairs(self) -> int:
        """How many pairs of ports there are for them, in a simulated world.

        Its network remembers every address that there was: few are all used soon.
        """
        return 8 + math.ceil(4 * self.calls_per_s * self.mean_s)


REAL: Final = MediaSoakPlan(600.0, 5.0, 100.0, virtual=False)
VIRTUAL: Final = MediaSoakPlan(7200.0, 0.2, 100.0, virtual=True, loss=0.01, looks=6)


@dataclass(frozen=True, slots=True)
class Look:
    """What there is when there is no call, after so many. `heap_kb`: 0 where it is not known."""

    calls: int
    blocks: int
    heap_kb: float


@dataclass(frozen=True, slots=True)
class Growth:
    """What was left of each call, from one look to another: memory, and small objects."""

    kb_per_call: float
    blocks_per_call: float

    @property
    def is_zero(self) -> bool:
        """Whether it is too little to be anything of a call."""
        return self.kb_per_call <= TRIFLE_KB and self.blocks_per_call <= TRIFLE_BLOCKS


@dataclass(frozen=True, slots=True)
class Slope:
    """By how much memory grew after it had settled, by least squares."""

    kb_per_call: float
    error_kb_per_call: float

    @property
    def is_zero(self) -> bool:
        """Whether it is none, within noise."""
        within = self.kb_per_call <= NOISE * self.error_kb_per_call
        return within or self.kb_per_call <= TRIFLE_KB


@dataclass(slots=True)
class MediaSoakReport:
    """What there was: samples are (seconds, calls begun, calls up, megabytes resident)."""

    plan: MediaSoakPlan
    begun: int = 0
    ended: int = 0
    most_at_once: int = 0
    deeds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    samples: list[tuple[float, int, int, float]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    left: dict[str, dict[str, int]] = field(default_factory=dict)
    late_ticks: int = 0
    ticks: int = 0

    @property
    def slope(self) -> Slope | None:
        """Return how memory grew with the calls; None where the run was too short to say."""
        settled = [one for one in self.samples if one[0] >= SETTLED * self.plan.seconds]
        if len(settled) < 10 or settled[-1][1] - settled[0][1] < ENOUGH:
            return None
        calls = np.array([one[1] for one in settled], float)
        kb = 1000 * np.array([one[3] for one in settled])
        # calls that are up have their memory: what is left of those that are over is looked for
        design = np.stack((calls, [one[2] for one in settled], np.ones(calls.size)), axis=1)
        found, _, _, _ = np.linalg.lstsq(design, kb, rcond=None)
        rest = kb - design @ found
        spread = float((rest**2).sum()) / (calls.size - design.shape[1])
        # memory grows in steps: what one sample is above the line, the next one is, too, and so
        # many samples are worth fewer (as of a process that is autoregressive of first order)
        alike = float(rest[1:] @ rest[:-1]) / max(float(rest @ rest), 1e-9)
        alike = min(max(alike, 0.0), 0.95)
        spread *= (1 + alike) / (1 - alike)
        error = math.sqrt(spread * float(np.linalg.pinv(design.T @ design)[0, 0]))
        return Slope(float(found[0]), error)

    @property
    def growth(self) -> Growth | None:
        """Return what is left of each call of the last two thirds; None where nobody looked."""
        if len(self.looks) < 3:
            return None
        first, last = self.looks[len(self.looks) // 3 - 1], self.looks[-1]
        calls = max(1, last.calls - first.calls)
        kb, blocks = last.heap_kb - first.heap_kb, last.blocks - first.blocks
        return Growth(kb / calls, blocks / calls)

    @property
    def passed(self) -> bool:
        """Whether all calls went well, memory is flat, and nothing is left."""
        slope, growth = self.slope, self.growth
        flat = (slope is None or slope.is_zero) and (growth is None or growth.is_zero)
        return 0 < self.begun == self.ended and flat and not self.wrong and not self.left

    def to_json(self) -> dict[str, Any]:
        """Return all figures."""
        slope, growth = self.slope, self.growth
        return {
            "seconds": self.plan.seconds,
            "virtual": self.plan.virtual,
            "calls_per_s": self.plan.calls_per_s,
            "begun": self.begun,
            "ended": self.ended,
            "most_at_once": self.most_at_once,
            "deeds": dict(sorted(self.deeds.items())),
            "wrong": self.wrong,
            "ticks": self.ticks,
            "late_ticks": self.late_ticks,
            "rss_mb": [round(one[3], 1) for one in self.samples],
            "slope_kb_per_call": None if slope is None else round(slope.kb_per_call, 3),
            "slope_error_kb_per_call": None if slope is None else round(slope.error_kb_per_call, 3),
            "looks": [asdict(look) for look in self.looks],
            "growth": None if growth is None else asdict(growth),
            "left": self.left,
            "passed": self.passed,
        }


def soak_media(
    plan: MediaSoakPlan,
    seed: int = 1,
    progress: Callable[[MediaSoakReport], None] = lambda report: None,
) -> MediaSoakReport:
    """Let calls come and go as `plan` says; `progress` gets the report now and then."""
    report = MediaSoakReport(plan)
    complaints = _Complaints(report)
    logger = logging.getLogger("voip")
    logger.addHandler(complaints)
    try:
        if plan.virtual:
            world = World(seed, path=NetworkPath(delay_s=0.02, jitter_s=0.01, loss=plan.loss))
            hosts = world.host("10.0.0.1"), world.host("10.0.0.2")
            world.run(_in_world(hosts, report, seed, progress), limit_s=float("inf"))
        else:
            asyncio.run(_on_loopback(report, seed, progress))
    finally:
        logger.removeHandler(complaints)
    return report


async def _on_loopback(
    report: MediaSoakReport, seed: int, progress: Callable[[MediaSoakReport], None]
) -> None:
    ports = (10000, 39999)
    bob = _phone("127.0.0.1", 0, ports)
    await bob.start()
    alice = _phone("127.0.0.1", 0, ports)
    await alice.start()
    await _Town(alice, bob, "127.0.0.1", report, seed, progress).run()


async def _in_world(
    hosts: tuple[Host, Host],
    report: MediaSoakReport,
    seed: int,
    progress: Callable[[MediaSoakReport], None],
) -> None:
    ports = (10000, 9999 + 2 * report.plan.pairs)
    with hosts[1].here():
        bob = _phone(hosts[1].address, 5060, ports)
        await bob.start()
    with hosts[0].here():
        alice = _phone(hosts[0].address, 5060, ports)
        await alice.start()
    await hosts[0].run(_Town(alice, bob, hosts[1].address, report, seed, progress).run())


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
        with asset_path("speech-8k.wav") as path:
            self._speech: npt.NDArray[np.int16] = read(path, 8000)
        bob.on_incoming(self._take)

    async def run(self) -> None:
        """Let calls come for as long as planned, wait for the last to end, and look at the rest."""
        loop, report, plan = asyncio.get_running_loop(), self._report, self._plan
        before = await self._in_use()
        begun = loop.time()
        with tempfile.TemporaryDirectory() as folder:
            sampling = asyncio.create_task(self._sample(begun))
            for number in range(1, plan.looks + 1):
                until = begun + plan.seconds * number / plan.looks
                calls = await self._let_come(until, Path(folder))
                if number == plan.looks:
                    await sampling
                for task in tuple(calls):
                    task.cancel()  # which hangs up
                while calls:
                    await asyncio.sleep(0.1)
                await asyncio.sleep(QUIET_S)
                self._count()
        self._look()
        await self._alice.close()
        await self._bob.close()
        # an engine in a process of its own stays until its phone is closed
        if more := dict(Counter(await self._in_use()) - Counter(before)):
            report.left["process"] = more
        if left := living():
            report.left["objects"] = left

    async def _let_come(self, until: float, folder: Path) -> set[asyncio.Task[None]]:
        """Let calls come until a time; return those that are up then, which leave when they end."""
        loop, report, plan = asyncio.get_running_loop(), self._report, self._plan
        calls: set[asyncio.Task[None]] = set()
        due = loop.time()
        while (due := due + self._random.expovariate(plan.calls_per_s)) < until:
            await asyncio.sleep(due - loop.time())
            lasts = self._random.expovariate(1 / plan.mean_s)
            lasts = min(max(lasts, 1.0), 10 * plan.mean_s)
            path = folder / f"{report.begun}.wav"
            task = asyncio.create_task(self._call(report.begun, lasts, path))
            calls.add(task)
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

    async def _sample(self, begun: float) -> None:
        loop, report, plan = asyncio.get_running_loop(), self._report, self._plan
        for number in range(1, SAMPLES + 1):
            await asyncio.sleep(begun + plan.seconds * number / SAMPLES - loop.time())
            up = len(self._alice.calls)
            _collect()
            report.most_at_once = max(report.most_at_once, up)
            report.samples.append((loop.time() - begun, report.begun, up, rss_mb(children=True)))
            self._progress(report)

    def _count(self) -> None:
        """Note what memory there is now that there is no call."""
        report = self._report
        forget_what_is_kept_for_speed()
        _collect()
        blocks = small_blocks() - SAMPLE_BLOCKS * len(report.samples)
        report.looks.append(Look(report.begun, blocks, heap_kb() or 0.0))

    def _look(self) -> None:
        report = self._report
        for name, phone in (("alice", self._alice), ("bob", self._bob)):
            held = {**left_in_phone(phone), **held_by_media(phone)}
            if held:
                report.left[name] = held
            ticks = phone.driver.figures().ticks
            if ticks is not None:
                report.ticks += ticks.count
                report.late_ticks += ticks.late

    async def _in_use(self) -> dict[str, int]:
        """Count files and tasks."""
        _collect()
        return {
            "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "tasks": len(asyncio.all_tasks()),
        }

    def _complain(self, text: str) -> None:
        if len(self._report.wrong) < 100:
            self._report.wrong.append(text)


def _collect() -> None:
    loop = asyncio.get_running_loop()
    if isinstance(loop, SimLoop):
        loop.drop_done_tasks()
    gc.collect()


class _Complaints(logging.Handler):
    """Takes everything logged as an error for something wrong."""

    def __init__(self, report: MediaSoakReport) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self._report.wrong.append(f"{record.name}: {record.getMessage()}")

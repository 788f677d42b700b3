"""The engine under test in a process of its own: every stream sends back what it hears."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from voip.errors import MediaError
from voip.harness.bench.engines import EngineKind, EnginesUnderTest
from voip.harness.bench.load_keys import protect_command
from voip.harness.bench.media_codecs import payload_format, registry
from voip.harness.bench.readers import Readers
from voip.media.answers import Answer, Opened, StreamStats
from voip.media.commands import CloseStream, Command, ConnectStream, OpenStream, RouteStream
from voip.media.driver import EngineFigures
from voip.media.engine import MAX_COMMANDS
from voip.media.native import available
from voip.types import Address

__all__ = ["BusyThreads", "EngineSide", "EngineTotals", "Lateness", "Measured"]

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Lateness:
    """Milliseconds after the deadline."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What the engine's process, or all of them, took from one `mark` to the next."""

    wall_s: float
    cpu_s: float  # user and system, all threads but the busy ones
    user_s: float  # of these
    busy_cpu_s: float
    control_cpu_s: float  # of what is neither engine nor busy
    ticks: int
    late_ticks: int
    start_ms: Lateness
    done_ms: Lateness
    phase_s: dict[str, float]  # of the engine's thread, by phase; where that was asked for
    phase_most_s: dict[str, float]  # the most of it at a time
    rss_kb: float  # what the process has grown by since before the first stream


@dataclass(frozen=True, slots=True)
class EngineTotals:
    """Sums over all streams, from their opening to their closing."""

    sent: int
    seen: int
    late: int
    reordered: int
    duplicate: int
    discarded: int
    strangers: int
    concealed_ms: float
    played_ms: float
    delay_ms: float  # average over the streams
    reported: int  # streams whose peer has sent RTCP that gave a round-trip time
    kernel_drops: int
    not_sent: int
    native: bool  # whether the part in C was used
    skipped_steps: int  # of all rows since the first `mark`: the engine was hopelessly late
    failures: int
    readers_lost_ms: float  # sound that the applications were too slow for


@dataclass(frozen=True, slots=True)
class _Mark:
    wall_s: float
    cpu_s: float
    user_s: float
    busy_s: float
    control_s: float
    phase_s: dict[str, float]
    tick: int
    late: int


class BusyThreads:
    """Threads that do nothing but run Python: what a busy application does to the engine."""

    def __init__(self, count: int) -> None:
        self._stop = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def cpu_s(self) -> float:
        """Return the CPU time they have used."""
        return sum(
            time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
            for thread in self._threads
            if thread.ident is not None and thread.is_alive()
        )

    def close(self) -> None:
        """End them."""
        self._stop = True
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        number = 0
        while not self._stop:
            number = (number * 31 + 7) & 0xFFFF


class EngineSide:
    """`calls` echoing streams of a codec on 127.0.0.1; runs in the current event loop."""

    def __init__(
        self,
        calls: int,
        busy: int,
        codec: str = "pcmu",
        *,
        engine: EngineKind = "thread",
        workers: int = 1,
        readers: int = 0,
        profile: bool = False,
        srtp: str | None = None,
    ) -> None:
        self._calls = calls
        self._srtp = srtp
        self._format = payload_format(codec)
        self._under_test = EnginesUnderTest(engine, workers, registry(), profile=profile)
        self._driver = self._under_test.driver
        self._reading = readers
        self._readers: Readers | None = None
        self._busy = BusyThreads(busy)
        self._rss_before = 0.0
        self._marked: _Mark | None = None
        self._skipped_before = 0

    async def open(self) -> list[tuple[int, int]]:
        """Open every stream; return their RTP and RTCP ports."""
        await self._under_test.start()
        self._rss_before = self._under_test.rss_kb()
        opened = await self._apply(
            OpenStream(call, HOST, f"bench-{call}") for call in range(self._calls)
        )
        return [
            (result.rtp.port, result.rtcp.port) for result in opened if isinstance(result, Opened)
        ]

    async def connect(self, ports: list[tuple[int, int]]) -> None:
        """Connect every stream to the load and route it to itself, or have it read and sent."""
        if self._srtp is not None:
            await self._apply(protect_command(self._srtp, call) for call in range(self._calls))
        await self._apply(
            ConnectStream(
                call, Address(HOST, rtp), Address(HOST, rtcp), send_format=self._format,
                receive_formats=(self._format,),
            )
            for call, (rtp, rtcp) in enumerate(ports)
        )  # fmt: skip
        await self._apply(RouteStream(call, call) for call in range(self._reading, self._calls))
        self._readers = Readers(self._driver, self._under_test.arena, range(self._reading))

    async def mark(self) -> Measured | None:
        """Note where we are; return what was used since the last mark."""
        before = self._marked
        counted = await self._under_test.figures(0 if before is None else before.tick)
        now = self._marked = self._now(counted)
        phases = self._under_test.phases
        most, phases.most = phases.most, dict.fromkeys(phases.most, 0.0)
        if before is None:  # to open hundreds of calls at once takes longer than a step
            self._skipped_before = counted.io["skipped_steps"]
            return None
        figures = np.zeros((0, 2)) if counted.ticks is None else counted.ticks.lateness_s
        busy_s = now.busy_s - before.busy_s
        return Measured(
            wall_s=now.wall_s - before.wall_s,
            cpu_s=now.cpu_s - before.cpu_s - busy_s,
            user_s=now.user_s - before.user_s - busy_s,
            busy_cpu_s=busy_s,
            control_cpu_s=now.control_s - before.control_s,
            ticks=now.tick - before.tick,
            late_ticks=now.late - before.late,
            start_ms=_lateness(figures[:, 0]),
            done_ms=_lateness(figures[:, 1]),
            phase_s={name: seconds - before.phase_s[name] for name, seconds in now.phase_s.items()},
            phase_most_s=most,
            rss_kb=self._under_test.rss_kb() - self._rss_before,
        )

    async def swell(self, rows: int, seconds: float) -> dict[str, float]:
        """Add so many rows within some seconds, as calls that begin, and close them as quickly.

        Returns what `media_growth.Swelling` says of it.
        """
        rss_before = self._under_test.rss_kb()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:  # reads nothing
            nobody.bind((HOST, 0))
            figures = await self._swell(rows, seconds, Address(*nobody.getsockname()))
        return figures | {"rss_before_kb": rss_before}

    async def _swell(self, rows: int, seconds: float, nobody: Address) -> dict[str, float]:
        marks = [await self._lateness()]
        added = range(self._calls, self._calls + rows)
        taken_s = []
        for add in (True, False):
            begun = time.monotonic()
            for number, stream in enumerate(added):
                waits = begun + number * seconds / rows - time.monotonic()
                if waits > 0:
                    await asyncio.sleep(waits)
                for command in self._call(stream, nobody) if add else [CloseStream(stream)]:
                    self._driver.post(command)
            await self._driver.apply(RouteStream(0, 0))  # all before it have been applied
            taken_s.append(time.monotonic() - begun)
            marks.append(await self._lateness())
            if add:
                rss_most = self._under_test.rss_kb()
        return {
            "late_adding": marks[1][0] - marks[0][0],
            "late_closing": marks[2][0] - marks[1][0],
            "skipped_steps": marks[2][1] - marks[0][1],
            "seconds_adding": taken_s[0],
            "rss_most_kb": rss_most,
            "rss_after_kb": self._under_test.rss_kb(),
        }

    async def _lateness(self) -> tuple[int, int]:
        """Return how many ticks were late so far, and how many steps were left out."""
        counted = await self._under_test.figures()
        return 0 if counted.ticks is None else counted.ticks.late, counted.io["skipped_steps"]

    def _call(self, stream: int, nobody: Address) -> list[Command]:
        """Return what opens a call that nobody is at the other end of."""
        return [
            OpenStream(stream, HOST, f"bench-{stream}"),
            ConnectStream(
                stream, nobody, None, send_format=self._format, receive_formats=(self._format,)
            ),
            RouteStream(stream, stream),
        ]

    async def close(self) -> EngineTotals:
        """Close every stream and the engine; return what they counted."""
        self._busy.close()
        if self._readers is not None:
            await self._readers.close()
        closed = await self._apply(CloseStream(call) for call in range(self._calls))
        counted = await self._under_test.figures()
        io = counted.io
        stats = [result for result in closed if isinstance(result, StreamStats)]
        totals = EngineTotals(
            sent=sum(one.packets_sent for one in stats),
            seen=sum(one.packets_received for one in stats),
            late=sum(one.packets_late for one in stats),
            reordered=sum(one.packets_reordered for one in stats),
            duplicate=sum(one.packets_duplicate for one in stats),
            discarded=sum(one.packets_discarded for one in stats),
            strangers=sum(one.packets_from_strangers for one in stats),
            concealed_ms=sum(one.concealed_ms for one in stats),
            played_ms=sum(one.played_ms for one in stats),
            delay_ms=float(np.mean([one.average_delay_ms for one in stats])),
            reported=sum(one.rtt_ms is not None for one in stats),
            kernel_drops=io["kernel_drops"],
            not_sent=io["send_full"] + io["send_failed"],
            native=available(),
            skipped_steps=io["skipped_steps"] - self._skipped_before,
            failures=0 if counted.ticks is None else counted.ticks.failed,
            readers_lost_ms=0.0 if self._readers is None else self._readers.lost_ms,
        )
        await self._driver.close()
        return totals

    async def _apply(self, commands: Iterable[Command]) -> list[Answer]:
        """Apply commands, as many at a time as the engine's queue takes."""
        waiting = list(commands)
        results: list[Answer] = []
        part = MAX_COMMANDS // 4
        for begin in range(0, len(waiting), part):
            results += await asyncio.gather(
                *(self._driver.apply(command) for command in waiting[begin : begin + part])
            )
        if len(results) != len(waiting):
            raise MediaError("the engine did not answer every command")
        return results

    def _now(self, counted: EngineFigures) -> _Mark:
        busy_s, ticks = self._busy.cpu_s(), counted.ticks
        return _Mark(
            wall_s=time.monotonic(),
            cpu_s=self._under_test.cpu_s(),
            user_s=self._under_test.user_s(),
            busy_s=busy_s,
            control_s=self._under_test.control_cpu_s(busy_s),
            phase_s=dict(self._under_test.phases.seconds),
            tick=0 if ticks is None else ticks.count,
            late=0 if ticks is None else ticks.late,
        )


def _lateness(seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Lateness:
    p50, p99, most = np.percentile(seconds * 1000, (50, 99, 100)) if seconds.size else (0, 0, 0)
    return Lateness(float(p50), float(p99), float(most))

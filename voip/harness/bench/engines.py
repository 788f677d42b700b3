"""The engines that a benchmark measures, in a thread or in processes, and what they have used."""

from __future__ import annotations

import asyncio
import resource
import time
from pathlib import Path
from typing import Final, Literal

from voip.errors import ConfigError
from voip.media.driver import EngineFigures
from voip.media.engine import Engine
from voip.media.rings import RingArena
from voip.net.driver import ThreadDriver
from voip.net.packets import UdpPacketIO
from voip.net.process_driver import ProcessDriver
from voip.net.ring_memory import MemfdMemory
from voip.net.workers import THREAD_STREAMS, Workers
from voip.types import SecureRandom

__all__ = ["EngineKind", "EnginesUnderTest", "kind_for"]

EngineKind = Literal["thread", "process"]

_REMEMBERED_TICKS: Final = 1 << 17  # over 20 minutes


def kind_for(engine: str, calls: int, workers: int) -> EngineKind:
    """Return what a phone with so many calls has; `engine` may say otherwise.

    `ConfigError` for what is neither "auto", "thread" nor "process".
    """
    if engine not in ("auto", "thread", "process"):
        raise ConfigError(f"no engine {engine!r}", hint="auto, thread or process")
    if engine == "auto":
        return "process" if calls > THREAD_STREAMS or workers > 1 else "thread"
    return "thread" if engine == "thread" else "process"


class EnginesUnderTest:
    """One engine in a thread of this process, or `workers` of them in processes of their own."""

    def __init__(self, kind: EngineKind, workers: int) -> None:
        self.driver: ThreadDriver | Workers
        self._engine: Engine | None = None
        if kind == "thread":
            self.arena = RingArena()
            random = SecureRandom()
            self._io = UdpPacketIO(random)
            self._engine = Engine(self._io, random=random, arena=self.arena)
            self.driver = ThreadDriver(
                self._engine,
                release=self._io.close_all,
                counted=self._counted,
                remembered_ticks=_REMEMBERED_TICKS,
            )
            return
        memory = MemfdMemory()
        self.arena = RingArena(memory=memory)
        self.driver = Workers(
            lambda lost: ProcessDriver(memory, lost=lost, remembered_ticks=_REMEMBERED_TICKS),
            workers,
            self.arena,
            close=memory.close,
            remembered_ticks=_REMEMBERED_TICKS,
        )

    async def start(self) -> None:
        """Start them; returns when all tick."""
        self.driver.start()
        if isinstance(self.driver, Workers):
            while not all(isinstance(one, ProcessDriver) and one.is_ready for one in self._drivers):
                await asyncio.sleep(0.01)

    async def figures(self, since_tick: int = 0) -> EngineFigures:
        """Return what they have counted by now; `io` has `skipped_steps` too."""
        if isinstance(self.driver, Workers):
            return await self.driver.fresh_figures(since_tick)
        return self.driver.figures(since_tick)

    @property
    def _drivers(self) -> list[ThreadDriver | ProcessDriver]:
        return self.driver.drivers if isinstance(self.driver, Workers) else []

    @property
    def _pids(self) -> list[int]:
        return self.driver.pids if isinstance(self.driver, Workers) else []

    def cpu_s(self) -> float:
        """Return the user and system time of all processes, this one's too."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        # the clock of another process, as clock_getcpuclockid(3) makes it on Linux
        others = sum(time.clock_gettime((~pid << 3) | 2) for pid in self._pids)
        return used.ru_utime + used.ru_stime + others

    def control_cpu_s(self, busy_s: float) -> float:
        """Return the time of all but the engines and busy threads, which had `busy_s`.

        Called in the thread of the loop, which is all of it where the engine is a thread.
        """
        if isinstance(self.driver, Workers):
            used = resource.getrusage(resource.RUSAGE_SELF)
            return used.ru_utime + used.ru_stime - busy_s
        return time.thread_time()

    def rss_kb(self) -> float:
        """Return the memory of all processes; what several see counts in each."""
        sizes = (Path(f"/proc/{pid}/statm").read_text().split() for pid in ("self", *self._pids))
        return sum(int(size[1]) for size in sizes) * resource.getpagesize() / 1024

    def _counted(self) -> dict[str, int]:
        skipped = 0 if self._engine is None else self._engine.skipped_steps
        return {**self._io.counted(), "skipped_steps": skipped}

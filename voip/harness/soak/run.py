"""`make soak`: 100,000 calls in seven days of virtual time, counted, and looked at by tenths.

After each tenth no call is begun until all are over and every transaction has had its time; then
nothing may be left of them, in the phones, the proxy, the loop and the process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from voip.harness.soak.calls import Calls
from voip.harness.soak.census import left_in_phone, left_in_proxy, living, rss_mb
from voip.sim.loop import SimLoop

__all__ = ["CALLS", "DAYS", "SoakReport", "Tenth", "soak"]

CALLS: Final = 100_000
DAYS: Final = 7.0
MEAN_GAP_S: Final = DAYS * 86_400 / CALLS
QUIET_S: Final = 200.0
"""How long after the last call all is looked at: longer than any session and transaction."""
REMEMBERED_S: Final = 40.0
"""A transaction is remembered for 32 s after its answer."""
LOOKS: Final = 5
"""Some line's registration may have been renewed a moment ago; a leak is there at every look."""
TENTHS: Final = 10
FLAT: Final = 1.1
"""How much larger the process may be after the last tenth than after the third."""


@dataclass(frozen=True, slots=True)
class Tenth:
    """How things stand after a tenth. `left`: what is there and should not be, by whose it is."""

    calls: int
    virtual_h: float
    cpu_s: float
    rss_mb: float
    left: dict[str, dict[str, int]]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "calls": self.calls,
            "virtual_h": round(self.virtual_h, 2),
            "cpu_s": round(self.cpu_s, 1),
            "rss_mb": round(self.rss_mb, 1),
            "left": self.left,
        }


@dataclass(slots=True)
class SoakReport:
    """All that happened.

    `surprises`: what may not happen; `wrong`: the first of it, in words; `news`: what
    of that is of the last tenth.
    """

    seed: int
    first: int
    calls: int = 0
    legs: int = 0
    surprises: int = 0
    crashes: int = 0
    cuts: int = 0
    virtual_days: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    news: list[str] = field(default_factory=list)
    tenths: list[Tenth] = field(default_factory=list)

    @property
    def rss_is_flat(self) -> bool | None:
        """Whether the process has not grown since the third tenth; None before there is one."""
        sizes = [tenth.rss_mb for tenth in self.tenths]
        return None if len(sizes) < 4 else sizes[-1] <= FLAT * sizes[2]

    @property
    def passed(self) -> bool:
        """Whether every call ended as it may, and nothing was left at any time."""
        clean = not any(tenth.left for tenth in self.tenths)
        return self.calls > 0 and clean and not self.surprises and self.rss_is_flat is not False

    def to_json(self) -> dict[str, Any]:
        """Return all figures."""
        return {
            "seed": self.seed,
            "first": self.first,
            "calls": self.calls,
            "legs": self.legs,
            "virtual_days": round(self.virtual_days, 3),
            "crashes": self.crashes,
            "cuts": self.cuts,
            "outcomes": self.outcomes,
            "surprises": self.surprises,
            "wrong": self.wrong,
            "tenths": [tenth.to_json() for tenth in self.tenths],
            "rss_is_flat": self.rss_is_flat,
            "passed": self.passed,
        }


def soak(
    calls: int = CALLS,
    seed: int = 1,
    *,
    first: int = 0,
    progress: Callable[[SoakReport], None] = lambda report: None,
) -> SoakReport:
    """Place calls `first` to `first + calls`; `progress` gets the report after each tenth.

    A call's plan follows from the seed and its number, so that a run may begin where another was
    stopped; what the network does to it follows from the seed and where the run began.
    """
    report = SoakReport(seed, first)
    book = Calls(seed, MEAN_GAP_S)
    world = book.town.world
    errors = _Errors(book)
    logger = logging.getLogger("voip")
    logger.addHandler(errors)
    before = living()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(
            lambda _, told: errors.complain(str(told.get("exception", told)))
        )
        await book.town.open()
        await asyncio.sleep(QUIET_S)
        waiting = _waiting()
        for tenth in range(TENTHS):
            begin, end = (calls * n // TENTHS for n in (tenth, tenth + 1))
            began = time.process_time()
            await book.run(first + begin, end - begin)
            await asyncio.sleep(QUIET_S)
            report.calls, report.legs = end, book.legs
            report.outcomes = dict(sorted(book.outcomes.items()))
            report.news = book.wrong[len(report.wrong) :]
            report.wrong, report.surprises = list(book.wrong), book.surprises
            report.crashes, report.cuts = book.town.crashes, book.town.cuts
            report.virtual_days = world.elapsed / 86_400
            for _ in range(LOOKS):
                left = _left(book, waiting, before)
                if not left:
                    break
                await asyncio.sleep(REMEMBERED_S)
            cpu_s = time.process_time() - began
            report.tenths.append(Tenth(end, world.elapsed / 3600, cpu_s, rss_mb(), left))
            progress(report)
        await book.town.close()

    try:
        world.run(main(), limit_s=float("inf"))
    finally:
        logger.removeHandler(errors)
    return report


def _waiting() -> Counter[str]:
    """Count the tasks of the loop, by what they do."""
    return Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())


def _left(book: Calls, waiting: Counter[str], before: dict[str, int]) -> dict[str, dict[str, int]]:
    """Return what is there and should not be."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, SimLoop):
        loop.drop_done_tasks()
    found = {"proxy": left_in_proxy(book.town.proxy)}
    for line in book.town.lines:
        found[line.user] = left_in_phone(line.phone) if line.phone else {"phones missing": 1}
    found["calls that have not ended"] = dict(Counter(book.open.values()))
    found["tasks"] = dict(_waiting() - waiting)
    found["objects"] = dict(Counter(living()) - Counter(before))
    return {whose: what for whose, what in found.items() if what}


class _Errors(logging.Handler):
    """Takes everything logged as an error for a surprise."""

    def __init__(self, book: Calls) -> None:
        super().__init__(logging.ERROR)
        self._book = book

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        why = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self.complain(f"{record.name}: {record.getMessage()}{why}")

    def complain(self, text: str) -> None:
        """Note what nobody caught."""
        self._book.surprise(text)

"""`voip bench media --growth`: what a call costs among a hundred, and among two thousand.

And what it does to ticks when rows come and go by hundreds: a thousand of them are added within a
second, and taken away within another, beside calls that go on.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from voip.errors import ConfigError
from voip.harness.bench.engines import kind_for
from voip.harness.bench.media import (
    WARM_UP_S,
    MediaReport,
    raise_open_files,
    run,
)
from voip.harness.bench.worker import Worker

__all__ = ["ADDED_ROWS", "CALLS", "GrowthReport", "Swelling", "growth", "machine", "write_into"]

CALLS: Final = (100, 250, 500, 1000, 2000)
FLAT_BAR: Final = 1.2
"""How much more than the first one the dearest may cost."""
BESIDE_CALLS: Final = 500
ADDED_ROWS: Final = 1000
SWELL_S = 1.0
"""Within which they are added, and closed again."""
_BEGIN: Final = "<!-- voip bench media --growth: begin -->"
_END: Final = "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Swelling:
    """What came of rows that were added within a second, beside others, and then closed.

    late: ticks that were late meanwhile; rss: kB of the engine's process before, with all rows, and
    when they were gone.
    """

    beside: int
    added: int
    late_adding: int
    late_closing: int
    skipped_steps: int
    seconds_adding: float
    rss_before_kb: float
    rss_most_kb: float
    rss_after_kb: float


@dataclass(frozen=True, slots=True)
class GrowthReport:
    """One report for each number of calls, and what came of the rows that were added."""

    reports: tuple[MediaReport, ...]
    swelling: Swelling

    @property
    def ratios(self) -> tuple[float, ...]:
        """What a call costs by what it does in the first report, each on the reference machine."""
        first = self.reports[0].adjusted_cpu_us
        return tuple(one.adjusted_cpu_us / first for one in self.reports)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        dearest = max(self.ratios)
        late = self.swelling.late_adding + self.swelling.late_closing
        whole = all(one.bars()["cpu_us_per_call_tick"]["met"] is not None for one in self.reports)
        return {
            "machine": machine(),
            "growth": [
                {**one.to_json(), "ratio": round(ratio, 3)}
                for one, ratio in zip(self.reports, self.ratios, strict=True)
            ],
            "swelling": asdict(self.swelling),
            "bars": {
                "cpu_growth": {
                    "figure": round(dearest, 3),
                    "bar": FLAT_BAR,
                    "met": dearest <= FLAT_BAR if whole else None,
                },
                "late_ticks_of_added_rows": {"figure": late, "bar": 0, "met": late == 0},
            },
        }

    def markdown(self) -> str:
        """Return the report as a table of Markdown, with the machine's name."""
        lines = [
            f"`voip bench media --growth` on {machine()}; G.711, "
            f"{len(self.reports[0].rounds)} rounds of {self.reports[0].seconds:g} s each:",
            "",
            "| calls | CPU, measured | outside the kernel | machine factor "
            "| on the reference machine | of that for the first | done, p99 | late ticks "
            "| lost by us | memory |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for one, ratio in zip(self.reports, self.ratios, strict=True):
            figures = one.to_json()
            bars = figures["bars"]
            lines.append(
                f"| {one.calls} | {figures['cpu_us_per_call_tick']:.1f} us "
                f"| {figures['user_us_per_call_tick']:.1f} us | {figures['machine_factor']:.2f} "
                f"| {bars['cpu_us_per_call_tick']['figure']:.1f} us | {ratio:.2f} "
                f"| {figures['tick_lateness_ms']['done']['p99']:.1f} ms "
                f"| {figures['late_ticks']} | {bars['lost_by_us']['figure']} "
                f"| {figures['rss_kb_per_call']:.0f} kB |"
            )
        rows = self.swelling
        lines += [
            "",
            f"Beside {rows.beside} calls {rows.added} rows were added within "
            f"{rows.seconds_adding:.1f} s and closed again: {rows.late_adding} and "
            f"{rows.late_closing} late ticks. The process had {rows.rss_before_kb / 1000:.0f} MB "
            f"before, {rows.rss_most_kb / 1000:.0f} MB with them, and "
            f"{rows.rss_after_kb / 1000:.0f} MB when they were gone.",
        ]
        return "\n".join(lines)


def growth(
    seconds: float,
    rounds: int,
    *,
    calls: tuple[int, ...] = CALLS,
    beside: int = BESIDE_CALLS,
    added: int = ADDED_ROWS,
    progress: Callable[[str], None] = lambda _: None,
) -> GrowthReport:
    """Measure each of `calls`, and what added rows do; raises as `voip.harness.bench.media.run`."""
    reports = [run(number, seconds, rounds=rounds, progress=progress) for number in calls]
    progress(f"{added} rows come and go beside {beside} calls")
    return GrowthReport(tuple(reports), _swell(beside, added))


def _swell(beside: int, added: int) -> Swelling:
    raise_open_files(3 * (beside + added) + 64)
    with Worker("engine") as engine, Worker("load") as load:
        kind = kind_for("auto", beside + added, 1)
        engine.tell("open", calls=beside, busy=0, codec="pcmu", engine=kind, profile=False)
        load.tell("open", calls=beside, seed=1, codec="pcmu")
        theirs, ours = engine.answer()["ports"], load.answer()["ports"]
        engine.tell("connect", ports=ours)
        load.tell("connect", ports=theirs)
        engine.answer(), load.answer()
        load.tell("run", seconds=WARM_UP_S + 4 * SWELL_S)
        time.sleep(WARM_UP_S)
        swelling = engine.ask("swell", rows=added, seconds=SWELL_S)
        load.answer()
        engine.ask("close")
        load.ask("finish")
    return Swelling(beside=beside, added=added, **swelling)


def machine() -> str:
    """Return what this machine is, in a few words."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        if names:
            model = f"{len(names)} processors, {names[0]}"
    return (
        f"{model} ({platform.system()} {platform.release().partition('-')[0]}, "
        f"CPython {platform.python_version()}, NumPy {np.__version__})"
    )


def write_into(page: Path, table: str) -> None:
    """Put the table between its two marks in a page; `ConfigError` where there are none."""
    text = page.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ConfigError(f"{page} has no place for the table", hint=f"{_BEGIN} ... {_END}")
    page.write_text(f"{before}{_BEGIN}\n\n{table}\n\n{_END}{after}")

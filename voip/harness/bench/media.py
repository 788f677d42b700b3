"""`voip bench media`: what a call costs, how late ticks are, and whether anything gets lost.

One process holds the engine, another plays the other side of every call, a third only sleeps, to
tell how late this machine wakes anybody. Each round stands between two calibrations.
"""

from __future__ import annotations

import math
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from voip.errors import ConfigError
from voip.harness.bench.bare_sockets import bare_sockets_us
from voip.harness.bench.calibration import REFERENCE, REFERENCE_MACHINE, calibrate
from voip.harness.bench.engines import EngineKind, kind_for
from voip.harness.bench.load_keys import BARS_US
from voip.harness.bench.media_codecs import BARS, PLAIN, bare_codec_us, payload_format
from voip.harness.bench.worker import Message, Worker
from voip.rtp.srtp.suites import suite_of

__all__ = ["CPU_BAR_US", "DONE_P99_BAR_MS", "MediaReport", "Round", "raise_open_files", "run"]

CPU_BAR_US = 5.0
DONE_P99_BAR_MS = 15.0
SMALL_P99_BAR_MS = 10.0
"""The same for a thread with few calls, beside busy threads."""
RSS_BAR_KB = 60.0
SLEEP_P99_BAR_MS = 5.0
"""Where a bare sleep loop is later than this, lateness says nothing about the engine."""
LOAD_BEHIND_BAR_MS = 200.0
"""Where the load was later than this, the engine had less to do than it should have."""

CALIBRATION_REPEATS = 15
"""Half a second of each: machines that are lent change their speed from one second to the next."""

TICK_S = 0.020
WARM_UP_S = 2.0
TAIL_S = 0.8
"""How long the engine is heard out after the load has fallen silent, and again while it is late."""
MAX_TAILS = 6
MAX_CALLS = 4000
_FILES_BESIDE_CALLS = 64


@dataclass(frozen=True, slots=True)
class Round:
    """The figures of one round. Names and units are those of the report."""

    machine_factor: float
    cpu_us_per_call_tick: float
    lateness_ms: dict[str, dict[str, float]]
    late_ticks: int
    packets_lost: int
    kernel_drops: int
    rss_kb_per_call: float
    busy_cpu_s: float
    control_cpu_us_per_call_tick: float
    bare_sleep_ms: dict[str, float]
    payloads: dict[str, int]
    engine: dict[str, float]
    load: dict[str, float]
    user_us_per_call_tick: float = 0.0
    bare_codec_us: float = 0.0
    bare_sockets_us: float = 0.0
    phase_us: dict[str, float] | None = None
    phase_ms_max: dict[str, float] | None = None

    @property
    def adjusted_cpu_us(self) -> float:
        """CPU per call and tick as it would be on the reference machine."""
        return self.cpu_us_per_call_tick / self.machine_factor


@dataclass(frozen=True, slots=True)
class MediaReport:
    """All rounds of one benchmark."""

    calls: int
    seconds: float
    busy: int
    rounds: tuple[Round, ...]
    codec: str = "pcmu"
    engine: EngineKind = "thread"
    workers: int = 1
    readers: int = 0
    srtp: str | None = None
    plain: tuple[Round, ...] = ()
    """With SRTP: a round without it before each one."""

    @property
    def done_bar_ms(self) -> float:
        """Where the p99 of a tick's completion has to be."""
        small = self.engine == "thread" and self.busy
        return SMALL_P99_BAR_MS if small else DONE_P99_BAR_MS

    @property
    def reader_cpu_us(self) -> float | None:
        """CPU of the controlling process for each call that is read and written, and 20 ms."""
        if not self.readers:
            return None
        control = statistics.median(one.control_cpu_us_per_call_tick for one in self.rounds)
        return control * self.calls / self.readers

    @property
    def srtp_more_us(self) -> float:
        """Median over the rounds of what SRTP adds to CPU per call and tick, likewise divided."""
        return statistics.median(
            one.adjusted_cpu_us - before.adjusted_cpu_us
            for before, one in zip(self.plain, self.rounds, strict=True)
        )

    @property
    def adjusted_cpu_us(self) -> float:
        """Median over the rounds of CPU per call and tick divided by the machine factor."""
        return statistics.median(one.adjusted_cpu_us for one in self.rounds)

    @property
    def phase_us(self) -> dict[str, float]:
        """Medians over the rounds, by phase: microseconds for a call and 20 ms; with `profile`."""
        of_rounds = [one.phase_us or {} for one in self.rounds]
        return {
            name: statistics.median(phases[name] for phases in of_rounds) for name in of_rounds[0]
        }

    @property
    def bare_codec_us(self) -> float:
        """Median over the rounds: encoding and decoding 20 ms barely, measured before each."""
        return statistics.median(one.bare_codec_us for one in self.rounds)

    @property
    def cpu_bar_us(self) -> float | None:
        """What a call may cost: more than G.711 where its codec does; None: nobody says."""
        if self.codec in PLAIN:
            return CPU_BAR_US + BARS_US.get(self.srtp or "", 0.0)
        if self.codec not in BARS:
            return None
        bare = statistics.median(one.bare_codec_us / one.machine_factor for one in self.rounds)
        return BARS[self.codec] * bare + CPU_BAR_US

    @property
    def adjusted_done_p99_ms(self) -> float:
        """Median over the rounds of when ticks are done, p99, divided by the machine factor."""
        return statistics.median(
            one.lateness_ms["done"]["p99"] / one.machine_factor for one in self.rounds
        )

    @property
    def packets_lost(self) -> int:
        """Packets lost in all rounds."""
        return sum(one.packets_lost for one in self.rounds)

    @property
    def kernel_drops(self) -> int:
        """Packets the kernel dropped in all rounds, both sides."""
        return sum(one.kernel_drops for one in self.rounds)

    def lateness_ms(self, act: str, percentile: str) -> float:
        """Median over the rounds; `act` is start or done, `percentile` p50, p99 or max."""
        return statistics.median(one.lateness_ms[act][percentile] for one in self.rounds)

    def bars(self) -> dict[str, dict[str, Any]]:
        """Compare with the bars: figure, bar, and whether it is met (None: cannot be told)."""
        sleep = statistics.median(one.bare_sleep_ms["p99"] for one in self.rounds)
        done = self.adjusted_done_p99_ms
        lost = max(0, self.packets_lost - self.kernel_drops)
        wrong = sum(one.payloads["wrong"] for one in self.rounds)
        compared = sum(one.payloads["equal"] for one in self.rounds)
        cpu, rss = (
            self.adjusted_cpu_us,
            statistics.median(one.rss_kb_per_call for one in self.rounds),
        )
        cpu_bar = self.cpu_bar_us
        whole = not any(
            one.engine["skipped_steps"] or one.load["behind_ms_max"] > LOAD_BEHIND_BAR_MS
            for one in self.rounds
        )
        return self._srtp_bar(whole=whole) | {
            "cpu_us_per_call_tick": {  # what was left out, or came late, cost nothing
                "figure": cpu,
                "bar": cpu_bar,
                "met": None if cpu_bar is None or not whole else cpu <= cpu_bar,
            },
            "rss_kb_per_call": {  # other codecs remember as much as they do
                "figure": rss,
                "bar": RSS_BAR_KB,
                "met": rss <= RSS_BAR_KB if self.codec in PLAIN else None,
            },
            "lost_by_us": {"figure": lost, "bar": 0, "met": lost == 0},
            "payloads_wrong": {"figure": wrong, "bar": 0, "met": wrong == 0 and compared > 0}
            if self.codec == "pcmu"
            else {"figure": wrong, "bar": 0, "met": None},  # others do not come back to the bit
            "done_p99_ms": {
                "figure": done,
                "bar": self.done_bar_ms,
                "met": done < self.done_bar_ms if sleep <= SLEEP_P99_BAR_MS else None,
            },
        }

    def _srtp_bar(self, *, whole: bool) -> dict[str, dict[str, Any]]:
        if self.srtp is None:
            return {}
        more, bar = self.srtp_more_us, BARS_US.get(self.srtp)
        met = more <= bar if whole and bar is not None else None
        return {"srtp_more_us_per_call_tick": {"figure": more, "bar": bar, "met": met}}

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values. Figures are medians over the rounds, counts sums."""

        def median(figure: Callable[[Round], float]) -> float:
            return _round(statistics.median(figure(one) for one in self.rounds))

        reader = self.reader_cpu_us
        return {
            "calls": self.calls,
            "seconds": self.seconds,
            "busy": self.busy,
            "srtp": self.srtp,
            "engine": self.engine,
            "workers": self.workers,
            "readers": self.readers,
            "control_cpu_us_per_call_tick": median(lambda one: one.control_cpu_us_per_call_tick),
            "reader_cpu_us_per_call_tick": reader and _round(reader),
            "codec": self.codec,
            "cpu_us_per_call_tick": median(lambda one: one.cpu_us_per_call_tick),
            "user_us_per_call_tick": median(lambda one: one.user_us_per_call_tick),
            "bare_codec_us": _round(self.bare_codec_us),
            "bare_sockets_us": median(lambda one: one.bare_sockets_us),
            "phase_us": {name: _round(us) for name, us in self.phase_us.items() if us},
            "phase_ms_max": {
                name: _round(max((one.phase_ms_max or {})[name] for one in self.rounds))
                for name, us in self.phase_us.items()
                if us
            },
            "tick_lateness_ms": {
                act: {
                    percentile: _round(self.lateness_ms(act, percentile))
                    for percentile in ("p50", "p99", "max")
                }
                for act in ("start", "done")
            },
            "late_ticks": sum(one.late_ticks for one in self.rounds),
            "packets_lost": self.packets_lost,
            "kernel_drops": self.kernel_drops,
            "rss_kb_per_call": median(lambda one: one.rss_kb_per_call),
            "machine_factor": median(lambda one: one.machine_factor),
            "bars": {
                name: {key: _round(v) if isinstance(v, float) else v for key, v in bar.items()}
                for name, bar in self.bars().items()
            },
            "payloads": {
                kind: sum(one.payloads[kind] for one in self.rounds)
                for kind in self.rounds[0].payloads
            },
            "bare_sleep_p99_ms": median(lambda one: one.bare_sleep_ms["p99"]),
            "rounds": [
                {
                    "machine_factor": _round(one.machine_factor),
                    "cpu_us_per_call_tick": _round(one.cpu_us_per_call_tick),
                    "user_us_per_call_tick": _round(one.user_us_per_call_tick),
                    "bare_codec_us": _round(one.bare_codec_us),
                    "bare_sockets_us": _round(one.bare_sockets_us),
                    "done_p99_ms": _round(one.lateness_ms["done"]["p99"]),
                    "bare_sleep_p99_ms": _round(one.bare_sleep_ms["p99"]),
                    "late_ticks": one.late_ticks,
                    "packets_lost": one.packets_lost,
                    "kernel_drops": one.kernel_drops,
                    "busy_cpu_s": _round(one.busy_cpu_s),
                    "engine": {name: _round(value) for name, value in one.engine.items()},
                    "load": {name: _round(value) for name, value in one.load.items()},
                }
                for one in self.rounds
            ],
            "native": all(one.engine["native"] for one in self.rounds),
            "reference_machine": REFERENCE_MACHINE,
            "python": platform.python_version(),
            "numpy": np.__version__,
        }


def run(
    calls: int = 500,
    seconds: float = 10.0,
    busy: int = 0,
    rounds: int = 5,
    codec: str = "pcmu",
    *,
    engine: str = "auto",
    workers: int = 1,
    readers: int = 0,
    profile: bool = False,
    srtp: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> MediaReport:
    """Measure `rounds` rounds of `seconds` each; `progress` is told what is being done.

    `busy` is how many threads run plain Python meanwhile in the process that the engine is a thread
    of, or that controls it. engine: "thread", "process", or "auto": what a phone with so many calls
    has, and a thread with `profile` (what phases take) or another codec. workers: processes.
    readers: calls whose sound an application reads and sends back. srtp: the suite that protects
    the calls; then each round stands beside one without it. Raises
    `ConfigError` when this machine cannot hold so many calls, `MediaError` when a process of the
    benchmark fails.
    """
    if not 1 <= calls <= MAX_CALLS or not seconds >= 1 or busy < 0 or rounds < 1:
        raise ConfigError(
            f"cannot measure {rounds} rounds of {calls} calls for {seconds:g} s",
            hint=f"1 to {MAX_CALLS} calls, at least 1 s and 1 round",
        )
    payload_format(codec)
    apart = profile or codec not in PLAIN
    kind = kind_for(
        "thread" if engine == "auto" and apart and workers == 1 else engine, calls, workers
    )
    if not 0 <= readers <= calls or not 1 <= workers <= calls or (kind == "thread" and workers > 1):
        raise ConfigError(
            f"cannot measure {readers} readers and {workers} workers with {calls} calls",
            hint="no more than calls; a thread is one worker",
        )
    if kind == "process" and apart:
        raise ConfigError(
            "phases and other codecs are measured in a thread", hint="--engine thread"
        )
    if srtp and codec not in PLAIN:
        raise ConfigError(f"{codec} is not measured with SRTP", hint=", ".join(PLAIN))
    setup = {
        "codec": codec, "engine": kind, "workers": workers, "readers": readers, "profile": profile
    }  # fmt: skip
    raise_open_files(2 * calls + _FILES_BESIDE_CALLS)
    suite = suite_of(srtp).name if srtp else None
    measured: list[Round] = []
    plain: list[Round] = []
    for number in range(1, rounds + 1):
        progress(f"round {number} of {rounds}: {calls} calls for {seconds:g} s")
        if suite:
            plain.append(_round_of(calls, seconds, busy, setup, seed=number))
        measured.append(_round_of(calls, seconds, busy, setup | {"srtp": suite}, seed=number))
    return MediaReport(
        calls, seconds, busy, tuple(measured), codec, kind, workers, readers, suite, tuple(plain)
    )


def raise_open_files(needed: int) -> None:
    """Raise the soft limit of open files to the hard one; `ConfigError` if that is too low.

    Child processes inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"{needed} open files are needed and the hard limit is {hard}",
            hint="raise it (ulimit -Hn), or measure fewer calls",
        )
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _round_of(calls: int, seconds: float, busy: int, setup: dict[str, Any], seed: int) -> Round:
    codec = setup["codec"]
    factor_before = calibrate(CALIBRATION_REPEATS).factor(REFERENCE)
    bare = {"bare_codec_us": bare_codec_us(codec, calls), "bare_sockets_us": bare_sockets_us(calls)}
    with Worker("engine") as engine, Worker("load") as load, Worker("sleep") as sleeper:
        engine.tell("open", calls=calls, busy=busy, **setup)
        load.tell("open", calls=calls, seed=seed, codec=codec, srtp=setup.get("srtp"))
        theirs, ours = engine.answer()["ports"], load.answer()["ports"]
        engine.tell("connect", ports=ours)
        load.tell("connect", ports=theirs)
        engine.answer(), load.answer()

        load.tell("run", seconds=WARM_UP_S + seconds + 0.5)
        time.sleep(WARM_UP_S)
        engine.ask("mark")
        sleep = sleeper.ask("sleep", seconds=seconds)
        measured = engine.ask("mark")
        load.answer()
        for _ in range(MAX_TAILS):  # an engine that fell behind still has packets to read
            load.ask("listen", seconds=TAIL_S)
            if not engine.ask("mark")["late_ticks"]:
                break
        totals = engine.ask("close")
        load.ask("listen", seconds=0.2)
        report = load.ask("finish")
    factor = math.sqrt(factor_before * calibrate(CALIBRATION_REPEATS).factor(REFERENCE))
    return _figures(calls, factor, bare, measured, totals, report, sleep)


def _figures(
    calls: int,
    factor: float,
    bare: dict[str, float],
    measured: Message,
    totals: Message,
    report: Message,
    sleep: Message,
) -> Round:
    payloads = report.pop("payloads")
    lost_inwards = report["sent"] - totals["seen"]
    lost_outwards = totals["sent"] - report["seen"]
    return Round(
        machine_factor=factor,
        cpu_us_per_call_tick=1e6 * measured["cpu_s"] / (calls * measured["wall_s"] / TICK_S),
        user_us_per_call_tick=1e6 * measured["user_s"] / (calls * measured["wall_s"] / TICK_S),
        **bare,
        phase_us={
            name: 1e6 * seconds / (calls * measured["wall_s"] / TICK_S)
            for name, seconds in measured["phase_s"].items()
        },
        phase_ms_max={name: 1e3 * most for name, most in measured["phase_most_s"].items()},
        lateness_ms={"start": measured["start_ms"], "done": measured["done_ms"]},
        late_ticks=measured["late_ticks"],
        packets_lost=lost_inwards + lost_outwards,
        kernel_drops=totals["kernel_drops"] + report["kernel_drops"],
        rss_kb_per_call=measured["rss_kb"] / calls,
        busy_cpu_s=measured["busy_cpu_s"],
        control_cpu_us_per_call_tick=1e6
        * measured["control_cpu_s"]
        / (calls * measured["wall_s"] / TICK_S),
        bare_sleep_ms=sleep,
        payloads=payloads,
        engine={"ticks": measured["ticks"], **totals},
        load=report,
    )


def _round(value: float) -> float:
    return round(value, 3)

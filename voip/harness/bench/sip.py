"""`voip bench sip`: how fast messages are read, what a call costs, and what a flood of rubbish.

The phone has a process, its callers another. A third only parses, counts what dialogs weigh, and
reads attacks. What is timed by the wall stands between calibrations.
"""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from voip.errors import ConfigError
from voip.harness.bench.calibration import REFERENCE, REFERENCE_MACHINE, calibrate
from voip.harness.bench.flood import FloodReport, run_floods
from voip.harness.bench.sip_peer import find_sipp, run_sipp
from voip.harness.bench.worker import Message, Worker

__all__ = ["SipReport", "run"]

PARSE_BAR: Final = 40_000
CALLS_BAR: Final = 600
DIALOG_BAR: Final = 12_000
CALL_BAR: Final = 40_000
ATTACK_BAR: Final = 2.5
STARVED: Final = 0.85
"""Where the phone's process had less of a core than this, others kept it from its work: what misses
its bar by time then says nothing of the phone."""

WINDOW: Final = 16
"""Calls under way at a time."""
WARM_UP_S: Final = 1.0
MAX_HELD: Final = 8000
EXPIRES_S: Final = 60
ATTACK_TRIES: Final = 5
"""How often each attack is read, for a median."""


@dataclass(frozen=True, slots=True)
class SipReport:
    """The figures of one benchmark, unadjusted; `factors` are the machine's meanwhile."""

    peer: str
    seconds: float
    held: int
    parse: list[tuple[float, float]]
    attacks: dict[str, tuple[float, float]]
    bytes_per_dialog: float
    bytes_per_call: float
    calls: int
    failed: int
    retransmissions: int
    reasons: dict[str, int]
    calls_per_second: float
    cpu_us_per_call: float
    busy: float  # how much of a core the phone had
    collector_ms_max: float
    factor: float
    registrations: dict[str, float]
    flood: FloodReport | None = None

    def bars(self) -> dict[str, dict[str, Any]]:
        """Compare with the bars: figure, bar, and whether it is met (None: cannot be told)."""
        parse = statistics.median(rate * factor for rate, factor in self.parse)
        calls = 1e6 / max(1e-9, self.cpu_us_per_call) * self.factor  # of a whole core
        starved = self.busy < STARVED
        attack = max(ratio for ratio, _ in self.attacks.values())
        held = self.registrations
        return {
            "parse_route_per_s": _bar(parse, PARSE_BAR, parse >= PARSE_BAR),
            "calls_per_second": _bar(calls, CALLS_BAR, calls >= CALLS_BAR),
            "failed": _bar(self.failed, 0, self.failed == 0 and self.calls > 0),
            "retransmissions": _bar(
                self.retransmissions,
                0,
                None if self.retransmissions and starved else self.retransmissions == 0,
            ),
            "bytes_per_dialog": _bar(
                self.bytes_per_dialog, DIALOG_BAR, self.bytes_per_dialog < DIALOG_BAR
            ),
            "bytes_per_call": _bar(self.bytes_per_call, CALL_BAR, self.bytes_per_call < CALL_BAR),
            "registrations_refreshed": _bar(
                held["refreshed"],
                held["wanted"],
                held["refreshed"] >= held["wanted"] and not held["failed"],
            ),
            "attack_cost_ratio": _bar(attack, ATTACK_BAR, attack <= ATTACK_BAR),
            **(self.flood.bars() if self.flood is not None else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        worst = max(self.attacks, key=lambda name: self.attacks[name][0])
        dearest = max(self.attacks, key=lambda name: self.attacks[name][1])
        return {
            "peer": self.peer,
            "seconds": self.seconds,
            "parse_route_per_s": round(statistics.median(rate for rate, _ in self.parse)),
            "parse_machine_factor": round(statistics.median(f for _, f in self.parse), 3),
            "calls": self.calls,
            "calls_per_second": round(self.calls_per_second, 1),
            "cpu_us_per_call": round(self.cpu_us_per_call, 1),
            "core_share": round(self.busy, 3),
            "collector_ms_max": round(self.collector_ms_max, 1),
            "failed": self.failed,
            "retransmissions": self.retransmissions,
            "reasons": self.reasons,
            "held_calls": self.held,
            "bytes_per_dialog": round(self.bytes_per_dialog),
            "bytes_per_call": round(self.bytes_per_call),
            "registrations": self.registrations,
            "attacks": len(self.attacks),
            "attack_cost_ratio": round(self.attacks[worst][0], 3),
            "attack_worst": worst,
            "attack_dearest": dearest,
            "attack_dearest_ms": round(self.attacks[dearest][1], 2),
            "flood": None if self.flood is None else asdict(self.flood),
            "machine_factor": round(self.factor, 3),
            "bars": self.bars(),
            "reference_machine": REFERENCE_MACHINE,
            "python": platform.python_version(),
        }


def run(
    seconds: float = 40.0,
    *,
    peer: str = "own",
    held: int = 5000,
    registrations: int = 10_000,
    flood_s: float = 0.0,
    progress: Callable[[str], None] = lambda _: None,
) -> SipReport:
    """Measure: complete calls for `seconds`, and everything else besides.

    `peer`: who calls, "own" or "sipp". `flood_s`: seconds of each flood against a phone that has
    calls; 0: none. A transaction outlives its answer by 32 s: a longer run has
    their end in it too. Raises `ConfigError` for what cannot be, `VoipError` when a process fails.
    """
    if peer not in ("own", "sipp"):
        raise ConfigError(f"{peer!r} cannot call", hint="own or sipp")
    if not seconds >= 1 or not 1 <= held <= MAX_HELD or not 1 <= registrations <= 50_000:
        raise ConfigError("this cannot be measured", hint="at least 1 s, 1 call, 1 registration")
    if peer == "sipp":
        find_sipp()
    progress("parsing, dialogs and attacks")
    with Worker("sip-speed") as speed:
        parse = speed.ask("parse", seconds=min(5.0, seconds))["rates"]
        attacks = speed.ask("attacks", tries=ATTACK_TRIES)["ratios"]
    with Worker("sip-speed") as fresh:  # nothing has been given back that could be used again
        dialog = fresh.ask("dialogs", count=held)["bytes"]
    progress(f"{held} calls held")
    call = _held_calls(held)
    progress(f"calls for {seconds:g} s, by {peer}")
    factor_before = calibrate().factor(REFERENCE)
    calls = _complete_calls(seconds, peer)
    factor = math.sqrt(factor_before * calibrate().factor(REFERENCE))
    progress(f"{registrations} registrations held and refreshed")
    held_registrations = _registrations(registrations)
    flood = run_floods(flood_s, progress=progress) if flood_s else None
    return SipReport(
        peer=peer,
        seconds=seconds,
        held=held,
        parse=[(rate, factor) for rate, factor in parse],
        attacks={name: (ratio, ms) for name, (ratio, ms) in attacks.items()},
        bytes_per_dialog=dialog,
        bytes_per_call=call,
        factor=factor,
        registrations=held_registrations,
        flood=flood,
        **calls,
    )


def _held_calls(count: int) -> float:
    """Return what a phone's process grows by for each call that is up."""
    with Worker("sip-phone") as phone, Worker("sip-load") as load:
        port = phone.ask("open")["port"]
        load.ask("call", port=port)
        before = phone.ask("mark")
        totals = load.ask("hold", count=count, window=WINDOW)
        after = phone.ask("mark")
        if totals["held"] != count or after["calls"] != count:
            raise ConfigError(
                f"{after['calls']} of {count} calls are held", hint="hold fewer, or look at the log"
            )
        load.ask("hang up", window=WINDOW)
        phone.ask("close")
    grown: float = after["rss_bytes"] - before["rss_bytes"]
    return grown / count


def _complete_calls(seconds: float, peer: str) -> dict[str, Any]:
    with Worker("sip-phone") as phone, Worker("sip-load") as load:
        port = phone.ask("open")["port"]
        load.ask("call", port=port)
        load.ask("run", seconds=WARM_UP_S, window=WINDOW)
        before = phone.ask("mark")
        begun = time.perf_counter()
        totals: Message
        if peer == "sipp":
            counted = run_sipp(port, seconds, WINDOW)
            totals = {
                "completed": counted.completed,
                "failed": counted.failed,
                "retransmissions": counted.retransmissions,
                "wall_s": counted.wall_s,
                "reasons": counted.reasons,
            }
        else:
            totals = load.ask("run", seconds=seconds, window=WINDOW)
        wall = time.perf_counter() - begun
        after = phone.ask("mark")
        phone.ask("close")
    completed = totals["completed"]
    cpu = after["cpu_s"] - before["cpu_s"]
    lost = max(0, completed - (after["answered"] - before["answered"]))
    return {
        "calls": completed,
        "failed": totals["failed"] + after["broken"] - before["broken"] + lost,
        "retransmissions": totals["retransmissions"],
        "reasons": totals["reasons"],
        "calls_per_second": completed / totals["wall_s"],
        "cpu_us_per_call": 1e6 * cpu / max(1, completed),
        "collector_ms_max": after["collector_ms_max"],
        "busy": cpu / min(wall, after["wall_s"] - before["wall_s"]),
    }


def _registrations(count: int) -> dict[str, float]:
    """Register many, and wait until each has been renewed."""
    patience = 2 * EXPIRES_S + count / 50
    with Worker("sip-phone") as phone, Worker("sip-load") as registrar:
        port = registrar.ask("registrar", expires_s=EXPIRES_S)["port"]
        phone.ask("register", count=count, port=port, expires_s=EXPIRES_S)
        until = time.perf_counter() + patience
        mark = phone.ask("registered")
        while time.perf_counter() < until and mark["refreshed"] < count and not mark["failed"]:
            time.sleep(0.5)
            mark = phone.ask("registered")
        totals = registrar.ask("stop")
        phone.ask("close")
    return {
        "wanted": count,
        "held": mark["held"],
        "refreshed": mark["refreshed"],
        "failed": mark["failed"],
        "retransmissions": totals["retransmissions"],
        "cpu_us_per_register": round(1e6 * mark["cpu_s"] / max(1, totals["registers"]), 1),
    }


def _bar(figure: float, bar: float, met: bool | None) -> dict[str, Any]:
    return {"figure": round(figure, 3), "bar": bar, "met": met}

"""`voip bench mix`: what a conference costs, all parties speaking in one room.

The engine runs in virtual time, and packets come from memory: what is counted is its own work, not
the network's. Mixing is what a tick spends on sums and on taking one's own voice out of them.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np

from voip.codecs.registry import Registry, default_registry
from voip.errors import ConfigError, MediaError
from voip.harness.bench.calibration import REFERENCE, REFERENCE_MACHINE, calibrate
from voip.harness.bench.mix_load import PTIME_MS, RoomIO, formats_of
from voip.media.answers import Refused
from voip.media.commands import Command, ConnectStream, MixStream, OpenMix, OpenStream, ShapeMix
from voip.media.engine import Engine
from voip.types import Address, SeededRandom

__all__ = ["MIX_BAR_US", "MixReport", "Round", "run"]

MIX_BAR_US: Final = 1000.0
"""Of a tick of 10 ms, for 100 parties of G.711 in one room."""
BAR_PARTIES: Final = 100
MAX_PARTIES: Final = 1000
TICKS_PER_SECOND: Final = 100
_WARM_UP_TICKS = 50
_MIX: Final = 1 << 20
_HOST = "192.0.2.1"

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Round:
    """Microseconds of CPU a tick (10 ms) in one round, medians over its ticks."""

    machine_factor: float
    mix_us_per_tick: float
    tick_us: float  # all the engine does, for all parties
    mix_us_p99: float


@dataclass(frozen=True, slots=True)
class MixReport:
    """All rounds of one benchmark."""

    parties: int
    codecs: tuple[str, ...]
    talking: int
    loudest: int | None
    speakers: bool
    seconds: float
    rounds: tuple[Round, ...]
    sent: int
    native: bool

    def _median(self, figure: Callable[[Round], float]) -> float:
        return statistics.median(figure(one) for one in self.rounds)

    @property
    def adjusted_mix_us(self) -> float:
        """What mixing costs a tick, as it would be on the reference machine."""
        return self._median(lambda one: one.mix_us_per_tick / one.machine_factor)

    def bars(self) -> dict[str, dict[str, Any]]:
        """Compare with the bar, which is for a room of 100 parties of G.711."""
        plain = self.parties == BAR_PARTIES and set(self.codecs) <= {"pcmu", "pcma"}
        figure = self.adjusted_mix_us
        return {
            "mix_us_per_tick": {
                "figure": round(figure, 1),
                "bar": MIX_BAR_US,
                "met": figure < MIX_BAR_US if plain else None,
            }
        }

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values; figures are medians over the rounds."""
        tick = self._median(lambda one: one.tick_us)
        return {
            "parties": self.parties,
            "codecs": list(self.codecs),
            "talking": self.talking,
            "loudest": self.loudest,
            "speakers": self.speakers,
            "seconds": self.seconds,
            "mix_us_per_tick": round(self._median(lambda one: one.mix_us_per_tick), 1),
            "mix_us_p99": round(self._median(lambda one: one.mix_us_p99), 1),
            "tick_us": round(tick, 1),
            "cpu_us_per_leg_20ms": round(2 * tick / self.parties, 2),
            "machine_factor": round(self._median(lambda one: one.machine_factor), 3),
            "bars": self.bars(),
            "packets_sent": self.sent,
            "rounds": len(self.rounds),
            "native": self.native,
            "reference_machine": REFERENCE_MACHINE,
            "python": platform.python_version(),
            "numpy": np.__version__,
        }


class _Stopwatch:
    """CPU time spent in functions, since it was last read."""

    def __init__(self) -> None:
        self._ns = 0

    def around(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the same function, timed."""

        def timed(*arguments: P.args, **options: P.kwargs) -> R:
            begun = time.thread_time_ns()
            try:
                return function(*arguments, **options)
            finally:
                self._ns += time.thread_time_ns() - begun

        return timed

    def read_us(self) -> float:
        """Return microseconds since the last reading."""
        ns, self._ns = self._ns, 0
        return ns / 1000


def run(
    parties: int = BAR_PARTIES,
    codecs: Sequence[str] = ("pcmu",),
    seconds: float = 5.0,
    rounds: int = 5,
    *,
    talking: int | None = None,
    loudest: int | None = None,
    speakers: bool = False,
    registry: Registry | None = None,
    calibrations: int = 5,
    progress: Callable[[str], None] = lambda _: None,
) -> MixReport:
    """Measure a room of `parties`, which have `codecs` in turn, for `rounds` of `seconds` each.

    `seconds` are of sound, not of waiting. talking: how many speak, the others' packets are silent;
    None: all. Raises `ConfigError` for what cannot be measured,
    `MediaError` where the engine refuses it or sends nothing.
    """
    if not (2 <= parties <= MAX_PARTIES and rounds >= 1 and 0.1 <= seconds <= 600):
        raise ConfigError(
            f"cannot measure {rounds} rounds of {parties} parties for {seconds:g} s",
            hint=f"2 to {MAX_PARTIES} parties, at least 0.1 s and 1 round",
        )
    registry = registry or default_registry()
    talking = parties if talking is None else talking
    io = RoomIO(registry, formats_of(registry, codecs), parties, talking)
    engine = Engine(io, random=SeededRandom(1), codecs=registry)
    now = 1000.0
    _fill_the_room(engine, io, parties, now, ShapeMix(_MIX, loudest, speakers))
    mixing, carrying = _Stopwatch(), _Stopwatch()
    router, mixer = engine._router, engine._table.mixer
    for owner, name, watch in (
        (router, "mix", mixing),
        (mixer, "add", mixing),
        (io, "receive", carrying),
        (io, "send", carrying),
    ):
        setattr(owner, name, watch.around(getattr(owner, name)))
    measured = []
    for number in range(rounds + 1):
        progress(f"round {number} of {rounds}: {parties} parties")
        factor = calibrate(calibrations, time.thread_time).factor(REFERENCE) if number else 1.0
        ticks = round(seconds * TICKS_PER_SECOND) if number else _WARM_UP_TICKS
        costs = np.empty((ticks, 2))
        for tick in range(ticks):
            now += 1 / TICKS_PER_SECOND
            mixing.read_us(), carrying.read_us()
            begun = time.thread_time_ns()
            engine.tick(now, 1e9 + now)
            costs[tick, 1] = (time.thread_time_ns() - begun) / 1000 - carrying.read_us()
            costs[tick, 0] = mixing.read_us()
            engine.events()
        if number:
            # a packet of 20 ms is sent every other tick: their mean is what is paid
            mix, whole = (float(figure) for figure in np.median(costs, axis=0))
            pairs = costs[: ticks // 2 * 2, 1].reshape(-1, 2).mean(axis=1)
            whole = float(np.median(pairs))
            measured.append(Round(factor, mix, whole, float(np.percentile(costs[:, 0], 99))))
    if io.sent < parties * rounds:
        raise MediaError("the engine has sent hardly anything", hint="its log may say why")
    shape = tuple(dict.fromkeys(codecs))
    return MixReport(
        parties, shape, talking, loudest, speakers, seconds, tuple(measured), io.sent, engine.native
    )


def _fill_the_room(engine: Engine, io: RoomIO, parties: int, now: float, shape: ShapeMix) -> None:
    """Open a room with all parties in it."""
    commands: list[Command] = [OpenMix(_MIX), shape]
    for stream in range(1, parties + 1):
        format_ = io.payload_format(stream - 1)
        peer = Address(_HOST, 20000 + 2 * stream)
        commands += [
            OpenStream(stream, _HOST, f"{stream}@{_HOST}"),
            ConnectStream(
                stream, peer, Address(_HOST, peer.port + 1), format_, (format_,), ptime_ms=PTIME_MS
            ),
            MixStream(stream, _MIX),
        ]
    for begin in range(0, len(commands), 1000):
        for command in commands[begin : begin + 1000]:
            engine.submit(command)
        engine.tick(now, 1e9 + now)
        for event in engine.events():
            if isinstance(event, Refused):
                raise MediaError(event.message, hint=event.hint)

"""When packets arrive: traces of one stream, drawn from a seed.

A trace is nothing but the delay of every packet. Jitter is drawn for each packet by itself, so that
packets overtake each other where it is more than a packet time, as in Linux's netem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["KINDS", "PACKET_S", "Trace", "grid_trace"]

Floats: TypeAlias = npt.NDArray[np.float64]
PACKET_S: Final = 0.020


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """delay: float64 (packets,), seconds from departure to arrival, infinite where one is lost.

    phase_s: how long after a step of the listener's clock packets depart.
    """

    delay: Floats
    phase_s: float = 0.0
    packet_s: float = PACKET_S

    @property
    def departure(self) -> Floats:
        """Seconds (packets,) at which packets leave, from the trace's beginning on."""
        departure: Floats = (
            self.phase_s + np.arange(self.delay.size, dtype=np.float64) * self.packet_s
        )
        return departure

    @property
    def arrival(self) -> Floats:
        """Seconds (packets,) at which they arrive; infinite: they do not."""
        arrival: Floats = self.departure + self.delay
        return arrival

    @property
    def lost(self) -> npt.NDArray[np.bool_]:
        """Which packets do not arrive."""
        return np.isinf(self.delay)


_Draw: TypeAlias = Callable[[np.random.Generator, int, float], Floats]


def uniform(random: np.random.Generator, packets: int, jitter_s: float) -> Floats:
    """Every delay up to `jitter_s` is as likely."""
    return random.uniform(0.0, jitter_s, packets)


def gamma(random: np.random.Generator, packets: int, jitter_s: float) -> Floats:
    """Gamma of shape 2 and mean `jitter_s`, with a tail to six times that."""
    return np.minimum(random.gamma(2.0, jitter_s / 2, packets), 6 * jitter_s)


def bursty(random: np.random.Generator, packets: int, jitter_s: float) -> Floats:
    """Nothing gets through for up to twice `jitter_s`, every 300 ms on average."""
    delay = random.uniform(0.0, 0.002, packets)
    at = random.exponential(0.3)
    while at < packets * PACKET_S:
        _stall(delay, at, random.uniform(0.0, 2 * jitter_s))
        at += random.exponential(0.3)
    return delay


def spikes(random: np.random.Generator, packets: int, jitter_s: float) -> Floats:
    """A stall of three times `jitter_s` every two to six seconds, and little between."""
    delay = random.uniform(0.0, 0.2 * jitter_s, packets)
    at = random.uniform(0.5, 4.0)
    while at < packets * PACKET_S:
        _stall(delay, at, 3 * jitter_s)
        at += random.uniform(2.0, 6.0)
    return delay


def route_change(random: np.random.Generator, packets: int, jitter_s: float) -> Floats:
    """Now one way, now another, `jitter_s` longer: a change every four to eight seconds."""
    delay = random.uniform(0.0, 0.1 * jitter_s, packets)
    at, longer = random.uniform(2.0, 6.0), True
    while at < packets * PACKET_S:
        until = at + random.uniform(4.0, 8.0)
        if longer:
            delay[round(at / PACKET_S) : round(until / PACKET_S)] += jitter_s
        at, longer = until, not longer
    return delay


def _stall(delay: Floats, at: float, lasts: float) -> None:
    """Let nothing through from `at` on for so long, in place."""
    departure = np.arange(delay.size) * PACKET_S
    held = (departure >= at) & (departure < at + lasts)
    delay[held] = np.maximum(delay[held], at + lasts - departure[held])


KINDS: Final[dict[str, _Draw]] = {
    "uniform": uniform,
    "gamma": gamma,
    "bursty": bursty,
    "spikes": spikes,
    "route change": route_change,
}
"""What jitter there is; the parameter is seconds."""


def grid_trace(kind: str, jitter_s: float, loss: float, packets: int, seed: int) -> Trace:
    """Return a cell's trace; loss: the share of packets lost, each by itself."""
    random = np.random.default_rng((seed, list(KINDS).index(kind), round(1000 * jitter_s)))
    delay = KINDS[kind](random, packets, jitter_s)
    delay[random.random(packets) < loss] = np.inf
    return Trace(delay, float(random.uniform(0.0, PACKET_S)))

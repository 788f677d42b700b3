"""Five named paths, and what good telephones reach on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from voip.harness.jitter_quality.traces import PACKET_S, Trace, _stall

__all__ = ["SCENARIOS", "Bar", "scenario"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What is to be reached: MOS-LQO of G.711 by PESQ (narrow band, at most 4.41 of it is left).

    delay_ms: how long it may take from departure to playout, the 45 ms of the clean path included.
    None: not told.
    """

    mos_lqo: float
    delay_ms: float | None
    told: str


SCENARIOS: Final[dict[str, Bar]] = {
    "clean": Bar(4.41, 45.0, "no jitter"),
    "gamma": Bar(4.39, 45.0 + 54.0, "gamma jitter, mean 20 ms, tail to 120 ms"),
    "stalls": Bar(4.32, 45.0 + 109.0, "a stall of 150 ms every 2 s"),
    "step": Bar(4.33, None, "the delay grows by 80 ms and stays"),
    "reordering": Bar(4.41, None, "5 % of the packets come two packets late"),
}


def scenario(name: str, packets: int, seed: int, phase_s: float) -> Trace:
    """Return the trace of one of `SCENARIOS`."""
    random = np.random.default_rng((seed, list(SCENARIOS).index(name)))
    delay = random.uniform(0.0, 0.001, packets)
    seconds = packets * PACKET_S
    if name == "gamma":
        delay = np.minimum(random.gamma(2.0, 0.010, packets), 0.120)
    elif name == "stalls":
        for at in np.arange(random.uniform(0.0, 2.0), seconds, 2.0):
            _stall(delay, float(at), 0.150)
    elif name == "step":
        delay[round(random.uniform(0.2, 0.5) * packets) :] += 0.080
    elif name == "reordering":
        delay[random.random(packets) < 0.05] += 0.045
    return Trace(delay, phase_s)

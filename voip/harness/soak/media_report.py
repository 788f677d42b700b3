"""What a soak with sound was to do and what came of it; from that, whether memory is flat."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

__all__ = [
    "REAL",
    "RUSH_PER_S",
    "VIRTUAL",
    "Growth",
    "Look",
    "MediaSoakPlan",
    "MediaSoakReport",
    "Sample",
    "Slope",
]

RUSH_PER_S: Final = 20.0
SETTLED: Final = 0.4
"""The part of a run after which as many calls end as begin, and what is kept for speed is there."""
LIFETIMES: Final = 4.0
"""And so many mean lengths of a call: of those that came in the rush at the beginning, whose memory
lies close together, 1 in 50 is left then, and the holes between are as they will be."""
MOST_SETTLED: Final = 0.65
"""But no more of a run than that."""
ENOUGH: Final = 200
"""Calls that tell a slope: the memory of fewer may as well be the interpreter's."""
COUNTED: Final = 100
"""Calls that tell what each leaves where nothing is up: of fewer it is the interpreter's."""
NOISE: Final = 3.0
"""A slope below so many standard errors cannot be told from zero."""
TRIFLE_KB: Final = 0.25
"""What a call may leave at most, where the slope can be told: a call takes some 100 kB."""
HOLES_KB: Final = 2.0
"""By how much resident memory may rise with each call at most where none is taken from the system:
what lies in holes that had not been used before, and in rows that do something for the first time.
"""
GRAIN_KB: Final = 1049.0
"""An arena of pymalloc: so much is taken from the system at a time."""
TRIFLE_BLOCKS: Final = 0.5
"""So many small objects may be left of each call, where they are counted; it takes thousands."""


@dataclass(frozen=True, slots=True)
class MediaSoakPlan:
    """How long calls come, how many a second, and how long they last (mean; exponential).

    most: no further call comes while so many are up. So many come at the beginning, `RUSH_PER_S`:
    tables that are as large as the most that there ever was are all there then, and what grows
    later grows with the calls. looks: how often all calls end, and what is left of them is counted;
    the last time at the end.
    """

    seconds: float
    calls_per_s: float
    mean_s: float
    most: int
    virtual: bool
    loss: float = 0.0
    looks: int = 1

    @property
    def pairs(self) -> int:
        """How many pairs of ports there are for them, in a simulated world.

        Its network remembers every address that there was: few are all used soon.
        """
        return 8 + 2 * self.most


REAL: Final = MediaSoakPlan(600.0, 5.0, 100.0, 500, virtual=False)
VIRTUAL: Final = MediaSoakPlan(7200.0, 0.2, 100.0, 30, virtual=True, loss=0.01, looks=6)


class Sample(NamedTuple):
    """What there was after so many seconds, of all processes: resident memory, and what they took.

    begun, up: calls, so far and then.
    """

    seconds: float
    begun: int
    up: int
    resident_mb: float
    taken_mb: float


@dataclass(frozen=True, slots=True)
class Look:
    """What there is when there is no call, after so many. `heap_kb`: 0 where it is not known.

    taken_kb: what has been taken from the system, in use or not.
    """

    calls: int
    blocks: int
    heap_kb: float
    taken_kb: float


@dataclass(frozen=True, slots=True)
class Growth:
    """What was left of each call, from one look to another: memory, and small objects.

    taken_kb_per_call: how much more was taken from the system.
    """

    kb_per_call: float
    blocks_per_call: float
    taken_kb_per_call: float

    @property
    def is_zero(self) -> bool:
        """Whether it is too little to be anything of a call."""
        return self.kb_per_call <= TRIFLE_KB and self.blocks_per_call <= TRIFLE_BLOCKS

    @property
    def is_bounded(self) -> bool:
        """Whether it lies in memory that had all been taken before: no more can be resident."""
        return self.taken_kb_per_call <= TRIFLE_KB


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
    """What there was.

    seconds: how long it was; interrupted: whether by Ctrl-C, before its time.
    """

    plan: MediaSoakPlan
    seconds: float = 0.0
    interrupted: bool = False
    begun: int = 0
    ended: int = 0
    most_at_once: int = 0
    deeds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    left: dict[str, dict[str, int]] = field(default_factory=dict)
    late_ticks: int = 0
    ticks: int = 0

    @property
    def slope(self) -> Slope | None:
        """Return how resident memory grew with the calls; None: the run was too short to say."""
        return self._slope(lambda one: one.resident_mb)

    @property
    def taken_slope(self) -> Slope | None:
        """Return how what was taken from the system grew, used or not; None as of `slope`."""
        return self._slope(lambda one: one.taken_mb, GRAIN_KB)

    def _slope(self, mb: Callable[[Sample], float], grain_kb: float = 0.0) -> Slope | None:
        plan = self.plan
        lives_s = min(LIFETIMES * plan.mean_s, MOST_SETTLED * plan.seconds)
        settles_s = max(SETTLED * plan.seconds, lives_s)
        settled = [one for one in self.samples if one.seconds >= settles_s]
        if len(settled) < 10 or settled[-1].begun - settled[0].begun < ENOUGH:
            return None
        calls = np.array([one.begun for one in settled], float)
        kb = 1000 * np.array([mb(one) for one in settled])
        # calls that are up have their memory: what is left of those that are over is looked for
        design = np.stack((calls, [one.up for one in settled], np.ones(calls.size)), axis=1)
        found, _, _, _ = np.linalg.lstsq(design, kb, rcond=None)
        rest = kb - design @ found
        spread = float((rest**2).sum()) / (calls.size - design.shape[1])
        # memory grows in steps: what one sample is above the line, the next one is, too, and so
        # many samples are worth fewer (as of a process that is autoregressive of first order)
        alike = float(rest[1:] @ rest[:-1]) / max(float(rest @ rest), 1e-9)
        alike = min(max(alike, 0.0), 0.95)
        spread *= (1 + alike) / (1 - alike)
        error = math.sqrt(spread * float(np.linalg.pinv(design.T @ design)[0, 0]))
        # and what comes by so much at a time is not known better than that
        return Slope(float(found[0]), math.hypot(error, grain_kb / (calls[-1] - calls[0])))

    @property
    def growth(self) -> Growth | None:
        """Return what is left of each call of the last two thirds; None where too few were."""
        if len(self.looks) < 3:
            return None
        first, last = self.looks[len(self.looks) // 3 - 1], self.looks[-1]
        calls = last.calls - first.calls
        if calls < COUNTED:
            return None
        kb, blocks = last.heap_kb - first.heap_kb, last.blocks - first.blocks
        return Growth(kb / calls, blocks / calls, (last.taken_kb - first.taken_kb) / calls)

    @property
    def is_flat(self) -> bool:
        """Whether nothing is left of calls, and memory does not grow with them.

        Pages that become resident one after the other while calls leave nothing, and nothing more
        is taken from the system, are holes between what lives: they are bounded. Where nobody could
        look what calls leave, they may be few besides.
        """
        slope, growth = self.slope, self.growth
        resident = slope is None or slope.is_zero
        if growth is not None:
            return growth.is_zero and (resident or growth.is_bounded)
        taken = self.taken_slope
        if slope is None or taken is None:
            return True
        return resident or (taken.is_zero and slope.kb_per_call <= HOLES_KB)

    @property
    def passed(self) -> bool:
        """Whether all calls went well, memory is flat, and nothing is left."""
        whole = 0 < self.begun == self.ended and not self.interrupted
        return whole and self.is_flat and not self.wrong and not self.left

    def to_json(self) -> dict[str, Any]:
        """Return all figures."""
        slope, taken, growth = self.slope, self.taken_slope, self.growth
        return {
            "seconds": round(self.seconds, 1),
            "interrupted": self.interrupted,
            "virtual": self.plan.virtual,
            "calls_per_s": self.plan.calls_per_s,
            "begun": self.begun,
            "ended": self.ended,
            "most_at_once": self.most_at_once,
            "deeds": dict(sorted(self.deeds.items())),
            "wrong": self.wrong,
            "ticks": self.ticks,
            "late_ticks": self.late_ticks,
            "rss_mb": [round(one.resident_mb, 1) for one in self.samples],
            "taken_mb": [round(one.taken_mb, 1) for one in self.samples],
            "slope_kb_per_call": None if slope is None else round(slope.kb_per_call, 3),
            "slope_error_kb_per_call": None if slope is None else round(slope.error_kb_per_call, 3),
            "taken_slope": None if taken is None else asdict(taken),
            "looks": [asdict(look) for look in self.looks],
            "growth": None if growth is None else asdict(growth),
            "left": self.left,
            "passed": self.passed,
        }

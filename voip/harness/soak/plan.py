"""What is going to happen to one call, drawn from the seed and the call's number alone."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["PHONES", "Deed", "Plan", "Trouble", "plan"]

PHONES: Final = 8
REFUSALS: Final = (403, 404, 480, 486, 488, 600, 603)


class Deed(Enum):
    """What becomes of a call."""

    TALK = "talk"
    CANCEL = "cancel"  # at any moment: before it rings, while it does, as it is answered
    REFUSE = "refuse"
    NO_ANSWER = "no answer"
    REDIRECT = "redirect"
    EARLY = "early"  # sound before the answer
    HOLD = "hold"
    GLARE = "glare"  # both sides change the session at the same time
    TRANSFER = "transfer"
    ATTENDED = "attended transfer"
    LONG = "long"  # the session has to be refreshed
    WATCH = "watch"  # the caller subscribes to the callee's calls meanwhile
    SAY = "say"  # a MESSAGE beside, an INFO within


class Trouble(Enum):
    """What happens to a host meanwhile."""

    CRASH = "crash"  # it is gone without a word, and comes back later
    CUT = "cut"  # nothing gets through to it for a while


_DEEDS: Final = {
    Deed.TALK: 26,
    Deed.CANCEL: 18,
    Deed.REFUSE: 10,
    Deed.NO_ANSWER: 3,
    Deed.REDIRECT: 4,
    Deed.EARLY: 5,
    Deed.HOLD: 8,
    Deed.GLARE: 8,
    Deed.TRANSFER: 5,
    Deed.ATTENDED: 4,
    Deed.LONG: 3,
    Deed.WATCH: 3,
    Deed.SAY: 3,
}
_TROUBLED: Final = 0.03


@dataclass(frozen=True, slots=True)
class Plan:
    """Phones by number; times in seconds.

    `gap_s`: since the call before. `patience_s`: after which a call that is not answered is given
    up. `active`: 0 where the caller holds, transfers and hangs up, 1 where the callee does, 2 where
    both do. `apart_s`: how far apart two do the same. `trouble` befalls phone `troubled`
    `trouble_at_s` after the call has begun, and lasts `trouble_s`.
    """

    number: int
    deed: Deed
    caller: int
    callee: int
    third: int
    gap_s: float
    ring_s: float
    talk_s: float
    patience_s: float
    active: int
    apart_s: float
    status: int
    late_offer: bool
    trouble: Trouble | None
    troubled: int
    trouble_at_s: float
    trouble_s: float


def plan(seed: int, number: int, mean_gap_s: float) -> Plan:
    """Return what happens to call `number`."""
    chance = random.Random(f"{seed} {number}")
    deed = chance.choices(list(_DEEDS), list(_DEEDS.values()))[0]
    caller, callee, third = chance.sample(range(PHONES), 3)
    ring_s = _spread(chance, 0.01, 10)
    talk_s = 200 + _spread(chance, 1, 300) if deed is Deed.LONG else _spread(chance, 0.02, 120)
    trouble = None
    if chance.random() < _TROUBLED:
        trouble = chance.choice(list(Trouble))
    return Plan(
        number,
        deed,
        caller,
        callee,
        third,
        gap_s=chance.expovariate(1 / mean_gap_s),
        ring_s=ring_s,
        talk_s=talk_s,
        patience_s=_spread(chance, 0.001, 12) if deed is Deed.CANCEL else 25.0,
        active=chance.choices((0, 1, 2), (5, 5, 2))[0],
        apart_s=chance.choice((0.0, 0.0, 0.01, 0.05, 0.3)),
        status=chance.choice(REFUSALS),
        late_offer=chance.random() < 0.1,
        trouble=trouble,
        troubled=chance.choice((caller, callee, third)),
        trouble_at_s=_spread(chance, 0.01, ring_s + talk_s),
        trouble_s=_spread(chance, 0.5, 90),
    )


def _spread(chance: random.Random, low: float, high: float) -> float:
    """Draw evenly on a scale of magnitudes: short times are where the races are."""
    return math.exp(chance.uniform(math.log(low), math.log(max(high, low * 1.01))))

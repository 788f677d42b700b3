"""What a jitter buffer is to do: a delay that is fixed, or one that adapts, and how carefully."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from voip.errors import ConfigError
from voip.rtp.jitter import ALLOWANCE

__all__ = ["ALLOWANCES", "AdaptivePolicy", "FixedPolicy", "JitterPolicy", "jitter_policy"]

ALLOWANCES: Final = {"conservative": 0.0, "balanced": ALLOWANCE, "aggressive": 0.02}
"""The share of packets that may come too late, by the name of an adaptive policy."""


@dataclass(frozen=True, slots=True)
class FixedPolicy:
    """The first packet waits `delay_ms`, and all others as long as that asks for."""

    delay_ms: float
    allowance: float = 0.0

    @property
    def min_ms(self) -> float:
        """The same as `delay_ms`."""
        return self.delay_ms

    @property
    def max_ms(self) -> float:
        """The same as `delay_ms`."""
        return self.delay_ms


@dataclass(frozen=True, slots=True)
class AdaptivePolicy:
    """The delay, from `min_ms` to `max_ms`, is what all but a share of late packets kept within."""

    min_ms: float
    max_ms: float
    allowance: float = ALLOWANCE


JitterPolicy: TypeAlias = FixedPolicy | AdaptivePolicy


def jitter_policy(name: str, min_ms: float, max_ms: float) -> JitterPolicy:
    """Return "fixed" (at `min_ms`), "conservative", "balanced" or "aggressive".

    ConfigError for another name.
    """
    if name == "fixed" or min_ms == max_ms:
        return FixedPolicy(min_ms)
    if name not in ALLOWANCES:
        known = ", ".join(("fixed", *ALLOWANCES))
        raise ConfigError(f"no jitter policy is called {name!r}", hint=f"one of {known}")
    return AdaptivePolicy(min_ms, max_ms, ALLOWANCES[name])

"""Ground floor: the few values and protocols every room may use.

Standard library and NumPy only. Time is a float in seconds that is passed in (monotonic, unless a
name says `wall`); randomness is passed in as a `Random`, so that a simulation repeats to the bit.
"""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = [
    "Address",
    "AudioFormat",
    "AudioFrame",
    "Clock",
    "Random",
    "SecureRandom",
    "SeededRandom",
]


class Address(NamedTuple):
    """An IP address literal and a port: what one end of a socket is. IPv6 without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How PCM is laid out: `rate_hz` samples a second, `channels` interleaved."""

    rate_hz: int
    channels: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class AudioFrame:
    """A piece of PCM. `samples`: int16 (samples,) for mono, (samples, channels) otherwise.

    `timestamp` counts samples of `format.rate_hz` since the start of the stream it came from.
    """

    samples: npt.NDArray[np.int16]
    format: AudioFormat
    timestamp: int

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self.format.rate_hz


@runtime_checkable
class Clock(Protocol):
    """Where a shell reads time; cores never do."""

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps."""
        ...

    def wall(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump."""
        ...


@runtime_checkable
class Random(Protocol):
    """Where tags, branches, Call-IDs, SSRCs, nonces and timer jitter come from."""

    def token(self, length: int = 16) -> str:
        """Return `length` characters of [0-9a-f] nobody can guess."""
        ...

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit)."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high)."""
        ...


class SecureRandom:
    """The default `Random`: the operating system's generator, by `secrets`."""

    def token(self, length: int = 16) -> str:
        """Return `length` hexadecimal characters."""
        return secrets.token_hex((length + 1) // 2)[:length]

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit)."""
        return secrets.randbelow(limit)

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high)."""
        return low + (high - low) * (secrets.randbits(53) / (1 << 53))


class SeededRandom:
    """A `Random` that repeats: for tests and simulations, never for a real network."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # it repeats: that is its purpose

    def token(self, length: int = 16) -> str:
        """Return `length` hexadecimal characters."""
        return f"{self._random.getrandbits(4 * length):0{length}x}"

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit)."""
        return self._random.randrange(limit)

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high)."""
        return self._random.uniform(low, high)

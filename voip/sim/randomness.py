"""Randomness of a simulated world: one seed, and a stream of its own for every purpose.

A stream depends on the seed and its name alone, not on which others were asked for before, so
that another host or another impairment leaves what the rest draws as it is.
"""

from __future__ import annotations

import hashlib

import numpy as np

from voip.types import SeededRandom

__all__ = ["Randomness"]


class Randomness:
    """Streams of random numbers by name."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def stream(self, *name: str) -> SeededRandom:
        """Return the stream of that name, from its beginning."""
        return SeededRandom(self._number(name))

    def numbers(self, *name: str) -> np.random.Generator:
        """Return the same as a generator of arrays."""
        return np.random.Generator(np.random.PCG64(self._number(name)))

    def _number(self, name: tuple[str, ...]) -> int:
        text = "\0".join((str(self.seed), *name))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")

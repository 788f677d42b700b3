"""DTMF in the voice band: the sixteen tone pairs of ITU-T Q.23, made and heard.

The receiver measures the eight frequencies over 25.6 ms, as Goertzel filters of 205 samples at
8 kHz do, for all blocks at once, and applies the tests of Q.24: two frequencies that hold nearly
all of the power, a limited twist, and 40 ms of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from voip.dsp.tones import sine
from voip.errors import ConfigError

__all__ = [
    "BLOCK_S",
    "COLUMNS_HZ",
    "HOP_S",
    "KEYPAD",
    "PURITY",
    "ROWS_HZ",
    "SHORTEST_S",
    "HeardTone",
    "dtmf",
    "hear_dtmf",
    "keys_of",
]

ROWS_HZ = (697.0, 770.0, 852.0, 941.0)
COLUMNS_HZ = (1209.0, 1336.0, 1477.0, 1633.0)
KEYPAD = ("123A", "456B", "789C", "*0#D")
"""Keys by row and column."""

LOW_DBM0, HIGH_DBM0 = -10.0, -8.0
"""Levels sent: the high group 2 dB up, as lines take more of it away."""
BLOCK_S, HOP_S = 0.0256, 0.005
FLOOR_DBFS = -45.0
"""Weaker sound holds no digits."""
PURITY = 0.7
"""The least share of a block's power in the two frequencies."""
TWIST_DB = (-5.0, 9.0)
"""Bounds of the low over the high frequency; Q.24 has operators who need -4 to 8."""
SHORTEST_S = 0.030
"""What is shorter is no digit: Q.24 demands that 40 ms are, and forbids 20 ms."""
_DETUNED = (0.985, 1.0, 1.015)  # Q.24: 1.5 % off must be heard
_HALF_DETUNED = 0.5
"""Half way between two frequencies that are looked at there is more than this of the power."""
_PIECE = 4096  # blocks measured at a time: bounds memory


@dataclass(frozen=True, slots=True)
class HeardTone:
    """A key, when its tone began, and how long it was; both within about 10 ms."""

    digit: str
    start_s: float
    duration_s: float


def dtmf(
    digits: str, *, rate_hz: int = 8000, duration_ms: float = 100.0, gap_ms: float = 60.0
) -> npt.NDArray[np.float32]:
    """Return the tones of `digits`, each followed by a gap: float32 (samples,).

    Raises ConfigError for what is no key.
    """
    sound, gap = [], np.zeros(round(gap_ms * rate_hz / 1000), np.float32)
    for digit in digits.upper():
        row = next((n for n, keys in enumerate(KEYPAD) if digit in keys), None)
        if row is None:
            raise ConfigError(f"{digit!r} is no DTMF digit", hint="use " + "".join(KEYPAD))
        samples = round(duration_ms * rate_hz / 1000)
        low = sine(ROWS_HZ[row], LOW_DBM0, 0, samples, rate_hz)
        high = sine(COLUMNS_HZ[KEYPAD[row].index(digit)], HIGH_DBM0, 0, samples, rate_hz)
        sound += [low + high, gap]
    return np.concatenate([np.zeros(0, np.float32), *sound])


def hear_dtmf(pcm: npt.NDArray[np.float32], rate_hz: int = 8000) -> list[HeardTone]:
    """Return the digits of `pcm`, float32 (samples,) in [-1, 1), in order."""
    block, hop = round(BLOCK_S * rate_hz), round(HOP_S * rate_hz)
    if pcm.shape[0] < block:
        return []
    blocks = np.lib.stride_tricks.sliding_window_view(pcm, block)[::hop]
    pieces = (blocks[at : at + _PIECE] for at in range(0, len(blocks), _PIECE))
    keys = np.concatenate([keys_of(piece, rate_hz) for piece in pieces])
    edges = np.flatnonzero(np.diff(keys, prepend=-1, append=-1))
    heard = []
    for first, end in pairwise(edges):
        # a block counts as long as PURITY of it is tone: what is missing at both ends
        duration_s = (end - 1 - first) * HOP_S + (2 * PURITY - 1) * BLOCK_S
        if keys[first] >= 0 and duration_s >= SHORTEST_S:
            row, column = divmod(int(keys[first]), 4)
            start_s = float(first) * HOP_S + (1 - PURITY) * BLOCK_S
            heard.append(HeardTone(KEYPAD[row][column], start_s, float(duration_s)))
    return heard


def keys_of(blocks: npt.NDArray[np.float32], rate_hz: int) -> npt.NDArray[np.int64]:
    """Return 4 * row + column for each block of 25.6 ms (n, samples), -1 where it is no key.

    What is measured first, at the eight frequencies as they should be, leaves little to be measured
    at three of each.
    """
    keys = np.full(len(blocks), -1, np.int64)
    total = np.einsum("ns,ns->n", blocks, blocks) / blocks.shape[1]
    loud = np.flatnonzero(total > 10 ** (FLOOR_DBFS / 10))
    if loud.size:
        power = _powers(blocks[loud], _probe(blocks.shape[1], rate_hz, (1.0,)))
        low, high = power.max(axis=2).T
        loud = loud[low + high > _HALF_DETUNED * PURITY * total[loud]]
    if loud.size:
        keys[loud] = _keys(blocks[loud], total[loud], rate_hz)
    return keys


@cache
def _probe(samples: int, rate_hz: int, tuned: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Return cosines and sines of the eight frequencies, each tuned so: float32 (samples, 2 n)."""
    hertz = np.multiply.outer(np.array(ROWS_HZ + COLUMNS_HZ), tuned).ravel()
    turns = 2 * np.pi * np.outer(np.arange(samples), hertz / rate_hz)
    return np.concatenate((np.cos(turns), np.sin(turns)), axis=1).astype(np.float32)


def _powers(
    blocks: npt.NDArray[np.float32], probe: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the power of each block at each frequency: float32 (n, 2, 4), the best tuned."""
    samples, columns = probe.shape
    parts = (blocks @ probe).reshape(len(blocks), 2, 2, 4, columns // 16)
    power: npt.NDArray[np.float32] = np.square(parts).sum(axis=1).max(axis=3)
    power *= np.float32(2 / samples**2)
    return power


def _keys(
    blocks: npt.NDArray[np.float32], total: npt.NDArray[np.float32], rate_hz: int
) -> npt.NDArray[np.int64]:
    """Return the keys of blocks (n, samples) with mean squares `total` (n,)."""
    power = _powers(blocks, _probe(blocks.shape[1], rate_hz, _DETUNED))
    best = power.argmax(axis=2)
    low, high = power.max(axis=2).T
    with np.errstate(divide="ignore", invalid="ignore"):
        twist = 10 * np.log10(low / high)
    key = (low + high > PURITY * total) & (twist > TWIST_DB[0]) & (twist < TWIST_DB[1])
    return np.where(key, 4 * best[:, 0] + best[:, 1], -1)

"""What is played for a frame that did not come (section 4.5)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc.arrays import Floats, Index
from voip.codecs.ilbc.mode import Mode

__all__ = ["SEED", "conceal", "periodicity"]

SEED: Final = 777
_COMPARED: Final = 60
"""Samples at the end of the frame before that a lag is judged by."""
_FADES: Final = ((320, 0.9), (640, 0.7), (960, 0.5), (1280, 0.0))
"""The gain after so many samples without a frame."""
_QUIET: Final = 30.0
"""Root mean square below which there is only noise."""
_STEP: Final = 32
"""Samples made at once: fewer than the shortest lag there can be."""


def _sequence(length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return factors and terms of the n-th next number of the generator, modulo 2^31."""
    factors, terms = np.empty(length, np.int64), np.empty(length, np.int64)
    factor, term = 1, 0
    for n in range(length):
        factor, term = factor * 69069 % 2**31, (term * 69069 + 1) % 2**31
        factors[n], terms[n] = factor, term
    return factors, terms


_FACTORS, _TERMS = _sequence(240)


def periodicity(before: Floats, lag: Index) -> tuple[Index, Floats]:
    """Return the best lag within 3 samples of `lag`, and how periodic the end is: 0 to 1.

    before: (rows, samples), the excitation of the last frame.
    """
    rows, samples = before.shape
    lags = lag[:, None] + np.arange(-3, 4)
    count = np.minimum(_COMPARED, samples - lags)[..., None]
    n = np.arange(samples - _COMPARED, samples)
    used = n >= samples - count
    end = np.where(used, before[:, None, n], 0.0)
    at = np.arange(rows)[:, None, None] * samples + np.maximum(n - lags[..., None], 0)
    earlier = np.where(used, np.ascontiguousarray(before).reshape(-1).take(at), 0.0)
    cross = np.einsum("scn,scn->sc", end, earlier)
    energy = np.einsum("scn,scn->sc", earlier, earlier)
    own = np.einsum("scn,scn->sc", end, end)
    best = (cross * cross / np.maximum(energy, 1e-9)).argmax(axis=1)
    pick = np.arange(rows), best
    normal = np.sqrt(np.maximum(energy[pick] * own[pick], 1e-9))
    return lags[pick], np.abs(cross[pick]) / normal


def conceal(
    before: Floats,
    lag: Index,
    periodic: Floats,
    lost: Index,
    seed: npt.NDArray[np.int64],
    mode: Mode,
) -> Floats:
    """Return excitation (rows, samples) that goes on from the last frame's.

    before: (rows, samples); lag and periodic, (rows,): as `periodicity` found them; lost: (rows,),
    frames in a row; seed: (rows,), goes on in place.
    """
    rows, samples = before.shape
    random = (seed[:, None] * _FACTORS[:samples] + _TERMS[:samples]) % 2**31
    seed[:] = random[:, -1]
    noise_lag = 50 + random % 70
    gain = np.ones(rows)
    for after, less in _FADES:
        gain[lost * samples > after] = less
    gain_at = gain[:, None] * np.repeat((1.0, 0.95, 0.9), 80)[:samples]
    pitch_share = np.clip((np.sqrt(periodic) - 0.4) / 0.3, 0.0, 1.0)[:, None]
    # Not the same cycle again and again: short lags are doubled.
    pitch_lag = np.where(lag < 80, 2 * lag, lag)[:, None]

    both = np.empty((2, rows, 2 * samples))
    noise, mixed = both
    both[:, :, :samples] = before
    row = np.arange(rows)[:, None] * (2 * samples)
    for at in range(samples, 2 * samples, _STEP):
        n = np.arange(at, min(at + _STEP, 2 * samples))
        now = n - samples
        drawn = noise.reshape(-1).take(row + n - noise_lag[:, now])
        cycle = mixed.reshape(-1).take(row + n - pitch_lag)
        noise[:, n] = drawn
        mixed[:, n] = gain_at[:, now] * (pitch_share * cycle + (1 - pitch_share) * drawn)
    out: Floats = mixed[:, samples:]
    quiet = np.sqrt(np.einsum("sn,sn->s", out, out) / samples) < _QUIET
    return np.where(quiet[:, None], noise[:, samples:], out)

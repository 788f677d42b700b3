"""The enhancer: excitation averaged with what is a pitch period away (section 4.6)."""

from __future__ import annotations

from typing import Final

import numpy as np

from voip.codecs.ilbc.arrays import Floats, Index, begins, correlated, delayed, windows
from voip.codecs.ilbc.mode import Mode
from voip.codecs.ilbc.tables import DECIMATION, POLYPHASE

__all__ = ["BLOCK", "BLOCKS", "HISTORY", "enhance", "estimate_pitch", "join"]

BLOCK: Final = 80
BLOCKS: Final = 8
HISTORY: Final = BLOCK * BLOCKS
"""Samples of excitation that are kept, the newest last."""

_CHANGE: Final = 0.05
"""How much energy the difference may have, relative to the excitation (section 4.6.4)."""
_SLOP: Final = 2
_LEAST_LAG, _MOST_LAG = 10, 60
"""Of the pitch, at half the rate: below the latter."""

_CENTRES: Final = BLOCK * np.arange(BLOCKS) + BLOCK / 2
"""Where the pitch of each block of history is that of."""
_ENDS: Final = BLOCK * np.arange(1.0, BLOCKS)
"""Where one ends and the next begins."""
_WEIGHTS: Final = np.repeat(0.5 * (1 - np.cos(2 * np.pi * np.arange(3, 0, -1) / 8)), 2).reshape(
    3, 2
)
"""Of the neighbours one, two and three periods away, before and behind (section 4.6.3)."""
_PAD: Final = 8
"""Zeros around the history, for the ends of the interpolation."""
_NEAR: Final = BLOCK + 2 * _SLOP
"""Samples around a position that a block is compared with, at five places."""
_FIRST: Final = np.array([_SLOP, -np.inf])
"""The first position where something before and behind is, `_LAST`, where no longer."""
_LAST: Final = np.array([np.inf, HISTORY - BLOCK - _SLOP])
_LAST_START: Final = HISTORY - _NEAR - 1


def _upsampling() -> Floats:
    """Return what makes 20 correlations, four a sample, of five: (5, 20)."""
    out = np.zeros((5, 4, 5))
    for place in range(5):
        for source in range(5):
            tap = place + 3 - source
            if 1 <= tap <= 5:  # five correlations leave the outermost of seven taps unused
                out[place, :, source] = POLYPHASE[:, tap]
    return np.ascontiguousarray(out.reshape(20, 5).T)


_UPSAMPLING: Final = _upsampling()
_QUARTERS: Final = 1 + np.arange(20) / 4
"""Where they are, from the first of the samples compared."""
_WHOLE: Final = (np.arange(20) + 3) // 4
"""Of each of the twenty: whole samples, and `_TAPS`, what interpolates for the rest."""
_TAPS: Final = POLYPHASE[4 * _WHOLE - np.arange(20)]


def estimate_pitch(history: Floats, mode: Mode) -> Index:
    """Return the periods in samples of the newest two or three blocks: (rows, blocks).

    history: (rows, HISTORY). The best match of half the rate, from 20 to 118 samples back.
    """
    blocks = mode.samples // BLOCK
    rows = len(history)
    # What the low-pass reaches back to, the longest lag, the blocks, and zeros of the future.
    needed = history[:, HISTORY - mode.samples - 2 * _MOST_LAG - 3 :]
    padded = np.zeros((rows, needed.shape[1] + 2))
    padded[:, :-2] = needed
    halved = np.ascontiguousarray(correlated(padded, DECIMATION)[:, ::2])
    half = BLOCK // 2
    stretches = windows(halved, half)
    squares = np.zeros((rows, halved.shape[1] + 1))
    np.add.accumulate(halved * halved, axis=1, out=squares[:, 1:])
    energies = squares[:, half:] - squares[:, :-half]
    match, energy = np.empty((2, rows, blocks, _MOST_LAG - _LEAST_LAG))
    for block in range(blocks):
        at = _MOST_LAG + half * block
        places = slice(at - _LEAST_LAG, at - _MOST_LAG, -1)
        np.einsum("snj,sj->sn", stretches[:, places], stretches[:, at], out=match[:, block])
        energy[:, block] = energies[:, places]
    match *= np.maximum(match, 0)
    match /= np.maximum(energy, 1e-9)
    best: Index = match.argmax(axis=2)
    return 2 * (_LEAST_LAG + best)


def join(history: Floats, period: Index, mode: Mode) -> Index:
    """Fade, in place, concealed excitation into the frame that came after it (section 4.5.3).

    history: (rows, HISTORY), the new frame last; period: (rows,), of its first block. What the
    enhancer has not given out yet (`mode.delay` samples) goes over into the new frame continued
    backwards by one period. Returns that period, refined: (rows,).
    """
    length, boundary = mode.delay, HISTORY - mode.samples
    rows = np.arange(len(history))[:, None] * HISTORY
    n = np.arange(length)
    flat = np.ascontiguousarray(history).reshape(-1)
    new = history[:, boundary : boundary + length]
    candidates = period[:, None] + np.arange(-1, 2)
    later = flat.take(rows[..., None] + boundary + candidates[..., None] + n)
    match = np.einsum("sn,scn->sc", new, later)
    match *= np.maximum(match, 0)
    match /= np.maximum(np.einsum("scn,scn->sc", later, later), 1e-9)
    lag = np.take_along_axis(candidates, match.argmax(axis=1)[:, None], axis=1)

    old = history[:, boundary - length : boundary]
    backwards = flat.take(rows + boundary - length + lag + n)
    loud = np.sqrt(np.einsum("sn,sn->s", old, old))
    louder = np.sqrt(np.einsum("sn,sn->s", backwards, backwards))
    # At most twice as loud as what was concealed; the last ten samples grow to what they are.
    gain = np.minimum(1.0, 2 * loud / np.maximum(louder, 1e-9))[:, None]
    grown = np.maximum(0, n - (length - 10)) / 10
    backwards *= gain + (1 - gain) * grown
    share = (length - n) / (length + 1)
    old *= share
    old += (1 - share) * backwards
    return lag[:, 0]


def enhance(history: Floats, period: Index, mode: Mode) -> Floats:
    """Return enhanced excitation (rows, samples), `mode.delay` samples behind the newest.

    history: (rows, HISTORY); period: (rows, BLOCKS), of each of its blocks.
    """
    first = HISTORY - mode.samples - mode.delay
    current = history[:, first : first + mode.samples].reshape(len(history), -1, BLOCK)
    centres = first + BLOCK * np.arange(current.shape[1])
    surround = _surround(history, period, current, centres)
    return _mixed(current, surround).reshape(-1, mode.samples)


def _surround(history: Floats, period: Index, current: Floats, centres: Index) -> Floats:
    """Return the weighted sum of what is one, two and three periods away: (rows, blocks, BLOCK).

    current: (rows, blocks, BLOCK), which begin at `centres` (blocks,). The three before and the
    three behind are two chains (section 4.6.2), the last axis here: each is looked for a period
    from where the one before it was found. What would lie outside the history counts for nothing.
    """
    rows, blocks = current.shape[:2]
    padded = np.zeros((rows, HISTORY + 2 * _PAD))
    padded[:, _PAD:-_PAD] = history
    row = begins(rows, 1)
    lags = period.astype(np.float64)
    places = windows(padded, _NEAR)
    columns = delayed(current.reshape(-1, BLOCK), 2 * _SLOP + 1).reshape(rows, blocks, _NEAR, -1)

    position = np.empty((rows, blocks, 2))
    position[:] = centres[:, None]
    before, behind = position[..., 0], position[..., 1]
    lag_before = lags.take(_nearest(centres + np.float64((BLOCK - 1) / 2)), axis=1)
    # Where a block begins that is a period before the middle of each.
    begins_before = (_CENTRES - BLOCK / 2 - lags)[:, None]
    start, best = np.empty((2, rows, blocks, 3, 2), np.intp)
    are_there = np.empty(start.shape, np.bool_)
    for n in range(3):
        before -= lag_before
        middle = before + BLOCK / 2
        next_lag_before = lags[row, _nearest(middle - lag_before)]
        behind += lags[row, np.abs(begins_before - behind[..., None]).argmin(axis=2)]
        there = are_there[:, :, n] = (position >= _FIRST) & (position < _LAST)
        # Steps 2 and 3: the best of twenty places, a quarter of a sample apart.
        begin = start[:, :, n]
        begin[:] = np.minimum(np.maximum(position - (0.5 + _SLOP), 0), _LAST_START)
        match = places[row[..., None], _PAD + begin] @ columns
        finer = match.reshape(rows, -1, 5) @ _UPSAMPLING
        quarter = best[:, :, n] = finer.argmax(axis=2).reshape(rows, blocks, 2)
        np.copyto(position, begin + _QUARTERS.take(quarter), where=there)
        lag_before = next_lag_before

    # Step 4 for all of them at once: what is there, to a quarter of a sample, is a sum of the seven
    # samples around it, and what is asked for is a sum of these.
    around = windows(padded, BLOCK + 6)[row[..., None, None], _PAD - 3 + start + _WHOLE.take(best)]
    stretches = np.ascontiguousarray(windows(around.reshape(-1, BLOCK + 6), BLOCK))
    taps = (_TAPS.take(best, axis=0) * (are_there * _WEIGHTS)[..., None]).reshape(
        rows, blocks, 1, -1
    )
    out: Floats = taps @ stretches.reshape(rows, blocks, -1, BLOCK)
    return out[:, :, 0]


def _nearest(middle: Floats) -> Index:
    """Return the numbers of the blocks of history that are nearest to positions in it."""
    return _ENDS.searchsorted(middle)


def _mixed(current: Floats, surround: Floats) -> Floats:
    """Return the smoothed excitation, or as much of it as the criterion allows (4.6.3 to 4.6.5)."""
    w00: Floats = np.einsum("sbn,sbn->sb", current, current)
    w11 = np.maximum(np.einsum("sbn,sbn->sb", surround, surround), 1.0)
    w10 = np.einsum("sbn,sbn->sb", surround, current)
    scale = np.sqrt(w00 / w11)
    # |x - C y|^2 of equal energies; the criterion is the energy of the difference.
    change = current - scale[..., None] * surround
    allowed = np.einsum("sbn,sbn->sb", change, change) <= _CHANGE * w00
    energy = np.maximum(w00, 1.0)
    apart = (w11 * energy - w10 * w10) / (energy * energy)
    able = apart > 0.0001
    mix = np.sqrt((_CHANGE - _CHANGE**2 / 4) / np.where(able, apart, 1.0))
    rest = 1 - _CHANGE / 2 - mix * w10 / energy
    mix, rest = np.where(able, mix, 0.0), np.where(able, rest, 1.0)
    y = np.where(allowed, scale, mix)[..., None]
    x = np.where(allowed, 0.0, rest)[..., None]
    return y * surround + x * current

"""What of the codebook comes nearest to a segment (sections 3.6.2, 3.6.4 and 3.7)."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc.arrays import Floats, Index, begins, delayed, windows
from voip.codecs.ilbc.codebook import LEAST_SCALE, STAGES, Shape, expand, vectors
from voip.codecs.ilbc.tables import GAINS

__all__ = ["RESPONSE", "search", "weigh"]

RESPONSE: Final = 32
"""Samples after which the weighting filter, whose poles are within 0.4222, answers nothing more
that is as much as 1e-12 of the first."""
_STEP: Final = 12
"""Samples that are filtered by one column each."""

_MOST_GAIN: Final = 1.3
_AROUND: Final = 34
"""Vectors of the expanded section that are tried: around the best of the base section."""
_TWICE: Final = np.minimum(GAINS[0].searchsorted(2 * GAINS[0]), GAINS[0].size - 1)
"""The most that a first gain is corrected to."""
_GAINS_BETWEEN: Final = tuple((gains[1:] + gains[:-1]) / 2 for gains in GAINS)


def weigh(signal: Floats, response: Floats) -> Floats:
    """Filter (rows, samples), from nothing, by a response (rows, RESPONSE)."""
    rows, samples = signal.shape
    blocks = -(-samples // _STEP)
    padded = np.zeros((rows, RESPONSE - 1 + blocks * _STEP))
    padded[:, RESPONSE - 1 : RESPONSE - 1 + samples] = signal
    stretches = np.ascontiguousarray(windows(padded, RESPONSE - 1 + _STEP)[:, ::_STEP])
    weighted: Floats = stretches @ delayed(response[:, ::-1], _STEP)
    return weighted.reshape(rows, -1)[:, :samples]


def search(
    memory: Floats, target: Floats, shape: Shape, ranges: tuple[int, int, int]
) -> tuple[Index, Index]:
    """Return the indices of vectors and gains of the three stages, each (rows, 3).

    memory, target: (rows, samples), weighted. ranges: how many of the shortest delays each stage
    may take.
    """
    rows, length = target.shape
    both = expand(memory)
    flat = both.reshape(-1)
    at = begins(*both.shape)
    sections = both.reshape(2 * rows, -1)
    # Every so many stretches of it, long enough for the next ones, too.
    stretches = np.ascontiguousarray(windows(sections, length + shape.step - 1)[:, :: shape.step])
    stretches = stretches.reshape(rows, -1, length + shape.step - 1)
    energy = np.empty((rows, 2, shape.section))
    squares = np.zeros((rows, 2, shape.memory + 1))
    np.add.accumulate((both * both).reshape(rows, 2, -1), axis=2, out=squares[..., 1:])
    np.subtract(
        squares[..., : length - 1 : -1],
        squares[..., -length - 1 :: -1],
        out=energy[..., : shape.base],
    )
    augmented = None
    if shape.section > shape.base:
        augmented = _augmented(sections, shape).reshape(rows, -1, length)
        power = np.einsum("san,san->sa", augmented, augmented)
        energy[..., shape.base :] = power.reshape(rows, 2, -1)
    inverse = np.where(energy > _NOTHING, 1 / np.maximum(energy, _NOTHING), 0.0)

    index, gain_index = np.empty((rows, STAGES), np.intp), np.empty((rows, STAGES), np.intp)
    left = target.copy()
    coded = np.zeros(target.shape)
    scale: Floats | float = 1.0
    cross = np.empty(energy.shape)
    for stage in range(STAGES):
        # The shortest delay comes first, and the newest stretch is the last.
        match = (stretches @ delayed(left, shape.step)).reshape(rows, 2, -1)
        cross[..., : shape.base] = match[..., ::-1]
        if augmented is not None:
            cross[..., shape.base :] = (augmented @ left[..., None]).reshape(rows, 2, -1)
        gain = cross * inverse
        measure = cross * gain
        bad = np.abs(gain) >= _MOST_GAIN
        if stage == 0:
            bad |= cross <= 0
        np.copyto(measure, -1.0, where=bad)
        if ranges[stage] < shape.base:
            measure[:, 0, ranges[stage] : shape.base] = -1.0
        base = measure[:, 0].argmax(axis=1)
        barred = _barred(shape.base, shape.section, ranges[stage]).take(base, axis=0)
        np.copyto(measure[:, 1], -1.0, where=barred)
        best = index[:, stage] = measure.reshape(rows, -1).argmax(axis=1)
        chosen = begins(rows, 2 * shape.section)[:, 0] + best
        wanted = gain.take(chosen) * (measure.take(chosen) >= 0)
        level = gain_index[:, stage] = _GAINS_BETWEEN[stage].searchsorted(wanted / scale)
        quantised = scale * GAINS[stage].take(level)
        part = quantised[:, None] * vectors(flat, at, best, shape)
        left -= part
        coded += part
        scale = np.maximum(np.abs(quantised), LEAST_SCALE)
    gain_index[:, 0] = _corrected(gain_index[:, 0], target, coded)
    return index, gain_index


_NOTHING: Final = 1e-9


def _augmented(both: Floats, shape: Shape) -> Floats:
    """Return the augmented vectors of both sections: (2 * rows, vectors, samples).

    both: (2 * rows, samples). Their delays are 20, 21, ...: a step back for the newest samples,
    two for those before.
    """
    fade = shape.blend[shape.base : shape.section]
    count, length = fade.shape
    padded = np.zeros((len(both), shape.memory + count))
    padded[:, : shape.memory] = both
    stretches = windows(padded, length)
    end = shape.memory - length
    out: Floats = stretches[:, end + count : end : -1] * (1 - fade)
    out += stretches[:, end : end - 2 * count : -2] * fade
    return out


@cache
def _barred(base: int, section: int, limit: int) -> npt.NDArray[np.bool_]:
    """Return what of the expanded section is not tried, for each best one of the base section.

    Bool (section, section). In a circle of the vectors by their delay, the augmented ones (20 to
    39 samples) come before the stretches (40 and more).
    """
    augmented = section - base
    barred = np.ones((section, section), bool)
    for best in range(section):
        place = best - section if best >= base else best
        first = min(max(place - _AROUND // 2, -augmented), limit - _AROUND)
        barred[best, np.arange(first, first + _AROUND) % section] = False
    return barred


def _corrected(index: Index, target: Floats, coded: Floats) -> Index:
    """Return the index of a first gain by which the coded has the power of the target (3.7)."""
    wanted: Floats = np.einsum("sn,sn->s", target, target)
    there: Floats = np.einsum("sn,sn->s", coded, coded)
    ratio = np.sqrt(wanted / np.maximum(there, _NOTHING))
    enough = GAINS[0].searchsorted(ratio * GAINS[0].take(index)) - 1
    most: Index = np.minimum(enough, _TWICE.take(index))
    return np.maximum(index, most)

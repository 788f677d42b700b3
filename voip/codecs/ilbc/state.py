"""The start state: where it lies, and its samples one by one (sections 3.5 and 4.2)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc.arrays import Floats, Index, windows
from voip.codecs.ilbc.lpc import ringing, unit_response
from voip.codecs.ilbc.mode import SUB_BLOCK, Mode
from voip.codecs.ilbc.tables import ORDER, STATE_LEVELS, STATE_MAXIMA

__all__ = ["decode_state", "encode_state", "find_state"]

_LARGEST_LEVEL: Final = 4.5
"""The largest magnitude is scaled to this."""
_SCALES: Final = 10.0**STATE_MAXIMA / _LARGEST_LEVEL
_LEAST_MAXIMUM: Final = 10.0
_MAXIMA_BETWEEN: Final = (STATE_MAXIMA[1:] + STATE_MAXIMA[:-1]) / 2
_LEVELS_BETWEEN: Final = (STATE_LEVELS[1:] + STATE_LEVELS[:-1]) / 2

_EDGES: Final = np.minimum(1.0, np.minimum(np.arange(1, 81), np.arange(80, 0, -1)) / 6)
"""What a sample counts for in the power of two sub-blocks."""
_PREFERENCES: Final = {
    3: np.array([0.9, 1.0, 0.9]),
    5: np.array([0.8, 0.9, 1.0, 0.9, 0.8]),
}
"""By the number of places: the middle of the frame is preferred."""


def decode_state(
    maximum: npt.NDArray[np.integer], levels: npt.NDArray[np.integer], filters: Floats
) -> Floats:
    """Return the start state (rows, samples) of its indices (rows,) and (rows, samples).

    filters: (rows, 11), quantised, of the sub-block that the start state begins in.
    """
    samples = STATE_LEVELS[levels] * _SCALES[maximum][:, None]
    # Time-reversed before and after: the sum below reverses its input, so that only the output is.
    return _dispersed(samples, filters)[:, ::-1]


def _dispersed(backwards: Floats, filters: Floats) -> Floats:
    """Return a time-reversed block, forwards, through the all-pass filter of section 3.5.2.

    The filter A(1/z) / A(z), from nothing, over the block and as many zeros; what comes in the
    second half is added to the first.
    """
    rows, length = backwards.shape
    response = _long_response(filters)
    padded = np.zeros((rows, ORDER + 2 * length))
    padded[:, ORDER:] = response[:, : 2 * length]
    allpass = np.einsum("snj,sj->sn", windows(padded, ORDER + 1), filters)
    once, again = allpass[:, :length], allpass[:, length:]
    # What place n gets from place m, by n - m from 1 - length on.
    spread = np.concatenate((once[:, 1:], once + again), axis=1)
    out: Floats = np.einsum("snj,sj->sn", windows(spread, length), backwards)
    return out


def _long_response(filters: Floats) -> Floats:
    """Return the first 120 samples that 1/A answers to a unit sample with: (rows, 120)."""
    short = unit_response(filters[:, None], SUB_BLOCK)[:, 0]
    out = np.empty((len(filters), 3 * SUB_BLOCK))
    out[:, :SUB_BLOCK] = short
    # What goes on is the response to what the past adds to the next ten inputs.
    padded = np.zeros((len(filters), SUB_BLOCK + ORDER - 1))
    padded[:, ORDER - 1 :] = short
    places = windows(padded, ORDER)
    for at in (SUB_BLOCK, 2 * SUB_BLOCK):
        driven = ringing(filters, out[:, at - ORDER : at])
        out[:, at : at + SUB_BLOCK] = np.einsum("snj,sj->sn", places, driven[:, ::-1])
    return out


def find_state(residual: Floats, mode: Mode) -> Index:
    """Return where the start state lies best, as the case of `mode.layouts`: (rows,).

    residual: (rows, samples). The two sub-blocks of most power, of them the more powerful end
    (section 3.5.1).
    """
    squares = residual * residual
    stretches = windows(squares, 2 * SUB_BLOCK)[:, ::SUB_BLOCK]
    power = np.einsum("sbn,n->sb", stretches, _EDGES) * _PREFERENCES[mode.starts]
    start: Index = power.argmax(axis=1)
    at = squares.shape[1] * np.arange(len(squares)) + SUB_BLOCK * start
    pair = squares.reshape(-1).take(at[:, None] + np.arange(2 * SUB_BLOCK))
    first = pair[:, : mode.remainder].sum(axis=1) > pair[:, mode.state :].sum(axis=1)
    case: Index = 2 * start + first
    return case


def encode_state(
    samples: Floats, filters: Floats, weighting: Floats
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Quantise the start state (rows, samples); return the indices (rows,) and (rows, samples).

    filters: (rows, 11), as for `decode_state`; weighting: (rows, samples, 11), the weighting
    filter of each sample.
    """
    spread = _dispersed(samples[:, ::-1], filters)
    largest = np.log10(np.maximum(np.abs(spread).max(axis=1), _LEAST_MAXIMUM))
    maximum = _MAXIMA_BETWEEN.searchsorted(largest)
    scaled = spread / _SCALES[maximum][:, None]

    # Section 3.5.3 in another form: x - y there is the sample less what the filter makes of the
    # errors made so far. A row per sample, because what is added to ten of them is then contiguous.
    rows, count = samples.shape
    due = np.zeros((count + ORDER, rows))
    due[:count] = scaled.T
    response = np.zeros((count + ORDER, ORDER, rows))
    response[: count - 1] = _ahead(weighting)
    levels = np.empty((count, rows), np.intp)
    for n in range(count):
        now = due[n]
        level = levels[n] = _LEVELS_BETWEEN.searchsorted(now)
        error = now - STATE_LEVELS[level]
        due[n + 1 : n + 1 + ORDER] -= response[n] * error
    return maximum, levels.T


def _ahead(weighting: Floats) -> Floats:
    """Return how an error weighs on the ten samples after it: (samples - 1, 10, rows)."""
    rows, count = weighting.shape[:2]
    padded = np.zeros((count - 1 + ORDER, ORDER + 1, rows))
    padded[: count - 1] = weighting[:, 1:].transpose(1, 2, 0)
    n, k = np.arange(count - 1)[:, None], np.arange(ORDER)
    return padded[n + k, k + 1]

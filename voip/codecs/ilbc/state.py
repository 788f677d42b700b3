"""The start state: where it lies, and its samples one by one (sections 3.5 and 4.2)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from voip.codecs.ilbc.arrays import Floats, Index, begins, windows
from voip.codecs.ilbc.lpc import ringing
from voip.codecs.ilbc.mode import SUB_BLOCK, Mode
from voip.codecs.ilbc.tables import ORDER, STATE_LEVELS, STATE_MAXIMA

__all__ = ["decode_state", "dispersion", "encode_state", "find_state"]

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
    maximum: npt.NDArray[np.integer], levels: npt.NDArray[np.integer], spread: Floats
) -> Floats:
    """Return the start state (rows, samples) of its indices (rows,) and (rows, samples).

    spread: as of `dispersion`.
    """
    samples = STATE_LEVELS.take(levels) * _SCALES.take(maximum)[:, None]
    # Time-reversed before and after: the sum below reverses its input, so that only the output is.
    return _dispersed(samples, spread)[:, ::-1]


def dispersion(filters: Floats, responses: Floats, length: int) -> Floats:
    """Return the all-pass filter of section 3.5.2 for start states: (rows, 2 * length - 1).

    filters: (rows, 11), quantised, of the sub-block that the start state begins in, and their
    `responses` (rows, 40). The filter A(1/z) / A(z), from nothing, over the block and as many
    zeros; what comes in the second half is added to the first. What place n gets from place m
    stands here by n - m, from 1 - length on.
    """
    padded = np.zeros((len(filters), ORDER + SUB_BLOCK))
    padded[:, ORDER:] = responses
    allpass = np.empty((len(filters), 3 * SUB_BLOCK))
    np.einsum("snj,sj->sn", windows(padded, ORDER + 1), filters, out=allpass[:, :SUB_BLOCK])
    # What goes on is what the response makes of that which the past takes from the next ten inputs.
    places, taken = windows(padded, ORDER)[:, 1:], ringing(filters)
    for at in (SUB_BLOCK, 2 * SUB_BLOCK):
        take = np.einsum("snj,sj->sn", taken, allpass[:, at - ORDER : at])
        np.einsum("snj,sj->sn", places, -take[:, ::-1], out=allpass[:, at : at + SUB_BLOCK])
    once, again = allpass[:, :length], allpass[:, length : 2 * length]
    return np.concatenate((once[:, 1:], once + again), axis=1)


def _dispersed(backwards: Floats, spread: Floats) -> Floats:
    """Return a time-reversed block (rows, samples), forwards, through an all-pass filter."""
    out: Floats = np.einsum("snj,sj->sn", windows(spread, backwards.shape[1]), backwards)
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
    at = begins(*squares.shape) + SUB_BLOCK * start[:, None]
    pair = squares.reshape(-1).take(at + np.arange(2 * SUB_BLOCK))
    first = pair[:, : mode.remainder].sum(axis=1) > pair[:, mode.state :].sum(axis=1)
    case: Index = 2 * start + first
    return case


def encode_state(
    samples: Floats, spread: Floats, weighting: Floats
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Quantise the start state (rows, samples); return the indices (rows,) and (rows, samples).

    spread: as of `dispersion`; weighting: (rows, samples, 11), the weighting filter of each sample.
    """
    dispersed = _dispersed(samples[:, ::-1], spread)
    largest = np.log10(np.maximum(np.abs(dispersed).max(axis=1), _LEAST_MAXIMUM))
    maximum = _MAXIMA_BETWEEN.searchsorted(largest)
    scaled = dispersed / _SCALES[maximum][:, None]

    # Section 3.5.3 in another form: x - y there is the sample less what the filter makes of the
    # errors made so far. A row per sample, because what is added to ten of them is then contiguous.
    rows, count = samples.shape
    due = np.zeros((count + ORDER, rows))
    due[:count] = scaled.T
    response = np.zeros((count, ORDER, rows))
    response[: count - 1] = _ahead(weighting)
    # The ten samples after each as views: to make those one by one costs as much as the sums.
    step = due.strides[0]
    shape = count, ORDER, rows
    ahead = np.ndarray(shape, due.dtype, due.data, step, (step, step, due.itemsize))
    nearest, level = _LEVELS_BETWEEN.searchsorted, STATE_LEVELS.take
    for now, later, weight in zip(due[:count], ahead, response, strict=True):
        later -= weight * (now - level(nearest(now)))
    return maximum, _LEVELS_BETWEEN.searchsorted(due[:count]).T


def _ahead(weighting: Floats) -> Floats:
    """Return how an error weighs on the ten samples after it: (samples - 1, 10, rows)."""
    rows, count = weighting.shape[:2]
    padded = np.zeros((count - 1 + ORDER, ORDER + 1, rows))
    padded[: count - 1] = weighting[:, 1:].transpose(1, 2, 0)
    n, k = np.arange(count - 1)[:, None], np.arange(ORDER)
    return padded[n + k, k + 1]

"""From speech to line spectral frequencies (sections 3.2.1 to 3.2.3)."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from voip.codecs.ilbc.arrays import Floats, Index, windows
from voip.codecs.ilbc.mode import Mode
from voip.codecs.ilbc.tables import ASYMMETRIC_WINDOW, HANNING_WINDOW, LAG_WINDOW, ORDER

__all__ = ["WINDOW", "analyse", "roots"]

WINDOW: Final = 240
"""Samples that are analysed at once."""

_CHIRP: Final = 0.9025 ** np.arange(ORDER + 1)
"""Bandwidth expansion (section 3.2.2)."""
_TOEPLITZ: Final = np.abs(np.arange(ORDER)[:, None] - np.arange(ORDER))


def analyse(speech: Floats, old: Floats, mode: Mode) -> Floats:
    """Return the frequencies of the one or two analyses of a frame: (rows, 1 or 2, 10).

    speech: (rows, 240 or 300), the end is the frame; old: (rows, 10), those of the frame before.
    """
    rows = len(speech)
    cut = np.zeros((rows, mode.lsf_sets, WINDOW + ORDER))
    np.multiply(speech[:, -WINDOW:], ASYMMETRIC_WINDOW, out=cut[:, -1, :WINDOW])
    if mode.lsf_sets == 2:
        np.multiply(speech[:, :WINDOW], HANNING_WINDOW, out=cut[:, 0, :WINDOW])
    flat = cut.reshape(-1, WINDOW + ORDER)
    correlation = np.einsum("slj,sj->sl", windows(flat, WINDOW), flat[:, :WINDOW]) * LAG_WINDOW
    correlation[correlation[:, 0] <= 0, 0] = 1.0  # silence is predicted by nothing
    filters = np.ones(correlation.shape)
    filters[:, 1:] = -np.linalg.solve(
        correlation.take(_TOEPLITZ, axis=1), correlation[:, 1:, None]
    )[..., 0]
    filters *= _CHIRP
    return roots(filters, np.repeat(old, mode.lsf_sets, axis=0)).reshape(rows, -1, ORDER)


_STEP: Final = 2 * np.pi * 0.00079375
"""Of the frequencies in radians: bits depend on which of them is the nearest to a root."""
_COUNT: Final = 631
"""Of them, from 0 to just above pi."""


@cache
def _grid(divisions: int) -> Floats:
    """Return what makes of A(z) its two polynomials at the points of a grid: (11, 2 * points).

    They are A(z) plus and minus z^-11 A(1/z), without the root at pi and at 0 that they always
    have; on the unit circle they are real but for a delay.
    """
    angle = _STEP / divisions * np.arange((_COUNT - 1) * divisions + 1)
    out = np.empty((ORDER + 1, 2, angle.size))
    for n, unit in enumerate(np.eye(ORDER + 2)[: ORDER + 1]):
        for kind, sign in enumerate((1.0, -1.0)):
            quotient = np.zeros(ORDER + 1)
            last = 0.0
            for k, value in enumerate((unit + sign * unit[::-1])[: ORDER + 1]):
                last = value - sign * last
                quotient[k] = last
            # Symmetric: c0 + c1 z^-1 + ... = z^-5 (c5 + 2 c4 cos w + 2 c3 cos 2w + ...).
            half = quotient[ORDER // 2 :: -1].copy()
            half[1:] *= 2
            out[n, kind] = half @ np.cos(np.outer(np.arange(ORDER // 2 + 1), angle))
    return out.reshape(ORDER + 1, -1)


def roots(filters: Floats, old: Floats) -> Floats:
    """Return the line spectral frequencies (rows, 10) of A(z) (rows, 11).

    Ten changes of sign on a grid, each at the end where the polynomial is smaller. Where a grid
    does not see ten, a finer one is asked; where that does not, those of the frame before remain.
    """
    lsf = old.copy()
    unseen = _changes(filters, _grid(1), lsf)
    if unseen.size:
        again = lsf[unseen]
        _changes(filters[unseen], _grid(8), again)
        lsf[unseen] = again
    return lsf


def _changes(filters: Floats, grid: Floats, lsf: Floats) -> Index:
    """Write the frequencies where there are ten; return the numbers of the other rows."""
    values = (filters[:, None] @ grid).reshape(len(filters), 2, -1)
    negative = values < 0
    change = negative[..., 1:] != negative[..., :-1]
    points = change.shape[2]
    at = np.flatnonzero(change)
    line = at // points
    seen = (np.bincount(line, minlength=2 * len(lsf)).reshape(-1, 2) == ORDER // 2).all(axis=1)
    unseen = np.flatnonzero(~seen)
    if unseen.size:
        of_seen = seen[line // 2]
        at, line = at[of_seen], line[of_seen]
    # A polynomial has one value more than there are places where it may change its sign.
    low, high = values.reshape(-1).take((at + line, at + line + 1))
    step = _STEP * (_COUNT - 1) / points
    place = step * (at - points * line + (np.abs(high) < np.abs(low)))
    lsf[seen] = place.reshape(-1, 2, ORDER // 2).swapaxes(1, 2).reshape(-1, ORDER)
    return unseen

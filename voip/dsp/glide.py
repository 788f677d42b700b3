"""A little slower or faster, for a while: one sample more or less in a step of some.

What lies between samples is found by a windowed sinc that leaves samples themselves as they are (J.
O. Smith, "Digital Audio Resampling", https://ccrma.stanford.edu/~jos/resample/). So steps that are
as they came may go before and come after without a seam. Batch-first, no state.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["REACH", "glide"]

REACH = 8
"""How many samples before and after its place one counts."""
_BETA = 6.0

Pcm = npt.NDArray[np.float32]


def glide(pcm: Pcm, count: int) -> Pcm:
    """Return `count` samples for the m between `REACH` before and after: float32 (k, count).

    `pcm`: float32 (k, REACH + m + REACH). The first is the first of the m, and what would be the
    next one is the sample that follows them.
    """
    place, weights = _weights(pcm.shape[1] - 2 * REACH, count)
    sound: Pcm = (pcm.take(place, axis=1) * weights).sum(
        axis=2
    )  # of each the same, whoever is beside it
    return sound


@cache
def _weights(given: int, count: int) -> tuple[npt.NDArray[np.intp], Pcm]:
    """Return of which samples each of `count` is made, and their weights: (count, 2 REACH) each."""
    at = np.arange(count) * given / count
    whole = np.floor(at).astype(np.intp)
    tap = np.arange(1 - REACH, REACH + 1)
    away = tap - (at - whole)[:, None]
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (away / REACH) ** 2, 0, None))) / np.i0(_BETA)
    weights = np.sinc(away) * window
    weights /= weights.sum(axis=1, keepdims=True)
    return whole[:, None] + tap + REACH, weights.astype(np.float32)

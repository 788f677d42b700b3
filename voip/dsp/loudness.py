"""Loudness as programmes are measured by (ITU-R BS.1770-4, EBU R 128): K-weighted, gated, in LUFS.

The filters are those of the Recommendation's tables at 48 kHz, and at other rates the same curves
by the bilinear transform.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.signal import sosfilt

from voip.dsp.level import Pcm

__all__ = ["QUIETEST_LUFS", "k_weighting", "loudness_lufs"]

QUIETEST_LUFS = -70.0
"""What no 400 ms of which are louder has no loudness: it measures -inf."""
_BLOCK_S, _OVERLAP = 0.4, 4  # annex 1: blocks of 400 ms, each three quarters over the last
_RELATIVE_LU = -10.0
_OFFSET = -0.691
# the head's shelf and the low cut, as corner frequencies, Q and gain
_SHELF_HZ, _SHELF_Q, _SHELF_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
_SHELF_EXPONENT = 0.4996667741545416
_CUT_HZ, _CUT_Q = 38.13547087602444, 0.5003270373238773


@cache
def k_weighting(rate_hz: int) -> npt.NDArray[np.float64]:
    """Return the K-weighting at a rate, as second-order sections: float64 (2, 6)."""
    k = math.tan(math.pi * _SHELF_HZ / rate_hz)
    high = 10 ** (_SHELF_DB / 20)
    band = high**_SHELF_EXPONENT
    a0 = 1 + k / _SHELF_Q + k * k
    shelf = [
        (high + band * k / _SHELF_Q + k * k) / a0,
        2 * (k * k - high) / a0,
        (high - band * k / _SHELF_Q + k * k) / a0,
        1.0,
        2 * (k * k - 1) / a0,
        (1 - k / _SHELF_Q + k * k) / a0,
    ]
    k = math.tan(math.pi * _CUT_HZ / rate_hz)
    a0 = 1 + k / _CUT_Q + k * k
    cut = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / _CUT_Q + k * k) / a0]
    return np.array([shelf, cut])


def loudness_lufs(pcm: Pcm, rate_hz: int) -> npt.NDArray[np.float64]:
    """Return the integrated loudness of each stream, in LUFS: float64 (...).

    pcm: (..., channels, samples): mono, or left and right. -inf where there is too little (400 ms
    are a measure), or nothing above -70 LUFS.
    """
    scale = 1 / 32768 if pcm.dtype == np.int16 else 1.0
    weighted = sosfilt(k_weighting(rate_hz), pcm.astype(np.float64) * scale, axis=-1)
    hop = round(_BLOCK_S * rate_hz / _OVERLAP)
    hops = pcm.shape[-1] // hop
    if hops < _OVERLAP:
        return np.full(pcm.shape[:-2], -np.inf)
    parts = weighted[..., : hops * hop].reshape(*pcm.shape[:-1], hops, hop)
    power = np.square(parts).mean(axis=-1).sum(axis=-2)  # (..., hops), all channels
    blocks = np.lib.stride_tricks.sliding_window_view(power, _OVERLAP, axis=-1).mean(axis=-1)
    absolute = blocks > _power(QUIETEST_LUFS)
    relative = _mean(blocks, absolute) * 10 ** (_RELATIVE_LU / 10)
    loud = _mean(blocks, absolute & (blocks > relative[..., None]))
    with np.errstate(divide="ignore"):
        found: npt.NDArray[np.float64] = _OFFSET + 10 * np.log10(loud)
    return found


def _power(lufs: float) -> float:
    return float(10 ** ((lufs - _OFFSET) / 10))


def _mean(
    blocks: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the mean of the chosen blocks of each stream, 0 where there is none."""
    count = np.maximum(chosen.sum(axis=-1), 1)
    mean: npt.NDArray[np.float64] = np.where(chosen, blocks, 0.0).sum(axis=-1) / count
    return mean

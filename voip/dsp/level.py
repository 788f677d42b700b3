"""How loud: RMS and peak of many streams at once, in dBFS.

0 dBFS is an RMS (or a peak) of full scale: the dBov of ITU-T G.100.1, by which a full-scale square
wave has 0 and a full-scale sine has -3.01 dBFS. The network's 0 dBm0 is -6.15 dBFS.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "DBM0_DBFS",
    "SILENCE_DBFS",
    "Pcm",
    "amplitude",
    "peak",
    "peak_dbfs",
    "rms",
    "rms_dbfs",
    "to_dbfs",
]

SILENCE_DBFS = -100.0
"""What digital silence, and everything below it, measures: one step of 16 bits is -90.3 dBFS."""
DBM0_DBFS = -6.15
"""0 dBm0 as RMS level: A-law's full-scale sine is +3.14 dBm0 (ITU-T G.711, G.100.1)."""

Pcm = npt.NDArray[np.float32] | npt.NDArray[np.int16]
"""float32 in [-1, 1) or int16."""


def rms(pcm: Pcm) -> npt.NDArray[np.float32]:
    """Return the RMS of `pcm` (..., samples) as a fraction of full scale: float32 (...).

    Nothing at all is silence.
    """
    if not pcm.shape[-1]:
        return np.zeros(pcm.shape[:-1], np.float32)
    wide = pcm.astype(np.float32, copy=False)
    power = np.einsum("...s,...s->...", wide, wide) / np.float32(pcm.shape[-1])
    root: npt.NDArray[np.float32] = np.sqrt(power) * _scale(pcm)
    return root


def peak(pcm: Pcm) -> npt.NDArray[np.float32]:
    """Return the largest magnitude of `pcm` (..., samples) as a fraction of full scale."""
    if not pcm.shape[-1]:
        return np.zeros(pcm.shape[:-1], np.float32)
    highest = pcm.max(axis=-1).astype(np.float32)
    lowest = pcm.min(axis=-1).astype(np.float32)
    largest: npt.NDArray[np.float32] = np.maximum(highest, -lowest) * _scale(pcm)
    return largest


def to_dbfs(level: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return fractions of full scale in dBFS, not below `SILENCE_DBFS`."""
    floor = amplitude(SILENCE_DBFS)
    return 20.0 * np.log10(np.maximum(np.asarray(level, np.float64), floor))


def rms_dbfs(pcm: Pcm) -> npt.NDArray[np.float64]:
    """Return the RMS level of `pcm` (..., samples) in dBFS: float64 (...)."""
    return to_dbfs(rms(pcm))


def peak_dbfs(pcm: Pcm) -> npt.NDArray[np.float64]:
    """Return the peak level of `pcm` (..., samples) in dBFS: float64 (...)."""
    return to_dbfs(peak(pcm))


def amplitude(dbfs: float) -> float:
    """Return the fraction of full scale that `dbfs` stands for."""
    return float(10.0 ** (dbfs / 20.0))


def _scale(pcm: Pcm) -> np.float32:
    return np.float32(1.0 / 32768.0) if pcm.dtype == np.int16 else np.float32(1.0)

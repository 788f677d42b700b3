"""Tones of the telephone: sines, call-progress tones with their cadence, the milliwatt.

Everything is a function of the sample's position, so that pieces join without a seam. Levels are
dBm0, where 0 dBm0 is an RMS of -6.15 dBFS (`level.DBM0_DBFS`), of each frequency by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.dsp.level import DBM0_DBFS, amplitude

__all__ = ["BUSY", "CONGESTION", "DIAL", "MILLIWATT", "RINGBACK", "Tone", "play", "sine"]


@dataclass(frozen=True, slots=True)
class Tone:
    """Frequencies in Hz sounding together, each at `level_dbm0`.

    `cadence`: seconds on, off, on, off ..., over and over; none: for ever.
    """

    frequencies_hz: tuple[float, ...]
    level_dbm0: float
    cadence: tuple[float, ...] = ()


# North America (ITU-T E.180 supplement 2; levels of Telcordia GR-506).
DIAL = Tone((350.0, 440.0), -13.0)
"""Go on and dial."""
RINGBACK = Tone((440.0, 480.0), -19.0, (2.0, 4.0))
"""It rings over there."""
BUSY = Tone((480.0, 620.0), -24.0, (0.5, 0.5))
"""They are on the telephone."""
CONGESTION = Tone((480.0, 620.0), -24.0, (0.25, 0.25))
"""No way through: the fast busy."""
MILLIWATT = Tone((1004.0,), 0.0)
"""The test tone that measures a line: a milliwatt, 0 dBm0."""


def sine(
    frequency_hz: float, level_dbm0: float, start: int, samples: int, rate_hz: int
) -> npt.NDArray[np.float32]:
    """Return samples [start, start + samples) of a sine that began at 0: float32 (samples,)."""
    peak = math.sqrt(2.0) * amplitude(level_dbm0 + DBM0_DBFS)
    turns = np.arange(start, start + samples, dtype=np.float64) * (frequency_hz / rate_hz)
    wave: npt.NDArray[np.float64] = np.sin(2.0 * np.pi * np.remainder(turns, 1.0))
    return (peak * wave).astype(np.float32)


def play(tone: Tone, start: int, samples: int, rate_hz: int) -> npt.NDArray[np.float32]:
    """Return samples [start, start + samples) of a tone that began at 0: float32 (samples,)."""
    sound = np.zeros(samples, np.float32)
    for frequency in tone.frequencies_hz:
        sound += sine(frequency, tone.level_dbm0, start, samples, rate_hz)
    if tone.cadence:
        edges = np.rint(np.cumsum(tone.cadence) * rate_hz)
        at = np.arange(start, start + samples) % int(edges[-1])
        sound[np.searchsorted(edges, at, side="right") % 2 == 1] = 0.0
    return sound

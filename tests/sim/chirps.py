"""Who hears whom, by chirps: all say the same sweep, each later by a code of its own.

The sweep goes round (300 to 3300 Hz and again, without a seam), so that all speak all the time. A
matched filter over whole rounds has a peak for each voice that is heard, at its code; what lies
between the peaks is what the codecs make of it. Judged with SciPy alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import signal

RATE = 8000
ROUND_S, CODE_S = 6.0, 0.5
"""How long a sweep takes, and by how much codes differ: more than any path takes."""
LEVEL = 0.09
FLOOR_DB = -90.0

Floats = npt.NDArray[np.float64]


def sweep(rate: int = RATE) -> Floats:
    """One round: float64 (samples,), as loud at its ends as in its middle."""
    t = np.arange(int(ROUND_S * rate)) / rate
    edge = np.clip(np.minimum(t, ROUND_S - t) / 0.05, 0.0, 1.0)
    return LEVEL * edge * signal.chirp(t, 300, ROUND_S, 3300)


def voice(code: int, rate: int = RATE) -> npt.NDArray[np.int16]:
    """What the one with a code says over and over, from the beginning of all: int16 (samples,)."""
    late = int(code * CODE_S * rate)
    return np.rint(32767 * np.roll(sweep(rate), late)).astype(np.int16)


def heard_db(pcm: npt.NDArray[np.int16], rate: int, codes: int, begun_s: float = 0.0) -> Floats:
    """How loud each code is in what was heard, against what is said: float64 (codes,), in dB.

    pcm: whole rounds at least, from `begun_s` after the beginning of all on.
    """
    sound = signal.resample_poly(pcm.astype(np.float64) / 32768, RATE, rate)
    size = int(ROUND_S * RATE)
    rounds = sound.size // size
    assert rounds > 0, f"{sound.size} samples are less than a round"
    mean = sound[: rounds * size].reshape(rounds, size).mean(axis=0)
    mean = np.roll(mean, int(begun_s * RATE) % size)
    known = sweep()
    found = np.fft.irfft(np.fft.rfft(mean) * np.conj(np.fft.rfft(known)), size)
    envelope = np.abs(signal.hilbert(found)) / np.sum(known**2)
    window = int(CODE_S * RATE)
    peaks = np.array([envelope[code * window : (code + 1) * window].max() for code in range(codes)])
    return 20 * np.log10(np.maximum(peaks, 10 ** (FLOOR_DB / 20)))

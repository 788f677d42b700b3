"""A gentle loop for those who are on hold: made here, by a few lines, for anybody to use."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["LENGTH_S", "melody"]

_BEAT_S = 0.5
_CHORDS = ((48, 55, 60, 64), (45, 52, 57, 60), (41, 53, 57, 60), (43, 50, 55, 59))
"""C, A minor, F, G, as MIDI numbers: each for two bars of four beats, broken upwards and back."""
_TUNE = (76, 0, 74, 72, 0, 67, 69, 0, 72, 0, 69, 67, 0, 64, 0, 0,
         69, 0, 72, 69, 0, 65, 67, 0, 74, 0, 71, 67, 0, 62, 67, 0)  # fmt: skip
"""One number each half bar; 0: none."""
LENGTH_S = len(_CHORDS) * 8 * _BEAT_S
"""After so many seconds it is at its beginning again, without a seam."""
_PEAK = 0.25


@cache
def melody(rate_hz: int) -> npt.NDArray[np.int16]:
    """Return the loop: int16 (samples,), all below 3.2 kHz, and without a seam."""
    out = np.zeros(round(LENGTH_S * rate_hz))
    for number, chord in enumerate(_CHORDS):
        up_and_down = (*chord, *chord[-2:0:-1], chord[1], chord[2])
        for beat, note in enumerate(up_and_down):
            _strike(out, (8 * number + beat) * _BEAT_S, note, 0.5, 1.6, rate_hz)
    for place, note in enumerate(_TUNE):
        if note:
            _strike(out, place * LENGTH_S / len(_TUNE), note, 1.0, 1.2, rate_hz)
    scaled: npt.NDArray[np.float64] = np.rint(out * (_PEAK * 32767 / np.abs(out).max()))
    pcm = scaled.astype(np.int16)
    pcm.flags.writeable = False
    return pcm


def _strike(
    out: npt.NDArray[np.float64], at_s: float, note: int, level: float, decay_s: float, rate_hz: int
) -> None:
    """Add a note that dies away, and what lies beyond the end at the beginning."""
    hertz = 440.0 * 2 ** ((note - 69) / 12)
    t = np.arange(round(3 * decay_s * rate_hz)) / rate_hz
    wave = np.zeros(t.size)
    for partial, share in ((1, 1.0), (2, 0.35), (3, 0.1)):
        if hertz * partial < 3200:
            wave += share * np.sin(2 * np.pi * hertz * partial * t) * np.exp(-t * partial / decay_s)
    wave *= level * np.minimum(t / 0.012, 1.0) * np.minimum((t[-1] - t) / 0.05, 1.0)
    places = (round(at_s * rate_hz) + np.arange(t.size)) % out.size
    np.add.at(out, places, wave)

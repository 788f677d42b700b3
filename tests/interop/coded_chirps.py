"""Who hears whom, by chirps, whenever each begins: every party's sweep has frequencies of its own.

A voice goes up from 400 to 3200 Hz, again and again. It consists of every thirty-second whole
hertz, shifted by its code, with phases that make a sweep of them (Schroeder 1970): over any whole
second voices are orthogonal, and each has a thirty-second part of the power of a codec's noise.
Judged by NumPy alone, from what peers recorded.
"""

from __future__ import annotations

import wave
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voip.harness.audio import Sound

CODES = 8
_STEP_HZ, _FIRST_HZ, _LAST_HZ = 32, 400, 3200
_LEVEL = 10 ** (-23 / 20)
"""RMS of a voice against full scale: three at once do not clip."""
_SILENT_DB = -100.0
WITHIN_DB, UNHEARD_DB = 1.0, -40.0
"""Who is heard is as loud as is wanted, within so much; who is not is below the loudest by that."""


def _lines(code: int) -> npt.NDArray[np.int64]:
    """The whole frequencies of a voice."""
    return np.arange(_FIRST_HZ, _LAST_HZ, _STEP_HZ) + 2 * code


def voice(code: int, seconds: float = 1.0, rate: int = 8000) -> npt.NDArray[np.int16]:
    """What the one with a code says: int16 (samples,), without a seam after whole seconds."""
    lines = _lines(code)
    order = np.arange(lines.size)
    spectrum = np.zeros(rate // 2 + 1, np.complex128)
    spectrum[lines] = np.exp(-1j * np.pi * order**2 / lines.size)
    wave_form = np.fft.irfft(spectrum)
    wave_form *= _LEVEL * 32768 / np.sqrt(np.mean(wave_form**2))
    return np.resize(np.rint(wave_form).astype(np.int16), round(seconds * rate))


def say(path: Path, code: int, rate: int = 8000, gain_db: float = 0.0) -> Path:
    """Write a file of it for a peer, which says it over and over."""
    said = np.rint(voice(code, 1.0, rate) * 10 ** (gain_db / 20)).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(said.tobytes())
    return path


def heard_db(sound: Sound, last_s: float | None = None) -> npt.NDArray[np.float64]:
    """How loud each code is, against what is said: float64 (CODES,) in dB.

    Of whole seconds, one of which begins every quarter, the one is judged that has least of what is
    nobody's voice: a packet that is lost is heard in all voices, and the same is said in each
    second. last_s: only so much at the end is looked at.
    """
    rate = sound.rate_hz
    samples = sound.samples[-round(last_s * rate) :] if last_s else sound.samples
    starts = range(0, samples.size - rate + 1, rate // 4)
    assert len(starts) > 0, f"{sound.seconds:.2f} s were heard"
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(rate) / rate)
    seconds = np.stack([samples[at : at + rate] for at in starts]).astype(np.float64)
    power = np.abs(np.fft.rfft(seconds * window)) ** 2 / (0.25 * rate**2 / 2)
    voices = np.stack([power[:, _lines(code)].sum(axis=1) for code in range(CODES)], axis=1)
    loud = voices.sum(axis=1) >= np.median(voices.sum(axis=1)) / 2
    beside = power.sum(axis=1) - 1.5 * voices.sum(axis=1)  # a window widens each line by half
    found = voices[np.flatnonzero(loud)[np.argmin(beside[loud])]] / (_LEVEL * 32768) ** 2
    return 10 * np.log10(np.maximum(found, 10 ** (_SILENT_DB / 10)))


def require_heard(
    sound: Sound,
    codes: Iterable[int] | Mapping[int, float],
    *,
    of: int,
    who: str,
    last_s: float | None = None,
) -> None:
    """Hold what somebody heard against whom it was to hear, of the first `of` codes.

    codes: those of them, with their levels in dB where these are not as they are said.
    """
    wanted = codes if isinstance(codes, Mapping) else dict.fromkeys(codes, 0.0)
    levels = heard_db(sound, last_s)[:of]
    told = f"{who} heard {np.round(levels, 1).tolist()} dB of codes 0 to {of - 1}"
    floor = UNHEARD_DB + max((0.0, *wanted.values()))
    for code, level in enumerate(levels):
        fits = abs(level - wanted[code]) < WITHIN_DB if code in wanted else level < floor
        assert fits, f"{told}, and was to hear {dict(wanted)}"
    print(told)

"""Measuring ears: what is in a recording, and where in it is what was sent.

Everything takes int16 PCM, mono, and returns plain figures. Levels are dBFS with 0 dBFS = the RMS
of a full-scale square wave (dBov of ITU-T G.100.1): a full-scale sine is at -3.01 dBFS.
`voip.harness.grade` judges by these. An ear must not share the faults of the mouth: nothing here
calls the codecs or the signal processing it is there to judge.
"""

from __future__ import annotations

import math
import os
import wave
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from voip.errors import AudioFileError, ConfigError

__all__ = [
    "FRAME_S",
    "WINDOW_S",
    "Alignment",
    "Floats",
    "Pcm",
    "Sound",
    "Tone",
    "active_speech_level",
    "correlation",
    "cut",
    "decibels",
    "dominant_tone",
    "find_offset",
    "fit_tones",
    "frame_rms",
    "is_silence",
    "level_dbfs",
    "snr_db",
    "tone_lines",
]

Pcm = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]

FRAME_S = 0.020
"""Length of the frames that levels are taken of."""

WINDOW_S = 0.100
"""Length of the windows that signal is split from noise in."""

_FULL_SCALE = 32768.0
_MAX_LINES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """PCM and its rate. `samples`: int16 (samples,)."""

    samples: Pcm
    rate_hz: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.int16:
            raise ConfigError(
                f"a sound is int16 (samples,), not {self.samples.dtype} {self.samples.shape}",
                hint="choose one channel: samples[:, 0]",
            )
        if self.rate_hz <= 0:
            raise ConfigError(f"{self.rate_hz} is no sample rate")

    @classmethod
    def read(cls, path: str | os.PathLike[str], channel: int = 0) -> Self:
        """Read one channel of a WAV file of 16-bit PCM. Raises AudioFileError."""
        try:
            with wave.open(os.fspath(path), "rb") as file:
                channels, width = file.getnchannels(), file.getsampwidth()
                rate_hz, data = file.getframerate(), file.readframes(file.getnframes())
        except (OSError, EOFError, wave.Error) as error:
            raise AudioFileError(f"{path} cannot be read: {error}") from error
        if width != 2 or not 0 <= channel < channels:
            raise AudioFileError(
                f"{path} has {channels} channels of {8 * width} bits, and channel {channel}"
                " of 16 bits was wanted",
                hint="record 16-bit PCM",
            )
        whole = np.frombuffer(data[: len(data) // (2 * channels) * (2 * channels)], "<i2")
        return cls(whole.reshape(-1, channels)[:, channel].astype(np.int16), rate_hz)

    @classmethod
    def sine(cls, frequency_hz: float, seconds: float, rate_hz: int, level_dbfs: float) -> Self:
        """Make a sine of RMS `level_dbfs` (-3.01 is full scale): what a peer's tone should be."""
        time = np.arange(round(seconds * rate_hz)) / rate_hz
        amplitude = math.sqrt(2) * _FULL_SCALE * 10 ** (level_dbfs / 20)
        wave_form = np.rint(amplitude * np.sin(2 * np.pi * frequency_hz * time))
        return cls(np.clip(wave_form, -32768, 32767).astype(np.int16), rate_hz)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate_hz

    @property
    def frame(self) -> int:
        """Samples in 20 ms."""
        return round(FRAME_S * self.rate_hz)


# ---------------------------------------------------------------- levels


def level_dbfs(samples: npt.NDArray[np.generic]) -> float:
    """Return the RMS level of int16-scaled `samples` (any shape); -inf for nothing but zeros."""
    return decibels(_mean_square(samples) / _FULL_SCALE**2)


def cut(samples: npt.NDArray[np.generic], length: int) -> Floats:
    """Cut `samples` (samples,) into whole pieces: float64 (pieces, length)."""
    count = len(samples) // length
    return np.asarray(samples[: count * length], np.float64).reshape(count, length)


def frame_rms(samples: npt.NDArray[np.generic], frame: int) -> Floats:
    """Return the RMS of each whole `frame` of `samples` (samples,), in units of one int16 step."""
    rms: Floats = np.sqrt(np.mean(cut(samples, frame) ** 2, axis=1))
    return rms


def is_silence(sound: Sound, threshold_dbfs: float = -60.0) -> bool:
    """Tell whether every 20 ms of `sound` is below `threshold_dbfs`.

    Raises ConfigError where there is no whole frame: nothing recorded is not silence heard.
    """
    rms = frame_rms(sound.samples, sound.frame)
    if not len(rms):
        raise ConfigError("there is no sound to call silent", hint="record at least 20 ms")
    return decibels(float(rms.max()) ** 2 / _FULL_SCALE**2) < threshold_dbfs


def active_speech_level(sound: Sound) -> tuple[float, float]:
    """Return the (level in dBFS, activity factor 0..1) of speech while it is there.

    ITU-T P.56, clause 6 (method B): an envelope of 30 ms is compared with thresholds 6 dB apart,
    held over 200 ms; the active level is the one 15.9 dB above its own threshold.
    (-inf, 0.0) where nothing is active.
    """
    from scipy.signal import lfilter  # here: it loads longer than all of the rest

    signal = sound.samples.astype(np.float64) / _FULL_SCALE
    energy = float(np.sum(signal**2))
    smooth = math.exp(-1 / (0.030 * sound.rate_hz))
    feedback = [1.0, -smooth]
    envelope = lfilter([1 - smooth], feedback, lfilter([1 - smooth], feedback, np.abs(signal)))
    hang = math.ceil(0.200 * sound.rate_hz)
    above: list[tuple[float, float, float]] = []  # level and threshold in dB, activity
    for exponent in range(-15, 0):
        active = _active_samples(envelope >= 2.0**exponent, hang)
        if not active:
            break
        above.append((decibels(energy / active), 6.0206 * exponent, active / len(signal)))
    return _at_margin(above, 15.9)


def _active_samples(hit: npt.NDArray[np.bool_], hang: int) -> int:
    """Count samples at most `hang` after the last hit, hits included."""
    places = np.flatnonzero(hit)
    if not len(places):
        return 0
    held = np.minimum(np.diff(np.append(places, len(hit))), hang + 1)
    return int(held.sum())


def _at_margin(above: list[tuple[float, float, float]], margin: float) -> tuple[float, float]:
    """Interpolate (level, activity) where level minus threshold falls through `margin`."""
    previous: tuple[float, float, float] | None = None
    for level, threshold, activity in above:
        difference = level - threshold
        if difference <= margin:
            if previous is None:
                return level, activity
            before = previous[0] - previous[1]
            share = (before - margin) / (before - difference)
            return (
                previous[0] + share * (level - previous[0]),
                previous[2] + share * (activity - previous[2]),
            )
        previous = (level, threshold, activity)
    return (previous[0], previous[2]) if previous else (-math.inf, 0.0)


# ---------------------------------------------------------------- tones


@dataclass(frozen=True, slots=True)
class Tone:
    """The strongest line of a sound. `snr_db`: its power over all else (noise and distortion)."""

    frequency_hz: float
    level_dbfs: float
    snr_db: float


def dominant_tone(sound: Sound) -> Tone | None:
    """Find the strongest line between 20 Hz and half the rate; None in silence or under 20 ms.

    The frequency is interpolated between the bins of a Hann-windowed FFT, exact for one line
    (Grandke 1983).
    """
    samples = sound.samples.astype(np.float64)
    if len(samples) < sound.frame or not samples.any():
        return None
    frequency = _strongest_line(samples, sound.rate_hz)
    if frequency is None:
        return None
    window = min(len(samples), round(WINDOW_S * sound.rate_hz))
    signal, rest = fit_tones(cut(samples, window), sound.rate_hz, (frequency,))
    power = float(signal.mean())
    return Tone(frequency, decibels(power / _FULL_SCALE**2), snr_db(power, float(rest.mean())))


def _strongest_line(samples: Floats, rate_hz: int) -> float | None:
    count = len(samples)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(count + 1)[:-1]))
    lowest = max(1, math.ceil(20 * count / rate_hz))
    if lowest >= len(spectrum) - 1:
        return None
    peak = lowest + int(np.argmax(spectrum[lowest:-1]))
    if not spectrum[peak]:
        return None
    side = 1 if spectrum[peak + 1] >= spectrum[peak - 1] else -1
    ratio = spectrum[peak + side] / spectrum[peak]
    return float((peak + side * (2 * ratio - 1) / (ratio + 1)) * rate_hz / count)


def tone_lines(sound: Sound) -> tuple[float, ...]:
    """Return the frequencies of a steady sound of at most four lines, strongest first.

    Silence around it does not matter. Raises ConfigError where lines leave more than -25 dB.
    """
    loud = np.flatnonzero(frame_rms(sound.samples, sound.frame) > 1.0)
    if len(loud):
        samples = sound.samples[loud[0] * sound.frame : (loud[-1] + 1) * sound.frame]
        whole = samples.astype(np.float64)
        rest = whole
        lines: list[float] = []
        while len(lines) < _MAX_LINES and (line := _strongest_line(rest, sound.rate_hz)):
            lines.append(line)
            angles = 2 * np.pi * np.outer(np.arange(len(whole)) / sound.rate_hz, lines)
            basis, _ = np.linalg.qr(np.concatenate((np.cos(angles), np.sin(angles)), axis=1))
            rest = whole - basis @ (basis.T @ whole)
            if float(np.sum(rest**2)) < 10**-2.5 * float(np.sum(whole**2)):
                return tuple(lines)
    raise ConfigError(
        "what was sent is not a steady tone",
        hint="judge it with grade_waveform, or grade_speech",
    )


def fit_tones(
    windows: npt.NDArray[np.generic], rate_hz: int, frequencies_hz: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Split the power of each window into lines at `frequencies_hz` and the rest.

    `windows`: (windows, samples). Amplitude and phase are free in each window (least squares).
    Returns mean squares (signal, rest), float64 (windows,) each.
    """
    frames = np.asarray(windows, np.float64)
    time = np.arange(frames.shape[1]) / rate_hz
    angles = 2 * np.pi * np.outer(time, frequencies_hz)
    basis, _ = np.linalg.qr(np.concatenate((np.cos(angles), np.sin(angles)), axis=1))
    total = np.mean(frames**2, axis=1)
    signal = np.sum((frames @ basis) ** 2, axis=1) / frames.shape[1]
    return signal, np.maximum(total - signal, 0.0)


# ---------------------------------------------------------------- where


@dataclass(frozen=True, slots=True)
class Alignment:
    """Sample 0 of the reference is sample `offset` of what was heard (negative: before it began).

    `likeness` is 0..1: 1 where the whole reference is in it, changed only in gain or sign.
    """

    offset: int
    likeness: float


def correlation(heard: Floats, sent: Floats) -> Floats:
    """Return how alike `sent` is to `heard` at each lag: float64 (heard + sent - 1 samples,).

    Number k is the sum of heard[n + lag] * sent[n] at a lag of k - (sent - 1) samples.
    """
    length = len(heard) + len(sent) - 1
    size = 1 << (length - 1).bit_length()
    product = np.fft.rfft(heard, size) * np.fft.rfft(sent[::-1], size)
    return np.fft.irfft(product, size)[:length]


def find_offset(reference: Sound, heard: Sound) -> Alignment | None:
    """Find `reference` in `heard` by cross-correlation; None where either is empty or zero.

    Robust to delay, gain, inversion, codec and other noise, cut ends. Both at one rate
    (ConfigError otherwise). A steady tone fits everywhere: its offset means nothing.
    """
    if reference.rate_hz != heard.rate_hz:
        raise ConfigError(
            f"{reference.rate_hz} Hz cannot be found in {heard.rate_hz} Hz", hint="resample first"
        )
    sent = reference.samples.astype(np.float64)
    got = heard.samples.astype(np.float64)
    if not sent.any() or not got.any():
        return None
    product = np.abs(correlation(got, sent))
    # Energy of what the reference covers at each lag: a loud part elsewhere must not win.
    energy = np.concatenate(([0.0], np.cumsum(got**2)))
    lags = np.arange(-len(sent) + 1, len(got))
    covered = energy[np.minimum(lags + len(sent), len(got))] - energy[np.maximum(lags, 0)]
    floor = 1e-9 * energy[-1]
    likeness = product / np.sqrt(np.sum(sent**2) * np.maximum(covered, floor))
    likeness[covered < floor] = 0.0
    best = int(np.argmax(likeness))
    return Alignment(int(lags[best]), min(float(likeness[best]), 1.0))


# ---------------------------------------------------------------- helpers


def decibels(power_ratio: float) -> float:
    """Return a ratio of powers in dB; -inf for nothing."""
    return 10 * math.log10(power_ratio) if power_ratio > 0 else -math.inf


def snr_db(signal: float, rest: float) -> float:
    """Return signal over rest (powers) in dB: inf without rest, -inf without signal."""
    if signal <= 0:
        return -math.inf
    return decibels(signal / rest) if rest > 0 else math.inf


def _mean_square(samples: npt.NDArray[np.generic]) -> float:
    return float(np.mean(np.asarray(samples, np.float64) ** 2)) if samples.size else 0.0

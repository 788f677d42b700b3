"""Sample-rate conversion: a streaming polyphase filter for any two rates of the field.

Flat within 0.01 dB to 90 % of the lower rate's Nyquist frequency, and 70 dB down from that
frequency on: what is above is removed, not folded back. The delay is half the filter's length:
5.6 ms between 8 kHz and anything higher, 2.8 ms between 16 kHz and anything higher.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from voip.errors import ConfigError

__all__ = ["RATES_HZ", "Resampler", "filter_matrix", "resample"]

RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Rates that are tested; others work where their ratio is simple enough."""

MAX_RATIO_TERM = 1280
"""The largest numerator or denominator of a ratio: bounds the filter, about 100 taps each."""
_PASS, _ATTENUATION_DB = 0.9, 72.0
_WORK = 1 << 18  # multiplications done at a time

_T = TypeVar("_T", np.float32, np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class _Filter:
    """`up` filters for `up` phases, each over `taps` input samples, the latest last."""

    up: int
    down: int
    taps: int
    delay: int  # output samples
    phases: npt.NDArray[np.float32]  # (up, taps)


@cache
def _design(rate_in_hz: int, rate_out_hz: int) -> _Filter:
    common = max(1, math.gcd(rate_in_hz, rate_out_hz))
    up, down = rate_out_hz // common, rate_in_hz // common
    if max(up, down) > MAX_RATIO_TERM or min(rate_in_hz, rate_out_hz) <= 0:
        raise ConfigError(
            f"cannot convert {rate_in_hz} Hz to {rate_out_hz} Hz: the ratio is {up}/{down}",
            hint="use one of " + ", ".join(map(str, RATES_HZ)),
        )
    if up == down:
        return _Filter(1, 1, 1, 0, np.ones((1, 1), np.float32))

    fine_hz = rate_in_hz * up
    nyquist = min(rate_in_hz, rate_out_hz) / 2
    length = _kaiser_length((1 - _PASS) * nyquist / (fine_hz / 2))
    delay = math.ceil(length / 2 / down)
    half = delay * down  # a whole number of output samples
    prototype = up * _low_pass(2 * half + 1, (1 + _PASS) / 2 * nyquist / (fine_hz / 2))
    taps = math.ceil(prototype.size / up)
    padded = np.append(prototype, np.zeros(taps * up - prototype.size))
    phases = np.ascontiguousarray(padded.reshape(taps, up).T[:, ::-1], np.float32)
    phases.flags.writeable = False
    return _Filter(up, down, taps, delay, phases)


def _kaiser_length(width: float) -> int:
    """Return the taps a Kaiser window needs for a transition of `width` (1: Nyquist).

    Kaiser's estimate: Oppenheim, Schafer, Discrete-Time Signal Processing, section 7.5.3. NumPy
    and not scipy.signal, whose import alone takes longer than the first second of a call.
    """
    return math.ceil((_ATTENUATION_DB - 7.95) / (2.285 * math.pi * width)) + 1


def _low_pass(length: int, cutoff: float) -> npt.NDArray[np.float64]:
    """Return a windowed-sinc low-pass of gain 1; `cutoff` as a share of Nyquist."""
    n = np.arange(length) - (length - 1) / 2
    window = np.kaiser(length, 0.1102 * (_ATTENUATION_DB - 8.7))
    taps = cutoff * np.sinc(cutoff * n) * window
    filtered: npt.NDArray[np.float64] = taps / taps.sum()
    return filtered


class Resampler:
    """Converts one stream, or `streams` streams in step, block by block.

    What comes out depends on what went in, not on how it was cut into blocks. After n samples in,
    ceil(n * out / in) are out, the first `delay` of them from before the beginning.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, streams: int | None = None) -> None:
        self._identity = rate_in_hz == rate_out_hz
        self._filter = _design(rate_in_hz, rate_out_hz)
        self._rate_out_hz = rate_out_hz
        self._shape: tuple[int, ...] = () if streams is None else (streams,)
        self.reset()

    @property
    def delay(self) -> int:
        """The delay in output samples."""
        return 0 if self._identity else self._filter.delay

    @property
    def delay_s(self) -> float:
        """The delay in seconds."""
        return self.delay / self._rate_out_hz

    def reset(self) -> None:
        """Begin anew, from silence."""
        self._past = np.zeros((*self._shape, self._filter.taps - 1), np.float32)
        self._phase = 0  # of the next output, in 1/up input samples after the end of `_past`

    def process(self, pcm: npt.NDArray[_T]) -> npt.NDArray[_T]:
        """Convert the next block: float32 or int16, (samples,) or (streams, samples).

        Returns the same type; int16 is rounded and saturates. Raises ConfigError for another shape
        or type.
        """
        if pcm.shape[:-1] != self._shape or pcm.ndim != len(self._shape) + 1:
            wanted = (*self._shape, "samples")
            raise ConfigError(f"this resampler takes {wanted}, not {pcm.shape}")
        if pcm.dtype != np.float32 and pcm.dtype != np.int16:
            raise ConfigError(f"samples are float32 or int16, not {pcm.dtype}")
        if self._identity:
            return pcm.copy()
        out = self._convert(pcm.astype(np.float32, copy=False))
        if pcm.dtype == np.int16:
            np.clip(np.rint(out, out=out), -32768, 32767, out=out)
        return out.astype(pcm.dtype, copy=False)

    def flush(self) -> npt.NDArray[np.float32]:
        """Return the last `delay` samples of a stream that has ended, and begin anew."""
        if self._identity:
            return np.zeros((*self._shape, 0), np.float32)
        silence = math.ceil((self.delay + 1) * self._filter.down / self._filter.up)
        out = self._convert(np.zeros((*self._shape, silence), np.float32))
        self.reset()
        return out[..., : self.delay]

    def _convert(self, pcm: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        up, down, taps = self._filter.up, self._filter.down, self._filter.taps
        buffer = np.concatenate((self._past, pcm), axis=-1)
        fresh = pcm.shape[-1]
        count = max(0, -(-(fresh * up - self._phase) // down))
        at = self._phase + down * np.arange(count)
        index, phase = at // up, at % up
        out = np.empty((*self._shape, count), np.float32)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(buffer, taps, axis=-1)
            step = max(1, _WORK // (taps * max(1, math.prod(self._shape))))
            for start in range(0, count, step):
                piece = slice(start, start + step)
                out[..., piece] = np.einsum(
                    "...nt,nt->...n",
                    windows[..., index[piece], :],
                    self._filter.phases[phase[piece]],
                )
        self._phase += count * down - fresh * up
        self._past = buffer[..., buffer.shape[-1] - (taps - 1) :].copy()
        return out


def filter_matrix(
    rate_in_hz: int, rate_out_hz: int, samples_in: int, samples_out: int
) -> tuple[npt.NDArray[np.float32], int]:
    """Return what a block of `samples_in` samples, and those before it, are multiplied by.

    float32 (history + samples_in, samples_out), and the delay in output samples. The block must be
    a whole number of samples at both rates.
    """
    design = _design(rate_in_hz, rate_out_hz)
    history = design.taps - 1
    matrix = np.zeros((history + samples_in, samples_out), np.float32)
    for out in range(samples_out):
        at, phase = divmod(out * design.down, design.up)
        matrix[at : at + design.taps, out] = design.phases[phase]
    return matrix, design.delay


def resample(pcm: npt.NDArray[_T], rate_in_hz: int, rate_out_hz: int) -> npt.NDArray[_T]:
    """Convert a whole sound, (samples,) or (streams, samples), without delay.

    Returns ceil(samples * out / in) samples of the same type; the first is at the same instant.
    """
    streams = None if pcm.ndim == 1 else pcm.shape[0]
    resampler = Resampler(rate_in_hz, rate_out_hz, streams)
    tail = math.ceil(resampler.delay * rate_in_hz / rate_out_hz)
    silence = np.zeros((*pcm.shape[:-1], tail), pcm.dtype)
    out = resampler.process(np.concatenate((pcm, silence), axis=-1))
    wanted = -(-pcm.shape[-1] * rate_out_hz // rate_in_hz)
    return out[..., resampler.delay : resampler.delay + wanted]

"""Sample-rate conversion by a ratio that may change a little all the time: bridges two clocks.

A windowed sinc, looked up between the phases of a table (J. O. Smith, "Digital Audio Resampling",
the bandlimited interpolation of https://ccrma.stanford.edu/~jos/resample/): flat within 0.1 dB to
90 % of the lower rate's Nyquist frequency, 70 dB down from that frequency on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from voip.errors import ConfigError

__all__ = ["MAX_PPM", "DriftResampler"]

MAX_PPM = 5000.0
"""How far a ratio may be moved: 5000 ppm are 9 cents, and two sound cards never differ by that."""
_PHASES = 256
_PASS, _ATTENUATION_DB = 0.9, 72.0

_Pcm = npt.NDArray[np.float32]


@cache
def _table(rate_in_hz: int, rate_out_hz: int) -> _Pcm:
    """Return the filter at `_PHASES` + 1 places between two samples: float32 (phases, taps)."""
    share = min(1.0, rate_out_hz / rate_in_hz)  # of the input's Nyquist frequency
    width = (1 - _PASS) * share
    length = (_ATTENUATION_DB - 7.95) / (2.285 * math.pi * width)
    taps = 2 * math.ceil(length / 2)
    cutoff = (1 + _PASS) / 2 * share
    beta = 0.1102 * (_ATTENUATION_DB - 8.7)
    # tap i of a phase weighs the sample i - taps/2 + 1 after the whole part of a position
    at = np.arange(taps) - taps // 2 + 1 - np.arange(_PHASES + 1)[:, None] / _PHASES
    window = np.i0(beta * np.sqrt(np.clip(1 - (2 * at / taps) ** 2, 0, None))) / np.i0(beta)
    weights = cutoff * np.sinc(cutoff * at) * window
    weights /= weights.sum(axis=1, keepdims=True)
    table: _Pcm = weights.astype(np.float32)
    table.flags.writeable = False
    return table


class DriftResampler:
    """Converts one stream; `ppm` more output than the rates say, which may be set at any time.

    The delay is half the filter: 5.6 ms between 8 kHz and anything higher, as with `Resampler`.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int) -> None:
        if not 0 < rate_in_hz <= 384_000 or not 0 < rate_out_hz <= 384_000:
            raise ConfigError(f"cannot convert {rate_in_hz} Hz to {rate_out_hz} Hz")
        self._table = _table(rate_in_hz, rate_out_hz)
        self._taps = self._table.shape[1]
        self._ratio = rate_in_hz / rate_out_hz
        self._step = self._ratio
        self._ppm = 0.0
        self.delay_s = self._taps / 2 / rate_in_hz
        self.reset()

    def reset(self) -> None:
        """Begin anew, from silence."""
        self._past = np.zeros(self._taps, np.float32)
        self._at = 0.0  # of the next output, in input samples after `_past`; may be a bit before

    @property
    def ppm(self) -> float:
        """How much more comes out than the rates say, in millionths; within `MAX_PPM`."""
        return self._ppm

    @ppm.setter
    def ppm(self, ppm: float) -> None:
        self._ppm = min(max(ppm, -MAX_PPM), MAX_PPM)
        self._step = self._ratio / (1 + self._ppm * 1e-6)

    def process(self, pcm: _Pcm) -> _Pcm:
        """Convert all of `pcm`, float32 (samples,): what comes out differs by a sample or so."""
        count = max(0, math.ceil((pcm.size - self._at) / self._step) + 1)
        at = self._places(count)
        return self._convert(pcm, at[at < pcm.size])

    def pull(self, count: int, read: Callable[[int], _Pcm]) -> _Pcm:
        """Return just `count` samples; `read(n)` gives the n input samples that they need."""
        if count <= 0:
            return np.zeros(0, np.float32)
        at = self._places(count)
        return self._convert(read(max(0, math.floor(at[-1]) + 1)), at)

    def _places(self, count: int) -> npt.NDArray[np.float64]:
        """Return where the next outputs lie, in input samples from the first new one on."""
        return self._at + self._step * np.arange(count, dtype=np.float64)

    def _convert(self, pcm: _Pcm, at: npt.NDArray[np.float64]) -> _Pcm:
        buffer = np.concatenate((self._past, pcm))
        whole = np.floor(at)
        place = (at - whole) * _PHASES
        phase = place.astype(np.intp)
        rest = (place - phase).astype(np.float32)[:, None]
        table = self._table
        weights = table[phase]
        weights += rest * (table[phase + 1] - weights)
        windows = np.lib.stride_tricks.sliding_window_view(buffer, self._taps)
        out: _Pcm = np.einsum("nt,nt->n", windows[whole.astype(np.intp) + 1], weights)
        self._at += self._step * at.size - pcm.size
        self._past = buffer[buffer.size - self._taps :].copy()
        return out

"""Comfort noise (RFC 3389): how loud silence is and what it sounds like, in a few octets.

Levels are in dBov: 0 is a full-scale square wave, that is, a mean square of 1 for PCM in [-1, 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dtbsv

from voip.codecs.pcm import Pcm, check_pcm
from voip.errors import CodecError

__all__ = ["MAX_ORDER", "QUIETEST", "ComfortNoise", "NoiseSource", "colour"]

QUIETEST: Final = -127
"""dBov: no noise to speak of."""
MAX_ORDER: Final = 32
"""Reflection coefficients that are read and made; more are left out, as section 3 allows."""

_STEP: Final = 258 / 32768
_MIDDLE: Final = 127
_RESERVED: Final = 255
_LEAST_RESIDUE: Final = 1e-6
"""Of the power, what must be left to the excitation: 60 dB are more than noise ever has."""
_MANY: Final = 64
"""So many rows cost less sample by sample than row by row."""


@dataclass(frozen=True, slots=True)
class ComfortNoise:
    """A noise: its level in dBov (-127 to 0), and its reflection coefficients, each in (-1, 1).

    The coefficients are those of A(z) = 1 + sum a_i z^-i, the noise being white through 1/A: a
    first one below zero is a noise of low frequencies. Raises CodecError for values out of range.
    """

    level_dbov: int
    reflection: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not QUIETEST <= self.level_dbov <= 0:
            raise CodecError(f"a noise of {self.level_dbov} dBov cannot be told", hint="-127 to 0")
        if len(self.reflection) > MAX_ORDER or not all(abs(k) < 1 for k in self.reflection):
            raise CodecError(f"reflection coefficients are {MAX_ORDER} in (-1, 1) at most")

    @classmethod
    def read(cls, payload: bytes) -> ComfortNoise:
        """Read a payload. A coefficient of the reserved index 255, and what follows, is left out.

        Raises CodecError for an empty one.
        """
        if not payload:
            raise CodecError("a comfort noise payload is empty", hint="RFC 3389, section 3.3")
        known, _, _ = payload[1 : 1 + MAX_ORDER].partition(bytes([_RESERVED]))
        return cls(-(payload[0] & 0x7F), tuple(_STEP * (index - _MIDDLE) for index in known))

    @classmethod
    def of(cls, pcm: Pcm, order: int = 10) -> ComfortNoise:
        """Describe the noise in int16 or float32 (samples,), by `order` coefficients at most."""
        check_pcm(pcm, "comfort noise")
        if not 0 <= order <= MAX_ORDER:
            raise CodecError(f"there may be 0 to {MAX_ORDER} coefficients, not {order}")
        sound = pcm.astype(np.float64) / (32768 if pcm.dtype == np.int16 else 1)
        power = float(np.dot(sound, sound)) / max(sound.size, 1)
        windowed = sound * np.hanning(sound.size)
        reach = range(min(order + 1, sound.size))
        lags = [float(np.dot(windowed[lag:], windowed[: sound.size - lag])) for lag in reach]
        return cls.of_lags(power, np.array(lags))

    @classmethod
    def of_lags(cls, power: float, lags: npt.NDArray[np.float64]) -> ComfortNoise:
        """Describe noise of a mean square by its autocorrelation (order + 1,), on any scale."""
        if power < 10 ** (QUIETEST / 10):
            return cls(QUIETEST)
        return cls(min(0, round(10 * np.log10(power))), _reflection(lags))

    @property
    def payload(self) -> bytes:
        """What is sent."""
        return bytes([-self.level_dbov, *(_MIDDLE + round(k / _STEP) for k in self.reflection)])

    @property
    def synthesis(self) -> tuple[float, npt.NDArray[np.float64]]:
        """The deviation of white noise that is this noise through 1/A, and A after its first 1.

        Coefficients from where on less than a millionth of the power would be left to the
        excitation are left out: what they would ask for is no noise, and hardly stable.
        """
        kept, residue = _within_bounds(self.reflection)
        return float(np.sqrt(residue * 10 ** (self.level_dbov / 10))), _polynomial(kept)[1:]


class NoiseSource:
    """Makes the noise that a payload tells of, going on from call to call."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._state = np.zeros(0)

    def generate(self, noise: ComfortNoise, samples: int) -> npt.NDArray[np.float32]:
        """Return float32 (samples,) in [-1, 1)."""
        deviation, filter_ = noise.synthesis
        if self._state.size != filter_.size:
            self._state = np.zeros(filter_.size)
        white = deviation * self._random.standard_normal(samples)
        sound: npt.NDArray[np.float32] = colour(white[None], filter_[None], self._state[None])[0]
        return sound


def colour(
    white: npt.NDArray[np.floating],
    filters: npt.NDArray[np.float64],
    state: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """Filter white noise (k, samples) by 1/A, each row by a filter of its own (k, order).

    `state`, (k, order), is where the last call has left off, and is written. Returns float32
    (k, samples) in [-1, 1).
    """
    rows, samples = white.shape
    order = filters.shape[1]
    noise = white
    if order and 0 < rows <= _MANY and samples:
        noise = np.array([_colour_row(*row) for row in zip(white, filters, state, strict=True)])
    elif order and rows:  # the same, a sample of all rows at a time
        noise = np.ascontiguousarray(white.T, np.float64)
        taps = np.ascontiguousarray(filters.T)
        held, coming = np.zeros((order + 1, rows)), np.zeros((order + 1, rows))
        held[:-1] = state.T
        fed_back = np.empty((order, rows))
        for now in noise:
            now += held[0]
            np.multiply(taps, now, out=fed_back)
            np.subtract(held[1:], fed_back, out=coming[:-1])
            held, coming = coming, held
        state[:] = held[:-1].T
        noise = noise.T
    top = np.float32(32767 / 32768)
    clipped: npt.NDArray[np.float32] = np.clip(noise, np.float32(-1), top).astype(np.float32)
    return clipped


def _colour_row(
    white: npt.NDArray[np.floating],
    filter_: npt.NDArray[np.float64],
    state: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Filter a row of one sample or more by 1/A, (order,), and write its state, (order,).

    A with its samples as unknowns is a triangle of few bands, which BLAS solves: what has SciPy's
    filters, scipy.signal, takes longer to be imported than all of the rest.
    """
    samples, order = white.size, filter_.size
    early = min(samples, order)
    noise = white.astype(np.float64)
    noise[:early] += state[:early]
    bands = np.ones((order + 1, samples), order="F")
    bands[1:] = filter_[:, None]
    noise = dtbsv(order, bands, noise, lower=1, diag=1, overwrite_x=1)
    state[: order - early], state[order - early :] = state[early:].copy(), 0.0
    state -= np.convolve(noise[samples - early :], filter_)[early - 1 :]
    return noise


def _within_bounds(reflection: Iterable[float]) -> tuple[tuple[float, ...], float]:
    """Return the coefficients that may be used, and what of the power is left to the excitation."""
    kept: list[float] = []
    residue = 1.0
    for k in reflection:
        if residue * (1 - k * k) < _LEAST_RESIDUE:
            break
        residue *= 1 - k * k
        kept.append(k)
    return tuple(kept), residue


def _polynomial(reflection: Iterable[float]) -> npt.NDArray[np.float64]:
    """Return A's coefficients, the first of them 1."""
    filter_ = np.ones(1)
    for k in reflection:
        longer = np.append(filter_, 0.0)
        filter_ = longer + k * longer[::-1]
    return filter_


def _reflection(lags: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return the reflection coefficients of a sound with such an autocorrelation (Levinson)."""
    filter_, error = np.ones(1), lags[0]
    found: list[float] = []
    for order in range(1, lags.size):
        if error <= 1e-9 * lags[0]:
            break
        k = -float(np.dot(filter_, lags[order:0:-1])) / error
        k = min(max(k, -_MIDDLE * _STEP), _MIDDLE * _STEP)
        longer = np.append(filter_, 0.0)
        filter_ = longer + k * longer[::-1]
        error *= 1 - k * k
        found.append(k)
    return tuple(found)

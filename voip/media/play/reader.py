"""Readers of sound: mono PCM at a wanted rate, piece by piece, from whatever it may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from voip.dsp.cadence import CadencedTone, render
from voip.dsp.pcm import to_int16
from voip.media.files import Octets

__all__ = ["ArrayReader", "OpenUrl", "Reader", "ToneReader"]

OpenUrl: TypeAlias = Callable[[str], Octets]
"""Opens what a URL names, for reading from the beginning; raises `AudioFileError`."""


class Reader(Protocol):
    """Sound from somewhere. All may raise `AudioFileError`."""

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""

    @property
    def duration_s(self) -> float | None:
        """How long it is in seconds; None: for ever, or unknown."""

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return at most `samples`, int16 (n,); fewer, or none, is not the end: see `ended`."""

    def seek(self, seconds: float) -> None:
        """Go on from there; beyond the end nothing more comes."""

    def close(self) -> None:
        """Let go of it."""


class ArrayReader:
    """An array, int16 (samples,) at `rate_hz`."""

    def __init__(self, pcm: npt.NDArray[np.int16], rate_hz: int) -> None:
        self._pcm = pcm
        self._rate_hz = rate_hz
        self._at = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._at >= self._pcm.size

    @property
    def duration_s(self) -> float:
        """How long it is."""
        return self._pcm.size / self._rate_hz

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return the next samples."""
        piece = self._pcm[self._at : self._at + samples]
        self._at += piece.size
        return piece

    def seek(self, seconds: float) -> None:
        """Go on from there."""
        self._at = min(round(seconds * self._rate_hz), self._pcm.size)

    def close(self) -> None:
        """Let go of the array."""
        self._pcm = self._pcm[:0]


class ToneReader:
    """A tone with its cadence, for `seconds` or for as long as it lasts by itself."""

    def __init__(self, tone: CadencedTone, rate_hz: int, seconds: float | None = None) -> None:
        self._tone = tone
        self._rate_hz = rate_hz
        limits = [item for item in (seconds, tone.duration_s) if item is not None]
        self._end = round(min(limits) * rate_hz) if limits else None
        self._at = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._end is not None and self._at >= self._end

    @property
    def duration_s(self) -> float | None:
        """How long it is; None: for ever."""
        return None if self._end is None else self._end / self._rate_hz

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return the next samples."""
        if self._end is not None:
            samples = min(samples, self._end - self._at)
        sound = render(self._tone, self._at, max(samples, 0), self._rate_hz)
        self._at += sound.size
        return to_int16(sound)

    def seek(self, seconds: float) -> None:
        """Go on from there."""
        self._at = round(seconds * self._rate_hz)

    def close(self) -> None:
        """Nothing is held."""

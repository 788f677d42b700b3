"""The speech that codecs are judged by, and the judge: PESQ (ITU-T P.862), in two bands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final

from voip.dsp.resample import resample
from voip.errors import ConfigError
from voip.harness.audio import Pcm, Sound, is_silence
from voip.harness.grade import WORST_MOS_LQO, pesq_installed

__all__ = ["Band", "SpeechSet", "check_judge", "score", "sound_at"]


class Band(Enum):
    """What PESQ compares; the value is its name there. Scores of two bands are no one scale."""

    NARROW = "nb"
    """8 kHz, MOS-LQO by P.862.1."""
    WIDE = "wb"
    """16 kHz, P.862.2."""

    @property
    def rate_hz(self) -> int:
        """At which sounds are compared."""
        return 8000 if self is Band.NARROW else 16000

    @classmethod
    def of(cls, sample_rate: int) -> Band:
        """Return the band of a codec that works at a rate."""
        return cls.NARROW if sample_rate <= 8000 else cls.WIDE


LEAST_S: Final = 2.9
"""Shorter recordings are left out: PESQ of so little speech is chance."""


@dataclass(frozen=True, slots=True)
class SpeechSet:
    """Recordings by people, mono WAV files; each is one sentence or a few."""

    name: str
    files: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> SpeechSet:
        """Take the WAV files of a folder, but silent and short ones. ConfigError where none is."""
        files = tuple(path for path in sorted(folder.glob("*.wav")) if _is_of_use(Sound.read(path)))
        if not files:
            hint = f"recordings of speech, mono, {LEAST_S:g} s and longer"
            raise ConfigError(f"no WAV files to judge by in {folder}", hint=hint)
        return cls(folder.name, files)

    def of_band(self, band: Band) -> Iterator[Path]:
        """Yield the recordings that have all of a band."""
        return (path for path in self.files if Sound.read(path).rate_hz >= band.rate_hz)


def _is_of_use(sound: Sound) -> bool:
    return sound.seconds >= LEAST_S and not is_silence(sound)


@cache
def sound_at(path: Path, rate_hz: int) -> Pcm:
    """Return a recording at a rate: int16 (samples,)."""
    sound = Sound.read(path)
    return resample(sound.samples, sound.rate_hz, rate_hz)


def check_judge() -> None:
    """Raise ConfigError where PESQ is not installed."""
    if not pesq_installed():
        raise ConfigError("codecs cannot be judged without PESQ", hint="make quality")


def score(sent: Pcm, heard: Pcm, rate_hz: int, band: Band) -> float:
    """Return the MOS-LQO of what was heard, both int16 (samples,) at `rate_hz`.

    What is longer is cut. PESQ finds a delay by itself.
    """
    from pesq import PesqError, pesq  # optional: it exists only as source

    size = min(sent.size, heard.size)
    reference, degraded = (
        resample(pcm[:size], rate_hz, band.rate_hz) if rate_hz != band.rate_hz else pcm[:size]
        for pcm in (sent, heard)
    )
    try:
        return float(pesq(band.rate_hz, reference, degraded, band.value))
    except PesqError:  # there is speech in what was sent, and PESQ finds none to compare
        return WORST_MOS_LQO

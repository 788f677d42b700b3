"""From what somebody wants to hear to a reader of it."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from voip.dsp.cadence import CadencedTone
from voip.dsp.melody import melody
from voip.errors import AudioFileError, ConfigError
from voip.media.play.av_reader import AvReader
from voip.media.play.reader import ArrayReader, OpenUrl, Reader, ToneReader
from voip.media.wav import WavReader

__all__ = [
    "MAX_ITEMS",
    "SCHEMES",
    "MelodyItem",
    "Playable",
    "ToneItem",
    "check",
    "is_url",
    "open_reader",
]

MAX_ITEMS = 10_000
"""How long a list may be."""
SCHEMES = ("http", "https")
"""What URLs may begin with."""


@dataclass(frozen=True, slots=True)
class ToneItem:
    """A tone, for `seconds`; None: as long as it lasts by itself."""

    tone: CadencedTone
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class MelodyItem:
    """The music that comes with the package."""


Playable: TypeAlias = str | PathLike[str] | npt.NDArray[np.int16] | ToneItem | MelodyItem
"""A file, a URL, int16 (samples,), a tone, or our own music."""


def is_url(item: Playable) -> bool:
    """Whether it comes from the web."""
    return isinstance(item, str) and "://" in item


def check(item: Playable) -> Playable:
    """Return what is to be played; `ConfigError` for what cannot be, whatever it holds."""
    if isinstance(item, np.ndarray):
        if item.dtype != np.int16 or item.ndim != 1:
            raise ConfigError(
                f"{item.dtype} of shape {item.shape} cannot be sent",
                hint="give mono int16 (samples,)",
            )
        return item
    if isinstance(item, ToneItem | MelodyItem):
        return item
    if is_url(item):
        parts = urlsplit(str(item))
        if parts.scheme.lower() not in SCHEMES or not parts.hostname:
            raise ConfigError(f"nothing is played from {item}", hint="http://, https:// or a file")
        return item
    return fspath(item)


def open_reader(item: Playable, rate_hz: int, open_url: OpenUrl) -> Reader:
    """Open it; raises `AudioFileError` where it cannot be read.

    WAV is read by ourselves, everything else by FFmpeg.
    """
    if isinstance(item, np.ndarray):
        return ArrayReader(item, rate_hz)
    if isinstance(item, ToneItem):
        return ToneReader(item.tone, rate_hz, item.seconds)
    if isinstance(item, MelodyItem):
        return ArrayReader(melody(rate_hz), rate_hz)
    if is_url(item):
        return AvReader(open_url(str(item)), str(item), rate_hz)
    path = Path(fspath(item))
    if _is_riff(path) or path.suffix.lower() == ".wav":
        try:
            return WavReader(path, rate_hz)
        except AudioFileError as error:
            try:
                return AvReader(path.open("rb"), str(path), rate_hz)
            except AudioFileError:
                raise error from None  # what we say of WAV is plainer
    return AvReader(path.open("rb"), str(path), rate_hz)


def _is_riff(path: Path) -> bool:
    """Whether it is a WAV file by its first octets; refuses what is no file."""
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind):  # opening a pipe waits for who writes
            what = "is a pipe" if stat.S_ISFIFO(kind) else "is no file"
            raise AudioFileError(f"{path} {what}", hint="write the sound to a file first")
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read: {error.strerror or error}") from None
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"

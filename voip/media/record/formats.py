"""The formats of recordings, by suffix, and what each of them can hold."""

from __future__ import annotations

from enum import Enum
from os import PathLike, fspath
from pathlib import Path

from voip.errors import ConfigError

__all__ = ["RecordFormat", "Sides", "format_of", "rate_for"]


class RecordFormat(Enum):
    """What a recording is written as. All but WAV need PyAV."""

    WAV = "wav"
    FLAC = "flac"
    OPUS = "opus"  # in Ogg (RFC 7845)
    MP3 = "mp3"


class Sides(Enum):
    """Whose sound a recording has, in which channels."""

    HEARD = "heard"  # the other side, in one
    SENT = "sent"  # ours, in one
    MONO = "mono"  # both together, in one
    STEREO = "stereo"  # the other side left, ours right
    SEPARATE = "separate"  # the other side and ours, each in a file of its own


_SUFFIXES = {
    ".wav": RecordFormat.WAV,
    ".wave": RecordFormat.WAV,
    ".flac": RecordFormat.FLAC,
    ".opus": RecordFormat.OPUS,
    ".ogg": RecordFormat.OPUS,
    ".oga": RecordFormat.OPUS,
    ".mp3": RecordFormat.MP3,
}
_OTHERS = frozenset((".m4a", ".mp4", ".aac", ".wma", ".aif", ".aiff", ".au", ".webm", ".amr"))
"""Who asks for one of these does not want a WAV file with a wrong name."""
_RATES_HZ = {
    RecordFormat.OPUS: (8000, 12000, 16000, 24000, 48000),  # RFC 6716 section 2
    RecordFormat.MP3: (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
}


def format_of(path: str | PathLike[str], name: str | None = None) -> RecordFormat:
    """Return the format called `name`; None: the one of the path's suffix, WAV where that is none.

    Raises `ConfigError` for what is not known, and for suffixes of sound that is not written here.
    """
    if name is None:
        suffix = Path(fspath(path)).suffix.lower()
        if suffix in _OTHERS:
            known = ", ".join(_SUFFIXES)
            raise ConfigError(f"no {suffix} is written", hint=f"one of {known}; or format=")
        return _SUFFIXES.get(suffix, RecordFormat.WAV)
    try:
        return RecordFormat("opus" if name == "ogg" else name)
    except ValueError:
        known = ", ".join(item.value for item in RecordFormat)
        raise ConfigError(f"there are no recordings in {name!r}", hint=known) from None


def rate_for(format_: RecordFormat, rate_hz: int, *, asked: bool) -> int:
    """Return the rate of a file for sound of `rate_hz`: the same, or the next one above.

    Raises `ConfigError` where the format does not have a rate that was `asked` for.
    """
    rates = _RATES_HZ.get(format_)
    if rates is None or rate_hz in rates:
        return rate_hz
    if asked:
        known = ", ".join(map(str, rates))
        raise ConfigError(f"{format_.value} cannot have {rate_hz} Hz", hint=known)
    return next((rate for rate in rates if rate > rate_hz), rates[-1])

"""Tones with a cadence: what a telephone exchange says, as a list of what sounds for how long.

A cadence is written as it is read: `"425:0.5 0:0.5"` is half a second of 425 Hz and half a second
of nothing, over and over. `350+440` are two frequencies at once, `400*25` is 400 Hz whose amplitude
varies with 25 Hz; without a duration it goes on for ever. What stands before a `|` is played once,
and what after it over and over; nothing after it: it ends there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from voip.dsp.level import DBM0_DBFS, amplitude
from voip.errors import ConfigError

__all__ = ["MAX_SEGMENTS", "CadencedTone", "Segment", "parse", "render"]

MAX_SEGMENTS = 64
DEPTH = 0.9
"""How deep the amplitude of a modulated frequency goes down."""
_RAMP_S = 0.002
"""What begins and ends a burst, so that it does not click; within the cadence."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`frequencies_hz` at once (none: silence), for `seconds` (inf: for ever)."""

    frequencies_hz: tuple[float, ...]
    seconds: float
    modulation_hz: float = 0.0


@dataclass(frozen=True, slots=True)
class CadencedTone:
    """`once`, then `over_and_over`; each frequency by itself at `level_dbm0`."""

    once: tuple[Segment, ...]
    over_and_over: tuple[Segment, ...]
    level_dbm0: float = -10.0

    @property
    def duration_s(self) -> float | None:
        """How long it lasts; None: for ever."""
        total = sum(segment.seconds for segment in self.once)
        return None if self.over_and_over or math.isinf(total) else total


def parse(words: str, level_dbm0: float = -10.0) -> CadencedTone:
    """Read a cadence as this module's first lines have it; `ConfigError` for what is none."""
    before, bar, after = words.partition("|")
    once = tuple(_segment(word, words) for word in before.split())
    again = tuple(_segment(word, words) for word in after.split())
    if not bar:
        once, again = (), once
    if not once + again or len(once) + len(again) > MAX_SEGMENTS:
        raise ConfigError(f"{words!r} is no cadence", hint=f"1 to {MAX_SEGMENTS} parts")
    return CadencedTone(once, again, level_dbm0)


def _segment(word: str, words: str) -> Segment:
    try:
        sound, colon, length = word.partition(":")
        seconds = float(length) if colon else math.inf
        base, star, modulation = sound.partition("*")
        frequencies = tuple(float(item) for item in base.split("+") if float(item))
        segment = Segment(frequencies, seconds, float(modulation) if star else 0.0)
    except ValueError:
        raise ConfigError(f"{word!r} of {words!r} is no part of a cadence") from None
    if not seconds > 0 or any(not 0 < item < 4000 for item in frequencies):
        raise ConfigError(f"{word!r} of {words!r} cannot sound", hint="0 < Hz < 4000, above 0 s")
    return segment


@cache
def _edges(segments: tuple[Segment, ...], rate_hz: int) -> npt.NDArray[np.int64]:
    """Return where segments end, in samples: int64 (segments,); the last may be for ever."""
    ends = np.cumsum([segment.seconds for segment in segments]) * rate_hz
    return np.where(np.isinf(ends), float(1 << 62), np.rint(ends)).astype(np.int64)


def render(tone: CadencedTone, start: int, samples: int, rate_hz: int) -> npt.NDArray[np.float32]:
    """Return samples [start, start + samples) of a tone that began at 0: float32 (samples,)."""
    out = np.zeros(samples, np.float32)
    at = 0
    while at < samples:
        found = _find(tone, start + at, rate_hz)
        if found is None:
            break
        segment, into, left = found
        count = int(min(samples - at, left))
        if segment.frequencies_hz:
            out[at : at + count] = _sound(segment, tone.level_dbm0, into, count, left, rate_hz)
        at += count
    return out


def _find(tone: CadencedTone, position: int, rate_hz: int) -> tuple[Segment, int, int] | None:
    """Return the segment at a position, how far it has come, and what is left of it (>= 1)."""
    segments, offset = tone.once, position
    edges = _edges(segments, rate_hz) if segments else np.zeros(0, np.int64)
    if not segments or offset >= edges[-1]:
        offset -= int(edges[-1]) if segments else 0
        segments = tone.over_and_over
        if not segments:
            return None
        edges = _edges(segments, rate_hz)
        offset %= max(1, int(edges[-1]))
    number = int(np.searchsorted(edges, offset, side="right"))
    begin = int(edges[number - 1]) if number else 0
    return segments[number], offset - begin, int(edges[number]) - offset


def _sound(
    segment: Segment, level_dbm0: float, into: int, count: int, left: int, rate_hz: int
) -> npt.NDArray[np.float32]:
    """Return `count` samples of a segment, from `into` it on: float32 (count,)."""
    peak = math.sqrt(2.0) * amplitude(level_dbm0 + DBM0_DBFS)
    n = np.arange(into, into + count, dtype=np.float64)
    wave = np.zeros(count)
    for frequency in segment.frequencies_hz:
        wave += np.sin(2 * np.pi * np.remainder(n * (frequency / rate_hz), 1.0))
    if segment.modulation_hz:
        slow = np.cos(2 * np.pi * np.remainder(n * (segment.modulation_hz / rate_hz), 1.0))
        wave *= 1.0 + DEPTH * (slow - 1.0) / 2.0
    ramp = max(1, round(_RAMP_S * rate_hz))
    if into < ramp:
        wave *= np.minimum(n / ramp, 1.0)
    if left - count < ramp:
        wave *= np.minimum((into + left - n) / ramp, 1.0)
    return (peak * wave).astype(np.float32)

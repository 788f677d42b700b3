"""The rings of mixes: who speaks to a mix, and hears it, without being a row of it.

A mix's *voice* is its host: all rows hear it, the host's ear does not. An *announcement* all hear,
the host too. An *ear* takes the sum of what is said; a *part* what one stream says in it, or
silence while that is not there, so that all parts together are what the ear takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.dsp.pcm import to_int16
from voip.errors import MediaError
from voip.media.answers import EngineEvent, SourceDrained
from voip.media.limiter import Limiter
from voip.media.rings import AudioRing, RingArena
from voip.media.voices import STEPS_PER_SECOND

__all__ = ["MixRings", "Spoken", "write_plain"]

Pcm = npt.NDArray[np.float32]
_SCALE = np.float32(32768.0)
_ALONE = np.zeros(1, np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """What is said to a mix by a ring in this step: float32 (samples,) at `rate_hz`."""

    rate_hz: int
    sound: Pcm
    is_voice: bool


class MixRings:
    """Which rings each mix has, by its number."""

    def __init__(self) -> None:
        self.pcm_source: dict[int, int] = {}
        self.announced: dict[int, int] = {}
        self.sinks: dict[int, list[tuple[int, bool]]] = {}  # (ring, what the voice said)
        self.parts: dict[int, dict[int, int]] = {}  # ring -> stream
        self._limiters: dict[int, Limiter] = {}  # of ears, by ring

    def __bool__(self) -> bool:
        """Whether any mix has any."""
        return bool(self.pcm_source or self.sinks or self.announced or self.parts)

    def forget(self, mix: int) -> None:
        """Let a mix have none."""
        self.pcm_source.pop(mix, None)
        self.announced.pop(mix, None)
        self.parts.pop(mix, None)
        for ring, _ in self.sinks.pop(mix, ()):
            self._limiters.pop(ring, None)

    def of(self, mixes: Iterable[int]) -> list[int]:
        """Return those of `mixes` that have any."""
        every = (self.pcm_source, self.announced, self.sinks, self.parts)
        return [mix for mix in mixes if any(mix in some for some in every)]

    def add_part(self, mix: int, ring: int, stream: int) -> None:
        """Write what a stream says in a mix to a ring."""
        self.parts.setdefault(mix, {})[ring] = stream

    def remove(self, mix: int, ring: int) -> None:
        """Write nothing to a ring any more."""
        left = [sink for sink in self.sinks.get(mix, []) if sink[0] != ring]
        if left:
            self.sinks[mix] = left
        else:
            self.sinks.pop(mix, None)
        self._limiters.pop(ring, None)
        parts = self.parts.get(mix, {})
        parts.pop(ring, None)
        if not parts:
            self.parts.pop(mix, None)

    def read(self, mix: int, arena: RingArena) -> tuple[list[Spoken], list[EngineEvent]]:
        """Return what is said to a mix by rings, silence where one has nothing."""
        said: list[Spoken] = []
        events: list[EngineEvent] = []
        for sources in (self.pcm_source, self.announced):
            number = sources.get(mix)
            if number is None:
                continue
            ring = _ring(arena, number)
            if ring is None:
                del sources[mix]
                continue
            count = ring.rate_hz // STEPS_PER_SECOND
            sound = np.zeros(count, np.float32)
            pcm = ring.take(count)
            sound[: pcm.size] = pcm / _SCALE
            said.append(Spoken(ring.rate_hz, sound, is_voice=sources is self.pcm_source))
            if ring.closed and not ring.available:
                del sources[mix]
                events.append(SourceDrained(mix, number))
        return said, events

    def ears(self, mix: int, arena: RingArena) -> list[tuple[int, AudioRing, bool]]:
        """Return the rings, and their numbers, that take the sum of a mix, or what its voice said.

        One that was given back meanwhile is let go of.
        """
        found = []
        for number, said in tuple(self.sinks.get(mix, ())):
            ring = _ring(arena, number)
            if ring is None:
                self.remove(mix, number)
            else:
                found.append((number, ring, said))
        return found

    def parts_of(self, mix: int, arena: RingArena) -> list[tuple[int, AudioRing]]:
        """Return the streams of a mix, and the rings that take their parts."""
        found = []
        for number, stream in tuple(self.parts.get(mix, {}).items()):
            ring = _ring(arena, number)
            if ring is None:
                self.remove(mix, number)
            else:
                found.append((stream, ring))
        return found

    def write(self, number: int, ring: AudioRing, sound: Pcm) -> None:
        """Write the next step, float32 (samples,), to a ring; what is too loud is made softer."""
        limiter = self._limiters.get(number)
        if limiter is None:
            limiter = self._limiters[number] = Limiter(1)
        fitting = sound[None].copy()
        limiter.limit(_ALONE, fitting)
        write_plain(ring, fitting[0])


def write_plain(ring: AudioRing, sound: Pcm) -> None:
    """Write float32 (samples,) to a ring as int16; what is too loud is cut."""
    ring.overwrite(to_int16(sound))


def _ring(arena: RingArena, number: int) -> AudioRing | None:
    try:
        return arena.ring(number)
    except MediaError:  # given back meanwhile
        return None

"""Mixes: rows that hear each other, each the sum of all others and never itself (N-1).

All rows of all mixes take a step in one operation: what each says is summed up by mix, and what a
row hears is its mix's sum less its own. That is exact, for nothing saturates before: a float32 has
room for thousands of voices, and what is too loud is cut once, where it is coded. Rows of a mix
take the base step, all in the same ticks, so that nobody's sound has to wait for anybody else's.

A mix also has rings, as a row has: what is read from one all its rows hear, and what all its rows
say is written to the other.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError
from voip.media.columns import Bools, ColumnSpec, Ints, Rows, grow, make, reset, some, where
from voip.media.commands import EngineEvent, SourceDrained
from voip.media.rings import RingArena

__all__ = ["Mixer"]

Pcm = npt.NDArray[np.float32]
_SCALE = np.float32(32768.0)


class Mixer:
    """Which rows are in which mix, and what they hear of each other.

    Mixes have numbers of their own among the streams'. `pcm_source` and `sinks` are keyed by
    them, as those of the table are by rows.
    """

    mix: Ints
    gain: npt.NDArray[np.float32]
    hears: Bools
    place: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "mix": (np.int64, -1, ()),  # the number of the mix a row is in
        "gain": (np.float32, 1.0, ()),  # of what it says; 0: nobody hears it
        "hears": (np.bool_, True, ()),
        "place": (np.int64, 0, ()),  # of a row in what the mixes of this step have come to
    }

    def __init__(self, rows: int) -> None:
        make(self, rows)
        self.is_idle = True
        """Whether no row is in any mix: then a step costs nothing."""
        self.pcm_source: dict[int, int] = {}  # mix -> ring
        self.sinks: dict[int, list[tuple[int, bool]]] = {}  # mix -> (ring, what the ring said)
        self._open: dict[int, None] = {}
        self._others: Pcm = np.zeros((0, 0), np.float32)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)

    def is_open(self, mix: int) -> bool:
        """Whether there is such a mix."""
        return mix in self._open

    def open(self, mix: int) -> None:
        """Begin a mix that nobody is in."""
        self._open[mix] = None

    def close(self, mix: int) -> None:
        """End a mix that nobody is in."""
        del self._open[mix]
        self.pcm_source.pop(mix, None)
        self.sinks.pop(mix, None)

    def join(self, row: int, mix: int, gain: float, *, hears: bool) -> None:
        """Let a row take part in a mix, and in no other."""
        if mix not in self._open:
            raise MediaError(f"there is no mix {mix}", hint="it was closed")
        self.mix[row], self.gain[row], self.hears[row] = mix, gain, hears
        self.is_idle = False

    def leave(self, row: int) -> None:
        """Let a row take part in no mix."""
        reset(self, row)
        self.is_idle = not some(self.mix >= 0)

    def members_of(self, mix: int) -> Rows:
        """Return the rows (k,) that are in a mix."""
        return where(self.mix == mix)

    # ------------------------------------------------------------ one step

    def hear(self, rows: Rows, heard: Pcm, arena: RingArena) -> list[EngineEvent]:
        """Mix what `rows` (k,), all of one step, have heard: float32 (k, samples)."""
        mixes = self.mix[rows]
        taking_part = mixes >= 0
        if not some(taking_part):
            return []
        at = where(taking_part)
        at = at[np.argsort(mixes[at], kind="stable")]
        members, mixes = rows[at], mixes[at]
        said = heard[at]
        said *= self.gain[members, None]
        begins = np.ones(at.size, np.bool_)  # a mix
        np.not_equal(mixes[1:], mixes[:-1], out=begins[1:])
        first = where(begins)
        total = np.add.reduceat(said, first, axis=0)
        events: list[EngineEvent] = []
        if self.pcm_source or self.sinks:
            for number, sound in zip(mixes[first].tolist(), total, strict=True):
                events += self._serve_rings(number, sound, arena)
        # the sum that each row is in, less its own part of it
        np.subtract(total[begins.cumsum() - 1], said, out=said)
        self._others = said
        self.place[members] = np.arange(at.size)
        return events

    def add(self, rows: Rows, sound: Pcm) -> None:
        """Add to `sound`, float32 (k, samples), what `rows` (k,) hear in their mixes, in place.

        They are rows of the step that was last heard.
        """
        at = where((self.mix[rows] >= 0) & self.hears[rows])
        if at.size:
            mixed = sound[at]
            mixed += self._others[self.place[rows[at]]]
            sound[at] = np.clip(mixed, -1.0, 1.0, out=mixed)

    def _serve_rings(self, mix: int, total: Pcm, arena: RingArena) -> list[EngineEvent]:
        """Write the sum of a mix, float32 (samples,), to its rings, and add what others say."""
        sinks = self.sinks.get(mix, [])
        voice, events = self._read_ring(mix, total.size, arena)
        for sink in tuple(sinks):
            sound = voice if sink[1] else total
            samples = np.clip(np.rint(sound * _SCALE), -32768, 32767).astype(np.int16)
            try:
                arena.ring(sink[0]).overwrite(samples)
            except MediaError:  # given back meanwhile
                sinks.remove(sink)
        total += voice
        return events

    def _read_ring(self, mix: int, count: int, arena: RingArena) -> tuple[Pcm, list[EngineEvent]]:
        """Return the next `count` samples of a mix's ring, silence where it has none."""
        voice = np.zeros(count, np.float32)
        number = self.pcm_source.get(mix)
        if number is None:
            return voice, []
        try:
            ring = arena.ring(number)
        except MediaError:  # given back meanwhile
            del self.pcm_source[mix]
            return voice, []
        pcm = ring.take(count)
        voice[: pcm.size] = pcm / _SCALE
        if not ring.closed or ring.available:
            return voice, []
        del self.pcm_source[mix]
        return voice, [SourceDrained(mix, number)]

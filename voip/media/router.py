"""Where sound goes: from rows to rows, from rings to rows, from rows to rings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError
from voip.media.columns import Ints, Rows, every, some
from voip.media.commands import EngineEvent, SourceDrained
from voip.media.rings import RingArena
from voip.media.table import StreamTable

__all__ = ["Router"]

Pcm = npt.NDArray[np.float32]


class Router:
    """Routes the sound of one step at a time: `hear`, then `gather`, then `record`."""

    def __init__(self, table: StreamTable, arena: RingArena) -> None:
        self._table = table
        self._arena = arena
        self._place: Ints = np.zeros(0, np.int64)  # of a row in the step's arrays, else -1
        self._sound: Pcm = np.zeros((0, 0), np.float32)

    def hear(self, rows: Rows, heard: Pcm) -> list[EngineEvent]:
        """Take what `rows` (k,) hear in this step: float32 (k, samples).

        What a row sends on that is not in the same step is kept for it.
        """
        table = self._table
        if table.routed.size:
            self._keep_for_later(rows, heard)
        return [] if table.mixer.is_idle else table.mixer.hear(rows, heard, self._arena)

    def _keep_for_later(self, rows: Rows, heard: Pcm) -> None:
        table = self._table
        if self._place.size != table.active.size:
            self._place = np.zeros(table.active.size, np.int64)
        self._place.fill(-1)
        self._place[rows] = np.arange(rows.size)
        routed = table.routed
        place = self._place[table.source[routed]]
        later = (self._place[routed] < 0) | (table.feed.fill[routed] > 0)
        later &= (place >= 0) & table.transmitter.sending[routed]
        if some(later):
            table.feed.append(routed[later], heard[place[later]])

    def gather(self, rows: Rows, heard: Pcm) -> tuple[Pcm, list[EngineEvent]]:
        """Return what `rows` (k,), of this step, are to send: float32 (k, samples).

        It may be changed at will, and is overwritten by the next call.
        """
        table = self._table
        sound = self._routed_sound(rows, heard)
        events: list[EngineEvent] = []
        if not table.mixer.is_idle:
            table.mixer.add(rows, sound)
        if table.pcm_source:
            for at, row in enumerate(rows.tolist()):
                if row in table.pcm_source:
                    events += self._add_ring(row, sound[at])
        muted = table.muted[rows]
        if some(muted):
            sound[muted] = 0.0
        return sound, events

    def _routed_sound(self, rows: Rows, heard: Pcm) -> Pcm:
        """Return what `rows` (k,) send of what others hear: float32 (k, samples)."""
        table, samples = self._table, heard.shape[1]
        if not table.routed.size:
            return np.zeros((rows.size, samples), np.float32)
        source, fill = table.source[rows], table.feed.fill[rows]
        place = np.where((source >= 0) & (fill == 0), self._place[source], -1)
        direct = place >= 0
        if every(direct):
            if self._sound.shape != heard.shape:
                self._sound = np.empty_like(heard)
            sound = self._sound[: rows.size]
            return heard.take(place, axis=0, out=sound, mode="clip")
        sound = np.zeros((rows.size, samples), np.float32)
        sound[direct] = heard[place[direct]]
        queued = (source >= 0) & (fill >= samples)
        if some(queued):
            sound[queued] = table.feed.take(rows[queued], samples)
        return sound

    def _add_ring(self, row: int, sound: Pcm) -> list[EngineEvent]:
        """Add the next samples of the row's ring to `sound`, (samples,), in place."""
        table = self._table
        number = table.pcm_source[row]
        try:
            ring = self._arena.ring(number)
        except MediaError:  # given back meanwhile
            del table.pcm_source[row]
            return []
        pcm = ring.read(sound.size)
        sound[: pcm.size] += pcm / np.float32(32768.0)
        if not ring.closed:
            table.underrun[row] += sound.size - pcm.size
        elif not ring.available:
            del table.pcm_source[row]
            return [SourceDrained(int(table.stream[row]), number)]
        return []

    def record(self, rows: Rows, pcm: Pcm, *, sent: bool) -> None:
        """Write what `rows` (k,) hear, or send, float32 (k, samples), to the rings that want it."""
        if not self._table.sinks:
            return
        for at, row in enumerate(rows.tolist()):
            for number, wants_sent in tuple(self._table.sinks.get(row, ())):
                if wants_sent != sent:
                    continue
                scaled = np.rint(pcm[at] * np.float32(32768.0))
                samples = np.clip(scaled, -32768, 32767).astype(np.int16)
                try:
                    self._arena.ring(number).overwrite(samples)
                except MediaError:  # given back meanwhile
                    self._table.sinks[row].remove((number, sent))

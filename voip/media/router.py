"""Where sound goes: from rows to rows, from rings to rows, from rows to rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.dsp.pcm import to_int16
from voip.errors import MediaError
from voip.media.answers import EngineEvent, SourceDrained
from voip.media.columns import Ints, Rows, every, some, where
from voip.media.mix_layout import Part
from voip.media.rings import RingArena
from voip.media.table import Group, StreamTable

__all__ = ["Router", "Step"]

Pcm = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What a group of rows (k,) hears, float32 (k, samples), from base step `slot` (k,) on.

    power: its mean squares (k,).
    """

    group: Group
    slot: Ints
    heard: Pcm
    power: Pcm


class Router:
    """Routes the sound of one tick: `hear` each group, `mix` all, `gather` for each, `record`."""

    def __init__(self, table: StreamTable, arena: RingArena) -> None:
        self._table = table
        self._arena = arena
        self._place: Ints = np.zeros(0, np.int64)  # of a row in its group's arrays, else -1
        self._placed: Rows | None = None  # whose places these are
        self._sound: Pcm = np.zeros((0, 0), np.float32)

    def hear(self, step: Step) -> None:
        """Keep what a group hears for those rows that send it on and are of another."""
        if self._table.routed.size:
            self._keep_for_later(step)
        if self._table.links.out:
            self._table.links.write(step, self._put_in_place(step.group.rows), self._table)

    def _put_in_place(self, rows: Rows) -> Ints:
        if self._placed is not rows:
            if self._place.size != self._table.active.size:
                self._place = np.zeros(self._table.active.size, np.int64)
            self._place.fill(-1)
            self._place[rows] = np.arange(rows.size)
            self._placed = rows
        return self._place

    def _keep_for_later(self, step: Step) -> None:
        table, rates = self._table, self._table.playout.rate
        places = self._put_in_place(step.group.rows)
        routed = table.routed
        source = table.source[routed]
        place = places[source]
        later = (places[routed] < 0) | (table.feed.fill[routed] > 0)
        later &= (place >= 0) & table.transmitter.sending[routed]
        if not some(later):
            return
        other = later & (rates[routed] != rates[source])
        same = later & ~other
        if some(same):
            table.feed.append(routed[same], step.heard[place[same]])
        for at in where(other):
            row = int(routed[at])
            convert = table.converter(row, "route", int(rates[source[at]]), int(rates[row]))
            sound = convert.process(step.heard[place[at]])
            table.feed.append(routed[at : at + 1], sound[None])

    def mix(self, steps: Sequence[Step]) -> list[EngineEvent]:
        """Let the rows of all groups hear each other, those that are in a mix."""
        if self._table.mixer.is_idle:
            return []
        if self._table.mixer.links:
            self._table.mixer.links.begin_step(steps, self._table.mixer.mix)
        rate = self._table.playout.rate
        parts = [
            Part(step.group.rows, int(rate[step.group.rows[0]]), step.heard, step.power)
            for step in steps
        ]
        return self._table.mixer.hear(parts, self._arena)

    def gather(self, rows: Rows, step: Step) -> tuple[Pcm, list[EngineEvent]]:
        """Return what `rows` (k,), of this step's group, are to send: float32 (k, samples).

        It may be changed at will, and is overwritten by the next call.
        """
        table = self._table
        sound = self._routed_sound(rows, step)
        events: list[EngineEvent] = []
        if not table.mixer.is_idle:
            table.mixer.add(rows, sound, int(table.playout.rate[rows[0]]))
        if table.pcm_source:
            for at, row in enumerate(rows.tolist()):
                if row in table.pcm_source:
                    events += self._add_ring(row, sound[at])
        if table.links.into:
            table.links.add(rows, sound, step, self._put_in_place(step.group.rows), table)
        muted = table.muted[rows]
        if some(muted):
            sound[muted] = 0.0
        return sound, events

    def _routed_sound(self, rows: Rows, step: Step) -> Pcm:
        """Return what `rows` (k,) send of what others hear: float32 (k, samples)."""
        table, heard = self._table, step.heard
        samples = heard.shape[1]
        if not table.routed.size:
            return np.zeros((rows.size, samples), np.float32)
        places = self._put_in_place(step.group.rows)
        source, fill = table.source[rows], table.feed.fill[rows]
        place = np.where((source >= 0) & (fill == 0), places[source], -1)
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
            table.forget_converter(row, number)
            return []
        rate = int(table.playout.rate[row])
        wanted = sound.size * ring.rate_hz // rate
        pcm = ring.take(wanted)
        if ring.rate_hz == rate:
            sound[: pcm.size] += pcm / np.float32(32768.0)
        else:
            block = np.zeros(wanted, np.float32)
            block[: pcm.size] = pcm / np.float32(32768.0)
            convert = table.converter(row, number, ring.rate_hz, rate)
            sound += convert.process(block)
        missing = (wanted - pcm.size) * rate // ring.rate_hz
        if ring.paused:
            return []
        if not ring.closed:
            table.underrun[row] += missing
        elif not ring.available:
            del table.pcm_source[row]
            table.forget_converter(row, number)
            return [SourceDrained(int(table.stream[row]), number)]
        return []

    def record(self, rows: Rows, pcm: Pcm, *, sent: bool) -> None:
        """Write what `rows` (k,) hear, or send, float32 (k, samples), to the rings that want it."""
        table = self._table
        if not table.sinks:
            return
        for at, row in enumerate(rows.tolist()):
            for number, wants_sent in tuple(table.sinks.get(row, ())):
                if wants_sent != sent:
                    continue
                try:
                    ring = self._arena.ring(number)
                except MediaError:  # given back meanwhile
                    table.sinks[row].remove((number, sent))
                    table.forget_converter(row, number)
                    continue
                sound, rate = pcm[at], int(table.playout.rate[row])
                if ring.rate_hz != rate:
                    convert = table.converter(row, number, rate, ring.rate_hz)
                    sound = convert.process(sound)
                ring.overwrite(to_int16(sound))

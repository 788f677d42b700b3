"""Both sides of a stream for whoever records it, and the beep that says so.

What a row hears and what it sends are written to one ring as pairs, so that nothing can move them
against each other. Samples are counted by the engine's base steps: steps that a row left out, and
sound that it did not send (on hold, before the answer), are silence of the same length. Rows that
nobody records pay one look at an empty dictionary.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voip.dsp.pcm import to_int16
from voip.dsp.resample import Resampler
from voip.dsp.tones import Tone, play
from voip.errors import MediaError
from voip.media.columns import Ints, Rows
from voip.media.commands import AddPairSink, SetBeep
from voip.media.rings import AudioRing, RingArena
from voip.media.table import Group, StreamTable
from voip.media.voices import STEPS_PER_SECOND

__all__ = ["MAX_SILENCE_S", "Beeping", "PairSink", "Pairs"]

MAX_SILENCE_S = 60
"""The longest silence written at once, for steps that were left out: as long as any ring."""

Pcm = npt.NDArray[np.float32]


@dataclass(slots=True, eq=False)
class PairSink:
    """A ring that wants pairs. `slot`: the base step written next, None before the first."""

    ring: int
    slot: int | None = None
    rate_hz: int = 0  # of the row, when last written
    resampler: Resampler | None = None


@dataclass(slots=True, eq=False)
class Beeping:
    """A row's beep; `slot`: the base step it began in, None before that."""

    tone: Tone
    heard: bool
    slot: int | None = None


@dataclass(slots=True, eq=False)
class _Sides:
    """What `rows` (k,) of a group hear and say in the present step: float32 (k, samples)."""

    rows: Rows
    heard: Pcm
    said: Pcm


@dataclass(slots=True, eq=False)
class Pairs:
    """Writes pairs; the engine tells it what each group hears, what it says, and then `write`."""

    table: StreamTable
    arena: RingArena
    _sides: dict[Group, _Sides] = field(default_factory=dict)

    def hear(self, group: Group, slot: Ints, heard: Pcm) -> None:
        """Note what a group hears, float32 (k, samples); beeps are added in place."""
        table = self.table
        if table.beeps:
            for row, at in _places(group.rows, table.beeps):
                beep = table.beeps[row]
                if beep.slot is None:
                    beep.slot = int(slot[at])
                if beep.heard:
                    heard[at] += self._beep(beep, row, int(slot[at]), heard.shape[1])
        if table.pair_sinks:
            tapped = _among(group.rows, table.pair_sinks)
            if tapped.size:
                taken = heard[tapped]
                self._sides[group] = _Sides(group.rows[tapped], taken, np.zeros_like(taken))

    def say(self, group: Group, rows: Rows, slot: Ints, sound: Pcm) -> None:
        """Note what `rows` (k,) of a group send, float32 (k, samples); beeps are added in place."""
        table = self.table
        if table.beeps:
            for row, at in _places(rows, table.beeps):
                sound[at] += self._beep(table.beeps[row], row, int(slot[at]), sound.shape[1])
        sides = self._sides.get(group)
        if sides is not None:
            place = np.minimum(np.searchsorted(rows, sides.rows), rows.size - 1)
            sends = rows[place] == sides.rows
            sides.said[sends] = sound[place[sends]]

    def _beep(self, beep: Beeping, row: int, slot: int, samples: int) -> Pcm:
        rate = int(self.table.playout.rate[row])
        start = (slot - (slot if beep.slot is None else beep.slot)) * rate // STEPS_PER_SECOND
        return play(beep.tone, start, samples, rate)

    def write(self, group: Group, slot: Ints) -> None:
        """Write this step of a group's rows, which began at base steps `slot` (k,)."""
        sides = self._sides.pop(group, None)
        if sides is None:
            return
        table, rows = self.table, sides.rows
        pairs = np.stack((sides.heard, sides.said), axis=2)
        whole = to_int16(pairs).reshape(rows.size, -1)
        slots = slot[np.searchsorted(group.rows, rows)].tolist()
        rates = table.playout.rate[rows].tolist()
        for at, row in enumerate(rows.tolist()):
            for sink in tuple(table.pair_sinks.get(row, ())):
                try:
                    ring = self.arena.ring(sink.ring)
                except MediaError:  # given back meanwhile
                    remove_pair_sink(table, row, sink.ring)
                    continue
                self._catch_up(sink, ring, slots[at], group.slots)
                if rates[at] == ring.rate_hz:
                    ring.overwrite(whole[at])
                else:
                    ring.overwrite(self._convert(sink, ring, rates[at], pairs[at]))

    def _catch_up(self, sink: PairSink, ring: AudioRing, slot: int, slots: int) -> None:
        """Write silence for the base steps that the row has left out."""
        missed = 0 if sink.slot is None else slot - sink.slot
        sink.slot = slot + slots
        if missed > 0:
            frames = min(missed, MAX_SILENCE_S * STEPS_PER_SECOND) * ring.rate_hz
            ring.overwrite(np.zeros(2 * (frames // STEPS_PER_SECOND), np.int16))

    def _convert(
        self, sink: PairSink, ring: AudioRing, rate: int, pair: Pcm
    ) -> npt.NDArray[np.int16]:
        """Return float32 (samples, 2) at the ring's rate: int16, in pairs."""
        if sink.resampler is None or sink.rate_hz != rate:
            sink.resampler, sink.rate_hz = Resampler(rate, ring.rate_hz, 2), rate
        return to_int16(sink.resampler.process(np.ascontiguousarray(pair.T)).T).reshape(-1)


def add_pair_sink(table: StreamTable, arena: RingArena, command: AddPairSink) -> None:
    """Write pairs to a ring from the next step on; `MediaError` where there is no such ring."""
    row = table.row(command.stream)
    arena.ring(command.ring)
    table.pair_sinks.setdefault(row, []).append(PairSink(command.ring))


def remove_pair_sink(table: StreamTable, row: int, ring: int) -> None:
    """Write no more to a ring; one that was never written to is no error."""
    left = [sink for sink in table.pair_sinks.get(row, []) if sink.ring != ring]
    if left:
        table.pair_sinks[row] = left
    else:
        table.pair_sinks.pop(row, None)


def set_beep(table: StreamTable, command: SetBeep) -> None:
    """Begin a beep, or end it."""
    row = table.row(command.stream)
    if command.frequency_hz is None:
        table.beeps.pop(row, None)
        return
    if not (0 < command.duration_s < command.every_s < float("inf")):
        raise MediaError(
            f"no beep lasts {command.duration_s} s of {command.every_s} s",
            hint="0 < duration_s < every_s",
        )
    cadence = (command.duration_s, command.every_s - command.duration_s)
    tone = Tone((command.frequency_hz,), command.level_dbm0, cadence)
    table.beeps[row] = Beeping(tone, command.heard)


def _among(rows: Rows, wanted: Collection[int]) -> Rows:
    """Return the places in `rows` (k,), which are in order, of those that are wanted."""
    these = np.fromiter(wanted, np.intp, len(wanted))
    these.sort()
    at = np.searchsorted(rows, these)
    inside = at < rows.size
    at, these = at[inside], these[inside]
    found: Rows = at[rows[at] == these]
    return found


def _places(rows: Rows, wanted: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield each of `wanted` that is among `rows` (k,), with its place."""
    for at in _among(rows, wanted).tolist():
        yield int(rows[at]), at

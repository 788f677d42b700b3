"""Mixes: rows that hear each other, each the sum of all others and never itself (N-1).

All rows of all mixes take a step in one operation for each rate: what each says is summed up by
mix, and what a row hears is its mix's sum less its own. That is exact, for nothing saturates
before: a float32 has room for thousands of voices, and what is too loud is made softer once, where
it is coded. Rows of a mix take the base step, all in the same ticks, so that nobody's sound has to
wait for anybody else's.

A row speaks and hears at the rate of its own codec: the sum of one rate is converted for those of
another (`mix_rates`). Who says nothing at all in a step is not summed up. A mix also has rings
(`mix_rings`), may let its loudest alone be heard, and tell who talks (`talkers`); a row may be
heard by some only, and hear some only (`audience`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError
from voip.media.audience import Audience
from voip.media.columns import Bools, ColumnSpec, Ints, Rows, every, grow, make, reset, some, where
from voip.media.commands import EngineEvent, SpeakersChanged
from voip.media.limiter import Limiter
from voip.media.mix_rates import Exchange
from voip.media.mix_rings import MixRings, Spoken, write_plain
from voip.media.rings import RingArena
from voip.media.talkers import Talkers
from voip.media.voices import STEPS_PER_SECOND

__all__ = ["Mixer", "Part"]

Pcm = npt.NDArray[np.float32]
Powers = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What rows (k,) of one rate have heard in a step: float32 (k, samples), not to be changed.

    power: its mean squares (k,).
    """

    rows: Rows
    rate_hz: int
    heard: Pcm
    power: Powers


@dataclass(slots=True, eq=False)
class _AtRate:
    """All that is said, and heard, at one rate in this step; mixes by their places.

    said: float32 (k, samples), what rows say. sums: what all of this rate have said, float32
    (mixes, samples). heard: what is heard at this rate, of all rates.
    """

    said: Pcm
    sums: Pcm
    speaks: Bools  # (mixes,): somebody may speak at this rate
    hears: Bools  # (mixes,): somebody may hear at this rate
    heard: Pcm


class Mixer:
    """Which rows are in which mix, and what they hear of each other.

    Mixes have numbers of their own among the streams'. `pcm_source` and `sinks` are keyed by
    them, as those of the table are by rows.
    """

    mix: Ints
    gain: npt.NDArray[np.float32]
    hears: Bools
    place: Ints
    own: Ints

    COLUMNS: ClassVar[ColumnSpec] = {
        "mix": (np.int64, -1, ()),  # the number of the mix a row is in
        "gain": (np.float32, 1.0, ()),  # of what it says; 0: nobody hears it
        "hears": (np.bool_, True, ()),
        "place": (np.int64, 0, ()),  # of a row's mix in what the mixes of this step have come to
        "own": (np.int64, -1, ()),  # where its own part of that is; -1: it has none
    }

    def __init__(self, rows: int, streams: Mapping[int, int] | None = None) -> None:
        make(self, rows)
        self.is_idle = True
        """Whether no row is in any mix: then a step costs nothing."""
        self.rings = MixRings()
        self.pcm_source, self.sinks = self.rings.pcm_source, self.rings.sinks
        self.talkers = Talkers(rows)
        self.audience = Audience(rows)
        self.limiter = Limiter(rows)
        self._streams: Mapping[int, int] = {} if streams is None else streams
        self._open: dict[int, int] = {}  # mix -> its number among converters
        self._numbers: list[int] = []  # of mixes that were closed
        self._sums, self._voices, self._singles = Exchange(), Exchange(), Exchange()
        self._step = 0
        self._at: dict[int, _AtRate] = {}
        self._extra: dict[int, Pcm] = {}  # what rows hear beside the sum, at their rates
        self._apart: dict[int, tuple[int, Pcm]] = {}  # rate, and what a row says by itself
        self._converted: dict[tuple[int, int], Pcm] = {}  # that, by row and another rate
        self._rate_of: dict[int, int] = {}  # at which each row hears, where that is asked

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)
        for part in (self.talkers, self.audience, self.limiter):
            part.grow(rows)

    # ------------------------------------------------------------ who is in it

    def is_open(self, mix: int) -> bool:
        """Whether there is such a mix."""
        return mix in self._open

    def open(self, mix: int) -> None:
        """Begin a mix that nobody is in."""
        self._open[mix] = self._numbers.pop() if self._numbers else len(self._open)

    def close(self, mix: int) -> None:
        """End a mix that nobody is in."""
        self._numbers.append(self._open.pop(mix))
        self.rings.forget(mix)
        self.talkers.forget(mix)

    def join(self, row: int, mix: int, gain: float, *, hears: bool) -> None:
        """Let a row take part in a mix, and in no other."""
        if mix not in self._open:
            raise MediaError(f"there is no mix {mix}", hint="it was closed")
        if self.mix[row] != mix:
            self.leave(row)
        self.mix[row], self.gain[row], self.hears[row] = mix, gain, hears
        self.is_idle = False

    def leave(self, row: int) -> None:
        """Let a row take part in no mix."""
        reset(self, row)
        self.talkers.reset(row)
        self.audience.reset(row)
        self.limiter.reset(row)
        self.is_idle = not some(self.mix >= 0)

    def members_of(self, mix: int) -> Rows:
        """Return the rows (k,) that are in a mix."""
        return where(self.mix == mix)

    # ------------------------------------------------------------ one step

    def hear(self, parts: Sequence[Part], arena: RingArena) -> list[EngineEvent]:
        """Mix what rows have heard, all of one step; rows in no mix may be among them."""
        self._at.clear()
        self._extra.clear()
        self._apart.clear()
        self._converted.clear()
        mine = [(part, where(self.mix[part.rows] >= 0)) for part in parts]
        mine = [(part, at) for part, at in mine if at.size]
        if not mine:
            return []
        self._step += 1
        rates = {part.rate_hz: None for part, _ in mine}
        members = [_sorted_by_mix(self.mix, mine, rate) for rate in rates]
        mixes = np.unique(np.concatenate([self.mix[rows] for rows, _, _ in members]))
        pairs: list[tuple[int, int]] = []
        if not self.audience.is_whole:
            pairs = self._pairs(rates, members)
        apart = {speaker for speaker, _ in pairs} | self._told_apart()
        for rate, (rows, said, power) in zip(rates, members, strict=True):
            gain = self.gain[rows]
            if not every(gain == 1.0):
                said *= gain[:, None]
                power = power * gain * gain
            if apart:
                for at, row in enumerate(rows.tolist()):
                    if row in apart:
                        self._apart[row] = rate, said[at].copy()
            self._sum(rate, rows, said, power, mixes)
        events: list[EngineEvent] = []
        if self.talkers.told:
            events += self._tell_talkers()
        if self.rings or len(rates) > 1:
            events += self._exchange(mixes, arena)
        for speaker, listener in pairs:
            self._whisper(speaker, listener)
        return events

    def add(self, rows: Rows, sound: Pcm, rate_hz: int) -> None:
        """Add to `sound`, float32 (k, samples), what `rows` (k,) hear in their mixes, in place.

        They are rows of the step that was last heard. What is too loud together is made softer.
        """
        at = self._at.get(rate_hz)
        if at is None:
            return
        mine = where((self.mix[rows] >= 0) & self.hears[rows])
        if not mine.size:
            return
        here = rows[mine]
        mixed = self._others(at, here)
        mixed += sound[mine]
        self.limiter.limit(here, mixed)
        sound[mine] = mixed

    def others(self, rows: Rows, rate_hz: int) -> Pcm:
        """Return the sum that `rows` (k,) of mixes hear, however loud: float32 (k, samples)."""
        return self._others(self._at[rate_hz], rows)

    def _others(self, at: _AtRate, rows: Rows) -> Pcm:
        mixed = at.heard.take(self.place[rows], axis=0)
        own = self.own[rows]
        spoke = own >= 0
        if every(spoke):
            mixed -= at.said.take(own, axis=0)
        elif some(spoke):
            mixed[spoke] -= at.said[own[spoke]]
        if not self.audience.is_whole:
            mixed[self.audience.picks[rows]] = 0.0
            for place, row in enumerate(rows.tolist()):
                if row in self._extra:
                    mixed[place] += self._extra[row]
        return mixed

    # ------------------------------------------------------------ the sums

    def _sum(self, rate: int, rows: Rows, said: Pcm, power: Powers, mixes: Ints) -> None:
        """Sum up what `rows` (k,) of one rate say, sorted by mix."""
        numbers = self.mix[rows]
        place = np.searchsorted(mixes, numbers)
        self.place[rows] = place
        speaking = power > 0
        if not self.talkers.is_idle:
            self.talkers.measure(rows, power)
            heard = self.talkers.choose(rows, numbers, said)
            if heard is not None:
                speaking &= heard
        if not self.audience.is_whole:
            speaking &= ~self.audience.whispers[rows]
        at_rate = self._at_rate(rate, mixes.size)
        at_rate.said = said
        at_rate.speaks[place] = at_rate.hears[place] = True
        own = np.arange(rows.size)
        if not every(speaking):
            own[~speaking] = -1
            at = where(speaking)
            place, said = place[at], said[at]
        self.own[rows] = own
        if place.size:
            begins = np.ones(place.size, np.bool_)
            np.not_equal(place[1:], place[:-1], out=begins[1:])
            first = where(begins)
            at_rate.sums[place[first]] = np.add.reduceat(said, first, axis=0)

    def _at_rate(self, rate: int, mixes: int) -> _AtRate:
        """Return what there is at a rate in this step, which may be nothing so far."""
        at = self._at.get(rate)
        if at is None:
            sums = np.zeros((mixes, rate // STEPS_PER_SECOND), np.float32)
            speaks, hears = np.zeros(mixes, np.bool_), np.zeros(mixes, np.bool_)
            at = self._at[rate] = _AtRate(sums[:0], sums, speaks, hears, sums)
        return at

    def _exchange(self, mixes: Ints, arena: RingArena) -> list[EngineEvent]:
        """Let rings speak and hear, and those of one rate those of another."""
        events: list[EngineEvent] = []
        spoken: dict[int, list[Spoken]] = {}
        places = {mix: place for place, mix in enumerate(mixes.tolist())}
        ringing = self.rings.of(places)
        for mix in ringing:
            spoken[mix], news = self.rings.read(mix, arena)
            events += news
            for one in spoken[mix]:
                at = self._at_rate(one.rate_hz, mixes.size)
                at.sums[places[mix]] += one.sound
                at.speaks[places[mix]] = True
            for _, ring, _ in self.rings.ears(mix, arena):
                self._at_rate(ring.rate_hz, mixes.size).hears[places[mix]] = True
        numbers = np.array([self._open[mix] for mix in places], np.intp)
        for rate, at in self._at.items():
            for other, there in self._at.items():
                both = where(at.hears & there.speaks)
                if other != rate and both.size:
                    if at.heard is at.sums:
                        at.heard = at.sums.copy()
                    at.heard[both] += self._sums.convert(
                        numbers[both], there.sums[both], other, rate, self._step
                    )
        for mix in ringing:
            self._write_rings(mix, places[mix], spoken[mix], arena)
        return events

    def _write_rings(
        self, mix: int, place: int, spoken: Sequence[Spoken], arena: RingArena
    ) -> None:
        """Write the sum of a mix to its ears, less its own voice, and parts to those that want."""
        voices: dict[int, Pcm] = {}
        number = np.array([self._open[mix]], np.intp)
        for ring_number, ring, wants_voice in self.rings.ears(mix, arena):
            rate = ring.rate_hz
            if rate not in voices:
                voices[rate] = np.zeros(rate // STEPS_PER_SECOND, np.float32)
                for one in spoken:
                    if one.is_voice:
                        voices[rate] += self._voices.convert(
                            number, one.sound[None], one.rate_hz, rate, self._step
                        )[0]
            sound = voices[rate]
            if not wants_voice:
                sound = self._at[rate].heard[place] - sound
                for row in self._apart:
                    if self.mix[row] == mix and self.audience.told_to(row, mix):
                        sound += self._single(row, rate)
            self.rings.write(ring_number, ring, sound)
        for stream, ring in self.rings.parts_of(mix, arena):
            row = self._streams.get(stream, -1)
            silence = np.zeros(ring.rate_hz // STEPS_PER_SECOND, np.float32)
            is_there = row in self._apart and self.mix[row] == mix
            write_plain(ring, self._single(row, ring.rate_hz) if is_there else silence)

    # ------------------------------------------------------------ what is rare, row by row

    def _told_apart(self) -> set[int]:
        """Return the rows of which is wanted by itself what they say, by rings."""
        rows = {
            self._streams.get(stream, -1)
            for parts in self.rings.parts.values()
            for stream in parts.values()
        }
        if self.sinks:
            rows |= {
                row for row in self.audience.heard_by
                if self.audience.told_to(row, int(self.mix[row]))
            }  # fmt: skip
        return rows

    def _pairs(
        self, rates: Iterable[int], members: Sequence[tuple[Rows, Pcm, Powers]]
    ) -> list[tuple[int, int]]:
        """Return who says something to whom beside the sum, and note at which rate each hears."""
        mix_of: dict[int, int] = {}
        self._rate_of = {}
        for rate, (rows, _, _) in zip(rates, members, strict=True):
            mix_of |= zip(rows.tolist(), self.mix[rows].tolist(), strict=True)
            self._rate_of |= dict.fromkeys(rows.tolist(), rate)
        return self.audience.pairs(mix_of, self._streams)

    def _whisper(self, speaker: int, listener: int) -> None:
        sound = self._single(speaker, self._rate_of[listener])
        known = self._extra.get(listener)
        self._extra[listener] = sound if known is None else known + sound

    def _single(self, row: int, rate: int) -> Pcm:
        """Return what a row says, at a rate: float32 (samples,)."""
        own_rate, sound = self._apart[row]
        if own_rate == rate:
            return sound
        found = self._converted.get((row, rate))
        if found is None:
            number = np.array([row], np.intp)
            found = self._singles.convert(number, sound[None], own_rate, rate, self._step)[0]
            self._converted[row, rate] = found
        return found

    def _tell_talkers(self) -> list[EngineEvent]:
        events: list[EngineEvent] = []
        for mix in self.talkers.told:
            found = self.talkers.tell(mix, self.members_of(mix), self._step)
            if found is not None:
                of_row = {row: stream for stream, row in self._streams.items()}
                events.append(SpeakersChanged(mix, tuple(of_row[row] for row in found)))
        return events


def _sorted_by_mix(
    mix: Ints, parts: Sequence[tuple[Part, Rows]], rate: int
) -> tuple[Rows, Pcm, Powers]:
    """Return the rows of one rate that are in mixes, sorted by these, and copies of their sound."""
    mine = [(part, at) for part, at in parts if part.rate_hz == rate]
    if len(mine) == 1:
        ((part, at),) = mine
        at = at[np.argsort(mix[part.rows[at]], kind="stable")]
        return part.rows[at], part.heard[at], part.power[at]
    rows = np.concatenate([part.rows[at] for part, at in mine])
    order = np.argsort(mix[rows], kind="stable")
    heard = np.concatenate([part.heard[at] for part, at in mine])
    power = np.concatenate([part.power[at] for part, at in mine])
    return rows[order], heard[order], power[order]

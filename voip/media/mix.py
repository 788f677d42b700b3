"""Mixes: rows that hear each other, each the sum of all others and never itself (N-1).

All rows of all mixes take a step in one operation for each rate: what each says is summed up by
mix, and what a row hears is its mix's sum less its own. That is exact, for nothing saturates
before: a float32 has room for thousands of voices, and what is too loud is made softer once, where
it is coded. Rows of a mix take the base step, all in the same ticks, so that nobody's sound has to
wait for anybody else's.

A row speaks and hears at the rate of its own codec: the sum of one rate is converted for those of
another (`mix_rates`). Whose line is idle in a step is not summed up. A mix also has rings
(`mix_rings`), may let its loudest alone be heard, and tell who talks (`talkers`); a row may be
heard by some only, and hear some only (`audience`).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.errors import MediaError
from voip.media.answers import EngineEvent, SpeakersChanged
from voip.media.audience import Audience
from voip.media.columns import Bools, ColumnSpec, Ints, Rows, every, grow, make, reset, some, where
from voip.media.limiter import Limiter
from voip.media.links import MixLinks
from voip.media.mix_layout import Layout, Members, Part, beginnings, lay_out
from voip.media.mix_rates import Exchange
from voip.media.mix_rings import MixRings, Spoken, write_plain
from voip.media.rings import RingArena
from voip.media.talkers import Talkers
from voip.media.voices import STEPS_PER_SECOND

__all__ = ["Mixer"]

Pcm = npt.NDArray[np.float32]
_NONE = np.zeros(0, np.int64)
_IDLE = np.float32(1.01 * (8 / 32768) ** 2)
"""The mean square of an A-law line on which nothing is said: it has a code for 8, none for 0."""


@dataclass(slots=True, eq=False)
class _AtRate:
    """All that is said, and heard, at one rate in this step; mixes by their places.

    said: float32 (k, samples), what rows say. sums: what all of this rate have said, float32
    (mixes, samples). heard: what is heard at this rate, of all rates.
    """

    said: Pcm
    order: Ints  # 0 to k - 1
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
        self.links = MixLinks()
        self._linked = Exchange()
        self._step = 0
        self._layout: Layout | None = None  # None: who is in which mix has changed
        self._is_extraordinary = False  # something is said, or recorded, beside the sums
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
        number = self._open.pop(mix)
        self._numbers.append(number)
        self._sums.forget(number)
        self._voices.forget(number)
        self._linked.forget(number)
        self.rings.forget(mix)
        self.links.forget(mix)
        self.talkers.forget(mix)

    def join(self, row: int, mix: int, gain: float, *, hears: bool) -> None:
        """Let a row take part in a mix, and in no other."""
        if mix not in self._open:
            raise MediaError(f"there is no mix {mix}", hint="it was closed")
        if self.mix[row] != mix:
            self.leave(row)
        self.mix[row], self.gain[row], self.hears[row] = mix, gain, hears
        self._layout = None
        self.is_idle = False

    def leave(self, row: int) -> None:
        """Let a row take part in no mix."""
        reset(self, row)
        self._layout = None
        self.talkers.reset(row)
        self.audience.reset(row)
        self.limiter.reset(row)
        self._singles.forget(row)
        self.is_idle = not some(self.mix >= 0)

    def members_of(self, mix: int) -> Rows:
        """Return the rows (k,) that are in a mix."""
        return where(self.mix == mix)

    # ------------------------------------------------------------ one step

    def hear(self, parts: Sequence[Part], arena: RingArena) -> list[EngineEvent]:
        """Mix what rows have heard, all of one step; rows in no mix may be among them."""
        self._at.clear()
        # who is in no mix, and takes its steps as it likes, is not to change the layout
        parts = [part for part in parts if some(self.mix[part.rows] >= 0)]
        layout = self._layout_of(parts)
        if not layout.mixes.size:
            return []
        self._step += 1
        pairs: list[tuple[int, int]] = []
        apart: set[int] = set()
        if self._is_extraordinary:
            self._extra.clear()
            self._apart.clear()
            self._converted.clear()
        self._is_extraordinary = not self.audience.is_whole or bool(self.rings.parts)
        if self._is_extraordinary:
            pairs = self._pairs(layout)
            apart = {speaker for speaker, _ in pairs} | self._told_apart()
        said = [members.said(parts) for members in layout.members]
        if not self.talkers.is_idle:
            self._judge(layout, said)
        for members, (sound, power) in zip(layout.members, said, strict=True):
            self._sum(members, sound, power, layout.mixes.size, apart)
        events: list[EngineEvent] = []
        if self.talkers.told:
            events += self._tell_talkers()
        if self.rings or self.links or len(layout.members) > 1:
            events += self._exchange(layout.mixes, arena)
        for speaker, listener in pairs:
            self._whisper(speaker, listener)
        return events

    def _layout_of(self, parts: Sequence[Part]) -> Layout:
        """Return how the rows of a step are mixed: as in the last one, if they are the same."""
        known = self._layout
        if known is None or not known.is_of(parts):
            known = self._layout = lay_out(parts, self.mix, self.gain)
            for members in known.members:
                self.place[members.rows] = members.place
                self.own[members.rows] = np.arange(members.rows.size)
        return known

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
        if mine.size == rows.size:
            sound += self._others(at, rows)
            self.limiter.limit(rows, sound)
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
        own = self.own[rows]
        heard = at.heard if len(at.heard) == 1 else at.heard.take(self.place[rows], axis=0)
        if own.size == len(at.said) and every(own == at.order):  # the ordinary case
            mixed = heard - at.said
        else:
            mixed = np.broadcast_to(heard, (rows.size, heard.shape[1])).copy()
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

    def _judge(self, layout: Layout, said: Sequence[tuple[Pcm, Pcm]]) -> None:
        """See how loud rows are, and which of those of all rates are let be heard."""
        talkers = self.talkers
        for members, (_, power) in zip(layout.members, said, strict=True):
            talkers.measure(members.rows, power)
        if not talkers.loudest:
            return
        rows = np.concatenate([members.rows for members in layout.members])
        mixes = self.mix[rows]
        linked = [mix for mix in talkers.loudest if mix in self.links.into]
        talkers.choose(rows, mixes, {mix: self.links.levels(mix) for mix in linked})
        for mix in linked:
            self.links.tell_levels(mix, talkers.loudest_of(mix, rows[mixes == mix]))

    def _sum(
        self, members: Members, said: Pcm, power: Pcm, mixes: int, apart: Container[int]
    ) -> None:
        """Sum up what those who hear at one rate say. `apart`: rows that are kept by themselves.

        said: float32 (k, samples), which may be the part's own; power: its mean squares (k,).
        """
        rows = members.rows
        if self.talkers.loudest:
            said = said.copy()
        if apart:
            for number, row in enumerate(rows.tolist()):
                if row in apart:
                    self._apart[row] = members.rate_hz, said[number].copy()
        speaking = _speaking(said, power)
        if self.talkers.loudest:
            speaking &= self.talkers.fade(rows, said)
        if not self.audience.is_whole:
            speaking &= ~self.audience.whispers[rows]
        place, spoken, first = members.place, said, members.first
        if every(speaking):
            if not members.all_spoke:
                self.own[rows] = members.order
            sums = np.add.reduceat(said, first, axis=0)
            if len(sums) < mixes:
                place = place[first]
                sums, summed = np.zeros((mixes, said.shape[1]), np.float32), sums
                sums[place] = summed
        else:
            self.own[rows] = np.where(speaking, members.order, -1)
            at = where(speaking)
            place, spoken = place[at], said[at]
            sums = np.zeros((mixes, said.shape[1]), np.float32)
            if place.size:
                first = beginnings(place)
                sums[place[first]] = np.add.reduceat(spoken, first, axis=0)
        members.all_spoke = spoken is said
        there = members.there
        self._at[members.rate_hz] = _AtRate(
            said, members.order, sums, there.copy(), there.copy(), sums
        )

    def _at_rate(self, rate: int, mixes: int) -> _AtRate:
        """Return what there is at a rate in this step, which may be nothing so far."""
        at = self._at.get(rate)
        if at is None:
            sums = np.zeros((mixes, rate // STEPS_PER_SECOND), np.float32)
            speaks, hears = np.zeros(mixes, np.bool_), np.zeros(mixes, np.bool_)
            at = self._at[rate] = _AtRate(sums[:0], _NONE, sums, speaks, hears, sums)
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
        for mix in self.links.of(places):
            self._link(mix, places[mix], mixes.size)
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

    def _link(self, mix: int, place: int, mixes: int) -> None:
        """Let those hear a mix who are in other engines' parts of it, and be heard in it."""
        spoken = {rate: at.sums[place] for rate, at in self._at.items() if at.speaks[place]}
        if spoken:
            rate, number = max(spoken), np.array([self._open[mix]], np.intp)
            said = np.zeros(rate // STEPS_PER_SECOND, np.float32)
            for own_rate, sound in spoken.items():
                said += self._linked.convert(number, sound[None], own_rate, rate, self._step)[0]
            self.links.write(mix, said, rate)
        for rate, sound in self.links.read(mix):
            at = self._at_rate(rate, mixes)
            at.sums[place] += sound
            at.speaks[place] = True

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

    def _pairs(self, layout: Layout) -> list[tuple[int, int]]:
        """Return who says something to whom beside the sum, and note at which rate each hears."""
        if self.audience.is_whole:
            return []
        mix_of: dict[int, int] = {}
        self._rate_of = {}
        for members in layout.members:
            rows = members.rows.tolist()
            mix_of |= zip(rows, self.mix[members.rows].tolist(), strict=True)
            self._rate_of |= dict.fromkeys(rows, members.rate_hz)
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
            linked = mix in self.links.out
            found = self.talkers.tell(mix, self.members_of(mix), self._step, linked=linked)
            if found is not None:
                of_row = {row: stream for stream, row in self._streams.items()}
                speakers = tuple(of_row[row] for row in found)
                events.append(SpeakersChanged(mix, speakers, self.talkers.how_loud(found)))
        return events


def _speaking(said: Pcm, power: Pcm) -> Bools:
    """Return which rows (k,) say anything: not those of nothing but zeros, or an idle A-law line's.

    said: float32 (k, samples), power: its mean squares (k,).
    """
    speaking: Bools = power > 0
    faint = speaking & (power <= _IDLE)
    if some(faint):
        at = where(faint)
        sound = said[at]
        speaking[at[sound.max(axis=1) == sound.min(axis=1)]] = False
    return speaking

"""From waiting packets to what is heard: when to play, and what to play where nothing came.

`decoded` is the timestamp up to which sound is decoded; what of it was not heard yet lies in the
FIFO. It moves with the clock; concealment is inserted before it when packets need more time than
they are given, and it is moved on (samples are left out, in pauses) when they need less.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.media.arrivals import Arrivals
from voip.media.columns import (
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    distinct,
    every,
    give_back,
    grow,
    make,
    reset,
    some,
    where,
)
from voip.media.comfort import Comfort
from voip.media.fifo import FifoArray
from voip.media.gaps import SEAM, Gaps
from voip.media.gliding import REACH, Gliding
from voip.media.lane import Lane
from voip.media.pacing import GROW_S, SHRINK_S, Pacer
from voip.media.past import HISTORY, Past
from voip.media.payloads import PayloadRing
from voip.media.recovery import Recovery
from voip.media.voiced import Voiced
from voip.media.voices import Voice
from voip.media.voicing import Voicing
from voip.rtp.jitter import ALLOWANCE, DelayEstimator

__all__ = ["PCM_SAMPLES", "Playout"]

IDLE, STARTING, PLAYING = range(3)
"""States of a row: nothing has come, the first packet waits for the next step, sound is heard."""
PCM_SAMPLES = 48 * (120 + 120)
"""Decoded samples a row can hold: the longest packet, and what a jump needs, and a step."""
_LONG_AGO = 1 << 40
_NOTHING = -(1 << 62)
AIM_SAMPLES = 1280
STAY_S = 0.0075
"""A target that would fall by less stays."""
_ROUNDS = 16
"""Packets decoded in one step of one row; only packets below 2 ms need more."""


class Playout:
    """Playout state of every row."""

    IDLE: ClassVar = IDLE
    STARTING: ClassVar = STARTING
    NEVER: ClassVar = _LONG_AGO  # `silent` of rows that have heard nothing so far

    state: npt.NDArray[np.uint8]
    first: Ints
    decoded: Ints
    sequence: Ints
    silent: Ints
    seam: npt.NDArray[np.float32]
    rate: Ints
    minimum: Floats
    maximum: Floats
    fixed: Floats
    target: Floats
    allowance: Floats
    waited: Ints
    late: Ints
    late_run: Ints
    duplicate: Ints
    recovered: Ints
    dropped: Ints
    peak: Ints
    concealed: Ints
    accelerated: Ints
    expanded: Ints
    played: Ints
    rested: Ints
    skipped: Ints
    glide: Ints
    trail: npt.NDArray[np.float32]
    off_since: Ints
    off_seen: Ints
    delay_sum: Floats

    COLUMNS: ClassVar[ColumnSpec] = {
        "state": (np.uint8, IDLE, ()),
        "first": (np.int64, 0, ()),  # timestamp with which the stream started
        "decoded": (np.int64, _NOTHING, ()),  # timestamp up to which sound is decoded
        "sequence": (np.int64, 0, ()),  # of the packet that should come next
        "silent": (np.int64, _LONG_AGO, ()),  # samples since the last one that was received
        "seam": (np.float32, 0.0, (SEAM,)),  # how concealment would go on
        "rate": (np.int64, 8000, ()),  # samples a second, which all here is counted in
        "minimum": (np.float64, 0.03, ()),
        "maximum": (np.float64, 0.4, ()),
        "fixed": (np.float64, 0.0, ()),  # both, where the delay is not to adapt
        "target": (np.float64, 0.0, ()),
        "allowance": (np.float64, ALLOWANCE, ()),  # of packets that may come later than that
        "waited": (np.int64, 0, ()),  # samples of this gap that nothing was left out for, so far
        "late": (np.int64, 0, ()),
        "late_run": (np.int64, 0, ()),
        "duplicate": (np.int64, 0, ()),
        "recovered": (np.int64, 0, ()),  # packets whose sound a later one had, too
        "dropped": (np.int64, 0, ()),
        "peak": (np.int64, 0, ()),
        "concealed": (np.int64, 0, ()),  # samples, up to FADED of each gap
        "accelerated": (np.int64, 0, ()),  # samples left out to shorten the delay
        "expanded": (np.int64, 0, ()),  # samples inserted to lengthen it
        "played": (np.int64, 0, ()),
        "rested": (
            np.int64,
            -(1 << 40),
            (),
        ),  # speech is not stretched again before `played` is this
        "skipped": (np.int64, -(1 << 40), ()),  # what `played` was when a packet was let go, late
        "glide": (np.int64, 0, ()),  # samples still to be put in little by little, or left out
        "trail": (np.float32, np.inf, (REACH,)),  # what was heard last meanwhile; infinite: nothing
        "off_since": (np.int64, 0, ()),  # what `played` was when the delay got off its target
        "off_seen": (np.int64, -(1 << 40), ()),  # and when it was so for the last time
        "delay_sum": (np.float64, 0.0, ()),  # of the delay of every sample played
    }

    def __init__(self, rows: int, lane: Lane) -> None:
        make(self, rows)
        self._lane = lane
        self.ring = PayloadRing(rows)
        self.past = Past(rows, lane, self.ring)
        self.pcm = FifoArray(rows, PCM_SAMPLES)
        self.delays = DelayEstimator(rows)
        self.voicing = Voicing(rows)
        self._voiced = Voiced(self.ring, self.pcm, self.voicing)
        self._gliding = Gliding(self)
        self._pacer = Pacer(self, self._gliding)
        self.comfort = Comfort(rows, self)
        self.gaps = Gaps(self, self._voiced, self._pacer, lane)
        self.arrivals = Arrivals(self, self._voiced)
        self.recovery = Recovery(self)
        # what `play` returns: an array as large that is made anew each time lies in cold memory
        self._heard: npt.NDArray[np.float32] = np.empty((0, 0), np.float32)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)
        self.ring.grow(rows)
        self.past.grow(rows)
        self.pcm.grow(rows)
        self.delays.grow(rows)
        self.voicing.grow(rows)
        self.comfort.grow(rows)

    def give_back(self, first: int, last: int) -> None:
        """Give back what rows [first, last), in which nothing is, have used of memory."""
        self.ring.give_back(first, last)
        give_back(self.pcm.data, first, last)
        give_back(self.past.sound, first, last)
        give_back(self.seam, first, last)
        self.comfort.give_back(first, last)

    def reset(self, row: int) -> None:
        """Start a row afresh, figures included."""
        self.stop(row)
        self.ring.overruns[row] = 0
        self.past.reset(row)
        self.comfort.reset(row)
        reset(self, row)

    def stop(self, row: int) -> None:
        """Forget what waits; the next packet starts the row again. Figures stay."""
        self.state[row] = IDLE
        self.decoded[row] = _NOTHING
        self.silent[row] = _LONG_AGO
        self.late_run[row] = 0
        self.waited[row] = 0
        self.glide[row] = 0
        self.target[row] = 0.0
        if self.fixed[row]:
            self.minimum[row] = self.maximum[row] = self.fixed[row]
        self.ring.clear(row)
        self.pcm.clear(row)
        self.delays.reset(row)
        self.comfort.stop(row)

    @property
    def voices(self) -> dict[int, Voice]:
        """What rows whose codecs remember are heard by."""
        return self._voiced.voices

    def bound(self, row: int, low: float, high: float, allowance: float = ALLOWANCE) -> None:
        """Set between which delays, in seconds, a row adapts; the same: it does not.

        allowance: the share of packets that may come later than what is aimed at.
        """
        self.minimum[row], self.maximum[row] = low, high
        self.allowance[row] = allowance
        self.fixed[row] = low if low == high else 0.0

    def count_by(self, row: int, rate_hz: int) -> None:
        """Count a row's samples, those in its figures too, at another rate from now on."""
        old = int(self.rate[row])
        if old != rate_hz:
            self.rate[row] = rate_hz
            samples = (self.concealed, self.accelerated, self.expanded, self.played)
            for figure in (*samples, self.comfort.heard):
                figure[row] = figure[row] * rate_hz // old
            self.delay_sum[row] *= rate_hz / old

    # ------------------------------------------------------------ time

    def rates(self, rows: Rows) -> Ints | int:
        """Return the rates (k,) of `rows`, or one number where it is that of all rows there are."""
        return self.rate[rows] if self.voices else 8000

    def rate_of(self, rows: Rows) -> int:
        """Return the one rate of `rows` (k,), which take a step together."""
        return int(self.rate[rows[0]]) if self.voices else 8000

    def play(
        self, rows: Rows, count: int, due: Floats, *, coded: bool = False
    ) -> npt.NDArray[np.float32]:
        """Return the next `count` samples of `rows` (k,), all of one rate: float32 (k, count).

        `coded`: whether all of them have a voice of their own, or all have none. `due` (k,) is when
        this step was to be: the lateness of a tick is not the network's jitter.
        The next call overwrites what this one returns.
        """
        state = self.state[rows]
        if every(state == PLAYING):
            return self._play(rows, count, due, coded)
        starting = state == STARTING
        if some(starting):
            self._start(rows[starting], count, due[starting])
        active = state != IDLE
        heard = np.zeros((rows.size, count), np.float32)
        if some(active):
            heard[active] = self._play(rows[active], count, due[active], coded)
        return heard

    def skip(self, rows: Rows, samples: Ints) -> None:
        """Let time pass unheard for `rows` (k,): steps that were left out."""
        for row, count in zip(rows, samples, strict=True):
            if count and self.state[row] == PLAYING:
                self.leave_out(int(row), int(count))

    def delay(self, rows: Rows, due: Floats) -> Floats:
        """Seconds between the quickest packet's arrival and its playing, (k,).

        `due` (k,): when the next sample will be heard.
        """
        next_heard = self.decoded[rows] - self.pcm.fill[rows]
        delay: Floats = due - next_heard / self.rates(rows) - self.delays.quickest[rows]
        return delay

    def _start(self, rows: Rows, count: int, due: Floats) -> None:
        """Begin so that packets wait for their target, and with a whole step of the first one.

        Whole packets are cheaper to play than pieces, so the delay is rounded up to steps, but for
        what is let alone.
        """
        self.decoded[rows] = self.first[rows]
        self.aim(rows)
        rate = self.rate_of(rows)
        lead = np.maximum(self.target[rows] - self.delay(rows, due), 0.0) * rate
        slack = np.where(self.target[rows] > GROW_S, GROW_S * rate, 0.0)
        self.decoded[rows] -= (np.ceil((lead - slack) / count) * count).astype(np.int64)
        self.state[rows] = PLAYING

    def _play(self, rows: Rows, count: int, due: Floats, coded: bool) -> npt.NDArray[np.float32]:
        waited = self.waited[rows]
        if np.count_nonzero(waited):
            self._pacer.settle(rows[waited > 0], count, due[waited > 0])
        self._adapt(rows, count, due, coded)
        glides = self.glide[rows] != 0
        if not some(glides):
            return self._play_steps(rows, count, due, coded)
        heard = np.empty((rows.size, count), np.float32)
        heard[glides] = self._gliding.play(rows[glides], count, due[glides], coded)
        if not every(glides):
            heard[~glides] = self._play_steps(rows[~glides], count, due[~glides], coded)
        return heard

    def _play_steps(
        self, rows: Rows, count: int, due: Floats, coded: bool
    ) -> npt.NDArray[np.float32]:
        if coded:
            return self._play_voices(rows, count, due)
        ring = self.ring
        sequence, decoded = self.sequence[rows], self.decoded[rows]
        slots = ring.slots(rows, sequence)
        whole = (ring.timestamp[slots] == decoded) & (ring.length[slots] == count)
        whole &= (self.pcm.fill[rows] == 0) & ~self.comfort.on[rows]
        at = where(whole)
        if not at.size:
            return self.play_pieces(rows, count, due, coded=False)
        # what the few others get here is overwritten: to move what the many hear costs more
        if len(self._heard) < rows.size or self._heard.shape[1] != count:
            self._heard = np.empty((rows.size, count), np.float32)
        heard = self._lane.decode(
            ring.code[slots], ring.payloads(slots, count), out=self._heard[: rows.size]
        )
        if at.size == rows.size:
            self._hear_packets(rows, slots, heard, at)
        else:
            self._hear_packets(rows[at], slots[at], heard, at)
            odd = where(~whole)
            heard[odd] = self.play_pieces(rows[odd], count, due[odd], coded=False)
        return heard

    def _play_voices(self, rows: Rows, count: int, due: Floats) -> npt.NDArray[np.float32]:
        """As `_play`, for rows with voices of their own."""
        ring = self.ring
        slots = ring.slots(rows, self.sequence[rows])
        whole = (ring.timestamp[slots] == self.decoded[rows]) & (ring.duration[slots] == count)
        whole &= (self.pcm.fill[rows] == 0) & ~self.comfort.on[rows]
        whole &= ring.code[slots] == self.voicing.hears[rows]
        at = where(whole)
        if not at.size:
            return self.play_pieces(rows, count, due, coded=True)
        heard = np.zeros((rows.size, count), np.float32)
        here, sound = rows[at], heard if at.size == rows.size else heard[at]
        broken = self._voiced.decode_whole(here, slots[at], sound)
        self.silent[here] = 0
        self.sequence[here] += 1
        self.decoded[here] += count
        ring.release(here, slots[at])
        if broken.size:
            odd = sound[broken]
            self.patch(here[broken], odd)
            sound[broken] = odd
        if at.size < rows.size:
            heard[at] = sound
            odd_ones = where(~whole)
            heard[odd_ones] = self.play_pieces(rows[odd_ones], count, due[odd_ones], coded=True)
        return heard

    def patch(self, rows: Rows, heard: npt.NDArray[np.float32]) -> None:
        """Conceal in place a step of `rows` (k,), (k, samples), whose packet was none."""
        self.dropped[rows] += 1
        self._voiced.patch(rows, heard)

    def hear_together(self, rows: Rows, slots: Ints, heard: npt.NDArray[np.float32]) -> None:
        """Decode in place a step of `rows` (k,), (k, samples), that was noted (`Voiced`)."""
        broken = self._voiced.hear_together(rows, slots, heard)
        if broken.size:
            odd = heard[broken]
            self.patch(rows[broken], odd)
            heard[broken] = odd

    def repeat_past(self, rows: Rows, count: int) -> npt.NDArray[np.float32]:
        """Return the sound of a step of `rows` (k,) with voices that was noted as a gap.

        Of those whose decoders conceal nothing: float32 (k, count).
        """
        return self._voiced.repeat_past(rows, count)

    def _hear_packets(
        self, rows: Rows, slots: Ints, heard: npt.NDArray[np.float32], at: Rows
    ) -> None:
        """Take the packets in `slots` (k,), which are just what `rows` (k,) need in this step.

        The common case, and the only one that does without the rows' FIFOs. Their sound is
        `heard[at]`, (k, samples); where it follows a gap, it is led into in place.
        """
        self.sequence[rows] += 1
        self.decoded[rows] += heard.shape[1]
        self.ring.release(rows, slots)
        after_gap = where(self.silent[rows] > 0)
        if after_gap.size:
            sound = heard[at[after_gap]]
            self.gaps.rejoin(rows[after_gap], sound)
            heard[at[after_gap]] = sound
        if heard.shape[1] < HISTORY:
            self.past.hear(rows, heard[at])
            return
        self.past.hear_packets(rows, slots)
        if after_gap.size:
            self.past.hear(rows[after_gap], sound)

    def play_pieces(
        self, rows: Rows, count: int, due: Floats, *, coded: bool
    ) -> npt.NDArray[np.float32]:
        """Put `count` samples together from what waits, packet by packet, and from nothing."""
        if some(lasts := self.comfort.lasts(rows)):
            noise = self.comfort.play(rows[lasts], count, coded=coded)
            if every(lasts):
                return noise
            heard, others = np.empty((rows.size, count), np.float32), ~lasts
            heard[lasts] = noise
            heard[others] = self.play_pieces(rows[others], count, due[others], coded=coded)
            return heard
        for _ in range(_ROUNDS):
            short = self.pcm.fill[rows] < count
            if not some(short):
                break
            needy = rows[short]
            waited = self.waited[needy]
            if np.count_nonzero(waited):
                self._pacer.settle(needy[waited > 0], count, due[short][waited > 0])
            slots, gap = self.ring.find(needy, self.decoded[needy], self.sequence[needy])
            there = slots >= 0
            if some(there):
                decode = self._decode_each if coded else self._decode
                decode(needy[there], slots[there])
            if not every(there):
                lacking, gap, when = needy[~there], gap[~there], due[short][~there]
                gap = gap - self.waited[lacking]
                missing = np.minimum(gap, count - self.pcm.fill[lacking])
                if not every(lost := self.comfort.fill(lacking, missing)):
                    lacking, gap, when, missing = (
                        lacking[lost],
                        gap[lost],
                        when[lost],
                        missing[lost],
                    )
                    if not lacking.size:
                        continue
                waits = self.gaps.fill(lacking, missing, gap, when, coded)
                # most likely, packets of a step each are lost; else a search will tell
                self.sequence[lacking] += np.where(waits, 0, missing // count)
        else:
            missing = np.maximum(count - self.pcm.fill[rows], 0)
            self._append_silence(rows, missing)
            self.decoded[rows] += missing
        return self.pcm.take(rows, count)

    def _decode(self, rows: Rows, slots: Ints) -> None:
        """Append what the packets in `slots` (k,) hold beyond what is decoded.

        What lies before was heard, or concealed.
        """
        ring = self.ring
        self.comfort.end(rows, slots)
        sizes, codes = ring.length[slots], ring.code[slots]
        into = self.decoded[rows] - ring.timestamp[slots]
        self.sequence[rows] = ring.sequence[slots] + 1
        for size in distinct(sizes):
            for start in distinct(into[sizes == size]):
                here = (sizes == size) & (into == start)
                payloads = ring.payloads(slots[here], size)
                pcm = self._lane.decode(codes[here], payloads)[:, start:]
                self.gaps.rejoin(rows[here], pcm)
                self.past.hear(rows[here], pcm)
                self.pcm.append(rows[here], pcm)
                self.decoded[rows[here]] += pcm.shape[1]
        ring.release(rows, slots)

    def _decode_each(self, rows: Rows, slots: Ints) -> None:
        """As `_decode`, for rows with voices of their own."""
        ring = self.ring
        self.comfort.end(rows, slots)
        into = self.decoded[rows] - ring.timestamp[slots]
        self.sequence[rows] = ring.sequence[slots] + 1
        self.dropped[self._voiced.decode(rows, slots, into)] += 1
        self.silent[rows] = 0
        self.decoded[rows] += ring.duration[slots] - into
        ring.release(rows, slots)

    def _append_silence(self, rows: Rows, samples: Ints) -> None:
        for size in distinct(samples):
            here = rows[samples == size]
            self.pcm.append(here, np.zeros((here.size, size), np.float32))

    def learn(self, rows: Rows, slots: Ints) -> None:
        """Let codecs of `rows` (k,) remember packets that wait in `slots` (k,), and go unheard."""
        ring = self.ring
        for row, slot in zip(rows.tolist(), slots.tolist(), strict=True):
            self._voiced.learn(row, int(ring.code[slot]), ring.octets(slot))

    # ------------------------------------------------------------ delay

    def _adapt(self, rows: Rows, count: int, due: Floats, coded: bool) -> None:
        delay = self.delay(rows, due)
        waited = self.waited[rows]
        waits = np.count_nonzero(waited) > 0
        if waits:  # nobody knows yet whether that delays anything
            delay = delay - waited / self.rates(rows)
        self.delay_sum[rows] += delay * count
        played = self.played[rows] + count
        self.played[rows] = played
        turn = played % (AIM_SAMPLES * self.rate_of(rows) // 8000) < count
        if some(turn):
            self.aim(rows[turn])
        excess = delay - self.target[rows]
        if excess.max() > SHRINK_S or excess.min() < -GROW_S:
            off = (excess > SHRINK_S) | (excess < -GROW_S)
            off &= self.glide[rows] == 0
            if waits:
                off &= waited == 0
            if some(pauses := off & self.comfort.lasts(rows)):
                self.comfort.set_right(rows[pauses], excess[pauses])
                off &= ~pauses
            if some(off):
                self._pacer.correct(rows[off], excess[off], count, coded)

    def aim(self, rows: Rows) -> None:
        """Set the targets of `rows` (k,) by the delays of late."""
        wanted = self.delays.target(rows, self.allowance[rows])
        wanted = np.clip(wanted, self.minimum[rows], self.maximum[rows])
        target = self.target[rows]
        less = target - wanted  # not for the sake of one bin
        self.target[rows] = np.where((less > 0) & (less < STAY_S), target, wanted)

    def decode_ahead(self, rows: Rows, samples: int, coded: bool) -> None:
        """Decode packets of `rows` (k,) until `samples` of each are there, or a gap is."""
        for _ in range(_ROUNDS):
            rows = rows[self.pcm.fill[rows] < samples]
            if not rows.size:
                return
            slots, _ = self.ring.find(rows, self.decoded[rows], self.sequence[rows])
            there = slots >= 0
            rows = rows[there]
            if rows.size:
                decode = self._decode_each if coded else self._decode
                decode(rows, slots[there])

    def leave_out(self, row: int, samples: int) -> None:
        """Leave the next `samples` of one row out."""
        held = int(self.pcm.fill[row])
        if held > samples:
            self.pcm.take(np.array([row]), samples)
            return
        self.pcm.clear(row)
        self.decoded[row] += samples - held
        self.dropped[row] += self.ring.drop_before(row, int(self.decoded[row]))

"""The stream table: one row per RTP stream, and the parts that keep each row's state.

Nothing but the tick touches it. Rows are reused, the first ones first; the table grows by pieces
when it is full, and gives the memory of a piece back when nobody is left in it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from voip.config import TroubleConfig
from voip.dsp.dtmf_ear import DtmfEar
from voip.dsp.resample import Resampler
from voip.errors import MediaError
from voip.media.columns import (
    Bools,
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    distinct,
    give_back,
    grow,
    make,
    reset,
    where,
)
from voip.media.extensions import Layout, ToldLevels
from voip.media.fifo import FifoArray
from voip.media.jitter_log import JitterLog
from voip.media.lane import Lane
from voip.media.levels import Levels
from voip.media.links import RowLinks
from voip.media.mix import Mixer
from voip.media.playout import Playout
from voip.media.receive import Receiver
from voip.media.silences import Silences
from voip.media.transmit import MAX_PTIME_MS, Transmitter
from voip.media.voices import FIRST_CODE, PLAIN, STEPS_PER_SECOND, Voice
from voip.media.voicing import SLOW
from voip.rtp.source import SourceLearner
from voip.rtp.telephone_event import EventReceiver, EventSender
from voip.types import Address

if TYPE_CHECKING:
    from voip.media.pairs import Beeping, PairSink

__all__ = [
    "BASE_STEP_S",
    "EVENT",
    "MEDIA_SILENT_S",
    "NOISE",
    "PHASE_ROWS",
    "RED",
    "UNKNOWN",
    "Group",
    "StreamTable",
]

BASE_STEP_S = 1 / STEPS_PER_SECOND
MEDIA_SILENT_S = 5.0
"""A peer that sends nothing for so long is told of, unless `WatchStream` says otherwise."""
_NEVER = 1 << 62
PIECE_ROWS = 256
"""Rows by which a table grows at most: a tick has no time for more."""
PHASE_ROWS = 512
"""Rows of 20 ms that take their steps in the same tick before others take theirs in between.

Half of what a tick of 250 rows costs it costs for one row, too; 512 are done in a third of 20 ms.
"""
_FEED_SAMPLES = 48 * 80
"""What a row sends of another's sound may wait 80 ms: two steps of each, and something over."""
UNKNOWN = 255
"""A payload type that was not negotiated."""
EVENT = 254
"""A payload type that is telephone-event."""
NOISE = 252
"""A payload type that is comfort noise."""
RED = 251
"""A payload type whose packets repeat earlier ones (RFC 2198)."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Rows that take a step together: `samples` of each, `slots` base steps long.

    coded: all are heard and sent by their own voices; else by the lane.
    """

    rows: Rows
    samples: int
    slots: int
    coded: bool


class StreamTable:
    """Rows and what belongs to them; the parts have the same number of rows."""

    active: Bools
    coded: Bools
    stream: Ints
    step: Ints
    slot: Ints
    connected: Bools
    listening: Bools
    hears_tones: Bools
    needs_tones: Bools
    muted: Bools
    symmetric: Bools
    described: Floats
    watched: Floats
    patience: Floats
    missed: Ints
    meaning: npt.NDArray[np.uint8]
    source: Ints
    discarded: Ints
    ignored: Ints
    forged: Ints
    replayed: Ints
    withheld: Ints
    underrun: Ints
    relays: Bools
    relayed: Bools
    wordless: Bools
    unheard: Bools

    COLUMNS: ClassVar[ColumnSpec] = {
        "active": (np.bool_, False, ()),
        "coded": (np.bool_, False, ()),  # it is heard and sent by its own voice, not by tables
        "stream": (np.int64, -1, ()),
        "step": (np.int64, 160, ()),  # samples a step
        "slot": (np.int64, _NEVER, ()),  # of the next step: which of the base steps begins it
        "connected": (np.bool_, False, ()),  # a session description was applied
        "listening": (np.bool_, False, ()),  # what comes is to be heard
        "hears_tones": (np.bool_, False, ()),  # digits are listened for in its sound
        "needs_tones": (np.bool_, False, ()),  # and it is decoded for that
        "muted": (np.bool_, False, ()),
        "symmetric": (np.bool_, True, ()),
        "described": (np.float64, np.inf, ()),  # when the last description was applied
        "watched": (np.float64, -np.inf, ()),  # silence before then does not count
        "patience": (np.float64, MEDIA_SILENT_S, ()),  # silence is told of so often
        "missed": (np.int64, 0, ()),  # how often the peer's present silence has been told
        "meaning": (np.uint8, UNKNOWN, (128,)),  # of payload types: code, EVENT, UNKNOWN
        "source": (np.int64, -1, ()),  # the row whose sound is sent on this one
        "discarded": (np.int64, 0, ()),
        "ignored": (np.int64, 0, ()),  # blocks of packets that repeat what is no sound of the row
        "forged": (np.int64, 0, ()),  # protection.py: what was not made with our keys
        "replayed": (np.int64, 0, ()),
        "withheld": (np.int64, 0, ()),  # what was not sent, for want of keys
        "underrun": (np.int64, 0, ()),  # samples an audio source did not have in time
        "relays": (np.bool_, False, ()),  # its source's payloads may go out as they are
        "relayed": (np.bool_, False, ()),  # what is heard on it may be relayed (relay.py)
        "wordless": (np.bool_, False, ()),  # it relays, and nobody asks for what it sends as sound
        "unheard": (np.bool_, False, ()),  # it is relayed, and nobody asks for its sound
    }

    def __init__(self, lane: Lane, rows: int = 16) -> None:
        make(self, rows)
        self.lane = lane
        self.base_step = lane.rate_hz // STEPS_PER_SECOND
        self.receiver = Receiver(rows)
        self.playout = Playout(rows, lane)
        self.transmitter = Transmitter(rows, lane)
        self.levels = Levels(rows)
        self.silences = Silences(rows)
        self.told = ToldLevels(rows)
        self.feed = FifoArray(rows, _FEED_SAMPLES)
        self.links = RowLinks()
        self.voices: dict[int, Voice] = self.playout.voices
        """Of the rows that may hear or send anything but G.711."""
        self.converters: dict[int, dict[object, tuple[int, int, Resampler]]] = {}
        self.rows: dict[int, int] = {}
        self.mixer = Mixer(rows, self.rows)
        self.routed: Rows = np.zeros(0, np.intp)
        """The rows that send what a row hears."""
        self.redundant: set[int] = set()
        """The rows to whom packets may come that repeat others."""
        self.troubles: dict[int, TroubleConfig] = {}
        self.relayed_digits: dict[int, tuple[int, int]] = {}
        """When the last two digits of a row began that went on to others as they came, by RTP."""
        self._free = list(range(rows))  # a heap: the first row is taken first
        # what only some rows have, or what is looked at rarely
        self.cname: dict[int, str] = {}
        self.codec: dict[int, str] = {}
        self.negotiated: dict[int, Address | None] = {}
        self.remote: dict[int, Address | None] = {}
        self.rtcp_negotiated: dict[int, Address | None] = {}
        self.rtcp_remote: dict[int, Address | None] = {}
        self.learners: dict[int, SourceLearner] = {}
        self.event_receivers: dict[int, EventReceiver] = {}
        self.event_senders: dict[int, EventSender] = {}
        self.event_format: dict[int, tuple[int, int]] = {}  # payload type and clock we send with
        self.event_clocks: dict[int, dict[int, int]] = {}  # by payload type, what we hear with
        self.tone_ears: dict[int, DtmfEar] = {}
        self.pcm_source: dict[int, int] = {}  # row -> ring
        self.jitter_logs: dict[int, JitterLog] = {}
        self.sinks: dict[int, list[tuple[int, bool]]] = {}  # row -> (ring, what is sent)
        self.pair_sinks: dict[int, list[PairSink]] = {}
        self.beeps: dict[int, Beeping] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, stream: int) -> int:
        """Return the row of `stream`; `MediaError` when there is none."""
        try:
            return self.rows[stream]
        except KeyError:
            raise MediaError(f"there is no stream {stream}", hint="it was closed") from None

    def jitter_log(self, stream: int) -> JitterLog:
        """Return the log that is kept of `stream`; `MediaError` when there is none."""
        log = self.jitter_logs.get(self.row(stream))
        if log is None:
            raise MediaError(
                f"no jitter log is kept of stream {stream}", hint="LogJitter begins one"
            )
        return log

    def add(self, stream: int) -> int:
        """Take a row for `stream`; it takes part in no step before it is scheduled."""
        if stream in self.rows or self.mixer.is_open(stream):
            raise MediaError(f"stream {stream} is open already")
        if not self._free:
            self.make_room()
        row = heapq.heappop(self._free)
        reset(self, row)
        self.receiver.reset(row)
        self.playout.reset(row)
        self.levels.reset(row)
        self.silences.reset(row)
        self.feed.clear(row)
        self.rows[stream] = row
        self.stream[row] = stream
        self.active[row] = True
        return row

    def remove(self, row: int) -> None:
        """Give a row back, with everything that belongs to it."""
        self.rows.pop(int(self.stream[row]), None)
        self.playout.stop(row)
        self.playout.voicing.reset(row)
        self.transmitter.pause(row)
        self.transmitter.red.repeat(row, 0)
        self.transmitter.extensions.agree(row, Layout())
        self.told.agree(row, 0, voice=False)
        self.redundant.discard(row)
        reset(self, row)
        self.source[self.source == row] = -1
        self.relayed_digits.pop(row, None)
        self.list_routed()
        self.mixer.leave(row)
        self.links.forget(row)
        for part in (
            self.voices,
            self.converters,
            self.event_clocks,
            self.cname,
            self.codec,
            self.negotiated,
            self.remote,
            self.rtcp_negotiated,
            self.rtcp_remote,
            self.learners,
            self.event_receivers,
            self.event_senders,
            self.event_format,
            self.tone_ears,
            self.pcm_source,
            self.sinks,
            self.jitter_logs,
            self.troubles,
            self.pair_sinks,
            self.beeps,
        ):
            part.pop(row, None)
        heapq.heappush(self._free, row)
        self._give_back(row // PIECE_ROWS * PIECE_ROWS)

    def route(self, row: int, source: int, *, relays: bool = False) -> None:
        """Let `row` send what row `source` hears; -1: nothing. relays: as it comes, if possible."""
        self.source[row] = source
        self.relays[row] = relays
        self.feed.clear(row)
        self.list_routed()

    def list_routed(self) -> None:
        """Note anew which rows send another's sound."""
        self.routed = where((self.source >= 0) & ~self.wordless)

    def join(self, row: int, mix: int, gain: float, *, hears: bool) -> None:
        """Let `row` take part in a mix: it takes every base step from now on, as all others do."""
        self.mixer.join(row, mix, gain, hears=hears)
        self.step[row] = self.step_of(row, 10)

    def leave(self, row: int) -> None:
        """Let `row` take part in no mix, and take longer steps again where its packets allow it."""
        if self.mixer.mix[row] < 0:
            return
        self.mixer.leave(row)
        self._lengthen_step(row)

    def _lengthen_step(self, row: int) -> None:
        """Let a row take two base steps at a time, if its packets are made of such.

        One that is filled by an odd number of base steps goes out with one too many, once; where
        there is no room for that it loses one.
        """
        sender, step = self.transmitter, self.step_of(row, 20)
        if sender.full[row] % step:
            return
        self.step[row] = step
        if self.coded[row]:
            return
        if sender.full[row] + self.base_step > MAX_PTIME_MS * self.lane.rate_hz // 1000:
            sender.filled[row] -= sender.filled[row] % step

    def converter(self, row: int, way: object, rate_in_hz: int, rate_out_hz: int) -> Resampler:
        """Return what converts a row's sound on one of its ways, from what it was given before on.

        It begins anew where the rates are others now. Few rows have any.
        """
        ways = self.converters.setdefault(row, {})
        known = ways.get(way)
        if known is None or known[:2] != (rate_in_hz, rate_out_hz):
            known = ways[way] = rate_in_hz, rate_out_hz, Resampler(rate_in_hz, rate_out_hz)
        return known[2]

    def forget_converter(self, row: int, way: object) -> None:
        """Let nothing go that way any more."""
        self.converters.get(row, {}).pop(way, None)

    def step_of(self, row: int, ms: int) -> int:
        """Return how many samples of a row's are `ms` milliseconds."""
        return ms * int(self.playout.rate[row]) // 1000

    def hear_by_voice(self, row: int) -> None:
        """Hear and send a row by its own voice from now on: what comes is more than G.711."""
        voice, meaning = self.voices[row], self.meaning[row]
        self.coded[row] = True
        self.playout.stop(row)
        self.transmitter.filled[row] = 0
        self.playout.voicing.speak_by(row, voice)
        if voice.encoding is not None:
            self.transmitter.span[row] = voice.encoding.span
        for code, format_ in enumerate(voice.receive, FIRST_CODE):
            if format_.key in PLAIN:
                meaning[meaning == PLAIN[format_.key]] = code

    def schedule(self, row: int, step_ms: int, now: float) -> None:
        """Let a row take part from the next step on; in a mix by base steps.

        Rows gather in the fuller phase while that has room: a tick's first rows cost most.
        """
        self.step[row] = self.step_of(row, 10 if self.mixer.mix[row] >= 0 else step_ms)
        if self.slot[row] < _NEVER:
            return  # it keeps its place
        slot = _slot_at(now) + 1
        taken = self.slot[
            (self.slot < _NEVER) & (self.step > self.playout.rate // STEPS_PER_SECOND)
        ]
        odd = np.count_nonzero(taken % 2)
        here, there = (odd, taken.size - odd) if slot % 2 else (taken.size - odd, odd)
        gather = max(here, there) < PHASE_ROWS
        self.slot[row] = slot + (here < there if gather else here > there)

    def spread(self, row: int) -> None:
        """Let a row that has just got a voice take its steps while fewer others with voices do.

        They gather, too, but only as many as are done in 10 ms: an eighth as many of libopus' rows
        as of G.711's, and half as many of those that are quick.
        """
        most = PHASE_ROWS // (8 if self.playout.voicing.say_by[row] == SLOW else 2)
        taken = self.slot[self.coded & (self.slot < _NEVER)]
        odd = int(np.count_nonzero(taken % 2))
        here, there = (odd, taken.size - odd) if self.slot[row] % 2 else (taken.size - odd, odd)
        if here > max(there + 1, most):
            self.slot[row] += 1

    def due_rows(self, now: float) -> Rows:
        """Return the rows whose step is due, in order."""
        return where(self.slot <= _slot_at(now))

    def groups(self, due: Rows) -> list[Group]:
        """Sort rows that are due (k,) by how they take their step."""
        found: list[Group] = []
        plain = due
        if self.voices:
            coded = self.coded[due]
            plain, rows = due[~coded], due[coded]
            rates, steps = self.playout.rate[rows], self.step[rows]
            for rate in distinct(rates):
                for samples in distinct(steps[rates == rate]):
                    here = rows[(rates == rate) & (steps == samples)]
                    slots = samples * STEPS_PER_SECOND // rate
                    found.append(Group(here, samples, slots, True))
        steps = self.step[plain]
        for samples in distinct(steps):
            here = plain if steps.size == 1 else plain[steps == samples]
            found.append(Group(here, samples, samples // self.base_step, False))
        return found

    def behind(self, now: float) -> float:
        """How late the latest row is, in seconds; not above 0 where none is due."""
        return (_slot_at(now) - int(self.slot.min())) * BASE_STEP_S

    def begin_step(self, rows: Rows, slots: int) -> Ints:
        """Begin a step of `rows` (k,), `slots` base steps long; return where it begins (k,)."""
        slot = self.slot[rows]
        self.slot[rows] = slot + slots
        return slot

    def leave_out(self, rows: Rows, now: float, behind_s: float) -> Ints:
        """Let those of `rows` (k,) that are later than `behind_s` catch up with `now`.

        Returns the base steps (k,) that each of them leaves out, in whole steps of its own.
        """
        late = _slot_at(now) - self.slot[rows]
        span = self.step[rows] * STEPS_PER_SECOND // self.playout.rate[rows]
        skipped: Ints = np.where(late * BASE_STEP_S > behind_s, late // span, 0) * span
        self.slot[rows] += skipped
        return skipped

    def next_due(self) -> float | None:
        """When the next step of any row is due; None when no row takes part."""
        first = int(self.slot.min())
        return first * BASE_STEP_S if first < _NEVER else None

    @property
    def is_nearly_full(self) -> bool:
        """Whether a large table has few rows left: to get more takes a millisecond or two."""
        return self.active.size >= PIECE_ROWS and len(self._free) < PIECE_ROWS // 8

    def make_room(self) -> None:
        """Have more rows, before they are needed: in a tick that has time for it."""
        rows = self.active.size
        more = rows + min(rows, PIECE_ROWS)
        grow(self, more)
        for part in (
            self.receiver,
            self.playout,
            self.transmitter,
            self.levels,
            self.silences,
            self.told,
            self.feed,
            self.mixer,
        ):
            part.grow(more)
        self._free += range(rows, more)  # higher than all: it is a heap still

    def _give_back(self, first: int) -> None:
        """Give back the memory of the piece that begins at row `first`, if nobody is in it."""
        last = min(first + PIECE_ROWS, self.active.size)
        if np.count_nonzero(self.active[first:last]):
            return
        self.playout.give_back(first, last)
        give_back(self.feed.data, first, last)
        give_back(self.transmitter.packet, first, last)
        self.transmitter.red.give_back(first, last)


def _slot_at(now: float) -> int:
    """Return the number of the base step that `now` lies in, or begins by a hair's breadth."""
    return int((now + 1e-6) / BASE_STEP_S)

"""What goes wrong with sound, judged once a second: each trouble is told once, and its end.

Nothing is measured for it: levels, counters and reports are there. A trouble is told when it has
lasted, and is over when it has been away for a while, so that what comes and goes is told of once.
The events, and what each means, are in `voip.events`.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from voip.config import TroubleConfig
from voip.events import (
    Clipping,
    MediaTrouble,
    OneWayAudio,
    Silence,
    WrongCodec,
    WrongSource,
)
from voip.media.answers import EngineEvent, TroubleBegan, TroubleEnded
from voip.media.columns import (
    Bools,
    ColumnSpec,
    Floats,
    Ints,
    Rows,
    grow,
    make,
    reset,
    where,
)
from voip.media.payloads import SLOTS
from voip.media.reports import GONE_S, Reporter
from voip.media.table import StreamTable
from voip.types import Address

__all__ = ["TroubleWatch"]

_UNHEARD, _UNREACHED, _SILENT, _CLIPPED, _CODEC, _SOURCE = range(6)
_KINDS = 6
_NEED: Final = np.array([1, 1, 1, 2, 3, 3])
"""Seconds a trouble must last; of the first three the configuration, or the condition, says it."""
_REST: Final = np.array([1, 1, 1, 10, 5, 5])
"""Seconds it must be away to be over."""
_SOME: Final = 10
"""Packets a second that are no accident: a keep-alive and a late one are fewer."""
PAUSE_S: Final = 30.0
"""Who has been heard may send nothing for so long while it reports: there are pauses in a talk, in
which some send nothing at all (DTX)."""
_SPOKEN_S: Final = 10.0
"""We must have sent for so long before reports on it are missed."""
_BLOCKS: Final = 3
"""Reports of the peer's without a word of what we send, that are one too many."""
_LOST: Final = 0.99
_HYSTERESIS: Final = 10 ** (5 / 10)
_CLIPPED_STEPS: Final = 3
_AHEAD: Final = 4
"""Packets that are looked at of those that wait, from the one that is to be played next."""
_USUAL: Final = TroubleConfig()
_COMFORT_NOISE: Final = 13
"""Many send it unasked for (RFC 3389): it says nothing of a codec."""


class TroubleWatch:
    """Judges the rows of a table; its arrays have a row for each of the table's."""

    stream: Ints
    lasts: Ints
    away: Ints
    told: Bools
    received: Ints
    octets: Ints
    sent: Ints
    strangers: Ints
    unknown: Ints
    unknown_type: Ints
    unread: Ints
    speaks_s: Ints
    answers: Ints
    block_heard: Ints
    lost_all: Bools
    one_way_s: Floats
    silence_s: Floats
    silence: Floats
    kinds: Bools

    COLUMNS: ClassVar[ColumnSpec] = {
        "stream": (np.int64, -1, ()),  # whose figures these are
        "lasts": (np.int64, 0, (_KINDS,)),  # seconds of trouble, by kind
        "away": (np.int64, 0, (_KINDS,)),  # seconds since
        "told": (np.bool_, False, (_KINDS,)),
        "received": (np.int64, 0, ()),  # packets up to the last second
        "octets": (np.int64, 0, ()),  # and what was in them
        "sent": (np.int64, 0, ()),
        "strangers": (np.int64, 0, ()),
        "unknown": (np.int64, 0, ()),  # packets of this second of a type not agreed on
        "unknown_type": (np.int64, 0, ()),  # the last of these
        "unread": (np.int64, 0, ()),  # packets of this second that their codec cannot read
        "speaks_s": (np.int64, 0, ()),  # seconds we have been sending
        "answers": (np.int64, 0, ()),  # how often the peer had told of what we send
        "block_heard": (np.int64, 0, ()),  # and its reports, when it last did
        "lost_all": (np.bool_, False, ()),  # so it said
        "one_way_s": (np.float64, np.inf, ()),
        "silence_s": (np.float64, np.inf, ()),
        "silence": (np.float64, 0.0, ()),  # the mean square below which is silence
        "kinds": (np.bool_, True, (_KINDS,)),  # which troubles are told
    }

    def __init__(self, table: StreamTable) -> None:
        make(self, table.active.size)
        self._table = table
        self._open: dict[tuple[int, int], MediaTrouble] = {}  # by row and kind, what was told
        self._names: dict[int, dict[Address, int]] = {}  # by row, strangers counted so far
        self._loudest: dict[int, Address] = {}  # by row, who sent most of them in this second

    # ------------------------------------------------------------ packets

    def note_unknown(self, rows: Rows, types: npt.NDArray[np.uint8]) -> None:
        """Count packets (k,) whose payload types were not agreed on."""
        self._fit()
        odd = types != _COMFORT_NOISE
        np.add.at(self.unknown, rows[odd], 1)
        self.unknown_type[rows[odd]] = types[odd]

    def note_unread(self, rows: Rows) -> None:
        """Count packets (k,) that their codec cannot read."""
        self._fit()
        np.add.at(self.unread, rows, 1)

    def _fit(self) -> None:
        if self.stream.size < self._table.active.size:
            grow(self, self._table.active.size)

    # ------------------------------------------------------------ a second

    def judge(self, reporter: Reporter, now: float) -> list[EngineEvent]:
        """Look at the second that is over; return what has begun and what has ended."""
        table = self._table
        self._fit()
        if (others := where(self.stream != np.where(table.active, table.stream, -1))).size:
            self._begin(others)
        receiver, sends = table.receiver, table.transmitter.sending & table.connected
        hears = table.listening & table.connected
        received = receiver.received + receiver.received_before
        got, sent = received - self.received, table.transmitter.packets - self.sent
        self.received[:], self.sent[:] = received, table.transmitter.packets
        bad = np.zeros((table.active.size, _KINDS), np.bool_)
        good = np.zeros_like(bad)
        need = np.broadcast_to(_NEED, bad.shape).copy()

        both = sends & hears & np.isfinite(table.watched)  # the call is up
        reports = reporter.reporting & (now - reporter.heard_at < GONE_S)
        said = receiver.octets > self.octets  # an empty packet only keeps a way open (RFC 6263)
        self.octets[:] = receiver.octets
        never = receiver.octets == 0
        paused = table.playout.comfort.on  # it has said that there is nothing to hear
        bad[:, _UNHEARD] = both & ~said & (sent > 0) & (never | reports) & ~paused
        good[:, _UNHEARD] = said | ~both
        longest = np.where(never, self.one_way_s, np.maximum(self.one_way_s, PAUSE_S))
        need[:, _UNHEARD] = np.minimum(longest, 1e9)

        self.speaks_s[:] = np.where(sends & (sent > 0), self.speaks_s + 1, 0)
        missed = self._missed_blocks(reporter)
        spoken = both & (self.speaks_s >= _SPOKEN_S)
        bad[:, _UNREACHED] = spoken & reports & (missed | self.lost_all)
        good[:, _UNREACHED] = ~both | (self.speaks_s < _SPOKEN_S) | ~(missed | self.lost_all)

        comes = both & (got >= _SOME) & ~table.unheard & ~paused
        level = table.levels.heard
        bad[:, _SILENT] = comes & (level < self.silence)
        good[:, _SILENT] = ~both | table.unheard | (comes & (level > self.silence * _HYSTERESIS))
        need[:, _SILENT] = np.minimum(self.silence_s, 1e9)

        clipped = table.levels.clipped
        bad[:, _CLIPPED] = clipped >= _CLIPPED_STEPS
        good[:, _CLIPPED] = (clipped == 0) & (got > 0)

        misfits = self._misfits(where(hears & ~table.coded & (table.playout.ring.count > 0)))
        unknown = (self.unknown >= _SOME) & (self.unknown > got)
        unread = (self.unread >= _SOME) & (2 * self.unread > got)
        bad[:, _CODEC] = hears & (unknown | unread | misfits)
        good[:, _CODEC] = ~bad[:, _CODEC]

        strange = self._strange()
        bad[:, _SOURCE] = hears & (strange >= _SOME)
        good[:, _SOURCE] = strange < _SOME

        events = self._turn(bad & self.kinds, good, need, got, sent, strange)
        self.unknown.fill(0)
        self.unread.fill(0)
        return events

    def _begin(self, rows: Rows) -> None:
        """Forget whoever had these rows before; hundreds of calls may have begun in a second."""
        table = self._table
        former = set(rows.tolist())
        for place in [place for place in self._open if place[0] in former]:
            del self._open[place]
        for part in (self._names, self._loudest):
            for row in former & part.keys():
                del part[row]
        reset(self, rows)
        rows = rows[table.active[rows]]
        self.stream[rows] = table.stream[rows]
        self.sent[rows] = table.transmitter.packets[rows]
        alike: dict[TroubleConfig, list[int]] = {}
        for row in rows.tolist():
            alike.setdefault(table.troubles.get(row, _USUAL), []).append(row)
        for config, some_rows in alike.items():
            self._configure(np.array(some_rows, np.intp), config)

    def _configure(self, rows: Rows, config: TroubleConfig) -> None:
        self.one_way_s[rows] = np.inf if config.one_way_s is None else config.one_way_s
        self.silence_s[rows] = np.inf if config.silence_s is None else config.silence_s
        self.silence[rows] = 10 ** (config.silence_dbfs / 10)
        told = np.ones(_KINDS, np.bool_)
        told[:_SILENT] = config.one_way_s is not None
        told[_SILENT] = config.silence_s is not None
        told[_CLIPPED] = config.clipping
        told[_CODEC] = config.wrong_codec
        told[_SOURCE] = config.wrong_source
        self.kinds[rows] = told

    def _turn(
        self, bad: Bools, good: Bools, need: Ints, got: Ints, sent: Ints, strange: Ints
    ) -> list[EngineEvent]:
        """Count seconds, and tell of what has begun or ended."""
        good &= ~bad
        self.lasts += bad
        self.away += good
        self.away[bad] = 0
        rested = self.away >= _REST
        self.lasts[rested] = 0
        begins = ~self.told & bad & (self.lasts >= need)
        ends = self.told & rested
        events: list[EngineEvent] = []
        for row, kind in zip(*np.nonzero(ends), strict=True):
            self.told[row, kind] = False
            trouble = self._open.pop((int(row), int(kind)), None)
            if trouble is not None:
                events.append(TroubleEnded(int(self.stream[row]), trouble))
        for row, kind in zip(*np.nonzero(begins), strict=True):
            self.told[row, kind] = True
            trouble = self._describe(int(row), int(kind), got, sent, strange)
            self._open[int(row), int(kind)] = trouble
            events.append(TroubleBegan(int(self.stream[row]), trouble))
        return events

    # ------------------------------------------------------------ conditions

    def _missed_blocks(self, reporter: Reporter) -> Bools:
        """Say which peers report, and say nothing of what we send."""
        heard = reporter.heard
        told = reporter.answers != self.answers
        self.answers[told] = reporter.answers[told]
        self.block_heard[told] = heard[told]
        self.lost_all[told] = reporter.remote_fraction[told] >= _LOST
        np.minimum(self.block_heard, heard, out=self.block_heard)  # described anew
        missed: Bools = heard - self.block_heard >= _BLOCKS
        return missed

    def _misfits(self, rows: Rows) -> Bools:
        """Say in which rows of G.711 the packets that wait are not as long as they are apart."""
        found = np.zeros(self.stream.size, np.bool_)
        if not rows.size:
            return found
        playout, ring = self._table.playout, self._table.playout.ring
        number = playout.sequence[rows][:, None] + np.arange(_AHEAD)
        slots = ring.slots(rows[:, None], number)
        waits = (ring.duration[slots] > 0) & (ring.sequence[slots] == number)
        time, size = ring.timestamp[slots], ring.length[slots]
        apart = time[:, 1:] - time[:, :-1]
        follows = waits[:, 1:] & waits[:, :-1]
        follows &= (apart > 0) & (apart <= 960)  # else: a pause
        fits = follows & (apart == size[:, :-1])
        found[rows] = follows.any(axis=1) & ~fits.any(axis=1)
        # where one waits at a time: playout has come to the end of the one before, and not to it
        hole = time[:, 0] - playout.decoded[rows]
        alone = waits[:, 0] & (ring.count[rows] == 1) & (playout.waited[rows] > 0)
        found[rows] |= alone & (hole > 0) & (hole <= 960)
        return found

    def _strange(self) -> Ints:
        """Return how many packets of strangers came in this second."""
        strange = np.zeros(self.stream.size, np.int64)
        for row, learner in self._table.learners.items():
            strange[row] = learner.total - self.strangers[row]
            self.strangers[row] = learner.total
            before, counts = self._names.get(row, {}), dict(learner.counts)
            self._names[row] = counts
            if counts:
                self._loudest[row] = max(counts, key=lambda one: counts[one] - before.get(one, 0))
        return strange

    # ------------------------------------------------------------ words

    def _describe(self, row: int, kind: int, got: Ints, sent: Ints, strange: Ints) -> MediaTrouble:
        table = self._table
        seconds, since = int(self.lasts[row, kind]), table.remote.get(row)
        match kind:
            case k if k == _UNHEARD:
                never = table.receiver.octets[row] == 0
                what = "no RTP has ever come" if never else "RTP has stopped, its RTCP goes on"
                why = f"{what} from {since}, though we send: look for a NAT, a firewall, or ports"
                return OneWayAudio("in", float(seconds), why)
            case k if k == _UNREACHED:
                said = "it has lost all of it" if self.lost_all[row] else "they do not mention it"
                why = f"the reports of {since} on what we send: {said}; it hears nothing of us"
                return OneWayAudio("out", float(self.speaks_s[row]), why)
            case k if k == _SILENT:
                square = float(table.levels.heard[row])
                level = 10 * float(np.log10(square)) if square > 0 else None
                loud = "digital silence" if level is None else f"{level:.0f} dBFS"
                why = f"packets come, {loud} in them: its microphone is muted, or nothing feeds it"
                return Silence(float(seconds), level, why)
            case k if k == _CLIPPED:
                steps = int(table.levels.clipped[row])
                why = "runs of samples at full scale: its gain is too high, or was mixed too loud"
                return Clipping(steps, why)
            case k if k == _CODEC:
                return self._wrong_codec(row, int(got[row]))
            case _:
                return self._wrong_source(row, int(strange[row]), int(got[row]))

    def _wrong_codec(self, row: int, got: int) -> WrongCodec:
        table, codec = self._table, self._table.codec.get(row, "")
        if self.unknown[row] >= _SOME:
            number, count = int(self.unknown_type[row]), int(self.unknown[row])
            why = f"{count} packets a second of payload type {number}, which was not agreed on"
            return WrongCodec(number, count, f"{why}; they are dropped")
        if self.unread[row] >= _SOME:
            count = int(self.unread[row])
            return WrongCodec(None, count, f"{count} packets a second that {codec} cannot read")
        slots = slice(row * SLOTS, (row + 1) * SLOTS)
        ring = table.playout.ring
        sizes = ring.length[slots][ring.duration[slots] > 0]
        size = int(np.bincount(sizes).argmax()) if sizes.size else 0
        why = f"payloads of {size} octets are not as long as the packets are apart"
        return WrongCodec(None, got, f"{why}: what is called G.711 is something else")

    def _wrong_source(self, row: int, count: int, got: int) -> WrongSource:
        address, agreed = self._loudest[row], self._table.remote.get(row)
        also = f"beside {agreed}" if got else f"and nothing from {agreed}"
        why = f"{count} packets a second from {address} {also}; strangers are not believed"
        return WrongSource(address, count, got > 0, why)

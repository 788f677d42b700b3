"""From waiting packets to what is heard: when to play, and what to play where nothing came.

`position` is the timestamp of the next sample to be heard. It moves with the clock; it is held back
(concealment is inserted) when packets need more time than they are given, and moved on (samples are
left out, in pauses) when they need less. Rows J01, J03, J05, J08 of the feature list.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from voip.dsp.conceal import conceal, rejoin
from voip.media.columns import Bools, ColumnSpec, Floats, Ints, Rows, grow, make, reset
from voip.media.fifo import FifoArray
from voip.media.lane import Lane
from voip.media.payloads import SLOTS, PayloadRing
from voip.rtp.jitter import DelayEstimator

__all__ = ["PCM_SAMPLES", "Playout"]

PCM_SAMPLES = 1280
"""Decoded samples a row can hold: a packet of 120 ms and a step, at 8 kHz."""
HISTORY = 160
"""Samples of the past that concealment repeats."""
FADED = 480
"""Samples after which concealment is silence: 60 ms at 8 kHz."""
LATE_RUN = 10
"""Packets late in a row after which a stream is started anew."""
RESTART_S = 2.0
"""A packet this far from its time has another time base: the stream has started anew."""
_SLACK_S = 0.005
_GROW_S = 0.010
_SHRINK_S = 0.030
_FORCE_S = 0.200
_QUIET = 10 ** (-45 / 20)
_ROUNDS = 16
"""Packets decoded in one step of one row; only packets below 2 ms need more."""


class Playout:
    """Playout state of every row."""

    playing: npt.NDArray[np.bool_]
    starting: npt.NDArray[np.bool_]
    position: Ints
    sequence: Ints
    silent: Ints
    history: npt.NDArray[np.float32]
    minimum: Floats
    maximum: Floats
    target: Floats
    late: Ints
    duplicate: Ints
    dropped: Ints
    peak: Ints
    concealed: Ints
    played: Ints
    delay_sum: Floats
    steps: Ints
    late_run: Ints
    clock: Floats

    COLUMNS: ClassVar[ColumnSpec] = {
        "playing": (np.bool_, False, ()),
        "starting": (np.bool_, False, ()),
        "position": (np.int64, 0, ()),  # while starting: the first packet's timestamp
        "sequence": (np.int64, 0, ()),  # of the packet that should come next
        "silent": (np.int64, FADED, ()),  # samples since the last one that was received
        "history": (np.float32, 0.0, (HISTORY,)),
        "minimum": (np.float64, 0.04, ()),
        "maximum": (np.float64, 0.4, ()),
        "target": (np.float64, 0.0, ()),
        "late": (np.int64, 0, ()),
        "duplicate": (np.int64, 0, ()),
        "dropped": (np.int64, 0, ()),
        "peak": (np.int64, 0, ()),
        "concealed": (np.int64, 0, ()),
        "played": (np.int64, 0, ()),
        "delay_sum": (np.float64, 0.0, ()),
        "steps": (np.int64, 0, ()),
        "late_run": (np.int64, 0, ()),
        "clock": (np.float64, 0.0, ()),  # when the present step was due
    }

    def __init__(self, rows: int, lane: Lane) -> None:
        make(self, rows)
        self._lane = lane
        self.ring = PayloadRing(rows)
        self.pcm = FifoArray(rows, PCM_SAMPLES)
        self.delays = DelayEstimator(rows)

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        grow(self, rows)
        self.ring.grow(rows)
        self.pcm.grow(rows)
        self.delays.grow(rows)

    def reset(self, row: int) -> None:
        """Start a row afresh, figures included."""
        self.stop(row)
        self.ring.overruns[row] = 0
        reset(self, row)

    def stop(self, row: int) -> None:
        """Forget what waits; the next packet starts the row again. Figures stay."""
        self.playing[row] = False
        self.starting[row] = False
        self.silent[row] = FADED
        self.ring.clear(row)
        self.pcm.clear(row)
        self.delays.reset(row)

    # ------------------------------------------------------------ packets

    def arrive(
        self,
        rows: Rows,
        sequence: Ints,
        timestamp: Ints,
        arrival: Floats,
        code: npt.NDArray[np.uint8],
        data: npt.NDArray[np.uint8],
        packet: Rows,
        offset: Ints,
        size: Ints,
    ) -> None:
        """Take one packet for each of `rows` (k,), each row at most once, and keep it or drop it.

        Sequence and timestamp are extended; the payload is `data[packet, offset : offset + size]`.
        """
        rate = self._lane.rate_hz
        transit = arrival - timestamp / rate
        astray = np.abs(transit - self.delays.quickest[rows]) > RESTART_S
        astray &= self.playing[rows]
        for row in rows[astray]:
            self.stop(int(row))
        self.delays.update(rows, transit)
        fresh = ~self.playing[rows]
        started = rows[fresh]
        self.playing[started] = True
        self.starting[started] = True
        self.sequence[started] = sequence[fresh]
        self.position[started] = timestamp[fresh]

        duration = self._lane.durations(code, size)
        repeated = self.ring.duplicate(rows, sequence)
        self.duplicate[rows[repeated]] += 1
        decoded = self.position[rows] + self.pcm.fill[rows]
        late = ~repeated & ~self.starting[rows] & (timestamp + duration <= decoded)
        self._count_late(rows, late)
        keep = ~(repeated | late) & (duration > 0)
        if not keep.all():
            rows, sequence, timestamp, duration = (
                rows[keep],
                sequence[keep],
                timestamp[keep],
                duration[keep],
            )
            code, packet, offset, size = code[keep], packet[keep], offset[keep], size[keep]
        if rows.size:
            self.ring.insert(rows, sequence, timestamp, duration, code, data, packet, offset, size)
            self.peak[rows] = np.maximum(self.peak[rows], self.ring.count[rows])

    def _count_late(self, rows: Rows, late: Bools) -> None:
        self.late_run[rows[~late]] = 0
        if not late.any():
            return
        behind = rows[late]
        self.late[behind] += 1
        self.dropped[behind] += 1
        self.late_run[behind] += 1
        # all packets late: the sender's clock has stood still meanwhile; begin anew
        for row in behind[self.late_run[behind] >= LATE_RUN]:
            self.stop(int(row))

    # ------------------------------------------------------------ time

    def play(self, rows: Rows, count: int, due: Floats) -> npt.NDArray[np.float32]:
        """Return the next `count` samples of `rows` (k,): float32 (k, count).

        `due` (k,) is when this step was to be: the lateness of a tick is not the network's jitter.
        """
        self.clock[rows] = due
        playing = self.playing[rows]
        if playing.all():
            return self._play(rows, count)
        heard = np.zeros((rows.size, count), np.float32)
        if playing.any():
            heard[playing] = self._play(rows[playing], count)
        return heard

    def skip(self, rows: Rows, samples: Ints) -> None:
        """Let time pass unheard for `rows`: ticks that could not be held."""
        for row, count in zip(rows[self.playing[rows]], samples[self.playing[rows]], strict=True):
            self._skip(int(row), int(count))

    def _play(self, rows: Rows, count: int) -> npt.NDArray[np.float32]:
        self._adapt(rows, count)
        heard = self._play_whole(rows, count)
        if heard is None:
            heard = self._play_pieces(rows, count)
        self.position[rows] += count
        self.clock[rows] += count / self._lane.rate_hz
        self.played[rows] += count
        return heard

    def _play_whole(self, rows: Rows, count: int) -> npt.NDArray[np.float32] | None:
        """Decode one packet for each row where that is just what every row needs; else None.

        The common case, and the only one that does without the rows' FIFOs. Rows that need more
        are played by `_play_pieces` beside the others.
        """
        wanted = self.position[rows]
        slots = self.sequence[rows] % SLOTS
        ring = self.ring
        whole = (ring.timestamp[rows, slots] == wanted) & (ring.length[rows, slots] == count)
        whole &= (ring.duration[rows, slots] == count) & (self.pcm.fill[rows] == 0)
        if whole.all():
            return self._decode_whole(rows, slots, count)
        if 2 * np.count_nonzero(whole) < rows.size:
            return None
        heard = np.empty((rows.size, count), np.float32)
        heard[whole] = self._decode_whole(rows[whole], slots[whole], count)
        heard[~whole] = self._play_pieces(rows[~whole], count)
        return heard

    def _decode_whole(self, rows: Rows, slots: Ints, count: int) -> npt.NDArray[np.float32]:
        ring = self.ring
        pcm = self._lane.decode(ring.code[rows, slots], ring.payloads(rows, slots, count))
        self.sequence[rows] += 1
        self._join(rows, pcm)
        ring.release(rows, slots)
        return pcm

    def _play_pieces(self, rows: Rows, count: int) -> npt.NDArray[np.float32]:
        """Put `count` samples together from what waits, packet by packet, and from nothing."""
        for _ in range(_ROUNDS):
            fill = self.pcm.fill[rows]
            short = fill < count
            if not short.any():
                break
            needy, fill = rows[short], fill[short]
            wanted = self.position[needy] + fill
            slots, gap = self.ring.find(needy, wanted, self.sequence[needy])
            there = slots >= 0
            if there.any():
                self._decode(needy[there], slots[there], wanted[there])
            if not there.all():
                gap = gap[~there]
                self._fill_gap(needy[~there], np.minimum(gap, count - fill[~there]), gap)
        else:
            fill = self.pcm.fill[rows]
            for size in np.unique(count - fill[fill < count]):
                short = fill == count - size
                blank = np.zeros((np.count_nonzero(short), size), np.float32)
                self.pcm.append(rows[short], blank)
        return self.pcm.take(rows, count)

    def _decode(self, rows: Rows, slots: Ints, wanted: Ints) -> None:
        ring = self.ring
        sizes = ring.length[rows, slots]
        into = wanted - ring.timestamp[rows, slots]
        self.sequence[rows] = ring.sequence[rows, slots] + 1
        codes = ring.code[rows, slots]
        for size in np.unique(sizes):
            here = sizes == size
            pcm = self._lane.decode(codes[here], ring.payloads(rows[here], slots[here], int(size)))
            self._join(rows[here], pcm)
            # without what lies before the position: it was heard, or concealed
            for start in np.unique(into[here]):
                chosen = into[here] == start
                self.pcm.append(rows[here][chosen], pcm[chosen, start:])
        ring.release(rows, slots)

    def _join(self, rows: Rows, pcm: npt.NDArray[np.float32]) -> None:
        """Blend decoded `pcm` (k, samples) in after a gap, in place, and remember its end."""
        silent = self.silent[rows]
        if silent.any():
            seam = (silent > 0) & (silent < FADED)
            if seam.any():
                joined = pcm[seam]
                rejoin(self.history[rows[seam]], silent[seam], joined)
                pcm[seam] = joined
            self.silent[rows] = 0
        width = min(HISTORY, pcm.shape[1])
        if width < HISTORY:
            self.history[rows, :-width] = self.history[rows, width:]
        self.history[rows, HISTORY - width :] = pcm[:, -width:]

    def _fill_gap(self, rows: Rows, missing: Ints, gap: Ints) -> None:
        """Conceal `missing` samples (k,) of `rows`; the next packet begins after `gap`."""
        silent = self.silent[rows]
        audible = np.clip(FADED - silent, 0, missing)
        sound = np.zeros((rows.size, int(missing.max())), np.float32)
        fading = audible > 0
        if fading.any():
            sound[fading] = conceal(self.history[rows[fading]], silent[fading], sound.shape[1])
        self.concealed[rows] += audible
        self.silent[rows] += missing
        for size in np.unique(missing):
            self.pcm.append(rows[missing == size], sound[missing == size, :size])
        # nothing waits, and packets need longer than they are given: wait for them
        lacking = self.target[rows] - self._delay(rows)
        waits = (gap > PCM_SAMPLES) & (lacking > _GROW_S) & (audible > 0)
        self.position[rows[waits]] -= missing[waits]

    def _delay(self, rows: Rows) -> Floats:
        """Seconds between the quickest packet's arrival and its playing, (k,)."""
        due = self.clock[rows] - self.position[rows] / self._lane.rate_hz
        delay: Floats = due - self.delays.quickest[rows]
        return delay

    def _adapt(self, rows: Rows, count: int) -> None:
        starting = rows[self.starting[rows]]
        if starting.size:
            self._start(starting, count)
        delay = self._delay(rows)
        self.delay_sum[rows] += delay
        self.steps[rows] += 1
        turn = rows[self.steps[rows] % 8 == 0]
        if turn.size:
            self._aim(turn)
        excess = delay - self.target[rows]
        off = (excess > _SHRINK_S) | (excess < -_GROW_S)
        if off.any():
            self._correct(rows[off], excess[off], count)

    def _start(self, rows: Rows, count: int) -> None:
        """Place the position so that packets wait for their target, and begin with a step.

        Whole packets are cheaper to play than pieces, so the delay is rounded up to steps, less
        some slack.
        """
        self._aim(rows)
        rate = self._lane.rate_hz
        delay = self.target[rows] + self.delays.quickest[rows]
        lead = self.position[rows] - (self.clock[rows] - delay) * rate
        slack = np.where(self.target[rows] > _SLACK_S, _SLACK_S * rate, 0.0)
        self.position[rows] -= (np.ceil((lead - slack) / count) * count).astype(np.int64)
        self.starting[rows] = False

    def _aim(self, rows: Rows) -> None:
        wanted = self.delays.target(rows)
        self.target[rows] = np.clip(wanted, self.minimum[rows], self.maximum[rows])

    def _correct(self, rows: Rows, excess: Floats, quantum: int) -> None:
        """Move the position of rows that are off their target, in pauses where that can wait."""
        rate = self._lane.rate_hz
        level = np.abs(self.history[rows]).max(axis=1)
        pause = (level < _QUIET) | (self.silent[rows] >= FADED)
        # too late in the buffer: leave a step out in a pause; everything at once when far off
        over = (excess > _SHRINK_S) & (pause | (excess > _FORCE_S))
        for row, far in zip(rows[over], excess[over], strict=True):
            skip = quantum if far <= _FORCE_S else int((far - _SHRINK_S) * rate)
            self._skip(int(row), skip)
        # too early: insert a step of silence in a pause; speech waits for a gap (_fill_gap)
        under = rows[(excess < -_GROW_S) & pause & (self.pcm.fill[rows] == 0)]
        if under.size:
            self.position[under] -= quantum
            self.pcm.append(under, np.zeros((under.size, quantum), np.float32))

    def _skip(self, row: int, samples: int) -> None:
        """Leave `samples` of one row out."""
        at = np.array([row])
        self.position[row] += samples
        held = int(self.pcm.fill[row])
        if held > samples:
            self.pcm.take(at, samples)
        else:
            self.pcm.clear(row)
        decoded = np.array([self.position[row] + self.pcm.fill[row]])
        self.dropped[row] += self.ring.drop_before(at, decoded)[0]

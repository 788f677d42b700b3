"""The part of a tick that is written in C, where it was built: `_native.c`, decision 0014.

It takes what is ordinary, the arrays do the rest, and everything where it is not there. Both come
to the same, to the bit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import attrgetter
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from voip.dsp import stretch
from voip.media import arrivals, gaps, gliding, pacing, payloads, playout, receive, voiced, voicing
from voip.media.adapter import MAX_PAYLOAD, MAX_SAMPLES_S
from voip.media.columns import Floats, Ints, Rows, every, some, where
from voip.media.io import HEAD_BYTES, PacketBatch, PacketIO
from voip.media.table import StreamTable
from voip.media.transmit import DTX_OCTETS, GATHERED, KEPT, OTHERS
from voip.media.voices import STEPS_PER_SECOND, Voice
from voip.media.voicing import TOGETHER, Voicing
from voip.optional_c import c_is_wanted
from voip.rtp import extensions, jitter

try:
    from voip.media import _native
except ImportError:  # there was no compiler
    _native = None  # type: ignore[assignment]

__all__ = ["Native", "available"]

_NUMBERS = {
    "head_bytes": HEAD_BYTES,
    "idle": playout.IDLE,
    "playing": playout.PLAYING,
    "max_dropout": receive.MAX_DROPOUT,
    "max_misorder": receive.MAX_MISORDER,
    "transit_restart_s": receive.RESTART_S,
    "playout_restart_s": arrivals.RESTART_S,
    "bin_s": jitter.BIN_S,
    "some": jitter.SOME,
    "few": jitter.FEW,
    "tail": jitter.TAIL,
    "quickest_window": jitter.QUICKEST_WINDOW,
    "quicker_s": jitter.QUICKER_S,
    "jump_s": jitter.JUMP_S,
    "settling": jitter.SETTLING,
    "aim_samples": playout.AIM_SAMPLES,
    "stay_s": playout.STAY_S,
    "grow_s": pacing.GROW_S,
    "shrink_s": pacing.SHRINK_S,
    "faded": gaps.FADED,
    "nothing_waits": payloads.NOTHING_WAITS,
    "never": playout.Playout.NEVER,
    "hang_s": voiced.HANG_S,
    "empty": payloads.EMPTY,
    "force_s": pacing.FORCE_S,
    "slow_s": pacing.SLOW_S,
    "short_s": pacing.SHORT_S,
    "lengthen_after_s": gliding.LENGTHEN_AFTER_S,
    "shorten_after_s": gliding.SHORTEN_AFTER_S,
    "fast_s": pacing.FAST_S,
    "again_s": pacing.AGAIN_S,
    "anchor_s": pacing.ANCHOR_S,
    "lasts_s": pacing.LASTS_S,
    "lasts_far_s": pacing.LASTS_FAR_S,
    "fade_s": stretch.FADE_S,
    "quiet": pacing.QUIET,
    "pause_s": pacing.PAUSE_S,
    "near_s": voiced.NEAR_S,
    "longest_s": MAX_SAMPLES_S,
    "repeated": voicing.REPEATED,
    "own": voicing.OWN,
    "together": voicing.TOGETHER,
    "max_units_octets": voicing.MAX_UNITS_OCTETS,
    "one_byte": extensions.ONE_BYTE,
    "two_byte": extensions.TWO_BYTE,
    "max_elements": extensions.MAX_ELEMENTS,
    "dtx_octets": DTX_OCTETS,
    "max_payload": MAX_PAYLOAD,
    "kept": KEPT,
    "others": OTHERS,
    "gathered": GATHERED,
    "steps_per_second": STEPS_PER_SECOND,
}


_PART, _QUICK_PART = 16, 64
"""Rows with voices that are coded before others may run Python again: 2 to 4 ms of Opus, half a
millisecond of what is quick."""


def available() -> bool:
    """Whether it was built; VOIP_NATIVE=0 in the environment does without it all the same."""
    return _native is not None and c_is_wanted()


class Native:
    """Stands before `Intake`, `Playout` and `Transmitter` of a table."""

    def __init__(self, table: StreamTable, batch: PacketBatch) -> None:
        self._table = table
        self._parts = SimpleNamespace(table=table, batch=batch, units=voicing.UNITS)
        self._numbers = _NUMBERS | {"rate_hz": table.lane.rate_hz}
        self._heard: npt.NDArray[np.float32] = np.empty((0, 0), np.float32)
        self._adopt()

    def _adopt(self) -> None:
        """Look at the table's arrays."""
        self._rows = self._table.active.size
        arrays = [attrgetter(name)(self._parts) for name in _native.ARRAYS]
        self._tick = _native.Tick(arrays, [self._numbers[name] for name in _native.NUMBERS])
        self._odd = np.empty(self._rows, np.intp)
        self._gaps = np.empty(self._rows, np.intp)
        self._slots = np.empty(self._rows, np.intp)
        self._lengths = np.empty(self._rows, np.int32)
        self._sizes = np.empty(self._rows, np.int32)

    def _current(self) -> _native.Tick:
        """Return what works in the table's arrays, which are others when it has grown."""
        if self._rows != self._table.active.size:
            self._adopt()
        return self._tick

    def take(self, received: int) -> int:
        """Take what is ordinary of the first `received` packets of the batch, up to the ring.

        Returns how many are left. They lie at the beginning of the batch, in their order.
        """
        return self._current().take(received)

    def play(
        self, rows: Rows, count: int, due: Floats, *, coded: bool = False
    ) -> npt.NDArray[np.float32]:
        """As `Playout.play`."""
        if coded:
            return self._play_voices(rows, count, due)
        tick = self._current()
        if len(self._heard) < rows.size or self._heard.shape[1] != count:
            self._heard = np.empty((rows.size, count), np.float32)
        heard = self._heard[: rows.size]
        all_odd, all_gaps = self._odd[: rows.size], self._gaps[: rows.size]
        others, missing, _ = tick.play(
            rows, count, due, heard, all_odd, all_gaps, self._slots[: rows.size]
        )
        if others:
            odd = all_odd[:others]
            heard[odd] = self._table.playout.play(rows[odd], count, due[odd])
        if missing:
            gaps = all_gaps[:missing]
            heard[gaps] = self._table.playout.gaps.conceal(rows[gaps], count)
        return heard

    def _play_voices(self, rows: Rows, count: int, due: Floats) -> npt.NDArray[np.float32]:
        """As `Playout.play`, for rows with voices; in parts, between which others may run."""
        tick, table = self._current(), self._table.playout
        heard = np.empty((rows.size, count), np.float32)
        asked: list[Rows] = []  # of each part, the places of those whose voices are asked
        missing: list[Rows] = []
        torn: list[Rows] = []
        together = _together(table.voicing.hear_by[rows])
        for begin in range(0, rows.size, together):
            part = slice(begin, begin + together)
            odd, gaps = self._odd[: rows[part].size], self._gaps[: rows[part].size]
            slots = self._slots[begin : begin + odd.size]
            others, lost, broken = tick.play(
                rows[part], count, due[part], heard[part], odd, gaps, slots
            )
            if others:
                asked.append(odd[:others] + begin)
            if lost:
                missing.append(gaps[:lost] + begin)
            if broken:
                torn.append(gaps[gaps.size - broken :] + begin)
        if asked:
            left = np.concatenate(asked)
            heard[left] = table.play(rows[left], count, due[left], coded=True)
        if missing:
            left = np.concatenate(missing)
            together = table.voicing.hear_by[rows[left]] == TOGETHER
            if some(together):
                here = left[together]
                sound = np.empty((here.size, count), np.float32)
                table.hear_together(rows[here], self._slots[here], sound)
                heard[here] = sound
                left = left[~together]
            if left.size:
                heard[left] = table.repeat_past(rows[left], count)
        if torn:
            left = np.concatenate(torn)
            patched = heard[left]
            table.patch(rows[left], patched)
            heard[left] = patched
        return heard

    def fill(self, rows: Rows, pcm: npt.NDArray[np.float32], clock: Ints) -> Rows:
        """As `Transmitter.fill`."""
        self._tick.fill(rows, pcm, clock)
        transmitter = self._table.transmitter
        full = transmitter.filled[rows] >= transmitter.full[rows]
        return rows if every(full) else rows[full]

    def fill_each(
        self,
        rows: Rows,
        pcm: npt.NDArray[np.float32],
        slots: Ints,
        voices: Mapping[int, Voice],
        wanted: Collection[int],
        voicing: Voicing,
    ) -> Rows:
        """As `Transmitter.fill_each`; in parts, between which others run."""
        transmitter, sizes = self._table.transmitter, self._sizes[: rows.size]
        together = _together(voicing.say_by[rows])
        left = 0
        for begin in range(0, rows.size, together):
            part = slice(begin, begin + together)
            left += self._tick.say(rows[part], pcm[part], slots[part], sizes[part])
        if not left:
            return rows
        transmitter.say_together(rows, pcm, sizes == GATHERED, sizes, voices, voicing)
        full = (sizes > DTX_OCTETS) & (sizes <= MAX_PAYLOAD)
        if wanted:
            for at in where((sizes > 0) & (sizes <= DTX_OCTETS)):
                full[at] = int(rows[at]) in wanted
        transmitter.filled[rows[full]] = sizes[full]
        transmitter.marker[rows[~full & (sizes > 0)]] = True
        for at in where((sizes == 0) | (sizes == OTHERS)):
            row = int(rows[at])
            full[at] = transmitter.fill_one(
                row, pcm[at], int(slots[at]), voices[row], voicing, wanted=row in wanted
            )
        return rows if every(full) else rows[full]

    def send(self, rows: Rows, io: PacketIO) -> None:
        """As `Transmitter.send`."""
        red = self._table.transmitter.red
        if red.used:
            repeats = red.generations[rows] > 0
            if some(repeats):
                self._table.transmitter.send(rows[repeats], io)
                rows = rows[~repeats]
                if not rows.size:
                    return
        lengths = self._lengths[: rows.size]
        self._tick.seal(rows, lengths)
        io.send(rows.astype(np.int32), self._table.transmitter.packet, lengths)


def _together(kinds: npt.NDArray[np.uint8]) -> int:
    """Return how many rows are coded at a time, by their kinds (k,) of codecs."""
    return _PART if some(kinds == voicing.SLOW) else _QUICK_PART

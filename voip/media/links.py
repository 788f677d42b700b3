"""Links: sound that passes from one engine to another, in memory that both see.

Every engine counts base steps of the same monotonic clock, so a step has one number in all of
them. Who writes puts each step's sound at its number; who reads takes what was written for the
steps one step of its own before (`Incoming`), so that it makes no difference which of the two
engines ticks first, and delays neither grow nor drift. Sound is float32, as it is in a tick:
a sum that passes through a link is still exact.

A row has links for who hears it elsewhere (`LinkOut`) and for what it sends of another engine's
(`LinkIn`); a mix, of which each engine has the part that is its own rows, has both for each of the
other parts: out goes what the rows here say and what is said to all, in comes what the others do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voip.media.columns import Floats, Ints, Rows
from voip.media.commands import LinkIn, LinkOut, Unlink
from voip.media.rings import RingArena
from voip.media.voices import STEPS_PER_SECOND

if TYPE_CHECKING:
    from voip.media.router import Step
    from voip.media.table import StreamTable

__all__ = ["LINK_BYTES", "Incoming", "LinkRing", "MixLinks", "RowLinks", "set_link"]

Pcm = npt.NDArray[np.float32]

SLOTS = 32
"""Base steps that a link remembers."""
_MAX_RATE_HZ = 48_000
_HEADER_BYTES = 64
_SLOT_SAMPLES = _MAX_RATE_HZ // STEPS_PER_SECOND
LEVELS = 32
"""How many of the loudest of a mix's part are told to its other parts."""
_LEVELS_AT = _HEADER_BYTES + 8 * SLOTS + 4 * SLOTS * _SLOT_SAMPLES
LINK_BYTES = _LEVELS_AT + 8 * LEVELS

MAX_LAG = 10
"""Base steps: who is later than that is not waited for."""
_GONE = 20
"""Base steps after which nothing more is expected of who wrote the last one."""
_PATIENCE = 250
"""Reads after which a delay that was not needed is made shorter, at the next quiet step."""
_QUIET = np.float32(0.01)

_NOBODY: Floats = np.zeros(0, np.float64)
_END, _RATE, _LEVELS_END = range(3)


class LinkRing:
    """The sound of the last `SLOTS` base steps, by their numbers, over `memory` (`LINK_BYTES`)."""

    def __init__(self, memory: memoryview) -> None:
        self._header = np.frombuffer(memory, np.int64, _HEADER_BYTES // 8)
        self._stamps = np.frombuffer(memory, np.int64, SLOTS, _HEADER_BYTES)
        data = np.frombuffer(memory, np.float32, SLOTS * _SLOT_SAMPLES, _HEADER_BYTES + 8 * SLOTS)
        self._data = data.reshape(SLOTS, _SLOT_SAMPLES)
        self._levels = np.frombuffer(memory, np.float64, LEVELS, _LEVELS_AT)

    @property
    def end(self) -> int:
        """The number after the last step that was written; 0: none was."""
        return int(self._header[_END])

    @property
    def rate_hz(self) -> int:
        """Samples a second of what was written last; 0: nothing was."""
        return int(self._header[_RATE])

    def write(self, slot: int, pcm: Pcm, rate_hz: int) -> None:
        """Write `pcm`, float32 (samples,), whole base steps of which the first is number `slot`."""
        samples = rate_hz // STEPS_PER_SECOND
        self._header[_RATE] = rate_hz
        count = pcm.size // samples
        for n in range(count):
            place = (slot + n) % SLOTS
            self._stamps[place] = 0
            self._data[place, :samples] = pcm[n * samples : (n + 1) * samples]
            self._stamps[place] = slot + n
        self._header[_END] = slot + count

    def write_levels(self, slot: int, levels: Floats) -> None:
        """Tell how loud the loudest who write here are (n,), in base step number `slot`."""
        told = levels[:LEVELS]
        self._levels[: told.size] = told
        self._levels[told.size :] = 0.0
        self._header[_LEVELS_END] = slot + 1

    def levels(self, slot: int) -> Floats:
        """Return how loud the loudest were who wrote here of late: float64 (n,)."""
        if slot >= int(self._header[_LEVELS_END]) + _GONE:
            return _NOBODY
        return self._levels[self._levels > 0.0]

    def read(self, slot: int, count: int, rate_hz: int) -> Pcm:
        """Return `count` steps from number `slot` on, silence for those that are not there."""
        samples = rate_hz // STEPS_PER_SECOND
        sound = np.zeros(count * samples, np.float32)
        for n in range(count):
            place = (slot + n) % SLOTS
            if self._stamps[place] == slot + n:
                sound[n * samples : (n + 1) * samples] = self._data[place, :samples]
        return sound


class Incoming:
    """One end of a link, where it is read: how many base steps after they were written, `lag`.

    That is one step of who reads, as long as who writes is in time. A step that is not there when
    it is wanted makes it longer: what came before is heard once more. When that was of no use for
    long, a quiet step is left out.
    """

    def __init__(self, ring: LinkRing) -> None:
        self._ring = ring
        self.lag = 0
        self._least = SLOTS
        self._reads = 0

    @property
    def rate_hz(self) -> int:
        """Samples a second of what comes; 0: nothing has come yet."""
        return self._ring.rate_hz

    def levels(self, slot: int) -> Floats:
        """Return how loud the loudest are there who write, as was told last: float64 (n,)."""
        return self._ring.levels(slot)

    def read(self, slot: int, count: int, rate_hz: int) -> Pcm:
        """Return what is to be heard in `count` base steps from number `slot` on."""
        ring = self._ring
        self.lag = max(self.lag, count)
        begin = slot - self.lag
        ahead = ring.end - begin - count  # steps written beyond those that are wanted
        if -_GONE < ahead < 0:
            longer = min(-ahead, MAX_LAG - self.lag)
            self.lag += longer
            begin -= longer
            self._begin_anew()
        elif self.lag > count:
            self._least = min(self._least, ahead)
            self._reads += 1
            if self._reads >= _PATIENCE and self._least > 1:
                if np.abs(ring.read(begin, 1, rate_hz)).max(initial=0.0) < _QUIET:
                    self.lag -= 1
                    begin += 1
                    self._begin_anew()
            elif self._reads >= _PATIENCE:
                self._begin_anew()
        return ring.read(begin, count, rate_hz)

    def _begin_anew(self) -> None:
        self._least, self._reads = SLOTS, 0


class _Ends:
    """The ends of links here, by row or by mix, and then by number."""

    def __init__(self) -> None:
        self.out: dict[int, dict[int, LinkRing]] = {}
        self.into: dict[int, dict[int, Incoming]] = {}

    def __len__(self) -> int:
        return len(self.out) + len(self.into)

    def forget(self, key: int) -> None:
        """Let go of all links of a row, or of a mix."""
        self.out.pop(key, None)
        self.into.pop(key, None)

    def remove(self, key: int, link: int) -> None:
        """Let go of one link."""
        for ends in (self.out, self.into):
            mine = ends.get(key)
            if mine is not None and mine.pop(link, None) is not None and not mine:
                del ends[key]


class RowLinks(_Ends):
    """The links of rows. Where there are none, a step costs nothing."""

    def write(self, step: Step, places: Ints, table: StreamTable) -> None:
        """Write what rows hear in a step of their group; `places`: where in it, by row."""
        for row, rings in self.out.items():
            place = int(places[row])
            if place >= 0:
                rate, slot = int(table.playout.rate[row]), int(step.slot[place])
                for ring in rings.values():
                    ring.write(slot, step.heard[place], rate)

    def add(self, rows: Rows, sound: Pcm, step: Step, places: Ints, table: StreamTable) -> None:
        """Add to `sound`, float32 (k, samples), what links bring for `rows` (k,), in place."""
        for at, row in enumerate(rows.tolist()):
            for number, link in self.into.get(row, {}).items():
                rate, theirs = int(table.playout.rate[row]), link.rate_hz
                if not theirs:
                    continue
                heard = link.read(int(step.slot[places[row]]), step.group.slots, theirs)
                if theirs != rate:
                    heard = table.converter(row, ("link", number), theirs, rate).process(heard)
                sound[at] += heard


class MixLinks(_Ends):
    """The links of mixes."""

    def __init__(self) -> None:
        super().__init__()
        self._slot = 0

    def begin_step(self, steps: Sequence[Step], mix: Ints) -> None:
        """Take the number of the step that the rows of mixes take; all take the same."""
        for step in steps:
            taking_part = mix[step.group.rows] >= 0
            if taking_part.any():
                self._slot = int(step.slot[taking_part].max())
                return

    def of(self, mixes: Iterable[int]) -> list[int]:
        """Return those of `mixes` that have any."""
        return [mix for mix in mixes if mix in self.out or mix in self.into]

    def write(self, mix: int, said: Pcm, rate_hz: int) -> None:
        """Write what is said here in a step, float32 (samples,), for the other parts of a mix."""
        for ring in self.out.get(mix, {}).values():
            ring.write(self._slot, said, rate_hz)

    def tell_levels(self, mix: int, levels: Floats) -> None:
        """Tell the other parts of a mix how loud the loudest are here: (n,), in order."""
        for ring in self.out.get(mix, {}).values():
            ring.write_levels(self._slot, levels)

    def levels(self, mix: int) -> Floats:
        """Return how loud the loudest are in the other parts of a mix: float64 (n,)."""
        told = [link.levels(self._slot) for link in self.into.get(mix, {}).values()]
        return np.concatenate([_NOBODY, *told])

    def read(self, mix: int) -> list[tuple[int, Pcm]]:
        """Return what is said in the other parts: rates, and a step each, float32 (samples,)."""
        return [
            (rate, link.read(self._slot, 1, rate))
            for link in self.into.get(mix, {}).values()
            if (rate := link.rate_hz)
        ]


def set_link(table: StreamTable, arena: RingArena, command: LinkOut | LinkIn | Unlink) -> None:
    """Apply a command about a link; raises `MediaError` for a stream or a link that is none."""
    is_mix = table.mixer.is_open(command.stream)
    ends: _Ends = table.mixer.links if is_mix else table.links
    key = command.stream if is_mix else table.row(command.stream)
    number = command.link
    if isinstance(command, Unlink):
        ends.remove(key, number)
        if not is_mix:
            table.forget_converter(key, ("link", number))
        return
    ring = LinkRing(arena.block(number))
    if isinstance(command, LinkOut):
        ends.out.setdefault(key, {})[number] = ring
    else:
        ends.into.setdefault(key, {})[number] = Incoming(ring)

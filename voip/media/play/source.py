"""Keeps a ring filled with what is played: one thing after the other, without a gap between."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voip.media.play.opening import Playable, open_reader
from voip.media.play.reader import OpenUrl, Reader
from voip.media.rings import AudioRing

__all__ = ["PlaySource", "Program"]

MAX_READS = 32
"""Reads from a reader at one go: one that gives nothing for so long is asked again later."""
MAX_MARKS = 1024
"""Beginnings of pieces that are remembered, to say where playing is."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What is played in a row, `times` over (None: for ever), from `start_s` of number `item` on.

    fade_s: how long the beginning takes to come to its loudness.
    """

    items: Sequence[Playable]
    times: int | None = 1
    item: int = 0
    start_s: float = 0.0
    fade_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Mark:
    """From this sample of the ring on, it is number `item` from second `offset_s` on."""

    at: int
    item: int
    offset_s: float


class PlaySource:
    """Serves `ring` outside the tick; closes it after the last sample.

    The first `service` opens the first item and raises `AudioFileError` where it cannot be read;
    one that cannot be read later on ends all the same. `on_ready` is called when the first sound is
    there.
    """

    def __init__(
        self,
        ring: AudioRing,
        program: Program,
        open_url: OpenUrl,
        *,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._ring = ring
        self._program = program
        self._open_url = open_url
        self._on_ready = on_ready
        self._item = program.item
        self._turn = 1
        self._sounded = False  # anything in this turn
        self._reader: Reader | None = None
        self._start_s = program.start_s
        self._fade = round(program.fade_s * ring.rate_hz)
        self._faded = 0
        self._marks: deque[_Mark] = deque(maxlen=MAX_MARKS)
        self.durations: dict[int, float | None] = {}
        """Seconds of each item, as far as they have been opened."""

    def position(self) -> tuple[int, float]:
        """Where the reader of the ring is: number of the item, and seconds in it."""
        heard = self._ring.position
        found = _Mark(0, self._program.item, self._program.start_s)
        for mark in tuple(self._marks):
            if mark.at <= heard:
                found = mark
        return found.item, found.offset_s + (heard - found.at) / self._ring.rate_hz

    def service(self, now: float) -> None:
        """Read as much as there is room for."""
        ring = self._ring
        for _ in range(MAX_READS):
            if ring.closed or not ring.space:
                break
            reader = self._reader or self._open()
            if reader is None:
                ring.close()
                break
            pcm = reader.read(min(ring.space, ring.rate_hz // 4))
            if pcm.size:
                self._sounded = True
                ring.push(self._fade_in(pcm))
            elif reader.ended:
                self._next()
        if self._on_ready is not None and (ring.written or ring.closed):
            self._on_ready()
            self._on_ready = None

    def _open(self) -> Reader | None:
        """Open the next item; None where there is none."""
        program = self._program
        if self._item >= len(program.items):
            if not self._sounded or (program.times is not None and self._turn >= program.times):
                return None  # nothing at all would be played for ever
            self._turn += 1
            self._item, self._sounded = 0, False
        reader = open_reader(program.items[self._item], self._ring.rate_hz, self._open_url)
        start_s, self._start_s = self._start_s, 0.0
        self._reader = reader
        self.durations[self._item] = reader.duration_s
        if start_s:
            reader.seek(start_s)
        self._marks.append(_Mark(self._ring.written, self._item, start_s))
        return reader

    def _next(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._item += 1

    def _fade_in(self, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        left = self._fade - self._faded
        if left <= 0:
            return pcm
        ramp = np.minimum(np.arange(self._faded, self._faded + pcm.size) / self._fade, 1.0)
        self._faded += pcm.size
        faded: npt.NDArray[np.float64] = np.rint(pcm * ramp)
        return faded.astype(np.int16)

    def close(self) -> None:
        """Let go of everything."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

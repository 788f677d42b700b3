"""Sound that waits to be sent on a call, and can be taken back: what an agent says.

Only a little of it is in the engine's ring at any time, so that what is taken back is soon silent;
marks between pieces are told of when all before them has gone out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.media.rings import AudioRing
from voip.session.audio import RING_S, CallAudio

__all__ = ["LEAD_S", "Speech"]

LEAD_S: Final = 0.06
"""What is ahead of the tick; it is heard even after `clear`."""
MAX_QUEUED_S: Final = 120.0
MAX_MARKS: Final = 1000
MAX_PIECES: Final = 20_000


class Speech:
    """What is queued to be sent, int16 (samples,) at `rate_hz`, and marks between."""

    def __init__(self, audio: CallAudio, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.said = 0
        """Samples that have gone out, or are about to."""
        self.dropped = 0
        """Samples for which there was no room: more than two minutes waited."""
        self._audio = audio
        self._waiting: deque[npt.NDArray[np.int16] | str] = deque()
        self._samples = 0
        self._marks: deque[tuple[int, str]] = deque()  # how much is said before it, and its name
        self._names = 0
        self._news = asyncio.Event()
        self._ring: AudioRing | None = None
        self._number = -1

    @property
    def queued_s(self) -> float:
        """Seconds of sound that wait."""
        return self._samples / self.rate_hz

    def say(self, pcm: npt.NDArray[np.int16]) -> None:
        """Send `pcm` after what waits; what there is no room for is dropped and counted."""
        room = int(MAX_QUEUED_S * self.rate_hz) - self._samples
        if len(self._waiting) >= MAX_PIECES:
            room = 0
        self.dropped += max(0, pcm.size - room)
        pcm = pcm[: max(0, room)]
        if pcm.size:
            self._waiting.append(pcm)
            self._samples += pcm.size
            self._news.set()

    def mark(self, name: str) -> bool:
        """Tell when all that has been given so far has gone out; False: too many marks wait."""
        if self._names >= MAX_MARKS:
            return False
        self._names += 1
        self._waiting.append(name)
        self._news.set()
        return True

    def clear(self) -> list[str]:
        """Take back what has not gone out; return the marks that were in it, in order."""
        names = [name for _, name in self._marks]
        names += [item for item in self._waiting if isinstance(item, str)]
        self._waiting.clear()
        self._marks.clear()
        self._samples = self._names = 0
        return names

    async def run(self, reached: Callable[[str], Awaitable[None]]) -> None:
        """Send, and call `reached` with each mark, until cancelled or the call is over."""
        self._number, self._ring = await self._audio.speak(RING_S, self.rate_hz)
        try:
            while not self._audio.over:
                self._feed(self._ring)
                while self._marks and self._marks[0][0] <= self.said - self._ring.available:
                    self._names -= 1
                    await reached(self._marks.popleft()[1])
                if self._waiting or self._marks:
                    await self._audio.wait_tick()
                else:
                    self._news.clear()
                    await self._news.wait()
        finally:
            await self._audio.hush(self._number)

    def _feed(self, ring: AudioRing) -> None:
        """Keep the ring a little ahead of the tick."""
        lead = int(LEAD_S * self.rate_hz)
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, str):
                self._marks.append((self.said, first))
                self._waiting.popleft()
                continue
            room = lead - ring.available
            if room <= 0:
                return
            taken = ring.push(first[:room])
            self.said += taken
            self._samples -= taken
            if taken < first.size:
                self._waiting[0] = first[taken:]
                return
            self._waiting.popleft()

"""Devices that are other programs, or the call itself: raw sound by pipes, and a loop of wire."""

from __future__ import annotations

import os
from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt

from voip.devices.paced import PacedDevice
from voip.errors import ConfigError

__all__ = ["LoopbackDevice", "PipeDevice"]

Pcm = npt.NDArray[np.int16]

_AHEAD_S: Final = 1.0
"""A reader that takes nothing loses what is said beyond this; of a writer no more is read ahead."""


class PipeDevice(PacedDevice):
    """Hears int16 (native order, mono) from one descriptor and writes what it plays to another.

    They are pipes, FIFOs or sockets, which this makes non-blocking and does not close. Where
    nothing is there to be read in time, silence is heard, and `underruns` counts the block; after
    the end there is only silence. A reader that takes nothing loses whole blocks (`overruns`); when
    it is gone the device vanishes.
    """

    def __init__(
        self,
        microphone: int | None = None,
        speaker: int | None = None,
        *,
        rate_hz: int = 16000,
        block_ms: float = 10.0,
        drift_ppm: float = 0.0,
    ) -> None:
        super().__init__("pipe", rate_hz=rate_hz, block_ms=block_ms, drift_ppm=drift_ppm)
        self.underruns = self.overruns = 0
        self._microphone, self._speaker = microphone, speaker
        self._read, self._unsent = bytearray(), bytearray()
        self._ended = microphone is None
        self._limit = 2 * round(_AHEAD_S * rate_hz)

    def open(self) -> None:
        """Let neither end make anybody wait."""
        for descriptor in (self._microphone, self._speaker):
            if descriptor is not None:
                os.set_blocking(descriptor, False)

    def capture(self, samples: int) -> Pcm:
        """Return what has come, and silence for what has not."""
        wanted = 2 * samples
        while not self._ended and self._microphone is not None and len(self._read) < wanted:
            try:
                data = os.read(self._microphone, wanted - len(self._read))
            except BlockingIOError:
                break
            self._ended = not data
            self._read += data
        block = np.zeros(samples, np.int16)
        whole = len(self._read) // 2
        if whole < samples and not self._ended:
            self.underruns += 1
        block[:whole] = np.frombuffer(bytes(self._read[: 2 * whole]), np.int16)
        del self._read[: 2 * whole]
        return block

    def play(self, pcm: Pcm) -> None:
        """Write what there is room for; raises OSError where nobody reads any more."""
        if self._speaker is None:
            return
        if len(self._unsent) + pcm.nbytes > self._limit:
            self.overruns += 1
        else:
            self._unsent += pcm.tobytes()
        while self._unsent:
            try:
                sent = os.write(self._speaker, self._unsent)
            except BlockingIOError:
                return
            del self._unsent[:sent]


class LoopbackDevice(PacedDevice):
    """Hears what it plays, after `delay_ms`: whole blocks, one at least."""

    def __init__(
        self,
        delay_ms: float = 10.0,
        *,
        rate_hz: int = 16000,
        block_ms: float = 10.0,
        drift_ppm: float = 0.0,
    ) -> None:
        super().__init__("loopback", rate_hz=rate_hz, block_ms=block_ms, drift_ppm=drift_ppm)
        if not 0 <= delay_ms <= 10_000:
            raise ConfigError(f"a delay of {delay_ms} ms cannot be had", hint="0 to 10,000")
        self._blocks_back = max(1, round(delay_ms / block_ms))
        self._played: deque[Pcm] = deque()

    def capture(self, samples: int) -> Pcm:
        """Return what was played so long ago."""
        if len(self._played) < self._blocks_back:
            return np.zeros(samples, np.int16)
        return self._played.popleft()

    def play(self, pcm: Pcm) -> None:
        """Keep it."""
        self._played.append(pcm.copy())

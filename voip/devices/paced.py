"""Devices without hardware, paced by the running loop: for servers, tests and programs.

Their clocks may run fast or slow, as those of real ones do: on a simulated host they drift in
virtual time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from os import PathLike

import numpy as np
import numpy.typing as npt

from voip.devices.device import Lost, Sound
from voip.errors import ConfigError, DeviceError, VoipError
from voip.media.wav import WavReader, WavWriter

__all__ = ["CallbackDevice", "FileDevice", "NullDevice", "PacedDevice", "ToneDevice"]

log = logging.getLogger(__name__)

Pcm = npt.NDArray[np.int16]

_CATCH_UP = 10
"""Blocks that are made up for at once when the loop was busy; what is older is left out."""


class PacedDevice:
    """Takes a step whenever one is due: `capture` makes a block, `play` takes another one.

    rate_hz, block_ms: what it works in. drift_ppm: how much faster its clock runs than the loop's.
    """

    def __init__(
        self, name: str, *, rate_hz: int = 16000, block_ms: float = 10.0, drift_ppm: float = 0.0
    ) -> None:
        samples = round(rate_hz * block_ms / 1000)
        if not 0 < samples <= rate_hz or not 1000 <= rate_hz <= 384_000:
            raise ConfigError(f"no device has blocks of {block_ms} ms at {rate_hz} Hz")
        if not abs(drift_ppm) <= 100_000:
            raise ConfigError(f"no clock is {drift_ppm} ppm wrong", hint="100,000 at most")
        self.name = name
        self.capture_hz = self.play_hz = rate_hz
        self.block_s = samples / rate_hz
        self._samples = samples
        self._period = self.block_s / (1 + drift_ppm * 1e-6)
        self._sound: Sound | None = None
        self._lost: Lost = _nobody
        self._timer: asyncio.TimerHandle | None = None
        self._begun = 0.0
        self._blocks = 0

    def start(self, sound: Sound, lost: Lost) -> None:
        """Begin: the first block is captured after its time."""
        if self._sound is not None:
            raise DeviceError(f"{self.name} is in use", hint="stop it first, or make another one")
        self.open()
        self._sound, self._lost = sound, lost
        self._begun, self._blocks = asyncio.get_running_loop().time(), 0
        self._wait()

    def stop(self) -> None:
        """Go on no more."""
        if self._sound is None:
            return
        self._sound, self._lost = None, _nobody
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.close()

    def vanish(self, reason: str = "it was unplugged") -> None:
        """Be gone, as a device that is unplugged."""
        lost = self._lost
        self.stop()
        lost(reason)

    def open(self) -> None:
        """Get what is needed. To be overridden; raises `VoipError`."""

    def close(self) -> None:
        """Let go of it. To be overridden."""

    def capture(self, samples: int) -> Pcm:
        """Return what is heard next, int16 (samples,). To be overridden; this is silence."""
        return np.zeros(samples, np.int16)

    def play(self, pcm: Pcm) -> None:
        """Take what is said, int16 (samples,). To be overridden; this is for nobody's ears."""

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._begun + (self._blocks + 1) * self._period, self._due)

    def _due(self) -> None:
        loop = asyncio.get_running_loop()
        behind = int((loop.time() - self._begun) / self._period) - self._blocks
        if behind > _CATCH_UP:
            self._blocks += behind - _CATCH_UP
            behind = _CATCH_UP
        try:
            for _ in range(max(1, behind)):
                self._blocks += 1
                captured = self.capture(self._samples)
                if self._sound is None:  # a callback has stopped it
                    return
                self._sound.capture(captured, loop.time())
                self.play(self._sound.play(self._samples, loop.time()))
        except Exception as error:
            if not isinstance(error, VoipError | OSError):
                log.exception("the device %s failed", self.name)
            self.vanish(str(error) or repr(error))
            return
        if self._sound is not None:
            self._wait()


class NullDevice(PacedDevice):
    """Hears nothing, and nobody hears it."""

    def __init__(
        self, *, rate_hz: int = 16000, block_ms: float = 10.0, drift_ppm: float = 0.0
    ) -> None:
        super().__init__("null", rate_hz=rate_hz, block_ms=block_ms, drift_ppm=drift_ppm)


class ToneDevice(PacedDevice):
    """Hears a tone, by its own clock, at a level below full scale."""

    def __init__(
        self,
        frequency_hz: float = 440.0,
        level_dbfs: float = -20.0,
        *,
        rate_hz: int = 16000,
        block_ms: float = 10.0,
        drift_ppm: float = 0.0,
    ) -> None:
        super().__init__(
            f"tone of {frequency_hz:g} Hz", rate_hz=rate_hz, block_ms=block_ms, drift_ppm=drift_ppm
        )
        self._turns = frequency_hz / rate_hz
        self._amplitude = 32767 * min(1.0, 10 ** (level_dbfs / 20) * 2**0.5)
        self._sample = 0

    def capture(self, samples: int) -> Pcm:
        """Return the tone going on."""
        turns = (np.arange(self._sample, self._sample + samples) * self._turns) % 1.0
        self._sample += samples
        tone: Pcm = np.rint(self._amplitude * np.sin(2 * np.pi * turns)).astype(np.int16)
        return tone


class FileDevice(PacedDevice):
    """Hears one WAV file, which may be heard again and again, and writes what it plays to another.

    Reading and writing is done where the loop runs: short pieces, for programs and tests.
    """

    def __init__(
        self,
        microphone: str | PathLike[str] | None = None,
        speaker: str | PathLike[str] | None = None,
        *,
        loop: bool = False,
        rate_hz: int = 16000,
        block_ms: float = 10.0,
        drift_ppm: float = 0.0,
    ) -> None:
        name = f"files {microphone or '-'} {speaker or '-'}"
        super().__init__(name, rate_hz=rate_hz, block_ms=block_ms, drift_ppm=drift_ppm)
        self._microphone, self._speaker, self._loop = microphone, speaker, loop
        self._reader: WavReader | None = None
        self._heard_some = False
        self._writer: WavWriter | None = None

    def open(self) -> None:
        """Open both; raises `AudioFileError`."""
        if self._microphone is not None:
            self._reader = WavReader(self._microphone, self.capture_hz)
        if self._speaker is not None:
            self._writer = WavWriter(self._speaker, self.play_hz)

    def close(self) -> None:
        """Close both: what was written is whole."""
        if self._reader is not None:
            self._reader.close()
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    def capture(self, samples: int) -> Pcm:
        """Return what the file has next, and silence after its end."""
        block = np.zeros(samples, np.int16)
        have = 0
        while self._reader is not None and have < samples:
            pcm = self._reader.read(samples - have)
            block[have : have + pcm.size] = pcm
            have += pcm.size
            self._heard_some |= pcm.size > 0
            if have == samples:
                break
            self._rewind()
        return block

    def _rewind(self) -> None:
        """Begin anew, where that is wanted and there is something in the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._loop and self._heard_some and self._microphone is not None:
            self._reader, self._heard_some = WavReader(self._microphone, self.capture_hz), False

    def play(self, pcm: Pcm) -> None:
        """Write it."""
        if self._writer is not None:
            self._writer.write(pcm)


class CallbackDevice(PacedDevice):
    """Hears what `capture(samples)` returns, int16 (samples,), and gives what it plays to `play`.

    Both are called in the loop, every `block_ms`; either may be None. What is short is silence.
    """

    def __init__(
        self,
        capture: Callable[[int], Pcm] | None = None,
        play: Callable[[Pcm], None] | None = None,
        *,
        name: str = "callbacks",
        rate_hz: int = 16000,
        block_ms: float = 10.0,
        drift_ppm: float = 0.0,
    ) -> None:
        super().__init__(name, rate_hz=rate_hz, block_ms=block_ms, drift_ppm=drift_ppm)
        self._capture, self._play = capture, play

    def capture(self, samples: int) -> Pcm:
        """Ask for sound."""
        block = np.zeros(samples, np.int16)
        if self._capture is not None:
            pcm = np.asarray(self._capture(samples), np.int16)[:samples]
            block[: pcm.size] = pcm
        return block

    def play(self, pcm: Pcm) -> None:
        """Give sound."""
        if self._play is not None:
            self._play(pcm)


def _nobody(reason: str) -> None:
    """Nobody is told."""

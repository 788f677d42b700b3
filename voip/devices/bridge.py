"""Between a device, which has a clock of its own, and rings, which the engine serves by its own.

Each way is converted by a ratio that follows how full its ring is: a controller of the second order
with a time constant of seconds (a software PLL), so that what two clocks differ by is taken out
without a click, and too slowly to be heard.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from voip.dsp.drift import DriftResampler
from voip.dsp.level import SILENCE_DBFS, peak, rms, to_dbfs
from voip.dsp.pcm import to_int16
from voip.media.rings import AudioRing
from voip.media.table import BASE_STEP_S

__all__ = ["ClockBridge", "Meter", "Way"]

Pcm = npt.NDArray[np.int16]

PULL_PER_S = 0.1
"""How fast the ratio follows: an error is a third of itself after 10 s."""
MOST_PPM = 2000.0
"""3.5 cents: nobody hears that, and no sound card is so wrong."""
SMOOTH_S = 0.5
"""Over which fills are averaged: engine and device take turns in blocks."""
SLIP_S = 0.120
"""A ring this much fuller than it should be is emptied at once: somebody stood still."""
METER_S = 0.3
"""Over which a level is averaged: what a meter shows (IEC 60268-17 moves so)."""


class Meter:
    """How loud one way is: RMS and peak in dBFS, of the last moments."""

    def __init__(self) -> None:
        self._power = 0.0
        self._peak = 0.0

    def take(self, pcm: Pcm, seconds: float) -> None:
        """Hear a block of so many seconds."""
        fall = math.exp(-seconds / METER_S)
        self._power = self._power * fall + float(rms(pcm)) ** 2 * (1 - fall)
        self._peak = max(self._peak * fall, float(peak(pcm)))

    @property
    def rms_dbfs(self) -> float:
        """The level; `SILENCE_DBFS` at least."""
        return max(SILENCE_DBFS, float(to_dbfs(math.sqrt(self._power))))

    @property
    def peak_dbfs(self) -> float:
        """The loudest sample, falling."""
        return max(SILENCE_DBFS, float(to_dbfs(self._peak)))


class Way:
    """One way: how full its ring should be, how full it is, and the ratio that follows from it.

    `ppm`: how much faster the device's clock runs than the engine's, as far as is known.
    """

    def __init__(self, sign: float, target_s: float) -> None:
        self.target_s = target_s
        self.ppm = 0.0
        self.slips = 0
        """How often sound was left out, or silence put in, since a clock stood still."""
        self.short_s = 0.0
        """Seconds for which there was nothing to play."""
        self._sign = sign
        self._fill_s: float | None = None
        self._integral = 0.0

    def follow(self, fill_s: float, seconds: float) -> float:
        """Take the fill as it is now; return by how many ppm more is to come out."""
        if self._fill_s is None:
            self._fill_s = fill_s
        self._fill_s += (fill_s - self._fill_s) * min(1.0, seconds / SMOOTH_S)
        error = self._fill_s - self.target_s
        integral = self._integral + PULL_PER_S**2 / 4 * error * seconds * 1e6
        self._integral = min(max(integral, -MOST_PPM), MOST_PPM)
        wanted = min(max(self._integral + PULL_PER_S * error * 1e6, -MOST_PPM), MOST_PPM)
        self.ppm = self._sign * self._integral
        return -wanted

    def slip(self) -> None:
        """Begin to measure anew: the ring has just been set to its target."""
        self.slips += 1
        self._fill_s = None


class ClockBridge:
    """Joins a device with two rings: `heard` is played, `said` is what it captures.

    latency_s: how much sound each ring holds on average, beside what is under way in blocks. The
    rings are the engine's, of any rate; what is missing is silence. Each way may be served by a
    thread of its own. Times are of the engine's clock: of its base step each ring is ahead, or
    behind, by so much, and without that fills would rise and fall as two clocks slide by.
    """

    def __init__(
        self,
        capture_hz: int,
        play_hz: int,
        heard: AudioRing,
        said: AudioRing,
        latency_s: float = 0.03,
    ) -> None:
        self.heard_meter, self.said_meter = Meter(), Meter()
        self.played = Way(-1.0, latency_s)
        self.captured = Way(1.0, latency_s)
        self._capture_hz, self._play_hz = capture_hz, play_hz
        self._heard, self._said = heard, said
        self._heard_by = DriftResampler(heard.rate_hz, play_hz)
        self._said_by = DriftResampler(capture_hz, said.rate_hz)
        self._playing = self._saying = self._waiting = False

    def capture(self, pcm: Pcm, now: float) -> None:
        """Push what was captured; the faster the device, the fewer samples of it."""
        seconds = pcm.size / self._capture_hz
        self.said_meter.take(pcm, seconds)
        ring, way = self._said, self.captured
        rate = ring.rate_hz
        pcm = to_int16(self._said_by.process(_to_float(pcm)))
        there = ring.available
        # before the push a block is missing, after it there is one: half of it is the mean
        fill_s = (there + pcm.size / 2) / rate - now % BASE_STEP_S
        if self._waiting:  # nobody takes what is said: on hold, or the engine stood still
            if there > way.target_s * rate:
                return
            self._waiting = False
            way.slip()
        elif fill_s > way.target_s + SLIP_S:
            self._waiting = True
            return
        if there:
            self._said_by.ppm = way.follow(fill_s, seconds)
        else:
            if self._saying:
                way.slip()
            self._saying = True
            ring.push(np.zeros(round(way.target_s * rate), np.int16))
        ring.push(pcm)

    def play(self, samples: int, now: float) -> Pcm:
        """Take as much as the block needs; the faster the device, the less of what there is."""
        block = self._heard_next(samples, now)
        self.heard_meter.take(block, samples / self._play_hz)
        return block

    def _heard_next(self, samples: int, now: float) -> Pcm:
        ring, way = self._heard, self.played
        rate, seconds = ring.rate_hz, samples / self._play_hz
        if not self._playing:
            if ring.available < (way.target_s + seconds / 2) * rate:
                return np.zeros(samples, np.int16)
            self._playing = True
            self._leave(way.target_s + seconds / 2)
        fill_s = ring.available / rate - seconds / 2 + now % BASE_STEP_S
        if fill_s > way.target_s + SLIP_S:
            self._leave(way.target_s + seconds / 2)
            way.slip()
        else:
            self._heard_by.ppm = way.follow(fill_s, seconds)
        missing = 0

        def read(count: int) -> npt.NDArray[np.float32]:
            nonlocal missing
            pcm = np.zeros(count, np.float32)
            there = ring.read(count)
            pcm[: there.size] = _to_float(there)
            missing = count - there.size
            return pcm

        block = to_int16(self._heard_by.pull(samples, read))
        if missing:  # gather anew
            way.short_s += missing / rate
            way.slip()
            self._playing = False
        return block

    def _leave(self, seconds: float) -> None:
        """Leave so much of what is heard in its ring, the latest."""
        ring = self._heard
        ring.read(max(0, ring.available - round(seconds * ring.rate_hz)))


def _to_float(pcm: Pcm) -> npt.NDArray[np.float32]:
    return pcm.astype(np.float32) * np.float32(1 / 32768)

"""WAV files for peers that play: 8 kHz, mono, 16 bit, long enough for any call of a test."""

from __future__ import annotations

import math
import wave
from array import array
from pathlib import Path

RATE_HZ = 8000
LENGTH_S = 60


def write_tone(path: Path, hz: float, peak: float = 0.3) -> None:
    """A minute of a sine; `peak` 1.0 is full scale."""
    tone = array(
        "h",
        (
            round(32767 * peak * math.sin(2 * math.pi * hz * n / RATE_HZ))
            for n in range(LENGTH_S * RATE_HZ)
        ),
    )
    _write(path, tone.tobytes())


def write_looped(path: Path, source: Path) -> None:
    """A minute of `source` over and over; raises ValueError when it is not 8 kHz mono 16 bit."""
    with wave.open(str(source)) as wav:
        layout = (wav.getframerate(), wav.getnchannels(), wav.getsampwidth())
        pcm = wav.readframes(wav.getnframes())
    if layout != (RATE_HZ, 1, 2) or not pcm:
        raise ValueError(f"{source} is not 8 kHz, mono, 16 bit: {layout}, {len(pcm)} bytes")
    length = LENGTH_S * RATE_HZ * 2
    _write(path, (pcm * (length // len(pcm) + 1))[:length])


def _write(path: Path, pcm: bytes) -> None:
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        wav.writeframes(pcm)

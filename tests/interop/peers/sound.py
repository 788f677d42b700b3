"""WAV files for peers that play: mono, 16 bit, long enough for any call of a test."""

from __future__ import annotations

import math
import wave
from array import array
from pathlib import Path

LENGTH_S = 60


def write_tone(path: Path, hz: float, rate_hz: int = 8000, peak: float = 0.3) -> None:
    """A minute of a sine; `peak` 1.0 is full scale."""
    tone = array(
        "h",
        (
            round(32767 * peak * math.sin(2 * math.pi * hz * n / rate_hz))
            for n in range(LENGTH_S * rate_hz)
        ),
    )
    _write(path, tone.tobytes(), rate_hz)


def write_looped(path: Path, source: Path, rate_hz: int = 8000) -> None:
    """A minute of `source` over and over; raises ValueError when it is not so, mono, 16 bit."""
    with wave.open(str(source)) as wav:
        layout = (wav.getframerate(), wav.getnchannels(), wav.getsampwidth())
        pcm = wav.readframes(wav.getnframes())
    if layout != (rate_hz, 1, 2) or not pcm:
        raise ValueError(f"{source} is not {rate_hz} Hz, mono, 16 bit: {layout}, {len(pcm)} bytes")
    length = LENGTH_S * rate_hz * 2
    _write(path, (pcm * (length // len(pcm) + 1))[:length], rate_hz)


def _write(path: Path, pcm: bytes, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, rate_hz, 0, "NONE", ""))
        wav.writeframes(pcm)

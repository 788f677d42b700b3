"""Speech to send: the shipped recording, as µ-law frames of which no two are equal."""

from __future__ import annotations

import io
import wave

import numpy as np
import numpy.typing as npt

from voip.codecs import g711
from voip.errors import AudioFileError
from voip.sounds import asset

__all__ = ["FRAME_SAMPLES", "speech_frames", "speech_samples"]

FRAME_SAMPLES = 160
_NOISE_PEAK = 24  # -63 dBFS: makes pauses and repetitions distinct and nothing audible
_NEGATIVE_ZERO = 0x7F  # decodes to 0, and 0 encodes to 0xFF: the one code that does not come back
_POSITIVE_ZERO = 0xFF


def speech_frames(frames: int, seed: int) -> npt.NDArray[np.uint8]:
    """Return µ-law speech, uint8 (frames, 160), 20 ms each, all distinct.

    Every code survives decoding and encoding again, so what an echo sends back can be compared
    byte for byte. Raises `AudioFileError` when two frames came out equal.
    """
    recording = _recording()
    samples = np.resize(recording, frames * FRAME_SAMPLES).astype(np.int32)
    generator = np.random.default_rng(seed)
    samples += generator.integers(-_NOISE_PEAK, _NOISE_PEAK + 1, samples.size, dtype=np.int32)
    codes = g711.encode(np.clip(samples, -32768, 32767).astype(np.int16), g711.Law.ULAW)
    codes[codes == _NEGATIVE_ZERO] = _POSITIVE_ZERO
    framed = codes.reshape(frames, FRAME_SAMPLES)
    if len({frame.tobytes() for frame in framed}) != frames:
        raise AudioFileError("two frames of the benchmark's speech are equal")
    return framed


def speech_samples(seconds: float) -> npt.NDArray[np.int16]:
    """Return the recording, over and over: int16 (samples,) at 8 kHz."""
    return np.resize(_recording(), int(8000 * seconds))


def _recording() -> npt.NDArray[np.int16]:
    with wave.open(io.BytesIO(asset("speech-8k.wav"))) as opened:
        return np.frombuffer(opened.readframes(opened.getnframes()), np.int16)

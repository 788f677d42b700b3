"""Make the sounds that ship with the package: voip/assets/*.wav.

    VOIP_REFERENCE_DATA=DIR python tools/make_assets.py [FOLDER]

Speech comes from the LibriVox recordings below DIR/speech (public domain; voip/assets/README.md
names them), tones from arithmetic. Each speech file is cut at its own pauses, high-passed at
100 Hz (the recordings carry a constant offset), resampled, faded over 10 ms and brought to
-26 dBov active level (ITU-T P.56), the usual level of speech in telephony tests.
"""

from __future__ import annotations

import os
import sys
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, firwin, resample_poly, sosfiltfilt

from voip.harness.audio import Sound, active_speech_level

ROOT = Path(__file__).resolve().parent.parent
LIBRIVOX = Path("speech/librivox-16k-pocketsphinx")
SENTENCES = "sense_and_sensibility_01_austen_64kb-{}.wav"
SOURCE_RATE_HZ = 16000

SPEECH = ("0880", "0890")  # "He was not an ill-disposed young man, unless ..."
PROMPT = ("0930",)  # "He might even have been made amiable himself."

ACTIVE_LEVEL_DBOV = -26.0
TONE_LEVEL_DBOV = -20.0

Floats = npt.NDArray[np.float64]


def read_sentences(data: Path, names: Sequence[str]) -> Floats:
    parts = []
    for name in names:
        with wave.open(str(data / LIBRIVOX / SENTENCES.format(name)), "rb") as file:
            if (file.getframerate(), file.getnchannels()) != (SOURCE_RATE_HZ, 1):
                raise SystemExit(f"sentence {name} is not mono at {SOURCE_RATE_HZ} Hz")
            parts.append(np.frombuffer(file.readframes(file.getnframes()), "<i2"))
    return np.concatenate(parts).astype(np.float64)


def finish(speech: Floats, rate_hz: int) -> Sound:
    """High-pass, resample from 16 kHz, fade, set the level."""
    highpass = butter(2, 100, "highpass", fs=SOURCE_RATE_HZ, output="sos")
    filtered = sosfiltfilt(highpass, speech)
    if rate_hz != SOURCE_RATE_HZ:
        factor = SOURCE_RATE_HZ // rate_hz
        lowpass = firwin(255, 0.93 / factor, window=("kaiser", 8.0))
        filtered = resample_poly(filtered, 1, factor, window=lowpass)
    faded = fade(filtered, rate_hz)
    level, _ = active_speech_level(Sound(as_int16(faded), rate_hz))
    return Sound(as_int16(faded * 10 ** ((ACTIVE_LEVEL_DBOV - level) / 20)), rate_hz)


def fade(signal: Floats, rate_hz: int) -> Floats:
    length = rate_hz // 100
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(length) / length)
    shaped = signal.copy()
    shaped[:length] *= ramp
    shaped[-length:] *= ramp[::-1]
    return shaped


def as_int16(signal: Floats) -> npt.NDArray[np.int16]:
    rounded = np.rint(signal)
    if np.abs(rounded).max() > 32767:
        raise SystemExit("this level clips: choose a lower one")
    return rounded.astype(np.int16)


def notes(frequencies_hz: Sequence[float], seconds: float, gap_s: float, rate_hz: int) -> Sound:
    """Play notes with pauses, each far from every DTMF and call-progress frequency."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    amplitude = 32768 * 10 ** (TONE_LEVEL_DBOV / 20) * np.sqrt(2)
    gap = np.zeros(round(gap_s * rate_hz))
    parts = [gap]
    for frequency in frequencies_hz:
        parts += [fade(amplitude * np.sin(2 * np.pi * frequency * time), rate_hz), gap]
    return Sound(as_int16(np.concatenate(parts)), rate_hz)


def make(data: Path) -> dict[str, Sound]:
    """All assets by file name."""
    speech = read_sentences(data, SPEECH)
    return {
        "speech-8k.wav": finish(speech, 8000),
        "speech-16k.wav": finish(speech, 16000),
        "prompt-8k.wav": finish(read_sentences(data, PROMPT), 8000),
        "enter-digits-8k.wav": notes((523.25, 587.33, 880.0), 0.25, 0.1, 8000),
    }


def write(folder: Path, sounds: dict[str, Sound]) -> None:
    for name, sound in sounds.items():
        with wave.open(str(folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sound.rate_hz)
            file.writeframes(sound.samples.astype("<i2").tobytes())


def main() -> None:
    data = Path(os.environ.get("VOIP_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "voip" / "assets"
    folder.mkdir(parents=True, exist_ok=True)
    for name, sound in (sounds := make(data)).items():
        level, activity = active_speech_level(sound)
        print(f"{name}: {sound.seconds:.2f} s, {level:.1f} dBov active {activity:.0%} of the time")
    write(folder, sounds)


if __name__ == "__main__":
    main()

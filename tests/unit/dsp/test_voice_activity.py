"""Who speaks is noticed; noise, clicks and hum are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from voip.dsp.voice_activity import VoiceActivity
from voip.harness.audio import Sound
from voip.sounds import asset_path

RATE = 8000
FRAME = RATE // 50


def speaks_at(pcm: npt.NDArray[np.int16]) -> float | None:
    """When a voice is first noticed, in seconds."""
    activity = VoiceActivity()
    for number in range(pcm.size // FRAME):
        if activity.feed(pcm[number * FRAME : (number + 1) * FRAME]):
            return number * FRAME / RATE
    return None


def speech(level_db: float = 0.0) -> npt.NDArray[np.int16]:
    with asset_path("speech-8k.wav") as path:
        samples = Sound.read(path).samples
    return (samples * 10 ** (level_db / 20)).astype(np.int16)


def noise(seconds: float, dbfs: float, seed: int = 1) -> npt.NDArray[np.int16]:
    random = np.random.default_rng(seed)
    return random.normal(0, 32768 * 10 ** (dbfs / 20), int(seconds * RATE)).astype(np.int16)


@pytest.mark.parametrize("level_db", [0.0, -10.0])
@pytest.mark.parametrize("noise_dbfs", [-90.0, -55.0])
def test_a_voice_is_noticed_within_half_a_second(level_db: float, noise_dbfs: float) -> None:
    said = np.concatenate((np.zeros(3 * RATE, np.int16), speech(level_db)))
    onset = int(np.argmax(np.abs(said) > 2000 * 10 ** (level_db / 20))) / RATE
    heard = said + noise(said.size / RATE, noise_dbfs)[: said.size]
    at = speaks_at(heard)
    assert at is not None and -0.2 < at - onset < 0.5


def test_a_voice_that_speaks_from_the_first_moment_is_noticed() -> None:
    pcm = speech()
    start = int(np.argmax(np.abs(pcm) > 2000))
    at = speaks_at(pcm[start:])
    assert at is not None and at < 0.6


@pytest.mark.parametrize("dbfs", [-90.0, -60.0, -50.0])
def test_noise_is_no_voice(dbfs: float) -> None:
    assert speaks_at(noise(20, dbfs)) is None


def test_noise_that_comes_up_is_taken_for_one_once_at_most() -> None:
    """It is loud against what was there; three seconds later it is the floor."""
    activity = VoiceActivity()
    pcm = np.concatenate((noise(4, -70), noise(8, -35)))
    said = [activity.feed(pcm[at : at + FRAME]) for at in range(0, pcm.size, FRAME)]
    assert not any(said[: 4 * 50]) and not any(said[-3 * 50 :])


def test_clicks_and_hum_are_no_voice() -> None:
    pcm = noise(10, -70)
    pcm[:: RATE // 2] = 25_000
    assert speaks_at(pcm) is None
    hum = (600 * np.sin(2 * np.pi * 50 * np.arange(10 * RATE) / RATE)).astype(np.int16)
    assert speaks_at(np.concatenate((hum, hum))) is None

"""Who speaks is noticed; noise, clicks and hum are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from voip.dsp.voice_activity import VoiceActivity, VoiceFloor
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


# ---------------------------------------------------------------- many at once, for silence


def steps(sound: np.ndarray) -> np.ndarray:
    """float32 (steps, 160) of int16 levels."""
    return (sound[: sound.size // 160 * 160].reshape(-1, 160) / 32768).astype(np.float32)


def judged(*sounds: np.ndarray) -> np.ndarray:
    """What is said of each step of several streams: bool (streams, steps)."""
    floor, rows = VoiceFloor(1), np.arange(len(sounds))
    floor.grow(max(4, len(sounds)))
    together = np.stack([steps(sound) for sound in sounds], axis=1)
    return np.array([floor.hear(rows, pcm, 0.02) for pcm in together]).T


def test_a_room_is_no_voice_at_any_level_and_a_burst_in_it_is_one_at_once() -> None:
    rng = np.random.default_rng(1)
    rooms = []
    for dbfs in (-80, -65, -55, -45):
        room = rng.normal(0, 32768 * 10 ** (dbfs / 20), 8 * 8000)
        room[32_000:32_800] += rng.normal(0, 2000, 800)
        rooms.append(room)
    found = judged(*rooms)
    assert found[:, 200:205].all(), "at once"
    assert found.mean() < 0.03, "and nothing else, but for a step or two"


def test_what_is_loud_is_a_voice_however_long_it_lasts() -> None:
    tone = 3000 * np.sin(2 * np.pi * 425 * np.arange(10 * 8000) / 8000)
    assert judged(tone).all()


def test_a_soft_consonant_is_heard_before_a_hum() -> None:
    n = np.arange(6 * 8000)
    hum = 120 * np.sin(2 * np.pi * 100 * n / 8000)  # -51 dBFS
    hiss = np.diff(np.random.default_rng(2).normal(0, 40, n.size + 1))
    hum[40_000:40_800] += hiss[:800]  # softer than the hum, and high
    (found,) = judged(hum)
    assert found[250:255].all()
    assert not found[50:250].any()


def test_a_room_that_becomes_louder_is_none_after_some_seconds() -> None:
    rng = np.random.default_rng(3)
    room = np.concatenate([rng.normal(0, 20, 32_000), rng.normal(0, 100, 64_000)])
    (found,) = judged(room)
    assert found[205:300].mean() > 0.9
    assert found[-200:].mean() < 0.05


def test_a_row_that_is_reset_is_another() -> None:
    floor, row = VoiceFloor(1), np.array([0])
    quiet, loud = np.zeros((1, 160), np.float32), np.full((1, 160), 0.005, np.float32)
    loud[0, ::2] *= -1
    for _ in range(50):
        floor.hear(row, quiet, 0.02)
    assert floor.hear(row, loud, 0.02)[0]
    floor.reset(0)
    assert not floor.hear(row, loud, 0.02)[0]

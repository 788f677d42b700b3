"""Digits heard while the sound comes, of many streams at once, against what is heard afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from voip.dsp.dtmf import KEYPAD, HeardTone, dtmf, hear_dtmf
from voip.dsp.dtmf_ear import DtmfEar, hear_step

ALL = "".join(KEYPAD)
SPEECH = Path("voip/assets/speech-8k.wav")


def hear(pcm: np.ndarray, rate: int = 8000, step_ms: int = 20) -> list[HeardTone]:
    """What one ear hears of sound that is followed by silence."""
    step = rate * step_ms // 1000
    steps = np.concatenate((pcm, np.zeros(rate // 5))).astype(np.float32)
    steps = steps[: len(steps) // step * step].reshape(-1, 1, step)
    ear = DtmfEar.at(rate)
    return [digit for one in steps for _, digit in hear_step([ear], one)]


def digits(heard: list[HeardTone]) -> str:
    return "".join(one.digit for one in heard)


@pytest.mark.parametrize("step_ms", [10, 20])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
def test_all_sixteen_are_heard_at_any_rate_and_step(rate: int, step_ms: int) -> None:
    sound = dtmf(ALL + "1155", rate_hz=rate, duration_ms=60, gap_ms=45)
    assert digits(hear(sound, rate, step_ms)) == ALL + "1155"


def test_digits_are_those_that_are_heard_afterwards_and_as_long() -> None:
    sound = np.concatenate(
        [dtmf(key, duration_ms=40 + 10 * n, gap_ms=60) for n, key in enumerate(ALL)]
    )
    noise = np.random.default_rng(5).standard_normal(sound.size) * 0.003
    now, afterwards = hear(sound + noise), hear_dtmf((sound + noise).astype(np.float32))
    assert digits(now) == digits(afterwards) == ALL
    for one, other in zip(now, afterwards, strict=True):
        assert one.duration_s == pytest.approx(other.duration_s, abs=0.011)
        assert one.start_s == pytest.approx(other.start_s, abs=0.011)


def test_40_ms_is_a_digit_20_ms_is_none_and_a_drop_out_of_10_ms_is_no_pause() -> None:
    assert digits(hear(dtmf(ALL, duration_ms=40, gap_ms=40))) == ALL
    assert digits(hear(dtmf(ALL, duration_ms=20, gap_ms=40))) == ""
    broken = dtmf("7", duration_ms=200)
    broken[800:880] = 0
    assert digits(hear(broken)) == "7"


def test_streams_are_heard_each_by_itself() -> None:
    keys = [ALL[n:] + ALL[:n] for n in range(16)]
    sounds = np.stack([dtmf(one, duration_ms=50, gap_ms=50) for one in keys])
    sounds = np.concatenate((sounds, np.zeros((16, 1600), np.float32)), axis=1)
    ears = [DtmfEar.at(8000) for _ in keys]
    found: dict[int, str] = {}
    for begin in range(0, sounds.shape[1] - 159, 160):
        for place, digit in hear_step(ears, sounds[:, begin : begin + 160]):
            found[place] = found.get(place, "") + digit.digit
    assert [found[place] for place in range(16)] == keys


def test_speech_noise_and_music_press_no_keys() -> None:
    rate, speech = scipy.io.wavfile.read(SPEECH)
    assert hear(speech / 32768, rate) == []
    rng = np.random.default_rng(3)
    assert hear(0.1 * rng.standard_normal(80_000)) == []
    t = np.arange(80_000) / 8000
    chord = sum(0.1 * np.sin(2 * np.pi * hertz * t) for hertz in (440, 554.4, 659.3, 880))
    assert hear(np.asarray(chord)) == []


def test_nobody_hears_nothing() -> None:
    assert hear_step([], np.zeros((0, 160), np.float32)) == []

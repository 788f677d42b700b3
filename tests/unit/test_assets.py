"""The sounds that ship: there, readable, at their level, and made as the tool says."""

from __future__ import annotations

import importlib.util
import io
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from voip.errors import ConfigError
from voip.harness.audio import Sound, active_speech_level, dominant_tone
from voip.sounds import ASSETS, asset, asset_path

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> Sound:
    with wave.open(io.BytesIO(asset(name)), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
    with asset_path(name) as path:
        return Sound.read(path)


@pytest.fixture(scope="module")
def make_assets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_assets", ROOT / "tools/make_assets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_folder_holds_the_named_sounds_and_their_papers_and_nothing_else():
    there = {path.name for path in (ROOT / "voip/assets").iterdir()}
    assert there == {*ASSETS, "README.md"}


@pytest.mark.parametrize("name", ASSETS)
def test_every_sound_is_at_the_rate_its_name_says_small_and_described(name):
    assert load(name).rate_hz == (16000 if "16k" in name else 8000)
    assert len(asset(name)) < 300_000
    assert f"`{name}`" in (ROOT / "voip/assets/README.md").read_text()


@pytest.mark.parametrize("name", ["speech-8k.wav", "speech-16k.wav", "prompt-8k.wav"])
def test_speech_is_at_minus_26_dbov_active_without_clipping_or_offset(name):
    sound = load(name)
    level, activity = active_speech_level(sound)
    assert level == pytest.approx(-26.0, abs=0.2)
    assert 0.7 < activity < 1.0
    assert np.abs(sound.samples.astype(int)).max() < 30_000
    assert abs(sound.samples.mean()) < 5


def test_the_speech_lasts_about_eight_seconds_at_both_rates():
    narrow, wide = load("speech-8k.wav"), load("speech-16k.wav")
    assert 8.0 < narrow.seconds < 9.0
    assert wide.seconds == pytest.approx(narrow.seconds, abs=0.001)


def test_the_digit_prompt_is_three_notes():
    sound = load("enter-digits-8k.wav")
    heard = []
    for start_s in (0.1, 0.45, 0.8):
        start = round((start_s + 0.05) * sound.rate_hz)
        tone = dominant_tone(Sound(sound.samples[start : start + 1200], sound.rate_hz))
        assert tone is not None
        heard.append(tone.frequency_hz)
    assert heard == pytest.approx([523.25, 587.33, 880.0], abs=0.5)


def test_a_path_is_given_for_programs_that_want_a_file():
    with asset_path("speech-8k.wav") as path:
        assert path.read_bytes() == asset("speech-8k.wav")


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(ConfigError, match=r"speech-8k\.wav"):
        asset("../errors.py")


@pytest.mark.reference
def test_the_tool_makes_the_same_sounds_again(make_assets, reference_data):
    again = make_assets.make(reference_data)
    assert set(again) == set(ASSETS)
    for name, sound in again.items():
        shipped = load(name)
        assert sound.rate_hz == shipped.rate_hz
        assert len(sound.samples) == len(shipped.samples)
        difference = sound.samples.astype(int) - shipped.samples.astype(int)
        assert np.abs(difference).max() <= 1  # rounding may differ with another SciPy

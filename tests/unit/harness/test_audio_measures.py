"""The measuring ears against signals whose figures are known beforehand."""

from __future__ import annotations

import math
import wave

import numpy as np
import pytest

from voip.errors import AudioFileError, ConfigError
from voip.harness.audio import (
    Sound,
    active_speech_level,
    cut,
    dominant_tone,
    find_offset,
    fit_tones,
    is_silence,
    level_dbfs,
    tone_lines,
)

RATES = (8000, 16000, 44100, 48000)


def sound(samples, rate_hz: int = 8000) -> Sound:
    return Sound(np.clip(np.rint(samples), -32768, 32767).astype(np.int16), rate_hz)


def sine(frequency_hz, seconds=1.0, *, rate_hz=8000, dbfs=-13.0, phase=0.3) -> Sound:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    amplitude = 32768 * 10 ** (dbfs / 20) * math.sqrt(2)
    return sound(amplitude * np.sin(2 * np.pi * frequency_hz * time + phase), rate_hz)


def noise(seconds=1.0, *, dbfs=-30.0, seed=1, rate_hz=8000) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(0, 32768 * 10 ** (dbfs / 20), round(seconds * rate_hz))


def bursts(seconds=3.0, seed=2) -> Sound:
    """Noise with an envelope like syllables: aperiodic, with pauses."""
    time = np.arange(round(seconds * 8000)) / 8000
    envelope = np.clip(np.sin(2 * np.pi * 2.3 * time) + 0.5 * np.sin(2 * np.pi * 0.7 * time), 0, 1)
    return sound(noise(seconds, dbfs=-20, seed=seed) * envelope)


# ---------------------------------------------------------------- levels


def test_a_full_scale_square_wave_is_0_dbfs_and_a_full_scale_sine_is_3_db_less():
    assert level_dbfs(np.tile(np.int16([-32768, 32767]), 100)) == pytest.approx(0.0, abs=0.001)
    time = np.arange(8000) / 8000
    assert level_dbfs(32768 * np.sin(2 * np.pi * 1000 * time)) == pytest.approx(-3.01, abs=0.005)


def test_digital_silence_and_nothing_at_all_have_no_level():
    assert level_dbfs(np.zeros(100, np.int16)) == -math.inf
    assert level_dbfs(np.zeros(0, np.int16)) == -math.inf


def test_silence_is_judged_by_its_loudest_frame():
    assert is_silence(sound(np.zeros(8000)))
    assert is_silence(sound(noise(dbfs=-70)))
    assert not is_silence(sound(noise(dbfs=-50)))
    click = np.zeros(80_000)
    click[4000:4160] = 1000
    assert not is_silence(sound(click))


def test_nothing_recorded_is_not_silence_heard():
    with pytest.raises(ConfigError, match="no sound"):
        is_silence(sound(np.zeros(100)))


def test_active_level_of_a_steady_tone_is_its_level():
    level, activity = active_speech_level(sine(1000, 4.0, dbfs=-26))
    assert level == pytest.approx(-26.0, abs=0.1)
    assert activity == pytest.approx(1.0, abs=0.02)


def test_active_level_does_not_change_with_the_pauses_but_the_activity_does():
    talk = sine(300, 2.0, dbfs=-26).samples
    pause = np.zeros(16_000, np.int16)
    level, activity = active_speech_level(Sound(np.concatenate([talk, pause] * 3), 8000))
    assert level == pytest.approx(-26.0, abs=0.6)  # 200 ms of hangover count as speech (P.56)
    assert activity == pytest.approx((2.0 + 0.2) / 4.0, abs=0.05)


def test_silence_has_no_active_level():
    assert active_speech_level(sound(np.zeros(8000))) == (-math.inf, 0.0)


# ---------------------------------------------------------------- tones


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("frequency_hz", [60.0, 440.0, 1004.0, 1004.37, 3333.3])
def test_a_tone_is_measured_to_a_hundredth_of_a_hertz_and_of_a_db(rate_hz, frequency_hz):
    tone = dominant_tone(sine(frequency_hz, 1.0, rate_hz=rate_hz))
    assert tone is not None
    assert tone.frequency_hz == pytest.approx(frequency_hz, abs=0.01)
    assert tone.level_dbfs == pytest.approx(-13.0, abs=0.01)
    assert tone.snr_db > 60


@pytest.mark.parametrize("snr_db", [3.0, 10.0, 20.0, 30.0, 40.0])
def test_the_snr_of_a_tone_in_noise_is_measured(snr_db):
    mixed = sine(1004, 3.0).samples + noise(3.0, dbfs=-13.0 - snr_db)
    tone = dominant_tone(sound(mixed))
    assert tone is not None
    assert tone.snr_db == pytest.approx(snr_db, abs=0.3)
    assert tone.frequency_hz == pytest.approx(1004, abs=0.1)


def test_distortion_counts_as_noise():
    clipped = np.clip(sine(1000, dbfs=-9).samples.astype(float), -8192, 8192)
    tone = dominant_tone(sound(clipped))
    assert tone is not None
    harmonics = np.abs(np.fft.rfft(clipped)[1000::1000]) ** 2
    assert tone.snr_db == pytest.approx(
        10 * math.log10(harmonics[0] / harmonics[1:4].sum()), abs=0.3
    )


def test_the_stronger_of_two_tones_dominates():
    mixed = sine(697, dbfs=-20).samples + sine(1209, dbfs=-14).samples
    tone = dominant_tone(sound(mixed))
    assert tone is not None
    assert tone.frequency_hz == pytest.approx(1209, abs=0.1)


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(8000), np.ones(100)])
def test_there_is_no_tone_in_nothing_silence_or_a_moment(samples):
    assert dominant_tone(sound(samples)) is None


def test_the_lines_of_tones_are_found_with_silence_around_them():
    ringback = sine(440, 2.0, dbfs=-19).samples.astype(int) + sine(480, 2.0, dbfs=-19).samples
    padded = np.concatenate([np.zeros(4000), ringback, np.zeros(3000)])
    assert sorted(tone_lines(sound(padded))) == pytest.approx([440, 480], abs=0.05)


@pytest.mark.parametrize("samples", [np.zeros(8000), noise(), bursts().samples])
def test_what_is_no_steady_tone_is_refused_with_a_way_out(samples):
    with pytest.raises(ConfigError, match="grade_waveform"):
        tone_lines(sound(samples))


def test_fitted_power_and_rest_add_up_to_the_whole():
    mixed = sine(1004).samples + noise(dbfs=-30)
    windows = cut(mixed, 800)
    signal, rest = fit_tones(windows, 8000, (1004.0,))
    assert len(signal) == 10
    assert signal + rest == pytest.approx(np.mean(windows**2, axis=1))


# ---------------------------------------------------------------- where


@pytest.mark.parametrize("delay", [0, 1, 160, 7777])
@pytest.mark.parametrize("gain", [1.0, 0.1, -0.5])
def test_what_was_sent_is_found_to_the_sample_whatever_the_gain(delay, gain):
    sent = bursts()
    heard = sound(np.concatenate([noise(delay / 8000, dbfs=-60), sent.samples * gain]))
    found = find_offset(sent, heard)
    assert found is not None
    assert found.offset == delay
    assert found.likeness > 0.99


def test_it_is_found_in_noise_as_loud_as_itself():
    sent = bursts()
    heard = np.concatenate([np.zeros(1234), sent.samples, np.zeros(500)])
    level = level_dbfs(sent.samples)
    found = find_offset(sent, sound(heard + noise(len(heard) / 8000, dbfs=level, seed=9)))
    assert found is not None
    assert found.offset == 1234
    assert found.likeness == pytest.approx(math.sqrt(0.5), abs=0.05)


def test_a_loud_stranger_beside_it_does_not_win():
    sent = bursts()
    heard = np.concatenate([noise(2.0, dbfs=-8, seed=5), sent.samples * 0.1, np.zeros(100)])
    found = find_offset(sent, sound(heard))
    assert found is not None
    assert found.offset == 16_000


@pytest.mark.parametrize("lost", [800, 12_000])
def test_a_recording_that_began_late_has_a_negative_offset(lost):
    sent = bursts()
    found = find_offset(sent, Sound(sent.samples[lost:], 8000))
    assert found is not None
    assert found.offset == -lost


def test_a_recording_that_ended_early_is_found_too():
    sent = bursts()
    found = find_offset(
        sent, Sound(np.concatenate([np.zeros(50, np.int16), sent.samples[:9000]]), 8000)
    )
    assert found is not None
    assert found.offset == 50


def test_another_sound_is_not_alike():
    found = find_offset(bursts(seed=2), bursts(seed=3))
    assert found is not None
    assert found.likeness < 0.2


def test_nothing_is_found_in_silence_or_nothing():
    sent = bursts()
    assert find_offset(sent, sound(np.zeros(8000))) is None
    assert find_offset(sent, sound(np.zeros(0))) is None
    assert find_offset(sound(np.zeros(10)), sent) is None


def test_two_rates_are_not_compared():
    with pytest.raises(ConfigError, match="16000"):
        find_offset(bursts(), sound(np.zeros(16000), 16000))


def test_a_sine_is_made_as_it_is_asked_for():
    made = Sound.sine(1000, 0.5, 16000, -20)
    assert (len(made.samples), made.rate_hz) == (8000, 16000)
    assert np.abs(made.samples).max() == round(math.sqrt(2) * 3276.8)
    assert list(made.samples[:17:4]) == [0, 4634, 0, -4634, 0]
    assert np.abs(Sound.sine(1000, 0.1, 8000, -3.01).samples.astype(int)).max() >= 32766


def test_a_recording_is_read_by_its_channel(tmp_path):
    path = tmp_path / "both.wav"
    left, right = sine(440).samples, sine(1004).samples
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.stack([left, right], axis=1).astype("<i2").tobytes())
    assert np.array_equal(Sound.read(path).samples, left)
    assert np.array_equal(Sound.read(path, channel=1).samples, right)
    assert Sound.read(path).rate_hz == 8000
    with pytest.raises(AudioFileError, match="2 channels of 16 bits"):
        Sound.read(path, channel=2)


@pytest.mark.parametrize("content", [b"", b"not a sound", b"RIFF\0\0\0\0WAVE"])
def test_what_is_no_recording_is_an_error_with_its_name(tmp_path, content):
    path = tmp_path / "odd.wav"
    path.write_bytes(content)
    with pytest.raises(AudioFileError, match=r"odd\.wav"):
        Sound.read(path)
    with pytest.raises(AudioFileError, match=r"none\.wav"):
        Sound.read(tmp_path / "none.wav")


def test_a_sound_is_mono_int16():
    with pytest.raises(ConfigError, match="channel"):
        Sound(np.zeros((10, 2), np.int16), 8000)
    with pytest.raises(ConfigError, match="float64"):
        Sound(np.zeros(10), 8000)
    with pytest.raises(ConfigError, match="rate"):
        Sound(np.zeros(10, np.int16), 0)

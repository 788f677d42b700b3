"""The audio grade against sounds degraded in known ways: a grade that cannot fail is worthless."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from voip.codecs import g711
from voip.errors import ConfigError
from voip.harness.audio import Sound, level_dbfs
from voip.harness.grade import (
    Bar,
    Grade,
    Kind,
    grade_speech,
    grade_tone,
    grade_waveform,
    pesq_installed,
)
from voip.sounds import asset_path

Degrade = Callable[[Sound], Sound]


def sound(samples, rate_hz: int) -> Sound:
    return Sound(np.clip(np.rint(samples), -32768, 32767).astype(np.int16), rate_hz)


def sine(frequency_hz=1004.0, seconds=3.0, *, rate_hz=8000, dbfs=-13.0) -> Sound:
    return Sound.sine(frequency_hz, seconds, rate_hz, dbfs)


def speech(name: str = "speech-8k.wav") -> Sound:
    with asset_path(name) as path:
        return Sound.read(path)


@pytest.fixture
def graded(missing) -> Callable[..., Grade]:
    """`grade_speech`, where PESQ is installed."""
    if not pesq_installed():
        missing("the package pesq is not installed")
    return grade_speech


# ---------------------------------------------------------------- ways to degrade


def alike(original: Sound) -> Sound:
    return original


def g711_once(law: g711.Law) -> Degrade:
    return lambda original: Sound(
        g711.decode(g711.encode(original.samples, law), law), original.rate_hz
    )


def delayed(seconds: float) -> Degrade:
    def degrade(original: Sound) -> Sound:
        before = np.zeros(round(seconds * original.rate_hz), np.int16)
        return Sound(np.concatenate([before, original.samples]), original.rate_hz)

    return degrade


def gained(gain: float) -> Degrade:
    return lambda original: sound(original.samples * gain, original.rate_hz)


def noisy(snr_db: float) -> Degrade:
    def degrade(original: Sound) -> Sound:
        random = np.random.default_rng(7)
        rms = 32768 * 10 ** ((level_dbfs(original.samples) - snr_db) / 20)
        noise = random.normal(0, rms, len(original.samples))
        return sound(original.samples + noise, original.rate_hz)

    return degrade


def with_gap(length_s: float, at_s: float = 2.0) -> Degrade:
    """Cut a hole; 2.0 s is inside a vowel of the speech."""

    def degrade(original: Sound) -> Sound:
        samples = original.samples.copy()
        start = round(at_s * original.rate_hz)
        samples[start : start + round(length_s * original.rate_hz)] = 0
        return Sound(samples, original.rate_hz)

    return degrade


def clipped(original: Sound) -> Sound:
    """Amplify by 22 dB into the ceiling."""
    return sound(original.samples * 12.0, original.rate_hz)


def clipped_and_attenuated(original: Sound) -> Sound:
    """Clip somewhere on the way, far below full scale here."""
    return sound(np.clip(original.samples * 10.0, -32768, 32767) / 10, original.rate_hz)


def resampled(original: Sound, up: int, down: int) -> np.ndarray:
    from scipy.signal import resample_poly  # here: half of what it costs to collect all tests

    return np.asarray(resample_poly(original.samples.astype(float), up, down))


def at_speed(up: int, down: int) -> Degrade:
    """Play too slow (up > down) or too fast, as a device of another rate does."""
    return lambda original: sound(resampled(original, up, down), original.rate_hz)


def late_by_half_a_sample(original: Sound) -> Sound:
    return sound(resampled(original, 2, 1)[1::2], original.rate_hz)


def without_the_first(seconds: float) -> Degrade:
    return lambda original: Sound(
        original.samples[round(seconds * original.rate_hz) :], original.rate_hz
    )


def only_the_first(seconds: float) -> Degrade:
    return lambda original: Sound(
        original.samples[: round(seconds * original.rate_hz)], original.rate_hz
    )


def silent(original: Sound) -> Sound:
    return Sound(np.zeros_like(original.samples), original.rate_hz)


def hiss_alone(original: Sound) -> Sound:
    random = np.random.default_rng(3)
    rms = 32768 * 10 ** (level_dbfs(original.samples) / 20)
    return sound(random.normal(0, rms, len(original.samples)), original.rate_hz)


def empty(original: Sound) -> Sound:
    return Sound(original.samples[:0], original.rate_hz)


def named(cases: dict[str, Degrade]) -> list[object]:
    return [pytest.param(degrade, id=name) for name, degrade in cases.items()]


HARMLESS = {
    "unchanged": alike,
    "G.711 µ-law once": g711_once(g711.Law.ULAW),
    "G.711 A-law once": g711_once(g711.Law.ALAW),
    "1.2345 s late": delayed(1.2345),
    "half as loud": gained(0.5),
    "inverted": gained(-1.0),
    "late by half a sample": late_by_half_a_sample,
    "the first 0.3 s lost": without_the_first(0.3),
    "noise at 30 dB": noisy(30),
}

HARMFUL = {
    "noise at 12 dB": noisy(12),
    "a hole of 40 ms": with_gap(0.04),
    "a hole of 40 ms anywhere": with_gap(0.04, at_s=2.013),
    "clipped": clipped,
    "clipped on the way": clipped_and_attenuated,
    "1 % slow": at_speed(101, 100),
    "1 % fast": at_speed(99, 100),
    "a tenth as loud": gained(0.1),
    "half a second of it": only_the_first(0.5),
    "silence": silent,
    "noise instead": hiss_alone,
    "nothing": empty,
    "10 ms": only_the_first(0.01),
}


# ---------------------------------------------------------------- tones


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
@pytest.mark.parametrize("degrade", named(HARMLESS))
def test_a_tone_passes(degrade, rate_hz):
    sent = sine(rate_hz=rate_hz)
    grade = grade_tone(sent, degrade(sent), leg_rate_hz=rate_hz).require()
    assert grade.kind is Kind.TONE
    assert grade.windows >= 25
    assert grade.frames >= 132
    assert grade.heard_hz == pytest.approx(1004, abs=0.1)


@pytest.mark.parametrize("degrade", named(HARMFUL))
def test_a_tone_fails(degrade):
    sent = sine()
    grade = grade_tone(sent, degrade(sent))
    assert not grade.passed
    assert grade.faults
    with pytest.raises(AssertionError, match="FAILED"):
        grade.require()


@pytest.mark.parametrize("snr_db", [13.0, 14.5, 15.5, 17.0])
def test_the_bar_for_a_tone_lies_at_15_db_snr(snr_db):
    grade = grade_tone(sine(), noisy(snr_db)(sine()), bar=Bar(allowed=0.2))
    assert grade.worst_snr_db == pytest.approx(snr_db, abs=0.8)
    assert grade.passed == (snr_db > 15)


def test_every_window_counts_not_their_mean():
    sent = sine()
    samples = sent.samples.astype(float)
    hiss = noisy(6)(sent).samples - samples
    samples[8000:8800] += hiss[8000:8800]
    grade = grade_tone(sent, sound(samples, 8000))
    assert grade.faults == ("under 15 dB SNR: 2 of 29 windows (at 0.92 s, 1.02 s)",)


def test_clipping_too_slight_for_the_snr_is_a_fault_by_itself():
    sent = sine(300, dbfs=-7)
    grade = grade_tone(sent, gained(1.8)(sent))
    assert grade.worst_snr_db is not None
    assert grade.worst_snr_db > 15
    assert not grade.passed
    assert grade.faults[0].startswith("clipped")


@pytest.mark.parametrize("heard_hz", [440.0, 1014.04, 993.96, 2008.0])
def test_another_tone_fails_and_is_named(heard_hz):
    grade = grade_tone(sine(1004), sine(heard_hz))
    assert not grade.passed
    assert f"{heard_hz:.1f} Hz" in grade.explain() or grade.heard_hz == pytest.approx(heard_hz)


def test_a_clock_100_ppm_off_is_not_a_fault():
    assert grade_tone(sine(1004), sine(1004.1)).passed


def test_two_tones_at_once_are_graded_together():
    both = sine(697).samples // 2 + sine(1209).samples // 2
    sent = Sound(both.astype(np.int16), 8000)
    assert sorted(grade_tone(sent, sent).require().frequencies_hz) == pytest.approx(
        [697, 1209], abs=0.1
    )
    assert not grade_tone(sent, sine(941)).passed
    lone = grade_tone(sent, sine(697))
    assert lone.faults == ("1209.0 Hz is missing from the tones sent together",)


def test_a_tone_is_judged_from_its_beginning_to_its_end_within_a_longer_recording():
    sent = sine()
    around = np.zeros(9000, np.int16)
    ringback = sine(440, 2.0).samples
    heard = Sound(np.concatenate([ringback, around, sent.samples, around, ringback]), 8000)
    grade = grade_tone(sent, heard).require()
    assert grade.start_s == pytest.approx(2.0 + 9000 / 8000, abs=0.02)
    assert grade.seconds == pytest.approx(3.0, abs=0.05)


def test_a_tone_broken_in_two_is_judged_over_the_break():
    heard = Sound(np.concatenate([sine(seconds=1.5).samples, np.zeros(8000, np.int16)] * 2), 8000)
    grade = grade_tone(sine(), heard)
    assert not grade.passed
    assert grade.seconds == pytest.approx(4.0, abs=0.05)


def test_one_second_in_a_row_is_asked_for():
    assert not grade_tone(sine(), sine(seconds=0.9)).passed
    assert grade_tone(sine(), sine(seconds=1.1)).passed
    assert not grade_tone(sine(), sine(seconds=1.1), bar=Bar(seconds=2)).passed


def test_speech_is_no_tone_to_grade_by():
    with pytest.raises(ConfigError, match="not a steady tone"):
        grade_tone(speech(), speech())


# ---------------------------------------------------------------- any waveform


@pytest.mark.parametrize("degrade", named(HARMLESS))
def test_a_waveform_passes(degrade):
    sent = speech()
    grade = grade_waveform(sent, degrade(sent), leg_rate_hz=8000).require()
    assert grade.kind is Kind.WAVEFORM
    assert grade.windows > 70
    assert grade.frames > 260
    assert grade.coverage > 0.99


@pytest.mark.parametrize("degrade", named(HARMFUL))
def test_a_waveform_fails(degrade):
    sent = speech()
    grade = grade_waveform(sent, degrade(sent))
    assert not grade.passed
    assert grade.faults


def test_other_speech_of_the_same_reader_fails():
    assert not grade_waveform(speech(), speech("prompt-8k.wav")).passed


def test_noise_in_the_pauses_fails():
    sent = speech()
    heard = sent.samples.astype(float)
    pause = slice(round(2.8 * 8000), round(3.2 * 8000))
    heard[pause] += np.random.default_rng(1).normal(0, 1500, pause.stop - pause.start)
    grade = grade_waveform(sent, sound(heard, 8000))
    assert not grade.passed
    assert "under 15 dB SNR" in grade.explain()


def test_an_echo_fails():
    sent = speech()
    heard = sent.samples.astype(float)
    heard[1600:] += 0.5 * sent.samples[:-1600]
    assert not grade_waveform(sent, sound(heard, 8000)).passed


def test_a_step_of_the_playout_between_windows_is_followed():
    sent = speech()
    at = 2 * 8000
    waited = np.concatenate([sent.samples[:at], sent.samples[at - 160 :]])
    grade = grade_waveform(sent, Sound(waited, 8000)).require()
    assert grade.drift_ppm == 0


def test_steps_of_the_playout_that_add_up_are_followed():
    sent = speech()
    pieces = np.split(sent.samples, [round(at_s * 8000) for at_s in (1.2, 2.4, 3.6, 4.8, 6.0)])
    wait = np.zeros(480, np.int16)
    heard = np.concatenate([part for piece in pieces for part in (piece, wait)])
    grade = grade_waveform(sent, Sound(heard, 8000), bar=Bar(allowed=0.1))
    assert grade.require().coverage > 0.99


def test_what_was_sent_at_another_rate_is_compared_at_the_rate_of_the_leg():
    grade = grade_waveform(speech("speech-16k.wav"), speech(), leg_rate_hz=8000)
    assert grade.frames > 260
    assert grade.worst_snr_db is not None


@pytest.mark.parametrize("judge", [grade_tone, grade_waveform])
def test_a_recording_at_another_rate_than_the_legs_fails(judge):
    sent = sine()
    grade = judge(sent, sine(rate_hz=16000), leg_rate_hz=8000)
    assert not grade.passed
    assert "16000 Hz on a leg of 8000 Hz" in grade.explain()


def test_the_share_that_was_lost_at_the_beginning_is_told():
    sent = speech()
    grade = grade_waveform(sent, without_the_first(4.013)(sent)).require()
    assert grade.coverage == pytest.approx(0.5, abs=0.1)


def test_a_path_that_loses_packets_may_be_allowed_a_share():
    sent = speech()
    heard = with_gap(0.02, at_s=2.0)(sent)
    assert not grade_waveform(sent, heard).passed
    assert grade_waveform(sent, heard, bar=Bar(allowed=0.03)).passed


def test_silence_cannot_be_sent_to_be_heard():
    with pytest.raises(ConfigError, match="silence was sent"):
        grade_waveform(silent(sine()), sine())


# ---------------------------------------------------------------- speech


@pytest.mark.peer
@pytest.mark.parametrize("degrade", named(HARMLESS))
def test_speech_passes(degrade, graded):
    sent = speech()
    grade = graded(sent, degrade(sent), leg_rate_hz=8000).require()
    assert grade.kind is Kind.SPEECH
    assert grade.windows == 1
    assert grade.frames > 260
    assert 3.6 < grade.mos_lqo < 4.6


@pytest.mark.peer
@pytest.mark.parametrize("degrade", named(HARMFUL))
def test_speech_fails(degrade, graded):
    sent = speech()
    grade = graded(sent, degrade(sent))
    assert not grade.passed
    assert grade.faults


@pytest.mark.peer
def test_speech_of_a_leg_at_16_khz_is_graded_at_16_khz(graded):
    sent = speech("speech-16k.wav")
    assert graded(sent, g711_once(g711.Law.ALAW)(sent), leg_rate_hz=16000).require().frames > 280
    assert not graded(sent, at_speed(101, 100)(sent)).passed
    assert not graded(sent, with_gap(0.04)(sent)).passed


def test_a_waveform_of_a_leg_at_16_khz_is_graded_at_16_khz():
    sent = speech("speech-16k.wav")
    assert grade_waveform(sent, g711_once(g711.Law.ALAW)(sent), leg_rate_hz=16000).passed
    assert not grade_waveform(sent, at_speed(101, 100)(sent)).passed
    assert not grade_waveform(sent, with_gap(0.04)(sent)).passed


@pytest.mark.peer
def test_pesq_tells_g711_from_worse(graded):
    sent = speech()
    clean = graded(sent, sent).mos_lqo
    coded = graded(sent, g711_once(g711.Law.ULAW)(sent)).mos_lqo
    noise = graded(sent, noisy(20)(sent)).mos_lqo
    assert clean == pytest.approx(4.549, abs=0.001)  # P.862.1 of a raw score of 4.5
    assert clean > coded > 4.2 > 3.0 > noise


@pytest.mark.peer
def test_long_speech_is_scored_segment_by_segment_and_the_worst_counts(graded):
    sent = Sound(np.tile(speech().samples, 3), 8000)
    heard = sent.samples.copy()
    last = 2 * len(heard) // 3
    heard[last:] = noisy(15)(Sound(heard[last:], 8000)).samples
    grade = graded(sent, Sound(heard, 8000))
    assert grade.windows == 4
    assert grade.mos_lqo < 2.5
    assert not grade.passed


@pytest.mark.peer
def test_a_second_segment_that_is_late_is_aligned_by_itself(graded):
    sent = Sound(np.tile(speech().samples, 2), 8000)
    half = len(sent.samples) // 2
    heard = np.concatenate([sent.samples[:half], np.zeros(320, np.int16), sent.samples[half:]])
    assert graded(sent, Sound(heard, 8000)).require().mos_lqo > 4.0


def test_without_pesq_speech_is_not_graded_and_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr("voip.harness.grade.pesq_installed", lambda: False)
    with pytest.raises(ConfigError, match="make peers"):
        grade_speech(speech(), speech())


# ---------------------------------------------------------------- the verdict itself


def test_a_grade_of_nothing_compared_has_not_passed_and_says_so():
    grade = Grade(Kind.TONE)
    assert not grade.passed
    assert "nothing was compared" in grade.explain()
    with pytest.raises(AssertionError):
        grade.require()


def test_the_explanation_says_how_much_was_compared():
    told = grade_tone(sine(), sine()).explain()
    assert told.startswith("tone passed: compared 29 windows of 100 ms and 148 frames of 20 ms")
    told = grade_tone(sine(), silent(sine())).explain()
    assert told.startswith("tone FAILED: compared 0 windows of 100 ms and 0 frames of 20 ms")
    assert "1004.0 Hz is nowhere heard" in told

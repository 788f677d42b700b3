"""Concealment: continuous, fading, the same in pieces, and nearer to speech than silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from voip.dsp.conceal import bridge, conceal, rejoin

RATE = 8000


def tones(frequencies: list[float], samples: int, rate: int = RATE) -> np.ndarray:
    at = np.arange(samples) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * f * at) for f in frequencies]).astype(np.float32)


def elapsed(*samples: int) -> np.ndarray:
    return np.array(samples, np.int64)


def test_a_gap_taken_in_pieces_sounds_as_one_taken_at_once() -> None:
    history = np.random.default_rng(5).standard_normal((3, 160)).astype(np.float32)
    whole = conceal(history, elapsed(0, 0, 0), 700)
    for step in (80, 160, 33):
        pieces = [
            conceal(history, elapsed(at, at, at), min(step, 700 - at)) for at in range(0, 700, step)
        ]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)


def test_streams_do_not_touch_each_other() -> None:
    history = np.random.default_rng(6).standard_normal((4, 160)).astype(np.float32)
    at = elapsed(0, 100, 479, 5000)
    together = conceal(history, at, 160)
    for n in range(4):
        alone = conceal(history[n : n + 1], at[n : n + 1], 160)
        np.testing.assert_array_equal(together[n], alone[0])


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_a_tone_goes_on_and_is_gone_after_60_ms(rate: int) -> None:
    frequencies = [100.0, 200.0, 400.0, 1000.0]
    sound = tones(frequencies, rate // 10, rate)
    before = rate // 50
    filled = conceal(sound[:, :before], elapsed(0, 0, 0, 0), rate // 10 - before, rate_hz=rate)
    hold = rate // 100
    error = filled[:, :hold] - sound[:, before : before + hold]
    assert np.sqrt((error**2).mean(axis=1)).max() < 0.05 * np.sqrt(0.125)
    levels = np.abs(filled[:, : 6 * hold].reshape(4, 6, hold)).max(axis=2)
    assert (np.diff(levels, axis=1) < 0.01).all(), "never louder again"
    assert not filled[:, 6 * hold :].any(), "silence from 60 ms on"
    assert (levels[:, 4] > 0.05).all(), "but not before"


@pytest.mark.parametrize("seed", range(5))
def test_no_click_where_the_gap_begins_and_where_the_loop_repeats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.standard_normal((20, 400)), axis=1)[:, 240:]
    history = (noise / np.abs(noise).max()).astype(np.float32)
    usual = np.abs(np.diff(history, axis=1)).max()
    filled = conceal(history, np.zeros(20, np.int64), 480)
    joined = np.concatenate((history[:, -1:], filled), axis=1)
    assert np.abs(np.diff(joined, axis=1)).max() < 2 * usual


def test_good_sound_comes_back_without_a_click() -> None:
    sound = tones([150.0, 440.0], 1600)
    history, later = sound[:, :160], sound[:, 400:560].copy()
    at = elapsed(240, 240)
    filled = conceal(history, elapsed(0, 0), 240)
    rejoin(history, at, later)
    usual = np.abs(np.diff(sound, axis=1)).max()
    joined = np.concatenate((filled[:, -1:], later), axis=1)
    assert np.abs(np.diff(joined, axis=1)).max() < 1.5 * usual
    np.testing.assert_array_equal(later[:, 32:], sound[:, 432:560])


def test_after_a_long_gap_good_sound_fades_in() -> None:
    history, later = tones([300.0], 160), np.full((1, 160), 0.5, np.float32)
    rejoin(history, elapsed(8000), later)
    assert (np.diff(later[0, :33]) > 0).all()
    assert later[0, 0] < 0.05
    assert (later[0, 32:] == 0.5).all()


def test_silence_is_continued_by_silence_and_no_stream_is_no_stream() -> None:
    silent = np.zeros((2, 160), np.float32)
    assert not conceal(silent, elapsed(0, 10), 160).any()
    assert conceal(silent[:0], elapsed(), 160).shape == (0, 160)


@pytest.mark.reference
def test_lost_speech_is_better_filled_so_than_by_silence_or_by_the_last_packet(
    reference_data: Path,
) -> None:
    files = sorted((reference_data / "speech" / "asterisk-en-8k").glob("*.wav"))
    compared = 0
    wanted, errors = 0.0, {"repeated packet": 0.0, "concealed": 0.0}
    for file in files:
        rate, pcm = scipy.io.wavfile.read(file)
        assert rate == RATE
        packets = (pcm[: pcm.size // 160 * 160] / 32768).astype(np.float32).reshape(-1, 160)
        loud = np.flatnonzero(np.sqrt((packets[1:] ** 2).mean(axis=1)) > 0.02) + 1
        history, lost = packets[loud - 1], packets[loud]
        filled = conceal(history, np.zeros(loud.size, np.int64), 160)
        compared += loud.size
        wanted += float((lost**2).sum())
        errors["repeated packet"] += float(((lost - history) ** 2).sum())
        errors["concealed"] += float(((lost - filled) ** 2).sum())
    assert compared > 1000
    snr = {name: 10 * np.log10(wanted / error) for name, error in errors.items()}
    assert snr["repeated packet"] < 0.0, "worse than silence, sample by sample"
    assert snr["concealed"] > 1.0, "silence would be 0 dB"


@pytest.mark.parametrize("frequency_hz", [80.0, 117.0, 190.0])
def test_a_gap_that_is_bridged_is_nearer_to_what_was_lost(frequency_hz):
    """A voice whose pitch and loudness change: the error of a bridge is 3 dB smaller and more."""
    at = np.arange(8000) / RATE
    phase = 2 * np.pi * frequency_hz * (at + 0.05 * at**2)
    voice = sum(np.sin(n * phase) / n for n in range(1, 8)) * (0.1 + 0.2 * at)
    voice = voice.astype(np.float32)[None]
    begins = np.arange(1600, 6400, 160)
    history = np.concatenate([voice[:, begin - 160 : begin] for begin in begins])
    lost = np.concatenate([voice[:, begin : begin + 160] for begin in begins])
    after = np.concatenate([voice[:, begin + 160 : begin + 320] for begin in begins])
    plain = conceal(history, np.zeros(begins.size, np.int64), 160)
    bridged = plain.copy()
    bridge(bridged, after)
    error = [float(np.sum((sound - lost) ** 2)) for sound in (plain, bridged)]
    assert error[1] < error[0] / 2
    # it goes on into what follows as smoothly as that goes on itself
    seam = np.abs(after[:, 0] - bridged[:, -1])
    assert (seam <= 1.5 * np.abs(np.diff(voice)).max()).all()


def test_a_bridge_of_silence_and_of_one_of_many_is_its_own():
    rng = np.random.default_rng(3)
    sound = rng.normal(0, 0.1, (3, 160)).astype(np.float32)
    after = rng.normal(0, 0.1, (3, 160)).astype(np.float32)
    after[1] = 0
    alone = [sound[n : n + 1].copy() for n in range(3)]
    bridge(sound, after)
    for n, one in enumerate(alone):
        bridge(one, after[n : n + 1])
        assert np.array_equal(one[0], sound[n])
    assert np.abs(sound[1, -8:]).max() < 0.05  # it leads to silence

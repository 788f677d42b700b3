"""The jitter buffer over drawn traces, in virtual time: what it aims at, and what that costs."""

from __future__ import annotations

import numpy as np
import pytest

from voip.harness.audio import Sound
from voip.harness.jitter_quality.listening import RATE_HZ, Heard, listen
from voip.harness.jitter_quality.scenarios import SCENARIOS, scenario
from voip.harness.jitter_quality.traces import PACKET_S, Trace
from voip.rtp.jitter_policy import ALLOWANCES
from voip.sounds import asset_path


def speech(seconds: float) -> np.ndarray:
    """Speech that ships with the package, again and again: int16, whole packets."""
    with asset_path("speech-8k.wav") as path:
        sound = Sound.read(path).samples
    size = round(seconds / PACKET_S) * round(PACKET_S * RATE_HZ)
    return np.resize(sound, size)


def hear(trace: Trace, **settings: object) -> Heard:
    return listen([(trace, speech(trace.delay.size * PACKET_S))], settings=settings)[0]


def test_J02_the_target_follows_jitter_and_is_back_in_ten_seconds():
    """0 -> 60 -> 0 ms, 10 s, 15 s and 15 s of it."""
    random = np.random.default_rng(1)
    jitter_s = np.repeat([0.0, 0.060, 0.0], (500, 750, 750))
    for phase_s in (0.003, 0.009, 0.017):
        heard = hear(Trace(random.uniform(0.0, 1.0, 2000) * jitter_s, phase_s))
        assert heard.target_ms is not None
        assert heard.stats is not None
        at = heard.at
        before = heard.target_ms[(at > 1) & (at < 9.9)]
        during = heard.target_ms[(at > 12) & (at < 25)]
        after = heard.target_ms[(at > 35.2) & (at < 39)]
        assert before.max() == 30.0
        assert after.max() <= 35.0  # a bin less is not worth a change
        assert 55.0 <= during.min() <= during.max() <= 65.0
        assert heard.stats.packets_late < 0.01 * 2000
        assert heard.gap_ms < 0.01 * 40_000
        last = (at - heard.sample / RATE_HZ)[(at > 38) & (at < 39.5)]  # from departure to playout
        assert np.all(last - phase_s <= 0.051)


@pytest.mark.long
def test_J06_a_more_careful_policy_waits_longer_and_misses_less():
    """One seed, three policies, and a fixed delay: by the mean delay and what was missing."""
    random = np.random.default_rng(6)
    delay = random.gamma(2.0, 0.015, 3000)
    found = {
        name: hear(Trace(delay, 0.005), jitter_allowance=allowance)
        for name, allowance in ALLOWANCES.items()
    }
    conservative, balanced, aggressive = (
        found[name] for name in ("conservative", "balanced", "aggressive")
    )
    assert conservative.delay_ms > balanced.delay_ms > aggressive.delay_ms
    assert conservative.gap_ms < balanced.gap_ms < aggressive.gap_ms
    fixed = hear(Trace(delay, 0.005), jitter_min_ms=60.0, jitter_max_ms=60.0)
    assert fixed.stats is not None
    assert fixed.stats.accelerated_ms == 0.0
    assert fixed.gap_ms > balanced.gap_ms


@pytest.mark.parametrize("name", SCENARIOS)
def test_named_paths_take_no_more_delay_and_miss_no_more_than_is_written_down(name):
    """Figures of `docs/jitter.md`, roughly: PESQ is asked only there."""
    sound = speech(30)
    packets = round(30 / PACKET_S)
    calls = [
        (scenario(name, packets, seed, phase), sound) for seed, phase in enumerate((0.004, 0.014))
    ]
    delay_ms, gap_ms = {
        "clean": (45, 0),
        "gamma": (99, 200),
        "stalls": (154, 400),
        "step": (125, 150),
        "reordering": (75, 100),
    }[name]
    for heard in listen(calls):
        assert heard.delay_ms < delay_ms
        assert heard.gap_ms <= gap_ms


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 40, 60])
def test_packets_of_every_length_are_heard_over_jitter_with_little_missing(ptime_ms):
    packet_s = ptime_ms / 1000
    packets = round(20 / packet_s)
    delay = np.random.default_rng(ptime_ms).uniform(0.0, 0.040, packets)
    heard = listen([(Trace(delay, 0.006, packet_s), speech(20))])[0]
    assert heard.stats is not None
    assert heard.stats.packets_received == packets
    assert heard.stats.packets_late < 0.01 * packets
    assert heard.gap_ms <= 0.01 * 20_000
    assert heard.delay_ms < 70


@pytest.mark.long
def test_peers_whose_clocks_differ_are_heard_for_half_an_hour():
    """+-500 ppm: no underrun, no growing delay, and nothing left out or put in but in pauses."""
    packets = round(1800 / PACKET_S)
    random = np.random.default_rng(1)
    drifts, sound = (-500e-6, 500e-6), speech(1800)
    traces = [
        Trace(
            1.0 + np.arange(packets) * PACKET_S * drift + random.uniform(0.0, 0.004, packets), 0.007
        )
        for drift in drifts
    ]
    for drift, heard in zip(drifts, listen([(trace, sound) for trace in traces]), strict=True):
        stats = heard.stats
        assert stats is not None
        assert stats.packets_received == packets
        assert (stats.packets_late, heard.gap_ms) == (0, 0.0)
        moved, other = stats.accelerated_ms, stats.expanded_ms
        if drift > 0:
            moved, other = other, moved
        assert moved == pytest.approx(900, abs=40)
        assert other == 0.0
        waited = heard.at - heard.sample / RATE_HZ - 1.007
        left = heard.at - 1.0  # about when what is heard now left
        for begin in (60, 900, 1730):
            delay_ms = 1000 * (waited - left * drift)[(left > begin) & (left < begin + 60)]
            assert 15 <= delay_ms.min() <= delay_ms.max() <= 55


def sines(seconds: float, *frequencies_hz: float) -> np.ndarray:
    """Tones at once, without a pause: int16."""
    at = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = sum(np.sin(2 * np.pi * frequency * at) for frequency in frequencies_hz)
    return np.round(8000 / len(frequencies_hz) * sound).astype(np.int16)


def what_is_no_tone(pcm: np.ndarray, *frequencies_hz: float) -> np.ndarray:
    """What the tones do not account for in each 20 ms, dB below them.

    They may be off by what a glide makes them off: 1 in 160.
    """
    blocks = pcm.astype(float).reshape(-1, 160)
    at = np.arange(160) / RATE_HZ
    rests = []
    for pitch in np.linspace(159 / 160, 161 / 160, 9):
        waves = [
            wave(2 * np.pi * pitch * frequency * at)
            for frequency in frequencies_hz
            for wave in (np.sin, np.cos)
        ]
        basis = np.linalg.qr(np.stack(waves, axis=1))[0]
        rest = blocks - blocks @ basis @ basis.T
        rests.append(np.sum(rest**2, axis=1))
    energy = np.sum(blocks**2, axis=1)
    return 10 * np.log10(np.min(rests, axis=0) / energy + 1e-12)


@pytest.mark.long
@pytest.mark.parametrize("native", [None, False])
def test_clocks_that_differ_are_not_heard_in_sound_without_pauses(native):
    """Dial tone and single tones for 100 s, at +-100 and +-500 ppm: no gap, click or growth."""
    seconds, ppm = 100, (-500, -100, 100, 500)
    packets = round(seconds / PACKET_S)
    random = np.random.default_rng(2)
    tones = ((425.0,), (1004.0,), (350.0, 440.0))
    cases = [(tone, each) for tone in tones for each in ppm]
    calls = [
        (
            Trace(
                0.05
                + np.arange(packets) * PACKET_S * each * 1e-6
                + random.uniform(0.0, 0.004, packets),
                0.007,
            ),
            sines(seconds, *tone),
        )
        for tone, each in cases
    ]
    moved = 0.0
    for (tone, each), heard in zip(cases, listen(calls, native=native), strict=True):
        assert heard.stats is not None
        assert (heard.stats.packets_late, heard.gap_ms) == (0, 0.0)
        assert what_is_no_tone(heard.pcm[8000 : (seconds - 1) * 8000], *tone).max() < -25.0
        waited = 1000 * (heard.at - heard.sample / RATE_HZ - 0.057 - heard.at * each * 1e-6)
        within = (heard.at > 5) & (heard.at < seconds - 1)
        assert 12 <= waited[within].min() <= waited[within].max() <= 60
        moved += heard.stats.accelerated_ms + heard.stats.expanded_ms
    assert moved > 200  # it was necessary


@pytest.mark.parametrize("native", [None, False])
def test_a_delay_is_lengthened_in_a_pause_and_not_where_a_word_is_closed(native):
    """One packet is late; after it there are closures of 34 ms, and later a pause."""
    seconds, pause_s = 9, 7.0
    sound = sines(seconds, 425.0)
    at = np.arange(sound.size) / RATE_HZ
    sound[(at >= 2) & (at % 0.24 < 0.034)] = 0
    sound[(at >= pause_s) & (at < pause_s + 0.2)] = 0
    delay = np.random.default_rng(1).uniform(0.0, 0.002, round(seconds / PACKET_S))
    delay[150] = 0.060
    heard = listen([(Trace(delay, 0.007), sound)], native=native)[0]
    assert heard.stats is not None
    assert (heard.stats.packets_late, heard.stats.expanded_ms) == (1, 20.0)
    second = heard.sample[(heard.at > 1) & (heard.at < seconds - 1)] / RATE_HZ
    again = second[1:][np.diff(second) < 0.001]  # a step later, and no more of it was heard
    assert again == pytest.approx([3.0, pause_s], abs=0.08)  # the gap that is heard, and this

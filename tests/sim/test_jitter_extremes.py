"""Streams at the edges of what a jitter buffer meets: the delay stays bounded, and comes back."""

from __future__ import annotations

import numpy as np
import pytest

from voip.harness.audio import Sound
from voip.harness.jitter_quality.listening import RATE_HZ, Heard, listen
from voip.harness.jitter_quality.traces import PACKET_S, Trace
from voip.sounds import asset_path

MOST_MS = 400.0
"""The longest delay that a row adapts to, unless told."""


def speech(seconds: float) -> np.ndarray:
    """Speech that ships with the package, again and again: int16."""
    with asset_path("speech-8k.wav") as path:
        return np.resize(Sound.read(path).samples, round(seconds * RATE_HZ))


both_ways = pytest.mark.parametrize("native", [None, pytest.param(False, marks=pytest.mark.long)])


def hear(trace: Trace, native: bool | None = None) -> Heard:
    return listen([(trace, speech(trace.delay.size * trace.packet_s))], native=native)[0]


def waited_ms(heard: Heard, trace: Trace, begin: float, end: float) -> np.ndarray:
    """How long what is heard from `begin` to `end` has taken, from departure to playout."""
    within = (heard.at >= begin) & (heard.at < end) & np.isfinite(heard.sample)
    waited = heard.at[within] - trace.phase_s - heard.sample[within] / RATE_HZ
    return 1000 * waited


@pytest.mark.parametrize(("ptime_ms", "jitter_s"), [(10, 0.1), (20, 0.1), (60, 0.1), (60, 0.02)])
def test_long_jitter_and_packets_of_any_length(ptime_ms, jitter_s):
    packet_s = ptime_ms / 1000
    packets = round(20 / packet_s)
    random = np.random.default_rng(ptime_ms)
    trace = Trace(random.uniform(0.0, jitter_s, packets), 0.004, packet_s)
    heard = hear(trace)
    assert heard.stats is not None
    assert heard.stats.packets_received == packets
    assert heard.stats.packets_late <= 0.01 * packets
    settled = waited_ms(heard, trace, 5, 19)
    assert 1000 * jitter_s - 15 <= settled.min()
    assert settled.max() <= 1000 * jitter_s + 5 + 30 + 2 * ptime_ms


@both_ways
def test_a_sender_that_sends_a_second_at_once_is_heard_and_keeps_no_delay(native):
    delay = np.random.default_rng(1).uniform(0.0, 0.002, 1500)
    delay[500:550] = 0.0 - np.arange(50) * PACKET_S  # all at the first one's time
    early = Trace(delay, 0.005)
    heard = hear(early, native)
    assert heard.stats is not None
    assert heard.stats.packets_received == 1500
    assert waited_ms(heard, early, 15, 29).max() <= 75

    delay = np.random.default_rng(1).uniform(0.0, 0.002, 1500)
    delay[500:550] = (50 - np.arange(50)) * PACKET_S  # all at the last one's
    late = Trace(delay, 0.005)
    heard = hear(late, native)
    assert waited_ms(heard, late, 11, 29).max() <= MOST_MS + 20
    assert waited_ms(heard, late, 23, 29).max() <= 75


@pytest.mark.long
@both_ways
def test_a_stall_of_three_minutes_ends_with_the_delay_of_before(native):
    """What was sent meanwhile all comes when it is over; most of it is of no use any more."""
    packets = round(240 / PACKET_S)
    delay = np.random.default_rng(1).uniform(0.0, 0.002, packets)
    departure = np.arange(packets) * PACKET_S
    held = (departure >= 20) & (departure < 200)
    delay[held] = 200 - departure[held]
    trace = Trace(delay, 0.005)
    heard = hear(trace, native)
    assert heard.stats is not None
    assert waited_ms(heard, trace, 5, 19).max() <= 55
    assert waited_ms(heard, trace, 201, 239).max() <= MOST_MS + 20
    assert waited_ms(heard, trace, 215, 239).max() <= 75


@both_ways
def test_talkspurts_with_pauses_in_which_nothing_is_sent(native):
    """A second of each two; the first packets of a spurt are no later than others."""
    packets = round(30 / PACKET_S)
    delay = np.random.default_rng(4).uniform(0.0, 0.030, packets)
    delay[np.arange(packets) % 100 >= 50] = np.inf
    trace = Trace(delay, 0.005)
    heard = hear(trace, native)
    assert heard.stats is not None
    assert heard.stats.packets_received == np.count_nonzero(~trace.lost)
    assert heard.stats.packets_late <= 3
    sample = np.maximum(heard.sample, -1.0)  # it is infinite before the first one
    moves = np.diff(sample, prepend=-1.0) > 0
    number = np.clip(sample // 160, 0, packets - 1).astype(int)
    spoken = moves & ~trace.lost[number] & (heard.at > 3) & (heard.at < 29)
    waited = 1000 * (heard.at - trace.phase_s - sample / RATE_HZ)[spoken]
    assert spoken.sum() > 600
    assert waited.max() <= 90
    sound = heard.pcm[: 28 * RATE_HZ].astype(float)
    assert np.sqrt(np.mean(sound**2)) > 300


@both_ways
def test_sequence_numbers_and_timestamps_that_wrap_change_nothing(native):
    """Both pass their end 14 s after the beginning: what is heard is the same to the bit."""
    packets = 1500
    delay = np.random.default_rng(6).uniform(0.0, 0.040, packets)
    plain = hear(Trace(delay, 0.005), native)
    sound = speech(packets * PACKET_S)
    wrapped = listen(
        [(Trace(delay, 0.005), sound)],
        native=native,
        first_sequence=65536 - 700,
        first_timestamp=(1 << 32) - 700 * 160,
    )[0]
    assert np.array_equal(plain.pcm, wrapped.pcm)
    assert plain.stats is not None
    assert wrapped.stats is not None
    assert plain.stats.packets_late == wrapped.stats.packets_late

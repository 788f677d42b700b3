"""Comfort noise that a peer sends instead of silence: what is heard, and what it is not."""

from __future__ import annotations

import numpy as np
import pytest
from engine_desk import RATE, WAYS, Desk, describe, speech, ulaw_round_trip
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st
from test_native import Pair

from voip.codecs.comfort_noise import ComfortNoise, colour
from voip.dsp.level import rms_dbfs
from voip.media import native
from voip.media.answers import MediaSilent, TroubleBegan
from voip.media.commands import PayloadFormat, WatchStream
from voip.rtp.rtcp import ReportBlock, SenderReport, build_compound

pytestmark = pytest.mark.rfc("3389", "4")

CN = PayloadFormat(13, "cn")


@pytest.fixture(params=WAYS)
def desk(request):
    return Desk(native=request.param)


def noise(level: int, *reflection: float) -> bytes:
    return ComfortNoise(level, reflection).payload


class Talker:
    """A peer that sends sound, or comfort noise and nothing else."""

    def __init__(self, desk, stream: int = 1) -> None:
        self.desk, self.stream = desk, stream
        self.sequence, self.timestamp = 60_000, 2**32 - 5000

    def say(self, pcm: np.ndarray, **more: object) -> None:
        for n in range(pcm.size // 160):
            last = {} if n else {"marker": True}
            self.desk.say(
                pcm[160 * n : 160 * n + 160],
                sequence=self.sequence & 0xFFFF,
                timestamp=self.timestamp & 0xFFFFFFFF,
                begin=self.desk.now,
                stream=self.stream,
                **last | more,
            )
            self.desk.run(0.02)
            self.sequence += 1
            self.timestamp += 160

    def pause(self, seconds: float, payload: bytes | None, *, stamp: int = 0) -> None:
        if payload is not None:
            self.desk.rtp(
                self.sequence & 0xFFFF,
                self.timestamp + stamp & 0xFFFFFFFF,
                payload,
                payload_type=13,
                stream=self.stream,
            )
            self.sequence += 1
        self.desk.run(seconds)
        self.timestamp += round(seconds * RATE)


def hiss(seconds: float, dbfs: float = -20.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    return ulaw_round_trip(
        rng.normal(0, 32768 * 10 ** (dbfs / 20), round(seconds * RATE)).astype(np.int16)
    )


def level(pcm: np.ndarray) -> float:
    return float(rms_dbfs(pcm))


@pytest.mark.parametrize("more", [{}, {"receive_noise": (CN,)}], ids=["unasked", "agreed"])
def test_a_pause_is_as_loud_as_was_told_and_nothing_is_lost(desk, more):
    desk.call(**more)
    peer = Talker(desk)
    peer.say(hiss(1))
    peer.pause(2, noise(-45))
    peer.say(hiss(1))
    heard, stats = desk.heard(), desk.stats()
    pause = heard[round(1.3 * RATE) : round(2.9 * RATE)]
    assert abs(level(pause) + 45) < 0.5
    assert abs(level(heard[round(0.2 * RATE) : round(0.9 * RATE)]) + 20) < 0.5
    assert (stats.packets_lost, stats.packets_discarded, stats.packets_late) == (0, 0, 0)
    assert stats.concealed_ms == stats.accelerated_ms == 0
    assert stats.dropped_frames == 0
    assert stats.noise_packets_received == 1
    assert abs(stats.noise_played_ms - 2000) <= 20
    assert stats.silence_share_received == pytest.approx(0.5, abs=0.03)
    assert stats.delay_ms == pytest.approx(40, abs=15)


def test_the_words_around_a_pause_are_heard_whole(desk):
    desk.call()
    peer, words = Talker(desk), speech(2)
    peer.say(words[:RATE])
    peer.pause(1, noise(-70))
    peer.say(words[RATE:])
    desk.run(0.2)
    heard = desk.heard()
    begin = next(n for n in range(RATE) if np.array_equal(heard[n : n + 320], words[:320]))
    assert np.array_equal(heard[begin : begin + RATE], words[:RATE])
    assert np.array_equal(heard[begin + 2 * RATE : begin + 3 * RATE], words[RATE:])


def test_it_changes_with_what_is_told_and_lasts_until_somebody_speaks(desk):
    desk.call()
    peer = Talker(desk)
    peer.say(hiss(0.5))
    peer.pause(2, noise(-40))
    peer.pause(20, noise(-55))
    peer.pause(2, noise(-35))
    desk.run(0.1)
    heard = desk.heard()
    for at, loud in ((1.5, -40), (4, -55), (20, -55), (23.5, -35)):
        assert abs(level(heard[round(at * RATE) : round((at + 1) * RATE)]) - loud) < 0.7
    assert desk.of(MediaSilent) == []
    assert desk.stats().noise_packets_received == 3


def test_it_has_the_colour_that_was_told(desk):
    desk.call()
    Talker(desk).pause(10, noise(-40, -0.9))
    heard = desk.heard()[RATE:].astype(float)
    lag = np.dot(heard[1:], heard[:-1]) / np.dot(heard, heard)
    assert lag == pytest.approx(0.9, abs=0.02), "of 1/(1 - 0.9 z^-1)"


@pytest.mark.parametrize("stamp", [-160, -100_000, 3_000_000], ids=["last", "old", "far"])
def test_timestamps_of_others_do_no_harm(desk, stamp):
    """Asterisk sends it with that of the last sound; some count by another clock."""
    desk.call()
    peer, words = Talker(desk), speech(2)
    peer.say(words[:RATE])
    peer.pause(1, noise(-50), stamp=stamp)
    peer.say(words[RATE:])
    desk.run(0.2)
    heard = desk.heard()
    assert abs(level(heard[round(1.2 * RATE) : round(1.9 * RATE)]) + 50) < 0.7
    assert desk.stats().packets_late == desk.stats().dropped_frames == 0
    assert any(np.array_equal(heard[n : n + 800], words[-800:]) for n in range(heard.size - 800))


def test_a_first_packet_may_be_comfort_noise(desk):
    desk.call()
    peer = Talker(desk)
    peer.pause(1, noise(-45))
    assert abs(level(desk.heard()[round(0.2 * RATE) :]) + 45) < 0.6
    peer.say(hiss(1))
    assert abs(level(desk.heard()[round(1.2 * RATE) :]) + 20) < 0.5
    assert desk.stats().packets_lost == 0


@pytest.mark.parametrize("late_s", [0.06, 0.15, 0.3])
def test_what_is_late_after_a_pause_is_played_late_and_not_cut(desk, late_s):
    desk.call()
    peer, words = Talker(desk), speech(2)
    peer.say(words[:RATE])
    peer.pause(1, noise(-60))
    desk.run(late_s)
    peer.say(words[RATE:])
    desk.run(0.5)
    heard = desk.heard()
    first = words[RATE : RATE + 320]
    assert any(np.array_equal(heard[n : n + 320], first) for n in range(RATE, heard.size - 320))
    assert desk.stats().packets_late == 0


def test_a_delay_that_is_too_long_is_set_right_in_a_pause(desk):
    desk.call()
    peer = Talker(desk)
    peer.say(hiss(1))
    desk.run(0.15)  # the network stood still, and goes on so much later
    peer.say(hiss(8))
    desk.run(0.001)
    long = desk.stats().delay_ms
    peer.pause(2, noise(-60))
    peer.say(hiss(1))
    assert long is not None
    assert desk.stats().delay_ms <= max(60.0, long)


def test_who_was_heard_in_pauses_is_so_where_the_description_is_lost(desk):
    desk.call()
    peer = Talker(desk)
    peer.say(hiss(0.5))
    peer.pause(1, noise(-40))
    peer.say(hiss(0.5))
    peer.sequence += 1  # a description that does not come
    peer.pause(2, None)
    peer.say(hiss(0.5))
    desk.run(0.1)
    heard = desk.heard()
    assert abs(level(heard[round(2.6 * RATE) : round(3.8 * RATE)]) + 40) < 1.0
    assert desk.stats().packets_lost == 1


def test_so_is_who_speaks_by_a_codec_that_remembers(desk):
    g722 = PayloadFormat(9, "g722")
    desk.call(send_format=g722, receive_formats=(g722,))
    peer, sound = Talker(desk), np.random.default_rng(1).bytes(160)
    for turn in range(2):
        for _ in range(25):
            desk.rtp(peer.sequence & 0xFFFF, peer.timestamp & 0xFFFFFFFF, sound, payload_type=9)
            desk.run(0.02)
            peer.sequence, peer.timestamp = peer.sequence + 1, peer.timestamp + 160
        peer.sequence += turn
        peer.pause(1.5, None if turn else noise(-40, -0.5))
    heard = desk.heard()
    for begin in (1.0, 3.0):  # read at 8 kHz: without what is above 4 kHz, which is 1 dB less
        assert abs(level(heard[round(begin * RATE) : round((begin + 0.7) * RATE)]) + 41) < 0.7
    assert desk.stats().concealed_ms <= 60


def test_without_any_description_a_pause_is_silence_as_ever(desk):
    desk.call()
    peer = Talker(desk)
    peer.say(hiss(0.5))
    peer.pause(2, None)
    desk.run(0.1)
    assert not desk.heard()[round(1.2 * RATE) : round(2.4 * RATE)].any()


def test_a_short_word_between_two_descriptions_ends_in_the_second(desk):
    """Both may come before the first is reached, where the delay is long."""
    desk.call(settings={"jitter_min_ms": 200, "jitter_max_ms": 200})
    peer = Talker(desk)
    peer.say(hiss(1))
    peer.pause(0.06, noise(-50))
    peer.say(hiss(0.04))
    peer.pause(1, noise(-45))
    desk.run(0.1)
    heard, stats = desk.heard(), desk.stats()
    assert abs(level(heard[round(1.5 * RATE) : round(2.1 * RATE)]) + 45) < 0.7
    assert stats.concealed_ms == 0


def test_packets_lost_before_a_pause_are_concealed_and_it_begins_in_time(desk):
    desk.call()
    peer = Talker(desk)
    peer.say(hiss(1))
    peer.sequence += 2
    peer.timestamp += 320
    desk.run(0.04)
    peer.pause(1, noise(-50))
    stats = desk.stats()
    assert stats.packets_lost == 2
    assert 20 <= stats.concealed_ms <= 60
    assert abs(level(desk.heard()[round(1.3 * RATE) : round(1.9 * RATE)]) + 50) < 0.7


def test_a_pause_is_no_trouble_and_no_end(desk):
    desk.call()
    desk.do(WatchStream(1, 5.0))
    peer = Talker(desk)
    peer.say(hiss(1))
    for n in range(40):
        ours = ReportBlock(desk.stats().ssrc_sent, 0, 0, 1, 0, 0, 0)
        report = build_compound([SenderReport(0xABCD, n << 32, 0, 1, 160, (ours,))])
        desk.put(report, rtcp=True, at=desk.now + 2.5 * n)
    peer.pause(90, noise(-50))
    assert desk.of(MediaSilent) == desk.of(TroubleBegan) == []
    desk.run(60)  # the reports have stopped, too
    assert desk.of(MediaSilent)


@pytest.mark.long
def test_who_reports_nothing_is_missed_after_five_minutes_of_noise(desk):
    desk.call()
    peer = Talker(desk)
    peer.say(hiss(1))
    peer.pause(299, noise(-50))
    assert desk.of(MediaSilent) == []
    peer.pause(12, None)
    assert desk.of(MediaSilent)


def test_hold_and_another_source_forget_the_noise(desk):
    desk.call()
    peer = Talker(desk)
    peer.say(hiss(0.5))
    peer.pause(1, noise(-30))
    desk.do(describe(receive=False))
    desk.run(0.5)
    before = desk.heard().size
    desk.run(1)
    assert not desk.heard()[before:].any()
    desk.do(describe())
    desk.run(1)
    assert not desk.heard()[before:].any()


def test_hundreds_in_a_pause_are_told_apart(desk):
    for stream in range(1, 101):
        desk.call(stream)
        coefficients = (-0.5,) if stream % 2 else ()
        Talker(desk, stream).pause(0, noise(-30 - stream // 4, *coefficients))
    desk.run(2)
    for stream in range(1, 101):
        heard = desk.heard(stream)[-RATE:].astype(float)
        assert abs(level(heard / 32768) + 30 + stream // 4) < 1.0
        lag = np.dot(heard[1:], heard[:-1]) / np.dot(heard, heard)
        assert lag == pytest.approx(0.5 if stream % 2 else 0.0, abs=0.06)


def test_many_rows_are_coloured_as_single_ones_are() -> None:
    rng = np.random.default_rng(1)
    white = rng.standard_normal((200, 160)) * 0.01
    filters = np.zeros((200, 10))
    for row in range(200):
        order = row % 11
        _, taps = ComfortNoise(-40, tuple(rng.uniform(-0.6, 0.6, order))).synthesis
        filters[row, : taps.size] = taps
    together, state = [], np.zeros((200, 10))
    apart, states = [], np.zeros((200, 10))
    for _ in range(3):
        together.append(colour(white, filters, state))
        apart.append(
            np.concatenate(
                [
                    colour(white[k : k + 50], filters[k : k + 50], states[k : k + 50])
                    for k in range(0, 200, 50)
                ]
            )
        )
    np.testing.assert_array_equal(together, apart)


@pytest.mark.skipif(native._native is None, reason="the part in C was not built")
@examples(30)
@given(st.lists(
    st.tuples(st.integers(-3, 6), st.integers(-2000, 2000), st.binary(max_size=40), st.booleans(),
              st.integers(0, 60)),
    max_size=60,
))  # fmt: skip
def test_whatever_comes_is_survived_and_both_ways_are_the_same(packets) -> None:
    pair = Pair()
    pair.each("call")
    sequence, stamp = 100, 5000
    for step, jump, payload, is_noise, wait in packets:
        sequence, stamp = sequence + step, stamp + 160 + jump * (jump % 3 == 0)
        octets = payload if is_noise else (payload * 10)[:160].ljust(160, b"\xff")
        pair.each(
            "rtp", sequence & 0xFFFF, stamp & 0xFFFFFFFF, octets,
            payload_type=13 if is_noise else 0,
        )  # fmt: skip
        pair.run(wait / 1000)
    pair.run(0.1)
    assert pair.compared


def test_descriptions_as_often_as_packets_are_no_silence_without_a_reason(desk):
    """Some gateways send one in every packet time."""
    desk.call()
    desk.do(WatchStream(1, 5.0))
    peer = Talker(desk)
    peer.say(hiss(1))
    for _ in range(25 * 50):
        peer.pause(0.02, b"\x7f")
    assert desk.of(TroubleBegan) == desk.of(MediaSilent) == []
    stats = desk.stats()
    assert stats.noise_packets_received == 1250
    assert stats.concealed_ms == stats.packets_lost == 0

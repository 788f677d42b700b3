"""Silence that is described instead of sent (RFC 3389): what goes out, and what it tells."""

from __future__ import annotations

import numpy as np
import pytest
from engine_desk import PCMU, RATE, WAYS, Desk, Sent, describe, speech
from scipy.signal import lfilter
from test_native import Pair

from voip.codecs.comfort_noise import ComfortNoise
from voip.media import native
from voip.media.commands import MuteStream, PayloadFormat, SendDtmf

pytestmark = pytest.mark.rfc("3389", "4")

CN = PayloadFormat(13, "cn")
DTX = {"send_noise": CN, "dtx": True}


@pytest.fixture(params=WAYS)
def desk(request) -> Desk:
    return Desk(native=request.param)


def background(seconds: float, dbfs: float, *filter_: float, seed: int = 5) -> np.ndarray:
    """Noise, float (samples,), coloured by 1/A."""
    white = np.random.default_rng(seed).normal(0, 1, round(seconds * RATE))
    sound = lfilter([1.0], [1.0, *filter_], white)
    return sound * 32768 * 10 ** (dbfs / 20) / np.sqrt(np.mean(sound**2))


def int16(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)


def talk(seconds: float, dbfs: float = -55) -> np.ndarray:
    """A word of half a second at the beginning of every two, with noise behind it."""
    sound = background(seconds, dbfs)
    words = np.random.default_rng(2).normal(0, 3000, sound.size)
    sound += words * ((np.arange(sound.size) // (RATE // 2)) % 4 == 0)
    return int16(sound)


def split(sent: list[Sent]) -> tuple[list[Sent], list[Sent]]:
    """Voice and comfort noise."""
    return [p for p in sent if p.payload_type == 0], [p for p in sent if p.payload_type == 13]


def test_nothing_is_sent_in_silence_but_what_it_sounds_like(desk):
    desk.call(**DTX)
    desk.feed(talk(12))
    desk.run(12)
    voice, noise = split(desk.io.sent)
    assert 0.3 * 600 < len(voice) < 0.45 * 600, "words, and 200 ms after each"
    assert {p.sequence for p in desk.io.sent} == {
        (desk.io.sent[0].sequence + n) & 0xFFFF for n in range(len(desk.io.sent))
    }
    first, begin = desk.io.sent[0], desk.io.sent[0].at
    for packet in desk.io.sent:
        elapsed = (packet.timestamp - first.timestamp) & 0xFFFFFFFF
        assert abs(elapsed / RATE - (packet.at - begin)) < 0.011, "time goes on"
    assert not any(packet.marker for packet in noise)
    before = [voice[0].sequence, *(packet.sequence for packet in noise)]
    for packet in voice[1:]:
        assert packet.marker == (packet.sequence - 1 in before[1:]), "a talkspurt begins"
    for packet in noise:
        told = ComfortNoise.read(packet.payload)
        assert abs(told.level_dbov + 55) <= 2
        assert len(told.reflection) == 10
    stats = desk.stats()
    assert stats.noise_packets_sent == len(noise)
    assert stats.silence_unsent_ms == 20 * (600 - len(voice))
    assert stats.silence_share_sent == pytest.approx(1 - len(voice) / 600, abs=0.01)


def test_a_word_is_sent_from_its_beginning_to_its_end(desk):
    desk.call(**DTX)
    pcm = talk(12)
    desk.feed(pcm)
    desk.run(12.1)
    voice, _ = split(desk.io.sent)
    origin = voice[0].timestamp
    sent = {((p.timestamp - origin) & 0xFFFFFFFF) // 160 for p in voice}
    loud = np.flatnonzero(np.abs(pcm.reshape(-1, 160).astype(float)).max(axis=1) > 1500)
    assert set((loud + min(sent)).tolist()) <= sent


def test_who_did_not_agree_or_was_not_asked_is_sent_everything(desk):
    for stream, more in enumerate(({}, {"send_noise": CN}, {"dtx": True}), 1):
        desk.call(stream, **more)
        desk.feed(talk(4), stream)
    desk.run(4)
    for stream in (1, 2, 3):
        sent = [p for p in desk.io.sent if p.row == desk.row(stream)]
        assert {p.payload_type for p in sent} == {0}
        assert len(sent) >= 199


def test_a_muted_call_sends_next_to_nothing_and_something_all_the_same(desk):
    desk.call(**DTX)
    desk.feed(speech(60))
    desk.do(MuteStream(1, True))
    desk.run(60)
    voice, noise = split(desk.io.sent)
    assert len(voice) <= 26
    assert 28 <= len(noise) <= 33
    assert {p.payload for p in noise} == {b"\x7f"}
    assert max(np.diff([p.at for p in desk.io.sent])) < 2.1


def test_a_background_that_changes_is_told_at_once(desk):
    desk.call(**DTX)
    desk.feed(
        int16(np.concatenate([background(5, -60), background(5.05, -55.5), background(5, -60)]))
    )
    desk.run(15)
    _, noise = split(desk.io.sent)
    told = [(p.at - desk.io.sent[0].at, ComfortNoise.read(p.payload).level_dbov) for p in noise]
    for at, level in ((5, -55.5), (10.05, -60)):
        after = next(time for time, loud in told if time >= at - 0.05 and abs(loud - level) <= 1.6)
        assert after - at < 0.5
    assert len(noise) < 20


@pytest.mark.parametrize("filter_", [(), (-0.9,), (0.7,), (-1.2, 0.8)])
def test_it_tells_the_colour_of_the_background(desk, filter_):
    desk.call(**DTX)
    desk.feed(int16(background(6, -50, *filter_)))
    desk.run(6)
    _, noise = split(desk.io.sent)
    told = ComfortNoise.read(noise[-1].payload)
    sound = background(6, -50, *filter_)
    wanted = ComfortNoise.of(int16(sound))
    assert abs(told.level_dbov + 50) <= 1.5
    np.testing.assert_allclose(told.reflection[:2], wanted.reflection[:2], atol=0.15)


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 60])
def test_packets_of_any_time_are_left_out_whole(desk, ptime_ms):
    desk.call(ptime_ms=ptime_ms, **DTX)
    desk.feed(talk(8))
    desk.run(8)
    voice, noise = split(desk.io.sent)
    assert {len(p.payload) for p in voice} == {8 * ptime_ms}
    assert len(voice) < 0.5 * 8000 / ptime_ms
    assert noise
    stamps = [(p.timestamp - desk.io.sent[0].timestamp) & 0xFFFFFFFF for p in desk.io.sent]
    assert stamps == sorted(stamps)
    assert {stamp % (8 * ptime_ms) for stamp in stamps} == {0}


def test_tones_and_music_are_sound_however_steady(desk):
    desk.call(**DTX)
    desk.feed(int16(3000 * np.sin(2 * np.pi * 425 * np.arange(10 * RATE) / RATE)))
    desk.run(10)
    voice, noise = split(desk.io.sent)
    assert noise == []
    assert len(voice) >= 499


def test_digits_go_out_in_silence(desk):
    desk.call(**DTX)
    desk.run(3)
    desk.io.sent.clear()
    desk.do(SendDtmf(1, "5"))
    desk.run(1)
    events = [p for p in desk.io.sent if p.payload_type == 101]
    assert len(events) >= 6
    assert [p for p in desk.io.sent if p.payload_type == 0] == []


def test_a_description_anew_may_end_it_and_begin_it(desk):
    desk.call(**DTX)
    desk.run(3)
    desk.do(describe(send_format=PCMU))
    desk.io.sent.clear()
    desk.run(2)
    voice, noise = split(desk.io.sent)
    assert len(voice) >= 99
    assert noise == []
    desk.do(describe(**DTX))
    desk.run(0.6)
    desk.io.sent.clear()
    desk.run(2)
    assert split(desk.io.sent)[0] == []


def test_codecs_of_other_rates_describe_theirs(desk):
    g722 = PayloadFormat(9, "g722")
    desk.call(send_format=g722, receive_formats=(g722,), **DTX)
    desk.run(4)
    voice = [p for p in desk.io.sent if p.payload_type == 9]
    noise = [p for p in desk.io.sent if p.payload_type == 13]
    assert 24 <= len(voice) <= 27
    assert len(noise) >= 3
    stamps = [(p.timestamp - voice[0].timestamp) & 0xFFFFFFFF for p in desk.io.sent]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= 4 * 8000


@pytest.mark.skipif(native._native is None, reason="the part in C was not built")
def test_both_ways_tell_the_same():
    pair = Pair()
    for stream in range(1, 6):
        pair.each("call", stream, ptime_ms=(20, 30)[stream % 2], **DTX)
        pair.each("feed", talk(5, -70 + 4 * stream), stream)
    pair.run(5)
    assert pair.compared

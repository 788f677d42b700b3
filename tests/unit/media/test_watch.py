"""Troubles with sound: what is told of each, once, and what is taken for none."""

from __future__ import annotations

import wave

import numpy as np
import numpy.typing as npt
import pytest
from engine_desk import RATE, Desk, describe, peer, speech, ulaw, ulaw_round_trip

from voip.config import TroubleConfig
from voip.errors import ConfigError
from voip.events import Clipping, MediaTrouble, OneWayAudio, Silence, WrongCodec, WrongSource
from voip.media.answers import SourceLearned, TroubleBegan, TroubleEnded
from voip.media.commands import CloseStream, PayloadFormat, WatchStream
from voip.rtp.rtcp import ReceiverReport, ReportBlock, SenderReport, build_compound
from voip.sounds import asset_path
from voip.types import Address

STRANGER = Address("203.0.113.9", 4444)


def up(desk: Desk, **config: object) -> int:
    """A call that is up."""
    settings = {"troubles": TroubleConfig(**config)} if config else None  # type: ignore[arg-type]
    row = desk.call(settings=settings)  # type: ignore[arg-type]
    desk.do(WatchStream(1, 5.0))
    return row


def troubles(desk: Desk) -> list[MediaTrouble]:
    return [event.trouble for event in desk.of(TroubleBegan)]


def ended(desk: Desk) -> list[MediaTrouble]:
    return [event.trouble for event in desk.of(TroubleEnded)]


def say(desk: Desk, pcm: npt.NDArray[np.int16], place: int = 0, **more: object) -> None:
    """Let sound arrive from now on, as the packets from number `place` on, and pass."""
    desk.say(pcm, sequence=place, timestamp=16_000 + 160 * place, **more)  # type: ignore[arg-type]
    desk.run(pcm.size / RATE)


def reports(desk: Desk, seconds: int, *, block: bool, lost: int = 0) -> None:
    """Let reports of the peer's come every two seconds."""
    ours = desk.stats().ssrc_sent or 0
    for n in range(0, seconds, 2):
        blocks = (ReportBlock(ours, lost, 0, 0, 0, 0, 0),) if block else ()
        report = SenderReport(0xABCD, n << 32, 0, 1, 160, blocks)
        desk.put(build_compound([report]), rtcp=True, at=desk.now + n)


def tone(seconds: float, peak: float, hz: float = 440.0) -> npt.NDArray[np.int16]:
    wave = peak * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)
    return np.clip(wave, -32767, 32767).astype(np.int16)


# ---------------------------------------------------------------- one way


def test_nothing_that_ever_comes_is_one_way_after_five_seconds_and_told_once(desk):
    up(desk)
    desk.run(4)
    assert troubles(desk) == []
    desk.run(12)
    (trouble,) = troubles(desk)
    assert isinstance(trouble, OneWayAudio)
    assert (trouble.direction, trouble.seconds) == ("in", 5.0)
    assert "no RTP has ever come" in trouble.reason
    assert str(peer(1)) in trouble.reason
    say(desk, speech(3))
    assert ended(desk) == [trouble]


def test_rtp_that_stops_while_rtcp_goes_on_is_one_way_after_a_pause_has_had_its_time(desk):
    up(desk)
    say(desk, speech(2))
    reports(desk, 60, block=True)
    desk.run(28)
    assert troubles(desk) == []
    desk.run(8)
    (trouble,) = troubles(desk)
    assert isinstance(trouble, OneWayAudio)
    assert (trouble.direction, trouble.seconds) == ("in", 30.0)


def test_packets_that_keep_a_way_open_are_no_sound(desk):
    up(desk)
    for n in range(4):
        desk.rtp(n, 0, b"", payload_type=127, at=desk.now + 3 * n)
    desk.run(12)
    assert [trouble.direction for trouble in troubles(desk)] == ["in"]


def test_reports_that_never_mention_what_we_send_are_one_way(desk):
    up(desk)
    reports(desk, 20, block=False)
    say(desk, speech(20))
    (trouble,) = troubles(desk)
    assert isinstance(trouble, OneWayAudio)
    assert trouble.direction == "out"
    assert "do not mention it" in trouble.reason
    reports(desk, 6, block=True)
    say(desk, speech(6), 1000)
    assert ended(desk) == [trouble]


def test_reports_that_all_was_lost_are_one_way(desk):
    up(desk)
    reports(desk, 20, block=True, lost=255)
    say(desk, speech(20))
    assert [trouble.direction for trouble in troubles(desk)] == ["out"]  # type: ignore[union-attr]


def test_a_peer_without_rtcp_is_believed_to_hear_us(desk):
    up(desk)
    say(desk, speech(40))
    assert troubles(desk) == []


def test_nothing_is_one_way_on_hold_or_before_the_call_is_up(desk):
    desk.call()
    desk.run(20)
    desk.do(WatchStream(1, 5.0))
    desk.do(describe(receive=False))
    desk.run(20)
    desk.do(describe(send=False))
    desk.run(20)
    assert troubles(desk) == []


# ---------------------------------------------------------------- silence


def test_packets_with_nothing_in_them_are_silence_after_twenty_seconds(desk):
    up(desk)
    say(desk, np.zeros(19 * RATE, np.int16))
    assert troubles(desk) == []
    say(desk, np.zeros(10 * RATE, np.int16), 950)
    (trouble,) = troubles(desk)
    assert isinstance(trouble, Silence)
    assert (trouble.seconds, trouble.level_dbfs) == (20.0, None)
    say(desk, speech(3), 1450)
    assert ended(desk) == [trouble]


def test_noise_that_nobody_hears_is_silence_too_and_what_is_it_can_be_said(desk):
    up(desk, silence_s=5, silence_dbfs=-40)
    faint = np.random.default_rng(1).normal(0, 180, 8 * RATE).astype(np.int16)  # -45 dBFS
    say(desk, ulaw_round_trip(faint))
    (trouble,) = troubles(desk)
    assert isinstance(trouble, Silence)
    assert trouble.level_dbfs is not None
    assert -48 < trouble.level_dbfs < -42


def test_pauses_of_a_talk_are_no_silence(desk):
    up(desk)
    for turn in range(5):
        say(desk, np.zeros(15 * RATE, np.int16), turn * 1000)
        say(desk, speech(5), turn * 1000 + 750)
    assert troubles(desk) == []


def test_a_pause_in_which_nothing_is_sent_is_none(desk):
    """Discontinuous transmission: a talkspurt, then comfort noise or nothing at all, and RTCP."""
    up(desk)
    reports(desk, 100, block=True)
    for turn in range(5):
        say(desk, speech(3), turn * 1150, ssrc=7)
        for n in range(4):
            noise, at = b"\x40", desk.now + 5 * n
            desk.rtp(turn * 1150 + 150 + n, 0, noise, payload_type=13, ssrc=7, at=at)
        desk.run(20)
    assert troubles(desk) == []


def test_nobody_on_hold_is_silent(desk):
    up(desk)
    say(desk, speech(1))
    desk.do(describe(send=False))  # the peer holds us, and says nothing
    say(desk, np.zeros(40 * RATE, np.int16), 50)
    assert troubles(desk) == []


# ---------------------------------------------------------------- clipping


@pytest.mark.parametrize("name", ["pcmu", "pcma"])
def test_flat_tops_are_clipping_and_over_after_ten_seconds_without(desk, name):
    up(desk)
    loud = (speech(4).astype(np.int32) * 12).clip(-32767, 32767).astype(np.int16)
    low = np.convolve(loud, np.ones(8) / 8, "same")  # as voices are
    say(desk, (3 * low).clip(-32767, 32767).astype(np.int16))
    (trouble,) = troubles(desk)
    assert isinstance(trouble, Clipping)
    assert trouble.steps >= 3
    say(desk, speech(9), 200)
    assert ended(desk) == []
    say(desk, speech(4), 650)
    assert ended(desk) == [trouble]


@pytest.mark.parametrize("peak", [8_000, 20_000, 29_000])
def test_loud_tones_and_music_are_not_clipped(desk, peak):
    up(desk)
    chord = sum(tone(6, peak / 4, hz) for hz in (220.0, 277.2, 329.6, 440.0))
    say(desk, np.asarray(chord, np.int16))
    say(desk, tone(6, peak), 300)
    assert troubles(desk) == []


def test_speech_is_no_trouble(desk):
    with asset_path("speech-8k.wav") as path, wave.open(str(path)) as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    up(desk)
    reports(desk, 50, block=True)
    sound = np.tile(sound, 50 * RATE // sound.size + 1)[: 50 * RATE]
    say(desk, sound)
    loud = (sound * (30_000 / np.abs(sound).max())).astype(np.int16)
    say(desk, loud, sound.size // 160)
    assert troubles(desk) == []


# ---------------------------------------------------------------- codec


def test_packets_of_a_type_that_was_not_agreed_on_are_a_wrong_codec(desk):
    up(desk, one_way_s=None)
    for n in range(400):
        desk.rtp(n, 160 * n, bytes(20), payload_type=18, at=desk.now + 0.02 * n)
    desk.run(8)
    (trouble,) = troubles(desk)
    assert isinstance(trouble, WrongCodec)
    assert trouble.payload_type == 18
    assert 45 <= trouble.packets <= 55
    assert "18" in trouble.reason
    say(desk, speech(7), 400)
    assert ended(desk) == [trouble]


def test_packets_that_are_not_as_long_as_they_are_apart_are_a_wrong_codec(desk):
    up(desk)
    for n in range(300):
        desk.rtp(n, 160 * n, bytes(range(20)), at=desk.now + 0.02 * n)
    desk.run(6)
    (trouble,) = troubles(desk)
    assert isinstance(trouble, WrongCodec)
    assert trouble.payload_type is None
    assert "20 octets" in trouble.reason


def test_packets_that_a_codec_cannot_read_are_a_wrong_codec(desk):
    ilbc = PayloadFormat(97, "ilbc", 8000, 1, "mode=20")
    desk.call(send_format=ilbc, receive_formats=(ilbc,))
    for n in range(300):
        desk.rtp(n, 160 * n, bytes(17), payload_type=97, at=desk.now + 0.02 * n)
    desk.run(6)
    (trouble,) = troubles(desk)
    assert isinstance(trouble, WrongCodec)
    assert "ilbc cannot read" in trouble.reason


@pytest.mark.parametrize("size", [80, 160, 240, 480])
def test_any_packet_time_and_keep_alives_are_no_wrong_codec(desk, size):
    up(desk)
    sound = speech(10)
    desk.say(sound, size=size)
    for n in range(10):
        desk.rtp(7, 7, b"", payload_type=20, at=desk.now + n)  # RFC 6263
    desk.run(10)
    assert troubles(desk) == []


def test_lost_and_reordered_packets_are_no_trouble(desk):
    up(desk)
    rng, sound = np.random.default_rng(5), speech(20)
    for n in range(1000):
        if rng.random() > 0.2:
            payload = ulaw(sound[160 * n : 160 * (n + 1)])
            late = 0.03 * rng.random()
            desk.rtp(n, 160 * n, payload, at=desk.now + 0.02 * n + late)
    desk.run(21)
    assert troubles(desk) == []


# ---------------------------------------------------------------- source


def test_strangers_in_numbers_are_told_of_beside_the_peer(desk):
    up(desk)
    desk.say(speech(8), source=STRANGER, ssrc=99)
    say(desk, speech(8))
    (trouble,) = troubles(desk)
    assert isinstance(trouble, WrongSource)
    assert (trouble.address, trouble.heard) == (STRANGER, True)
    say(desk, speech(7), 400)
    assert ended(desk) == [trouble]


def test_strangers_instead_of_the_peer_are_told_of_where_none_is_learned(desk):
    up(desk, one_way_s=None)
    desk.do(describe())
    desk.engine._table.symmetric[desk.row()] = False
    say(desk, speech(8), source=STRANGER)
    (trouble,) = troubles(desk)
    assert isinstance(trouble, WrongSource)
    assert not trouble.heard
    assert str(peer(1)) in trouble.reason


def test_a_peer_behind_a_nat_is_learned_and_no_trouble(desk):
    up(desk)
    say(desk, speech(8), source=STRANGER)
    assert len(desk.of(SourceLearned)) == 1
    assert troubles(desk) == []


# ---------------------------------------------------------------- all


def test_what_is_not_asked_for_is_not_told(desk):
    off = {"one_way_s": None, "silence_s": None, "clipping": False, "wrong_codec": False}
    up(desk, **off, wrong_source=False)
    desk.run(40)
    for n in range(300):
        desk.rtp(n, 160 * n, bytes(20), payload_type=18, at=desk.now + 0.02 * n)
    say(desk, speech(6), source=STRANGER)
    say(desk, np.zeros(30 * RATE, np.int16), 300)
    say(desk, tone(5, 90_000), 1800)
    assert troubles(desk) == []


def test_a_stream_in_the_row_of_another_begins_anew(desk):
    up(desk)
    desk.run(7)
    assert len(troubles(desk)) == 1
    desk.do(CloseStream(1))
    desk.call(2)
    desk.do(WatchStream(2, 5.0))
    desk.run(7)
    assert [event.stream for event in desk.of(TroubleBegan)] == [1, 2]
    assert ended(desk) == []


@pytest.mark.parametrize("wrong", [{"one_way_s": 0}, {"silence_s": -1}, {"silence_dbfs": 3}])
def test_what_cannot_be_judged_is_refused(wrong):
    with pytest.raises(ConfigError):
        TroubleConfig(**wrong)


def test_a_receiver_report_is_enough_to_be_heard_by(desk):
    """Who sends nothing reports by RR."""
    up(desk, one_way_s=None)
    ours = desk.stats().ssrc_sent or 0
    for n in range(0, 40, 4):
        report = ReceiverReport(0xABCD, (ReportBlock(ours, 0, 0, 0, 0, 0, 0),))
        desk.put(build_compound([report]), rtcp=True, at=desk.now + n)
    desk.run(40)
    assert troubles(desk) == []


def test_nothing_is_kept_of_the_last_streams() -> None:
    """An engine without streams does not tick, and would tell their figures for as long."""
    desk = Desk()
    up(desk)
    say(desk, speech(1.0), source=STRANGER)
    reports(desk, 6, block=True)
    desk.run(6.0)
    watch, snapshot = desk.engine._watch, desk.engine.snapshot
    assert snapshot is not None
    assert (list(snapshot.rows), len(snapshot.strangers)) == ([1], 1)
    assert watch._names and watch._loudest
    desk.do(CloseStream(1))
    assert desk.engine.next_due() is None
    last = desk.engine.snapshot
    assert last is not None and last.version > snapshot.version
    assert (last.rows, last.strangers) == ({}, {})
    assert not (watch._names or watch._loudest)

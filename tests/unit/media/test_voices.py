"""Streams whose codecs remember, in the engine: G.722, iLBC, Opus and L16 beside G.711."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from engine_desk import HOST, PCMU, Desk, describe, place_of, speech
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

import voip
import voip.codecs.registry as registry_module
from voip.codecs.coder import ArrayCodec
from voip.codecs.core import CodecFormat, CodecInfo
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import OpusSettings
from voip.codecs.opus.toc import read_packet
from voip.codecs.registry import CodecEntry, default_registry, register
from voip.media import wav
from voip.media.answers import DtmfReceived
from voip.media.commands import (
    AddSink,
    MixStream,
    OpenMix,
    OpenStream,
    PayloadFormat,
    RouteStream,
    SendDtmf,
    SetSource,
)
from voip.rtp.rtcp import SenderReport, parse_compound

G722 = PayloadFormat(9, "g722")
OPUS = PayloadFormat(111, "opus", 48000, 2, "useinbandfec=1")
ILBC_20 = PayloadFormat(97, "ilbc", fmtp="mode=20")
ILBC_30 = PayloadFormat(98, "ilbc", fmtp="mode=30")
L16 = PayloadFormat(99, "l16", 16000)
FORMATS = [G722, OPUS, ILBC_20, ILBC_30, L16]
RATES = {"g722": 16000, "opus": 48000, "ilbc": 8000, "l16": 16000}
EVENTS_48K = PayloadFormat(102, "telephone-event", 48000)

Pcm = npt.NDArray[np.int16]


def name_of(format_: PayloadFormat) -> str:
    return f"{format_.name} {format_.fmtp}".strip()


every_format = pytest.mark.parametrize(
    "format_",
    [pytest.param(one, marks=pytest.mark.long) if one is ILBC_30 else one for one in FORMATS],
    ids=name_of,
)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def codec_of(format_: PayloadFormat):
    name, clock, channels = format_.name, format_.clock_rate, format_.channels
    return default_registry().create(CodecFormat(name, clock, channels, format_.fmtp))


def tone(seconds: float, rate: int, hz: float = 700.0) -> Pcm:
    t = np.arange(int(seconds * rate)) / rate
    slow = 1 + 0.3 * np.sin(2 * np.pi * 3 * t)
    return (6000 * slow * np.sin(2 * np.pi * hz * t)).astype(np.int16)


def call(desk: Desk, format_: PayloadFormat, stream: int = 1, **more: object) -> int:
    """Open a stream of one format both ways, whose sound is kept at its codec's rate."""
    rate = RATES.get(format_.name, 8000)
    formats = {"send_format": format_, "receive_formats": (format_,)} | more
    desk.do(OpenStream(stream, HOST, "x"), describe(stream, **formats))
    number = desk.engine.arena.allocate(20 * rate, rate)
    desk.do(AddSink(stream, number))
    desk.sinks[stream], desk.pcm[stream] = number, []
    return desk.row(stream)


def feed(desk: Desk, pcm: Pcm, rate: int, stream: int = 1) -> None:
    number = desk.engine.arena.allocate(pcm.size, rate)
    desk.engine.arena.ring(number).push(pcm)
    desk.engine.arena.ring(number).close()
    desk.do(SetSource(stream, number))


def packets(format_: PayloadFormat, pcm: Pcm, ptime_ms: int) -> list[bytes]:
    codec = codec_of(format_)
    size = codec.info.sample_rate * ptime_ms // 1000
    if format_.name == "opus":  # the library's ways for int16 and float32 differ a little
        pcm = pcm.astype(np.float32) / 32768
    return [codec.encode(pcm[at : at + size]) for at in range(0, pcm.size - size + 1, size)]


def come(
    desk: Desk,
    format_: PayloadFormat,
    payloads: list[bytes],
    ptime_ms: int,
    *,
    lost: tuple[int, ...] = (),
    sequence: int = 100,
    timestamp: int = 3000,
    stream: int = 1,
) -> None:
    """Let packets arrive at their pace, from now on."""
    for n, payload in enumerate(payloads):
        if n not in lost:
            desk.rtp(
                sequence + n,
                timestamp + n * ptime_ms * format_.clock_rate // 1000,
                payload,
                at=desk.now + n * ptime_ms / 1000,
                payload_type=format_.payload_type,
                stream=stream,
            )


def pitch(pcm: Pcm, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(pcm.size)))
    return float(spectrum.argmax() * rate / pcm.size)


def ptime_of(format_: PayloadFormat) -> int:
    return 30 if format_ is ILBC_30 else 20


@every_format
def test_what_comes_is_heard_as_the_codec_itself_decodes_it(
    desk: Desk, format_: PayloadFormat
) -> None:
    ptime = ptime_of(format_)
    call(desk, format_)
    payloads = packets(format_, tone(3.0, codec_of(format_).info.sample_rate), ptime)
    come(desk, format_, payloads, ptime)
    desk.run(3.0)
    stats = desk.stats()
    desk.run(0.5)
    codec = codec_of(format_)
    expected = np.concatenate([codec.decode(payload) for payload in payloads])
    heard = desk.heard()
    lag = place_of(expected, heard)
    part = heard[lag : lag + expected.size]
    assert part.size == expected.size > 20_000
    assert np.abs(part.astype(int) - expected).max() <= 1  # Opus decodes to float32 here
    assert lag / RATES[format_.name] <= 0.1
    assert (stats.packets_lost, stats.packets_late, stats.concealed_ms) == (0, 0, 0)
    assert stats.jitter_ms == pytest.approx(0, abs=0.2)


@every_format
@pytest.mark.parametrize("ptime_ms", [10, 20, 40, 60])
def test_what_is_sent_is_what_the_codec_itself_encodes(
    desk: Desk, format_: PayloadFormat, ptime_ms: int
) -> None:
    """Packets have as many whole frames as fit into the time that was agreed on."""
    rate = RATES[format_.name]
    sound = tone(2.4, rate)
    desk.do(OpenStream(1, HOST, "x"))
    feed(desk, sound, rate)
    desk.do(describe(send_format=format_, receive_formats=(format_,), ptime_ms=ptime_ms))
    row = desk.row()
    desk.run(2.5)
    sent = [p for p in desk.io.sent if p.row == row]
    whole = {20: {10: 20, 20: 20, 40: 40, 60: 60}, 30: {10: 30, 20: 30, 40: 30, 60: 60}}
    ptime = whole[ptime_of(format_)][ptime_ms] if format_.name == "ilbc" else ptime_ms
    if format_ is L16 and ptime_ms == 60:  # 1,400 octets are the most
        ptime = 40
    steps = {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(sent)}
    assert steps == {ptime * format_.clock_rate // 1000}
    expected = packets(format_, sound, ptime)
    assert [packet.payload for packet in sent[: len(expected)]] == expected
    assert len(expected) >= 2300 // ptime
    assert {p.payload_type for p in sent} == {format_.payload_type}


def test_what_a_lost_packet_had_is_heard_from_the_next_ones_repetition(desk: Desk) -> None:
    """Opus repeats a packet in the next one: heard is what the library makes of it."""
    codec = OpusCodec(settings=OpusSettings(fec=True, expected_loss=30, bit_rate=32_000))
    sound = np.repeat(speech(3.0), 6)
    payloads = [codec.encode(sound[n : n + 960]) for n in range(0, sound.size, 960)]
    lost = tuple(range(10, 140, 7))
    call(desk, OPUS)
    come(desk, OPUS, payloads, 20, lost=lost)
    desk.run(3.2)
    ours, plain = OpusCodec(), OpusCodec()
    repaired, patched = [], []
    for n, payload in enumerate(payloads):
        if n in lost:
            repaired.append(ours.decode_fec(payloads[n + 1]))
            patched.append(plain.conceal(960))
        else:
            repaired.append(ours.decode(payload))
            patched.append(plain.decode(payload))
    expected, worse = np.concatenate(repaired), np.concatenate(patched)
    heard = desk.heard()
    lag = place_of(expected, heard)
    part = heard[lag : lag + expected.size].astype(int)
    assert np.abs(part - expected).max() <= 1
    assert np.abs(part - worse).max() > 1000
    assert desk.stats().packets_lost == len(lost)


def test_packets_repeat_the_one_before_for_whom_it_is_of_use() -> None:
    """`useinbandfec` of the peer (RFC 7587, section 6.1); what it is worth, libopus decides."""
    speech = Path(voip.__file__).parent / "assets" / "speech-8k.wav"
    sound = wav.read(speech, 48_000)[: 3 * 48_000]
    repeating = {}
    for fmtp in ("useinbandfec=1", ""):
        desk = Desk()
        call(desk, OPUS, send_format=PayloadFormat(111, "opus", 48000, 2, fmtp))
        feed(desk, sound, 48_000)
        desk.run(3.0)
        payloads = [packet.payload for packet in desk.io.sent]
        repeating[fmtp] = sum(read_packet(payload).has_fec(payload) for payload in payloads)
    assert repeating["useinbandfec=1"] > 50
    assert repeating[""] == 0


@every_format
def test_a_gap_is_concealed_and_what_follows_is_heard_in_its_place(
    desk: Desk, format_: PayloadFormat
) -> None:
    ptime, rate = ptime_of(format_), RATES[format_.name]
    noise = np.random.default_rng(5).normal(0, 3000, 3 * 8000).astype(np.int16)
    sound = np.repeat(noise, rate // 8000)
    payloads = packets(format_, sound, ptime)
    call(desk, format_)
    lost = (40, 41, 60)
    come(desk, format_, payloads, ptime, lost=lost)
    desk.run(3.0)
    stats = desk.stats()
    assert stats.packets_lost == 3
    assert 0 < stats.concealed_ms <= 3 * ptime
    heard, size = desk.heard(), rate * ptime // 1000
    lag = place_of(sound, heard)
    assert 0 < lag < rate // 10
    for begin, end in ((5, 38), (44, 58), (64, 90)):
        place = place_of(sound[begin * size : end * size], heard)
        assert abs(place - begin * size - lag) <= rate // 8000
    gap = heard[lag + 40 * size : lag + 41 * size].astype(float)
    assert np.sqrt(np.mean(gap**2)) > 100  # not silence


def test_another_codec_may_come_without_being_announced_anew(desk: Desk) -> None:
    """Of all that was offered, the peer uses what it likes (RFC 3264, section 7)."""
    desk.call(receive_formats=(PCMU, G722, OPUS))
    say = tone(1.0, 8000)
    desk.say(say, payload_type=0, sequence=100, timestamp=16000)
    desk.run(1.1)
    for n, format_ in enumerate((G722, OPUS, PCMU, G722)):
        desk.pcm[1].clear()
        payloads = packets(format_, tone(1.0, RATES.get(format_.name, 8000)), 20)
        come(desk, format_, payloads, 20, sequence=150 + 50 * n, timestamp=50_000 * (n + 1))
        desk.run(1.1)
        heard = desk.heard()
        loud = heard[np.abs(heard) > 200]
        assert loud.size > 6000, format_
        assert pitch(heard[2000:7000], 8000) == pytest.approx(700, abs=5), format_
    assert desk.stats().packets_lost == 0


def test_rows_of_different_codecs_send_each_other_what_they_hear(desk: Desk) -> None:
    formats = {1: PCMU, 2: G722, 3: OPUS, 4: ILBC_20, 5: ILBC_30}
    for stream, format_ in formats.items():
        call(desk, format_, stream, ptime_ms=ptime_of(format_))
    for stream in formats:
        desk.do(RouteStream(stream, stream % 5 + 1))
    for stream, format_ in formats.items():
        ptime, rate = ptime_of(format_), RATES.get(format_.name, 8000)
        payloads = packets(format_, tone(3.0, rate, 400.0 + 100 * stream), ptime)
        come(desk, format_, payloads, ptime, stream=stream)
    desk.run(3.0)
    for stream, format_ in formats.items():
        decoder = codec_of(format_)
        sent = [p.payload for p in desk.io.sent if p.row == desk.row(stream)]
        heard = np.concatenate([decoder.decode(payload) for payload in sent])
        rate = decoder.info.sample_rate
        middle = heard[rate : 2 * rate].astype(float)
        hz = 400.0 + 100 * (stream % 5 + 1)
        assert pitch(middle, rate) == pytest.approx(hz, abs=3), (stream, format_)
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(4300, rel=0.2)


def test_a_mix_has_room_for_every_codec(desk: Desk) -> None:
    formats = {1: PCMU, 2: G722, 3: OPUS, 4: ILBC_30}
    desk.do(OpenMix(9))
    for stream, format_ in formats.items():
        call(desk, format_, stream, ptime_ms=ptime_of(format_))
        desk.do(MixStream(stream, 9))
    for stream, format_ in formats.items():
        ptime, rate = ptime_of(format_), RATES.get(format_.name, 8000)
        payloads = packets(format_, tone(3.0, rate, 400.0 + 300 * stream), ptime)
        come(desk, format_, payloads, ptime, stream=stream)
    desk.run(3.0)
    for stream, format_ in formats.items():
        decoder = codec_of(format_)
        sent = [p.payload for p in desk.io.sent if p.row == desk.row(stream)]
        rate = decoder.info.sample_rate
        heard = np.concatenate([decoder.decode(payload) for payload in sent])[rate : 2 * rate]
        spectrum = np.abs(np.fft.rfft(heard * np.hanning(heard.size)))
        hz = [int(400 + 300 * other) for other in formats]
        parts = {other: spectrum[h - 5 : h + 6].max() for other, h in zip(formats, hz, strict=True)}
        own = parts.pop(stream)
        assert min(parts.values()) > 10 * own, (stream, parts, own)


def test_digits_beside_opus_count_its_clock(desk: Desk) -> None:
    events = {"send_dtmf": EVENTS_48K, "receive_dtmf": (EVENTS_48K,)}
    row = call(desk, OPUS, **events)
    desk.do(SendDtmf(1, "5", duration_ms=120))
    desk.run(0.6)
    sent = [p for p in desk.io.sent if p.row == row and p.payload_type == 102]
    assert int.from_bytes(sent[-1].payload[2:4]) == 120 * 48
    for n, packet in enumerate(sent):
        desk.rtp(n, packet.timestamp, packet.payload, payload_type=102, marker=packet.marker)
    desk.run(0.1)
    (digit,) = desk.of(DtmfReceived)
    assert (digit.digit, digit.duration_ms) == ("5", 120)


def test_digits_go_on_where_another_codec_comes(desk: Desk) -> None:
    """What is sent is packets of 40 ms of G.711 still, by the stream's own encoder now."""
    row = desk.call(receive_formats=(PCMU, OPUS), ptime_ms=40)
    come(desk, OPUS, packets(OPUS, tone(2.0, 48000), 20), 20)
    desk.run(0.5)
    desk.do(SendDtmf(1, "5", duration_ms=200))
    desk.run(1.0)
    sent = [p for p in desk.io.sent if p.row == row]
    digits = [p for p in sent if p.payload_type == 101]
    durations = [int.from_bytes(p.payload[2:4]) for p in digits]
    assert durations == [320, 640, 960, 1280, 1600, 1600, 1600]
    sound = [p for p in sent if p.payload_type == 0]
    assert {len(p.payload) for p in sound} == {320}
    for before, after in pairwise(sound):
        passed = (after.timestamp - before.timestamp) & 0xFFFFFFFF
        assert passed == pytest.approx((after.at - before.at) * 8000, abs=80)


def test_reports_count_the_clock_of_what_is_sent(desk: Desk) -> None:
    call(desk, OPUS)
    desk.run(20)
    times = {}
    for at, _, packet in desk.io.reports:
        for report in parse_compound(packet):
            if isinstance(report, SenderReport):
                times[at] = report.rtp_timestamp
    (first, a), *_, (last, b) = times.items()
    assert (b - a) & 0xFFFFFFFF == pytest.approx((last - first) * 48000, abs=48)
    first_sent = desk.io.sent[0]
    expected = first_sent.timestamp + round((first - first_sent.at) * 48000)
    assert abs(((a - expected + 2**31) & 0xFFFFFFFF) - 2**31) <= 960


def test_timestamps_go_on_where_a_call_changes_to_another_clock(desk: Desk) -> None:
    """RFC 7160, section 4.1."""
    row = desk.call()
    desk.run(1.0)
    desk.do(describe(send_format=OPUS, receive_formats=(OPUS,)))
    desk.run(1.0)
    desk.do(describe())
    desk.run(1.0)
    sent = [p for p in desk.io.sent if p.row == row]
    assert {p.payload_type for p in sent} == {0, 111}
    for before, after in pairwise(sent):
        assert after.sequence == (before.sequence + 1) & 0xFFFF
        passed = (after.timestamp - before.timestamp) & 0xFFFFFFFF
        assert passed <= 48_000 * (after.at - before.at) + 960


def test_pauses_are_not_sent_and_what_follows_them_is_marked(desk: Desk) -> None:
    """DTX (RFC 7587, section 3.1.3): the peer asks for it."""
    asked = PayloadFormat(111, "opus", 48000, 2, "usedtx=1")
    row = call(desk, OPUS, send_format=asked)
    sound = np.concatenate([tone(0.5, 48000), np.zeros(2 * 48000, np.int16), tone(0.5, 48000)])
    feed(desk, sound, 48000)
    desk.run(3.1)
    sent = [p for p in desk.io.sent if p.row == row]
    pause = [p for p in sent if 1.0 < p.at - sent[0].at < 2.4]
    assert len(pause) < 12
    assert {len(p.payload) > 2 for p in sent} == {True}
    assert [p.sequence - sent[0].sequence for p in sent] == list(range(len(sent)))
    last = next(p for p in sent if p.at - sent[0].at > 2.45)
    assert last.marker
    assert (last.timestamp - sent[0].timestamp) == pytest.approx(
        48_000 * (last.at - sent[0].at), abs=1000
    )


@examples(30)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 9, 97, 98, 99, 111]), st.binary(max_size=400), st.integers(0, 90)
        ),
        max_size=30,
    )
)
def test_whatever_comes_nothing_breaks(payloads: list[tuple[int, bytes, int]]) -> None:
    desk = Desk()
    desk.call(receive_formats=(PCMU, *FORMATS))
    for n, (payload_type, payload, step) in enumerate(payloads):
        desk.rtp(n, 160 * n + step, payload, payload_type=payload_type, at=desk.now + 0.02 * n)
    desk.run(1.0)
    desk.say(speech(1.0), sequence=len(payloads) + 200, timestamp=1_000_000)
    desk.run(1.5)
    assert np.abs(desk.heard()).max() > 1000


def test_what_cannot_be_coded_here_is_refused_and_changes_nothing(desk: Desk) -> None:
    row = call(desk, G722)
    desk.refused(describe(send_format=PayloadFormat(100, "l16", 48000, 2)))
    desk.refused(describe(send_format=PayloadFormat(97, "ilbc", fmtp="mode=25")))
    feed(desk, tone(1.0, 16000), 16000)
    desk.run(1.0)
    assert {p.payload_type for p in desk.io.sent if p.row == row} == {9}


def test_a_codec_that_fails_as_none_should_is_told_of_and_harms_nobody_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        info = CodecInfo("broken", 8000, 8000, 1, 1, 20, 64_000, 0.0)

        def __getattr__(self, name: str):
            def fail(*_: object) -> None:
                raise ZeroDivisionError(name)

            return fail

    monkeypatch.setattr(registry_module, "_default", None)
    register(CodecEntry(Broken.info, lambda format_: Broken()))  # type: ignore[arg-type]
    desk = Desk()
    broken = PayloadFormat(96, "broken")
    call(desk, broken, 2)
    desk.call(1)
    come(desk, broken, [b"x" * 160] * 50, 20, stream=2)
    desk.say(speech(1.0))
    feed(desk, tone(0.5, 8000), 8000, stream=2)
    desk.run(1.2)
    assert np.abs(desk.heard(1)).max() > 1000
    assert not desk.heard(2).any()
    assert len([r for r in caplog.records if "a codec of broken/8000 failed" in r.message]) == 1


def test_rows_of_opus_are_spread_over_the_ticks(desk: Desk) -> None:
    for stream in range(1, 161):
        desk.call(stream, send_format=OPUS if stream % 2 else PCMU, receive_formats=(OPUS, PCMU))
    table = desk.engine._table
    coded = table.slot[table.coded] % 2
    assert sorted(np.bincount(coded).tolist()) == [16, 64]  # 64 gather, others go elsewhere
    plain = table.slot[table.active & ~table.coded] % 2
    assert plain.size == 80 and len(set(plain.tolist())) == 1  # these all gather


def test_a_rate_that_has_no_whole_steps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    info = CodecInfo("odd", 11025, 11025, 1, 1, 20, 88_200, 0.0)
    monkeypatch.setattr(registry_module, "_default", None)
    register(CodecEntry(info, lambda format_: ArrayCodec(info, object)))  # type: ignore[arg-type]
    odd = PayloadFormat(96, "odd", 11025)
    engine = Desk()
    engine.do(OpenStream(1, HOST, "x"))
    told = engine.refused(describe(send_format=odd, receive_formats=(odd,)))
    assert "11025 samples a second" in told

"""Header extensions of what is sent (RFC 8285): levels (RFC 6464) and send times."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from engine_desk import (
    DTMF,
    HOST,
    PCMU,
    RATE,
    WAYS,
    Desk,
    Sent,
    describe,
    speech,
    ulaw,
)

from voip.codecs.g711 import ULAW_DECODE
from voip.codecs.red import unpack
from voip.media.commands import (
    AddSink,
    CloseStream,
    HeaderExtensions,
    MixStream,
    MuteStream,
    OpenMix,
    OpenStream,
    PayloadFormat,
    ProtectStream,
    RouteStream,
    SendDtmf,
)
from voip.rtp.extensions import (
    ONE_BYTE,
    TWO_BYTE,
    AudioLevel,
    build_extension,
    parse_extension,
    read_send_time,
)
from voip.rtp.srtp.keys import SrtpKeys
from voip.rtp.srtp.stream import Inbound
from voip.types import SeededRandom

pytestmark = [pytest.mark.rfc("6464", "3"), pytest.mark.rfc("8285", "4")]

LEVEL = HeaderExtensions(send_level=3, receive_level=3)
BOTH = HeaderExtensions(send_level=3, send_time=7)
OPUS = PayloadFormat(111, "opus", 48000, 2)
OPUS_DTX = PayloadFormat(111, "opus", 48000, 2, "usedtx=1")
L16 = PayloadFormat(98, "l16")
G722 = PayloadFormat(9, "g722")
ILBC = PayloadFormat(97, "ilbc", fmtp="mode=20")
NOISE = PayloadFormat(13, "cn")


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(native=request.param)


def elements(packet: Sent) -> dict[int, bytes]:
    if not packet.extension:
        return {}
    head, words = (int.from_bytes(packet.extension[n : n + 2], "big") for n in (0, 2))
    assert len(packet.extension) == 4 + 4 * words
    return parse_extension(head, packet.extension[4:])


def told(packet: Sent, number: int = 3) -> AudioLevel:
    return AudioLevel.read(elements(packet)[number])


def level_of(pcm: np.ndarray) -> float:
    """-dBov of the samples of a packet, by the definition of RFC 6464; 127 of silence."""
    power = np.mean((pcm.astype(float) / 32768) ** 2)
    return min(127.0, -10 * math.log10(power)) if power else 127.0


def heard_in(packet: Sent) -> np.ndarray:
    """Its samples."""
    octets = np.frombuffer(packet.payload, np.uint8)
    return octets.view(">i2") if packet.payload_type == L16.payload_type else ULAW_DECODE[octets]


def check_levels(packets: list[Sent]) -> Counter[int]:
    """Every packet tells its own level, to the decibel; return how often which was told."""
    found: Counter[int] = Counter()
    for packet in packets:
        level = told(packet).level
        assert abs(level - level_of(heard_in(packet))) <= 0.501, packet
        found[level] += 1
    return found


# ---------------------------------------------------------------- sent


@pytest.mark.parametrize("format_", [PCMU, L16], ids=["table", "voice"])
@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 60])
def test_every_packet_tells_the_level_of_its_own_samples(
    desk: Desk, format_: PayloadFormat, ptime_ms: int
) -> None:
    row = desk.call(extensions=LEVEL, ptime_ms=ptime_ms, send_format=format_)
    said = speech(2.0)
    desk.feed(said)
    desk.run(2.2)
    assert {packet.row for packet in desk.io.sent} == {row}
    assert len(desk.io.sent) > 2000 // ptime_ms
    found = check_levels(desk.io.sent)
    assert found[127] > 3, "there was nothing to be said in the end"
    assert len(found) >= 3
    if format_ is PCMU:
        assert ulaw(said) in b"".join(packet.payload for packet in desk.io.sent)


def test_who_is_in_a_mix_tells_the_level_of_what_it_is_sent_of_it(desk: Desk) -> None:
    """In steps of 10 ms, two of which are a packet."""
    for stream in (1, 2):
        desk.call(stream, extensions=LEVEL)
    desk.do(OpenMix(9), MixStream(1, 9), MixStream(2, 9))
    desk.io.sent.clear()
    desk.say(speech(1.0))
    desk.run(1.2)
    assert len(check_levels([p for p in desk.io.sent if p.row == desk.row(2)])) > 3
    assert set(check_levels([p for p in desk.io.sent if p.row == desk.row(1)])) == {127}


def test_packets_of_rows_without_extensions_are_what_they_were(desk: Desk) -> None:
    rows = [desk.call(1), desk.call(2, extensions=BOTH), desk.call(3)]
    for stream in (1, 2, 3):
        desk.feed(speech(0.5, stream), stream)
    desk.run(0.6)
    for stream, row in zip((1, 2, 3), rows, strict=True):
        mine = [packet for packet in desk.io.sent if packet.row == row]
        assert {len(packet.extension) for packet in mine} == {12 if stream == 2 else 0}
        assert ulaw(speech(0.5, stream)) in b"".join(packet.payload for packet in mine)
        assert desk.stats(stream).bytes_sent == 160 * len(mine), "payloads are counted, alone"


@pytest.mark.parametrize("codec", ["opus", "g722", "ilbc"])
def test_codecs_that_remember_tell_what_was_put_into_them(desk: Desk, codec: str) -> None:
    format_ = {"opus": OPUS, "g722": G722, "ilbc": ILBC}[codec]
    desk.call(extensions=LEVEL, send_format=format_, receive_formats=(format_,))
    tone = (12_000 * np.sin(np.arange(RATE) * 0.3)).astype(np.int16)
    desk.feed(tone)
    desk.run(0.9)
    levels = [told(packet).level for packet in desk.io.sent]
    assert len(levels) > 40
    assert set(levels[3:]) == {round(level_of(tone))}


def test_a_pause_that_was_not_sent_is_no_part_of_the_packet_after_it(desk: Desk) -> None:
    desk.call(extensions=LEVEL, send_format=OPUS_DTX, receive_formats=(OPUS_DTX,))
    tone = (12_000 * np.sin(np.arange(RATE // 2) * 0.3)).astype(np.int16)
    desk.feed(np.concatenate((tone, np.zeros(2 * RATE, np.int16), tone)))
    desk.run(2.95)
    stamps = [packet.timestamp for packet in desk.io.sent]
    (gap,) = [n for n in range(1, len(stamps)) if stamps[n] - stamps[n - 1] > 4 * 960][-1:]
    levels = [told(packet).level for packet in desk.io.sent[gap:]]
    assert 127 not in levels[2:]
    assert set(levels[2:-1]) == {round(level_of(tone))}


def test_a_muted_row_tells_of_silence(desk: Desk) -> None:
    desk.call(extensions=LEVEL)
    desk.feed(speech(1.0))
    desk.do(MuteStream(1, True))
    desk.run(0.5)
    assert len(desk.io.sent) > 20
    assert {told(packet) for packet in desk.io.sent} == {AudioLevel(127, voice=False)}


def test_a_voice_is_told_of_where_that_was_agreed_on(desk: Desk) -> None:
    """Loud noise in syllables, between silences; nobody speaks in the latter."""
    rows = [
        desk.call(1, extensions=LEVEL),
        desk.call(2, extensions=HeaderExtensions(send_level=3, voice=False)),
    ]
    for stream in (1, 2):
        desk.feed(speech(4.0), stream)
    desk.run(4.0)
    spoken, of = Counter[tuple[bool, bool]](), [p for p in desk.io.sent if p.row == rows[0]]
    for packet in of[50:]:
        level = told(packet)
        spoken[level.voice, level.level < 127] += 1
    assert spoken[True, True] > 60
    assert spoken[False, False] > 40
    assert spoken[False, True] + spoken[True, False] <= 0.05 * spoken.total()
    assert not any(told(p).voice for p in desk.io.sent if p.row == rows[1])


def test_a_voice_in_one_step_of_a_packet_is_a_voice_in_the_packet(desk: Desk) -> None:
    """20 ms of noise every 200 ms, wherever they come to lie in packets of 60 ms."""
    row = desk.call(extensions=LEVEL, ptime_ms=60)
    said = np.zeros((20, 1600), np.int16)
    said[:, :160] = np.random.default_rng(1).normal(0, 6000, (20, 160))
    desk.feed(said.reshape(-1))
    desk.run(4.0)
    levels = [told(packet) for packet in desk.io.sent if packet.row == row]
    assert {level.voice for level in levels if level.level < 60} == {True}
    assert {level.voice for level in levels if level.level == 127} == {False}
    assert sum(level.voice for level in levels) >= 20


@pytest.mark.parametrize("numbers", [(3, 7), (14, 1), (15, 3), (200, 255), (0, 5), (5, 0)])
def test_send_times_and_levels_stand_under_the_numbers_agreed_on(
    desk: Desk, numbers: tuple[int, int]
) -> None:
    level, time = numbers
    desk.call(extensions=HeaderExtensions(send_level=level, send_time=time))
    desk.feed(speech(0.5))
    desk.run(0.6)
    assert len(desk.io.sent) > 25
    for packet in desk.io.sent:
        found = elements(packet)
        assert set(found) == set(numbers) - {0}
        profile = int.from_bytes(packet.extension[:2], "big")
        assert profile == (TWO_BYTE if max(numbers) > 14 else ONE_BYTE)
        if level:
            assert abs(told(packet, level).level - level_of(heard_in(packet))) <= 0.501
        if time:
            sent_at = read_send_time(found[time])
            assert sent_at == pytest.approx((1e9 + packet.at) % 64, abs=2**-18)


def test_the_first_packet_that_is_stamped_is_stamped_rightly(desk: Desk) -> None:
    desk.call()
    desk.run(0.1)
    desk.engine.submit(describe(extensions=HeaderExtensions(send_time=7)))
    desk.run(0.1)
    stamped = [packet for packet in desk.io.sent if packet.extension]
    assert len(stamped) == 5
    for packet in stamped:
        sent_at = read_send_time(elements(packet)[7])
        assert sent_at == pytest.approx((1e9 + packet.at) % 64, abs=2**-18)


def test_packets_that_repeat_others_tell_of_what_is_newest_in_them(desk: Desk) -> None:
    red = PayloadFormat(97, "red", fmtp="0/0")
    row = desk.call(extensions=BOTH, send_redundancy=red, redundancy=2)
    other = desk.call(2, extensions=LEVEL)
    for stream in (1, 2):
        desk.feed(speech(1.0), stream)
    desk.run(1.2)
    before: list[bytes] = []
    for packet in (packet for packet in desk.io.sent if packet.row == row):
        *blocks, own = unpack(packet.payload) if packet.payload_type == 97 else [None]
        newest = own.payload if own else packet.payload
        assert [block.payload for block in blocks] == before[-len(blocks) :][: len(blocks)]
        level = level_of(ULAW_DECODE[np.frombuffer(newest, np.uint8)])
        assert abs(told(packet).level - level) <= 0.501
        before.append(newest)
    assert len(before) > 50
    check_levels([packet for packet in desk.io.sent if packet.row == other])


def test_digits_and_keepalives_go_without_and_sound_after_them_tells_its_own(desk: Desk) -> None:
    desk.call(extensions=BOTH, settings={"keepalive_s": 1.0})
    desk.feed(speech(1.5))
    desk.do(SendDtmf(1, "5"))
    desk.run(1.4)
    events = [packet for packet in desk.io.sent if packet.payload_type == DTMF.payload_type]
    assert len(events) >= 5
    assert not any(packet.extension for packet in events)
    check_levels([packet for packet in desk.io.sent if packet.payload_type == 0])
    desk.do(describe(send=False, extensions=BOTH))
    desk.io.sent.clear()
    desk.run(2.0)
    assert desk.io.sent
    assert not any(packet.extension or packet.payload for packet in desk.io.sent)


def test_comfort_noise_tells_the_level_that_it_describes(desk: Desk) -> None:
    desk.call(extensions=BOTH, send_noise=NOISE, receive_noise=(NOISE,), dtx=True)
    rng = np.random.default_rng(1)
    desk.feed(rng.normal(0, 30, 4 * RATE).astype(np.int16))
    desk.run(4.0)
    noises = [packet for packet in desk.io.sent if packet.payload_type == 13]
    assert len(noises) >= 2
    for packet in noises:
        assert told(packet) == AudioLevel(packet.payload[0], voice=False)
        assert read_send_time(elements(packet)[7]) == pytest.approx(
            (1e9 + packet.at) % 64, abs=1e-5
        )


def test_a_description_without_extensions_ends_them_and_the_row_after_has_none(desk: Desk) -> None:
    desk.call(extensions=BOTH)
    desk.run(0.1)
    assert all(packet.extension for packet in desk.io.sent)
    desk.do(describe())
    desk.io.sent.clear()
    desk.run(0.1)
    desk.do(describe(extensions=LEVEL), CloseStream(1))
    desk.call(2)
    desk.run(0.1)
    assert len(desk.io.sent) > 8
    assert not any(packet.extension for packet in desk.io.sent)
    assert not desk.engine._table.transmitter.extensions.used
    assert not desk.engine._table.told.used


@pytest.mark.parametrize(
    "wrong",
    [
        HeaderExtensions(send_level=256),
        HeaderExtensions(send_time=-1),
        HeaderExtensions(receive_level=300),
        HeaderExtensions(send_level=5, send_time=5),
    ],
)
def test_numbers_that_cannot_be_are_refused_and_change_nothing(
    desk: Desk, wrong: HeaderExtensions
) -> None:
    desk.call(extensions=LEVEL)
    assert "header extensions" in desk.refused(describe(extensions=wrong, send=False))
    desk.run(0.1)
    assert {told(packet).level for packet in desk.io.sent} == {127}


# ---------------------------------------------------------------- relayed, protected


@pytest.mark.parametrize(
    ("theirs", "passed"),
    [
        (HeaderExtensions(receive_level=9), AudioLevel(5, voice=True)),
        (HeaderExtensions(receive_level=9, voice=False), AudioLevel(5)),
        (HeaderExtensions(), None),
        (HeaderExtensions(receive_level=2), None),
    ],
)
def test_of_what_is_relayed_goes_on_what_is_told_of_its_level_and_nothing_else(
    desk: Desk, theirs: HeaderExtensions, passed: AudioLevel | None
) -> None:
    timed = HeaderExtensions(send_time=7)
    for stream, extensions in ((1, theirs), (2, BOTH), (3, timed), (4, LEVEL)):
        desk.do(OpenStream(stream, HOST, "a@b"), describe(stream, extensions=extensions))
    row, other, talker = desk.row(2), desk.row(3), desk.row(4)
    desk.do(RouteStream(2, 1, relay=True), RouteStream(3, 1, relay=True))
    desk.feed(speech(1.0, 4), 4)
    said, begin = speech(1.0), desk.now
    extension = build_extension({9: b"\x85", 3: b"\x7f", 7: b"abc", 1: b"secret"})
    for n in range(50):
        payload = ulaw(said[n * 160 : (n + 1) * 160])
        desk.rtp(n, 160 * n, payload, at=begin + n * 0.02, extension=extension)
    desk.io.sent.clear()
    desk.run(0.9)
    relayed = [packet for packet in desk.io.sent if packet.row == row][2:]
    assert len(relayed) > 40
    for packet in relayed:
        if passed is None:
            assert not packet.extension
        else:
            assert set(elements(packet)) == {3, 7}
            assert told(packet) == passed
            sent_at = read_send_time(elements(packet)[7])
            assert sent_at == pytest.approx((1e9 + packet.at) % 64, abs=2**-18)
    assert b"".join(packet.payload for packet in relayed) in ulaw(said)
    assert {tuple(elements(packet)) for packet in desk.io.sent if packet.row == other} == {(7,)}
    assert len(check_levels([packet for packet in desk.io.sent if packet.row == talker])) >= 3
    stats = desk.stats(1)
    assert stats.level_received_dbfs is None, "it is not decoded"
    assert stats.level_told_dbov == (None if passed is None else -5)
    assert stats.voice_told == (passed.voice if passed and theirs.voice else None)
    desk.run(2.0)  # the source has fallen silent: silence of our own follows
    assert {told(p).level for p in desk.io.sent[-20:] if p.row == row} == {127}


def keys_of(encrypted: frozenset[int]) -> SrtpKeys:
    keys = SrtpKeys.generate("AES_CM_128_HMAC_SHA1_80", SeededRandom(5))
    return replace(keys, encrypted_extensions=encrypted)


def test_who_speaks_beside_what_is_relayed_and_recorded_tells_its_own_levels(desk: Desk) -> None:
    for stream in (1, 2, 3):
        desk.do(OpenStream(stream, HOST, "a@b"), describe(stream, extensions=LEVEL))
    desk.do(RouteStream(2, 1, relay=True), AddSink(2, desk.engine.arena.allocate(RATE), sent=True))
    desk.say(speech(1.0))
    desk.feed(speech(1.0, 3), 3)
    desk.run(1.0)
    assert len(check_levels([p for p in desk.io.sent if p.row == desk.row(3)])) >= 3
    assert not any(p.extension for p in desk.io.sent[-40:] if p.row == desk.row(2))


@pytest.mark.rfc("6904", "3")
@pytest.mark.parametrize("encrypted", [frozenset(), frozenset({3})], ids=["clear", "encrypted"])
def test_protected_streams_are_extended_too(desk: Desk, encrypted: frozenset[int]) -> None:
    keys = keys_of(encrypted)
    wire: list[bytes] = []
    keep = desk.io._keep

    def kept(row: int, packet: bytes) -> None:
        wire.append(packet)
        keep(row, packet)

    desk.io._keep = kept  # type: ignore[method-assign]
    desk.call(extensions=BOTH)
    desk.do(ProtectStream(1, keys, keys))
    desk.feed(speech(1.0))
    wire.clear()
    desk.io.sent.clear()
    desk.run(1.0)
    inbound, clear = Inbound(), 0
    inbound.rekey(keys, 0.0)
    for packet in wire:
        room = bytearray(packet) + bytes(64)
        length = inbound.unprotect(memoryview(room), len(packet), 0.0, rtcp=False)
        assert length == 12 + 12 + 160
        found = parse_extension(ONE_BYTE, bytes(room[16:24]))
        pcm = ULAW_DECODE[np.frombuffer(bytes(room[24:length]), np.uint8)]
        assert abs(AudioLevel.read(found[3]).level - level_of(pcm)) <= 0.501
        clear += parse_extension(ONE_BYTE, packet[16:24])[3] == found[3]
        assert parse_extension(ONE_BYTE, packet[16:24])[7] == found[7], "was not to be encrypted"
    assert len(wire) > 45
    assert clear < 5 if encrypted else clear == len(wire)


def test_levels_of_protected_streams_are_read(desk: Desk) -> None:
    keys = keys_of(frozenset({3}))
    other = Desk(native=desk.engine.native)
    wire: list[bytes] = []
    other.io._keep = lambda row, packet: wire.append(packet)  # type: ignore[method-assign]
    for one in (desk, other):
        one.call(extensions=LEVEL)
        one.do(ProtectStream(1, keys, keys))
    wire.clear()
    said = speech(0.5)
    other.feed(said)
    other.run(0.5)
    for n, packet in enumerate(wire):
        desk.put(packet, at=desk.now + n * 0.02)
    desk.run(0.7)
    stats = desk.stats()
    assert (stats.packets_forged, stats.packets_received) == (0, len(wire))
    assert stats.level_told_dbov == -round(level_of(said[-160:])) or stats.level_told_dbov == -127

"""Redundant audio in the engine (RFC 2198): heard, sent, relayed, protected, and malformed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
from engine_desk import (
    HOST,
    PCMA,
    PCMU,
    RATE,
    WAYS,
    Desk,
    Sent,
    assert_heard,
    describe,
    speech,
    ulaw,
    ulaw_round_trip,
)
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs.core import CodecFormat
from voip.codecs.red import MAX_BLOCKS, MAX_LENGTH, RedBlock, pack, unpack
from voip.codecs.registry import default_registry
from voip.errors import CodecError
from voip.media import native
from voip.media.adapter import MAX_PAYLOAD
from voip.media.commands import OpenStream, PayloadFormat, ProtectStream, RouteStream, SendDtmf
from voip.media.red_intake import read_blocks
from voip.rtp.srtp.keys import SrtpKeys
from voip.rtp.srtp.stream import Inbound
from voip.types import SeededRandom

pytestmark = pytest.mark.rfc("2198", "3")

RED = PayloadFormat(96, "red", fmtp="0/0")
HEARS = {"receive_redundancy": (RED,)}
SAYS = {"send_redundancy": PayloadFormat(97, "red", fmtp="0/0"), "redundancy": 1}
OPUS = PayloadFormat(111, "opus", 48000, 2)
G722 = PayloadFormat(9, "g722")


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(native=request.param)


def tell_apart(pcm: np.ndarray, size: int = 160) -> list[bytes]:
    return [ulaw(pcm[at : at + size]) for at in range(0, pcm.size - size + 1, size)]


def talk(seconds: float) -> np.ndarray:
    """Loud noise without a pause: no packet of it is like one of silence."""
    noise = np.random.default_rng(1).normal(0, 3000, int(seconds * RATE))
    return ulaw_round_trip(noise.astype(np.int16))


def redundant(payloads: list[bytes], n: int, generations: int = 1, span: int = 160) -> bytes:
    """Payload `n` of a talk after those before it, by the codec's own writer."""
    before = range(max(0, n - generations), n)
    blocks = [RedBlock(0, payloads[m], (n - m) * span) for m in before]
    return pack([*blocks, RedBlock(0, payloads[n])])


def say_red(
    desk: Desk, payloads: list[bytes], lost: Iterable[int] = (), generations: int = 1
) -> None:
    begin, gone = desk.now, set(lost)
    for n in range(len(payloads)):
        if n not in gone:
            desk.rtp(
                100 + n,
                16_000 + 160 * n,
                redundant(payloads, n, generations),
                at=begin + n * 0.02,
                payload_type=96,
            )


# ---------------------------------------------------------------- heard


@given(st.lists(st.binary(max_size=90), min_size=1, max_size=12))
def test_many_payloads_are_read_as_the_codec_reads_each(payloads: list[bytes]) -> None:
    data = np.zeros((len(payloads), 120), np.uint8)
    for row, payload in zip(data, payloads, strict=True):
        row[7 : 7 + len(payload)] = np.frombuffer(payload, np.uint8)
    size = np.array([len(payload) for payload in payloads])
    blocks = read_blocks(data, np.arange(size.size), np.full(size.size, 7), size)
    for n, payload in enumerate(payloads):
        try:
            *repeated, newest = unpack(payload)
        except CodecError:
            assert not blocks.valid[n]
            continue
        assert blocks.valid[n]
        assert blocks.count[n] == len(repeated)
        for turn, block in enumerate(repeated):
            start = int(blocks.offset[n, turn])
            assert (blocks.kind[n, turn], blocks.back[n, turn]) == (
                block.payload_type,
                block.offset,
            )
            assert data[n, start : start + int(blocks.size[n, turn])].tobytes() == block.payload
        start = int(blocks.newest_offset[n])
        assert blocks.newest_kind[n] == newest.payload_type
        assert data[n, start : start + int(blocks.newest_size[n])].tobytes() == newest.payload


def test_what_repeats_others_is_heard_like_what_does_not(desk: Desk) -> None:
    desk.call(**HEARS)
    said = speech(2.0)
    say_red(desk, tell_apart(said))
    desk.run(2.2)
    assert_heard(desk, said)
    stats = desk.stats()
    assert (stats.packets_received, stats.packets_lost, stats.packets_recovered) == (100, 0, 0)
    assert (stats.packets_discarded, stats.packets_duplicate, stats.blocks_ignored) == (0, 0, 0)
    assert stats.bytes_received == 100 * 165 + 99 * 160 + 99 * 4 - 100 * 4, "whole payloads"


@pytest.mark.parametrize("generations", [1, 2, 3])
def test_what_is_lost_is_heard_from_the_packets_after_it(desk: Desk, generations: int) -> None:
    desk.call(settings={"jitter_min_ms": 80.0}, **HEARS)
    said = speech(4.0)
    lost = {n for n in range(20, 190) if n % 10 < generations}
    say_red(desk, tell_apart(said), lost, generations)
    desk.run(4.2)
    assert_heard(desk, said, at_most_s=0.12)
    stats = desk.stats()
    assert stats.packets_recovered == len(lost)
    assert stats.packets_lost == len(lost), "lost is what did not come, as RFC 3550 counts it"
    assert stats.packets_late == stats.packets_duplicate == 0


def test_what_is_not_repeated_often_enough_stays_lost(desk: Desk) -> None:
    desk.call(settings={"jitter_min_ms": 80.0}, **HEARS)
    say_red(desk, tell_apart(speech(2.0)), lost={40, 41, 42}, generations=1)
    desk.run(0.5)
    begun = desk.stats().concealed_ms
    desk.run(1.3)
    stats = desk.stats()
    assert (stats.packets_recovered, stats.packets_lost) == (1, 3)
    assert stats.concealed_ms - begun == pytest.approx(40, abs=1)


def test_a_packet_that_is_only_late_was_neither_lost_nor_sent_twice(desk: Desk) -> None:
    """Packet 50 comes 5 ms after 51, which has repeated it."""
    desk.call(settings={"jitter_min_ms": 80.0}, **HEARS)
    said, begin = speech(2.0), desk.now
    payloads = tell_apart(said)
    say_red(desk, payloads, lost={50})
    late = redundant(payloads, 50)
    desk.rtp(150, 16_000 + 50 * 160, late, at=begin + 51 * 0.02 + 0.005, payload_type=96)
    desk.run(2.2)
    assert_heard(desk, said, at_most_s=0.12)
    stats = desk.stats()
    assert (stats.packets_recovered, stats.packets_lost, stats.packets_duplicate) == (0, 0, 0)
    assert stats.packets_reordered == 1
    assert stats.estimated_loss_rate == 0


def test_the_delay_grows_for_what_comes_by_the_next_packet_and_for_nothing_else(
    desk: Desk,
) -> None:
    """Packets of 60 ms at a delay of 30 ms: copies come too late, until they are waited for."""
    said = speech(12.0)
    payloads = tell_apart(said, 480)

    def delays(stream: int, lost: set[int]) -> tuple[float, float]:
        desk.call(stream, ptime_ms=60, **HEARS)
        begin = desk.now
        for n in range(len(payloads)):
            if n not in lost:
                payload = redundant(payloads, n, span=480)
                at = begin + n * 0.06
                desk.rtp(n, 480 * n, payload, at=at, payload_type=96, stream=stream)
        desk.run(2.0)
        before = desk.stats(stream).current_delay_ms
        desk.run(9.8)
        return before, desk.stats(stream).current_delay_ms

    never = delays(1, set())
    assert never[1] == pytest.approx(never[0], abs=1)
    often = delays(2, {n for n in range(50, 190) if n % 7 == 0})
    assert often[0] == pytest.approx(never[0], abs=1)
    assert 55 < often[1] < 90
    stats = desk.stats(2)
    assert stats.packets_lost == 20
    assert stats.packets_recovered >= 15


def test_blocks_that_were_not_agreed_on_are_ignored_and_counted(desk: Desk) -> None:
    """Of a type that nobody named, of digits, of RED once more, and of the packet's own moment."""
    desk.call(**HEARS)
    said, begin = speech(1.0), desk.now
    for n, payload in enumerate(tell_apart(said)):
        blocks = [RedBlock(55, b"\1" * 20, 160), RedBlock(101, bytes(4), 160)]
        blocks += [RedBlock(96, b"\0", 160), RedBlock(0, payload, 0), RedBlock(8, b"", 160)]
        whole = pack([*blocks, RedBlock(0, payload)])
        desk.rtp(n, 160 * n, whole, at=begin + n * 0.02, payload_type=96)
    desk.run(1.2)
    assert_heard(desk, said)
    stats = desk.stats()
    assert (stats.blocks_ignored, stats.packets_recovered) == (3 * 50, 0)


def test_a_packet_of_its_own_kind_or_of_none_is_discarded(desk: Desk) -> None:
    desk.call(**HEARS)
    inner = pack([RedBlock(0, bytes(160))])
    for n, payload in enumerate(
        (pack([RedBlock(96, inner)]), pack([RedBlock(55, bytes(20))]), b"\x80\0\0", b"\xff" * 90)
    ):
        desk.rtp(n, 160 * n, payload, payload_type=96)
    desk.run(0.2)
    assert desk.stats().packets_discarded == 4
    assert desk.heard().max() == 0


def test_red_that_was_not_agreed_on_is_unknown(desk: Desk) -> None:
    desk.call()
    say_red(desk, tell_apart(speech(0.2)))
    desk.run(0.4)
    assert desk.stats().packets_discarded == 10


def test_digits_may_come_within_a_packet_that_repeats(desk: Desk) -> None:
    desk.call(**HEARS)
    for n in range(6):
        event = bytes((5, 0x80 if n > 2 else 0)) + (160 * (n + 1)).to_bytes(2, "big")
        payload = pack([RedBlock(0, b"\xff" * 160, 160), RedBlock(101, event)])
        desk.rtp(100 + n, 16_000, payload, at=desk.now + 0.02 * n, payload_type=96)
    desk.run(0.5)
    assert [event.digit for event in desk.of(_digit())] == ["5"]


def _digit() -> type:
    from voip.media.answers import DtmfReceived

    return DtmfReceived


@pytest.mark.parametrize("name", ["opus", "g722"])
def test_codecs_that_remember_hear_what_was_lost_as_if_it_had_come(desk: Desk, name: str) -> None:
    format_ = {"opus": OPUS, "g722": G722}[name]
    red = PayloadFormat(96, "red", format_.clock_rate, format_.channels)
    encoder = default_registry().create(CodecFormat(name, format_.clock_rate, format_.channels))
    samples = encoder.info.sample_rate // 50
    n = np.arange(150 * samples)
    pcm = (9000 * np.sin(n * 0.3 * 8000 / encoder.info.sample_rate)).astype(np.int16)
    payloads = [encoder.encode(part) for part in pcm.reshape(-1, samples)]
    span = format_.clock_rate // 50
    lost = {n for n in range(30, 140) if n % 8 == 0}
    heard = []
    for stream, gone in ((1, set()), (2, lost)):
        desk.call(
            stream,
            settings={"jitter_min_ms": 80.0, "jitter_max_ms": 80.0},
            send_format=format_,
            receive_formats=(format_,),
            receive_redundancy=(red,),
        )
        begin = desk.now
        for at, payload in enumerate(payloads):
            if at in gone:
                continue
            blocks = [RedBlock(format_.payload_type, payload)]
            if at:
                blocks.insert(0, RedBlock(format_.payload_type, payloads[at - 1], span))
            desk.rtp(
                at, span * at, pack(blocks), at=begin + at * 0.02, stream=stream, payload_type=96
            )
        desk.run(3.2)
        heard.append(desk.heard(stream))
    size = min(part.size for part in heard)
    assert np.array_equal(heard[0][:size], heard[1][:size])
    assert np.abs(heard[0]).max() > 5000
    assert desk.stats(2).packets_recovered == len(lost)


# ---------------------------------------------------------------- sent


def sent_of(desk: Desk, row: int) -> list[Sent]:
    return [packet for packet in desk.io.sent if packet.row == row]


def check_repeats(packets: list[Sent], generations: int, span: int = 160) -> int:
    """Each packet repeats those before it, octet by octet; return how many blocks that were."""
    newest: list[tuple[int, bytes]] = []
    repeated = 0
    for packet in packets:
        if packet.payload_type != 97:
            newest.append((packet.timestamp, packet.payload))
            continue
        *blocks, own = unpack(packet.payload)
        for back, block in enumerate(reversed(blocks), 1):
            stamp, payload = newest[-back]
            assert (block.offset, block.payload) == (packet.timestamp - stamp, payload)
            assert block.payload_type == own.payload_type
        assert len(blocks) == min(generations, len(newest))
        assert packet.timestamp - newest[-1][0] == span
        newest.append((packet.timestamp, own.payload))
        repeated += len(blocks)
    return repeated


@pytest.mark.parametrize("generations", [1, 2, 4])
def test_packets_repeat_those_before_them(desk: Desk, generations: int) -> None:
    row = desk.call(**SAYS | {"redundancy": generations})
    said = speech(1.0)
    desk.feed(said)
    desk.run(1.2)
    packets = sent_of(desk, row)
    assert packets[0].payload_type == 0, "nothing is repeated by the first"
    assert {packet.payload_type for packet in packets[1:]} == {97}
    assert check_repeats(packets, generations) > generations * (len(packets) - generations - 1)
    own = b"".join(p.payload[-160:] for p in packets)
    assert ulaw(said) in own
    numbers = [packet.sequence for packet in packets]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert desk.stats().bytes_sent == sum(len(packet.payload) for packet in packets)


def test_many_rows_repeat_their_own_whatever_their_codecs_and_lengths(desk: Desk) -> None:
    formats = (PCMU, PCMA, G722, OPUS)
    rows = []
    for stream in range(1, 13):
        format_ = formats[stream % 4]
        red = PayloadFormat(97, "red", format_.clock_rate, format_.channels)
        rows.append(
            desk.call(
                stream,
                send_format=format_,
                receive_formats=(format_,),
                ptime_ms=20 if stream % 3 else 40,
                send_redundancy=red if stream > 2 else None,
                redundancy=stream % 3 + 1,
            )
        )
        desk.feed(speech(1.0, stream), stream)
    desk.run(1.0)
    for stream, row in enumerate(rows, 1):
        packets = sent_of(desk, row)
        assert len(packets) > 20
        if stream <= 2:
            assert {packet.payload_type for packet in packets} == {formats[stream % 4].payload_type}
            continue
        clock = formats[stream % 4].clock_rate
        span = clock // (50 if stream % 3 else 25)
        assert check_repeats(packets, stream % 3 + 1, span) > 20


def test_what_does_not_fit_a_packet_or_a_header_is_not_repeated(desk: Desk) -> None:
    """L16 of 20 ms: 640 octets at 16 kHz, twice is the most; 1,280 at 32 kHz... is one packet."""
    wide = PayloadFormat(98, "l16", 16000)
    red = PayloadFormat(97, "red", 16000)
    row = desk.call(send_format=wide, receive_formats=(wide,), send_redundancy=red, redundancy=4)
    desk.feed(speech(0.4))
    desk.run(0.5)
    packets = sent_of(desk, row)
    assert {len(packet.payload) for packet in packets[1:]} == {4 + 1 + 2 * 640}
    assert max(len(packet.payload) for packet in packets) <= MAX_PAYLOAD
    long = desk.call(2, ptime_ms=120, **SAYS | {"redundancy": 4})
    desk.feed(speech(1.0), 2)
    desk.run(1.0)
    sizes = [len(packet.payload) for packet in sent_of(desk, long)]
    assert max(sizes) == 960 + 4 + 1 or max(sizes) == 960, sizes
    assert 2 * 960 > MAX_PAYLOAD > MAX_LENGTH


def test_digits_go_beside_what_is_repeated(desk: Desk) -> None:
    row = desk.call(**SAYS)
    desk.feed(speech(1.5))
    desk.run(0.3)
    desk.do(SendDtmf(1, "7"))
    desk.run(1.0)
    packets = sent_of(desk, row)
    kinds = [kind for kind, _ in itertools.groupby(packet.payload_type for packet in packets)]
    assert kinds == [0, 97, 101, 97]
    after = next(
        packet
        for before, packet in itertools.pairwise(packets)
        if before.payload_type == 101 and packet.payload_type == 97
    )
    *repeated, _ = unpack(after.payload)
    digit_packets = sum(packet.payload_type == 101 for packet in packets)
    assert [block.offset for block in repeated] == [160 * (digit_packets + 1)]


def test_a_new_description_begins_anew_and_may_end_it(desk: Desk) -> None:
    row = desk.call(**SAYS)
    desk.feed(speech(2.0))
    desk.run(0.3)
    desk.do(describe(**SAYS | {"send_format": PCMA}))
    desk.run(0.3)
    desk.do(describe())
    desk.run(0.3)
    kinds = [(packet.payload_type, len(packet.payload)) for packet in sent_of(desk, row)]
    assert [kind for kind, _ in itertools.groupby(kinds)] == [
        (0, 160),
        (97, 325),
        (8, 160),
        (97, 325),
        (0, 160),
    ]
    assert not desk.engine._table.transmitter.red.used


@pytest.mark.parametrize("library", [True, False])
def test_protected_streams_repeat_too(desk: Desk, library: bool) -> None:
    row = desk.call(**SAYS)
    keys = SrtpKeys.generate("AES_CM_128_HMAC_SHA1_80", SeededRandom(3))
    desk.do(ProtectStream(1, send=keys, receive=keys))
    desk.feed(speech(0.5))
    begin = len(sent_of(desk, row))
    desk.run(0.5)
    if library:
        pytest.importorskip("pylibsrtp")
    inbound = Inbound(library=library)
    inbound.rekey(keys, desk.now)
    clear = []
    for packet in sent_of(desk, row)[begin:]:
        header = bytes((0x80, packet.payload_type | packet.marker << 7))
        header += packet.sequence.to_bytes(2, "big") + packet.timestamp.to_bytes(4, "big")
        whole = bytearray(header + packet.ssrc.to_bytes(4, "big") + packet.payload)
        length = inbound.unprotect(memoryview(whole), len(whole), desk.now, rtcp=False)
        assert length > 0
        octets = bytes(whole[12:length])
        clear.append(Sent(0, row, False, packet.payload_type, packet.sequence, packet.timestamp,
                          packet.ssrc, octets))  # fmt: skip
    assert check_repeats(clear, 1) >= 23


# ---------------------------------------------------------------- relayed


def joined(desk: Desk, one: dict, two: dict) -> tuple[int, int]:
    for stream, described in ((1, one), (2, two)):
        desk.do(OpenStream(stream, HOST, f"{stream}@{HOST}"))
        desk.do(describe(stream, **described))
    desk.do(RouteStream(1, 2, relay=True), RouteStream(2, 1, relay=True))
    return desk.row(1), desk.row(2)


def test_what_is_relayed_repeats_no_more_and_lacks_nothing(desk: Desk) -> None:
    """From a leg with RED to one without: copies stand for what was lost on the first."""
    _, row = joined(desk, HEARS, {})
    payloads = tell_apart(talk(2.0))
    say_red(desk, payloads, lost={40, 50, 60})
    desk.run(2.2)
    packets = [packet for packet in sent_of(desk, row) if set(packet.payload) != {0xFF}]
    assert {packet.payload_type for packet in packets} == {0}
    packets.sort(key=lambda packet: packet.sequence)
    numbers = [packet.sequence for packet in packets]
    assert len(set(numbers)) == len(numbers)
    sent = [packet.payload for packet in packets]
    begin = sent.index(payloads[30])
    assert sent[begin : begin + 50] == payloads[30:80]
    stamps = [packet.timestamp for packet in packets[begin : begin + 50]]
    assert set(np.diff(stamps)) == {160}


def test_what_is_relayed_to_a_leg_with_redundancy_repeats(desk: Desk) -> None:
    _, row = joined(desk, {}, SAYS)
    said = talk(2.0)
    desk.say(said)
    desk.run(2.2)
    packets = [packet for packet in sent_of(desk, row) if packet.payload_type == 97]
    payloads = tell_apart(said)
    relayed = 0
    for packet in packets:
        first, own = unpack(packet.payload)
        if own.payload in payloads[1:]:
            at = payloads.index(own.payload)
            relayed += first.payload == payloads[at - 1]
    assert relayed > 80


# ---------------------------------------------------------------- malformed


BLOCK = st.tuples(
    st.sampled_from([0, 8, 9, 55, 96, 101, 111]),
    st.sampled_from([0, 1, 160, 320, 960, 16_383]),
    st.sampled_from([0, 1, 20, 160, 1023]),
)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.lists(BLOCK, min_size=1, max_size=MAX_BLOCKS).map(
                lambda blocks: pack([RedBlock(k, bytes([n]) * size, b) for n, (k, b, size)
                                     in enumerate(blocks)])
            ),
        ).map(lambda payload: payload[:1500]),
        min_size=1,
        max_size=30,
    ),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
@examples(60)
def test_whatever_comes_as_red_harms_nobody(payloads: list[bytes], coded: bool, in_c: bool) -> None:
    """Another stream is heard all the while, and what is read is bounded by what was sent."""
    desk = Desk(native=in_c and native.available())
    formats = (OPUS, PCMU, G722) if coded else (PCMU, PCMA)
    red = tuple(PayloadFormat(96, "red", f.clock_rate) for f in formats[:1])
    desk.call(1, send_format=formats[0], receive_formats=formats, receive_redundancy=red)
    desk.call(2)
    said, begin = speech(1.0), desk.now
    desk.say(said, stream=2)
    step = 960 if coded else 160
    for n, payload in enumerate(payloads):
        desk.rtp(n, step * n, payload, at=begin + 0.02 * n, payload_type=96)
    desk.run(1.2)
    assert_heard(desk, said, 2)
    stats = desk.stats()
    assert stats.packets_received + stats.packets_discarded <= len(payloads)
    assert 0 <= stats.packets_recovered <= len(payloads) * (MAX_BLOCKS - 1)
    assert desk.engine._table.playout.ring.count[desk.row()] <= 64

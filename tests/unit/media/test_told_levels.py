"""Levels that packets tell us (RFC 6464), by header extensions of any kind (RFC 8285)."""

from __future__ import annotations

import numpy as np
import pytest
from engine_desk import DTMF, PCMA, PCMU, WAYS, Desk, assert_heard, describe, speech, ulaw
from hypothesis import given
from hypothesis import strategies as st
from test_native import Pair

from voip.errors import RtpError
from voip.media import native
from voip.media.commands import (
    CloseStream,
    HeaderExtensions,
    MuteStream,
    PayloadFormat,
    RouteStream,
    SendDtmf,
)
from voip.media.extensions import ToldLevels
from voip.rtp.extensions import ONE_BYTE, TWO_BYTE, build_extension, parse_extension
from voip.rtp.packet import pack_header

pytestmark = [pytest.mark.rfc("6464", "3"), pytest.mark.rfc("8285", "4")]

LEVEL = HeaderExtensions(send_level=3, receive_level=3)
OPUS = PayloadFormat(111, "opus", 48000, 2)
G722 = PayloadFormat(9, "g722")
C = pytest.mark.skipif(not native.available(), reason="no C")


@pytest.fixture(params=WAYS)
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(native=request.param)


def say(desk: Desk, n: int, extension: bytes, *, at: float | None = None) -> None:
    desk.rtp(n, 160 * n, ulaw(speech(0.02, n)), extension=extension, at=at)


def test_the_level_of_the_last_packet_is_told(desk: Desk) -> None:
    desk.call(extensions=LEVEL)
    assert (desk.stats().level_told_dbov, desk.stats().voice_told) == (None, None)
    for n, (octet, two_byte) in enumerate([(0x85, False), (0x00, True), (0x7F, False), (0xFF, 1)]):
        say(desk, n, build_extension({1: b"x", 3: bytes((octet,)), 9: b"yz"}, two_byte=two_byte))
        desk.run(0.02)
        stats = desk.stats()
        assert (stats.level_told_dbov, stats.voice_told) == (-(octet & 127), octet > 127)
    say(desk, 6, build_extension({3: b"\x10"}))
    say(desk, 5, build_extension({3: b"\x20"}))  # sent before it, and too late to tell of anything
    say(desk, 7, b"")
    desk.run(0.02)
    assert desk.stats().level_told_dbov == -16, "as long as no other is told"
    desk.do(describe(extensions=HeaderExtensions(receive_level=3, voice=False)))
    stats = desk.stats()
    assert (stats.level_told_dbov, stats.voice_told) == (-16, None)
    desk.do(describe(extensions=HeaderExtensions(receive_level=4)))
    assert desk.stats().level_told_dbov is None, "that was another extension"


def test_sound_with_extensions_is_heard_like_sound_without(desk: Desk) -> None:
    desk.call(extensions=LEVEL)
    said, begin = speech(2.0), desk.now
    for n in range(100):
        payload = ulaw(said[n * 160 : (n + 1) * 160])
        extension = build_extension({3: bytes((n,)), 5: bytes(n % 16 + 1)}, two_byte=n % 2 > 0)
        desk.rtp(n, 160 * n, payload, at=begin + n * 0.02, extension=extension)
    desk.run(2.2)
    assert_heard(desk, said)
    stats = desk.stats()
    assert (stats.packets_received, stats.packets_lost, stats.packets_discarded) == (100, 0, 0)
    assert stats.bytes_received == 100 * 160
    assert stats.level_told_dbov == -99


@pytest.mark.parametrize(
    "extension",
    [
        "abac0001 30050000",  # another profile
        "bede0001 20050000",  # another number
        "bede0001 f0003005",  # behind an element that ends reading
        "bede0001 3f050000",  # longer than the extension
        "10000001 03050000",
        "10000001 03000000",  # empty
        "10000001 00000003",  # without its length
        "bede0000",
        "bede0012" + 68 * "00" + "30050000",  # behind more padding than is read
        "10000012" + 68 * "00" + "03010500",
    ],
)
def test_what_tells_nothing_is_passed_over(desk: Desk, extension: str) -> None:
    desk.call(extensions=LEVEL)
    for n in range(5):
        say(desk, n, bytes.fromhex(extension), at=desk.now + n * 0.02)
    desk.run(0.2)
    stats = desk.stats()
    assert (stats.packets_received, stats.packets_discarded) == (5, 0)
    assert stats.level_told_dbov is None


def test_behind_contributing_sources_and_before_padding_it_is_read(desk: Desk) -> None:
    desk.call(extensions=LEVEL)
    header = pack_header(0, 1, 160, 0xABCD)
    extension = bytes.fromhex("bede0001 00308800")
    packet = bytes((0xB2,)) + header[1:] + bytes(8) + extension + bytes(160) + b"\0\0\3"
    desk.put(packet)
    desk.run(0.02)
    stats = desk.stats()
    assert (stats.packets_received, stats.bytes_received) == (1, 160)
    assert (stats.level_told_dbov, stats.voice_told) == (-8, True)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 255), st.sampled_from([ONE_BYTE, TWO_BYTE, 7]), st.binary(max_size=40)
        ),
        min_size=1,
        max_size=8,
    )
)
def test_many_are_read_as_each_would_be(packets: list[tuple[int, int, bytes]]) -> None:
    levels, data = ToldLevels(len(packets)), np.zeros((len(packets), 80), np.uint8)
    expected = []
    for row, (number, profile, body) in enumerate(packets):
        body += bytes(-len(body) % 4)
        whole = profile.to_bytes(2, "big") + (len(body) // 4).to_bytes(2, "big") + body
        packet = bytes((0x90,)) + bytes(11) + whole
        data[row, : len(packet)] = np.frombuffer(packet, np.uint8)
        levels.agree(row, number, voice=True)
        expected.append(first_of(profile, body, number))
    rows = np.arange(len(packets))
    assert levels.read(rows, data, rows).tolist() == expected


def first_of(profile: int, body: bytes, number: int) -> int:
    """The first octet of the first element of a number, by the parser; -1: there is none."""
    for end in range(len(body) + 1):  # the shortest beginning that has it
        try:
            found = parse_extension(profile, body[:end]).get(number)
        except RtpError:
            continue
        if found:
            return found[0]
    return -1


# ---------------------------------------------------------------- in C as in arrays


@C
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_both_come_to_the_same_with_extensions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pair = Pair()
    formats = (PCMU, PCMA, DTMF, G722, OPUS)
    for stream in range(1, 13):
        extensions = HeaderExtensions(
            send_level=int(rng.choice([0, 3, 200])),
            send_time=int(rng.choice([0, 7, 15])),
            receive_level=int(rng.choice([0, 3, 9])),
            voice=bool(rng.integers(2)),
        )
        ptime_ms = int(rng.choice([10, 20, 30])) if stream % 4 < 2 else 20
        pair.each(
            "call", stream, send_format=[PCMU, PCMA, G722, OPUS][stream % 4],
            receive_formats=formats, ptime_ms=ptime_ms, extensions=extensions,
        )  # fmt: skip
        if stream % 3:
            pair.each("do", RouteStream(stream, stream))
        else:
            pair.each("feed", speech(2.0, 100 + stream), stream)
        begin, pcm = pair.desks[0].now, speech(2.0, stream)
        for n in range(100):
            header = pack_header(9 if stream % 4 == 2 else 0, n, 160 * n, stream)
            whole = bytes((0x90,)) + header[1:] + any_extension(rng)
            at = begin + n * 0.02 + float(rng.exponential(0.003))
            if rng.random() < 0.97:
                packet = whole + ulaw(pcm[n * 160 : (n + 1) * 160])
                pair.each("put", packet, at=at, stream=stream)
    pair.run(0.5)
    pair.each("do", SendDtmf(4, "12"), MuteStream(6, True))
    pair.run(0.5)
    pair.each("do", describe(8, extensions=HeaderExtensions(send_time=1)), CloseStream(7))
    pair.run(1.2)
    assert pair.taken > 0.6 * 12 * 97, "by the part in C"
    octets = pair.desks[0].engine._table.told.octet
    assert len(set(octets.tolist()) - {-1}) > 4
    assert pair.compared > 1e6


def any_extension(rng: np.random.Generator) -> bytes:
    """Mostly as it should be, and at times just octets."""
    if rng.random() < 0.2:
        words, profile = int(rng.integers(0, 6)), int(rng.choice([ONE_BYTE, TWO_BYTE, 5]))
        return profile.to_bytes(2, "big") + words.to_bytes(2, "big") + rng.bytes(4 * words)
    numbers = rng.permutation([1, 3, 9, 14])[: rng.integers(1, 5)].tolist()
    found = {number: rng.bytes(int(rng.integers(1, 5))) for number in numbers}
    return build_extension(found, two_byte=bool(rng.integers(2)))

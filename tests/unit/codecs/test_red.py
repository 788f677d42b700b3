"""Redundant audio: payloads as RFC 2198 draws them, and a packet's loss that is not heard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.codecs.core import Codec, CodecFormat, FecCodec
from voip.codecs.g711 import Law
from voip.codecs.g711_codec import g711_codec
from voip.codecs.red import MAX_BLOCKS, MAX_LENGTH, MAX_OFFSET, RedBlock, RedCodec, pack, unpack
from voip.codecs.registry import default_registry
from voip.errors import CodecError

pytestmark = pytest.mark.rfc("2198", "3")

NAMES = ["pcmu", "g722", "ilbc", "l16"]


def codec_of(name: str) -> Codec:
    return default_registry().create(CodecFormat(name))


def sound(packets: int, samples: int = 160) -> np.ndarray:
    n = np.arange(packets * samples)
    return (9000 * np.sin(n * (0.05 + n / 2e6))).astype(np.int16).reshape(packets, samples)


# ---------------------------------------------------------------- payloads


def test_the_headers_are_as_the_rfc_draws_them() -> None:
    # Section 4: a DVI4 primary (type 5) and an LPC repetition (type 7) of 14 octets, 20 ms earlier
    payload = pack([RedBlock(7, bytes(range(14)), 160), RedBlock(5, b"\xaa" * 84)])
    word = int.from_bytes(payload[:4], "big")
    assert (word >> 31, word >> 24 & 127, word >> 10 & 0x3FFF, word & 0x3FF) == (1, 7, 160, 14)
    assert payload[4] == 5, "the last header is one octet, its first bit 0"
    assert payload[5:19] == bytes(range(14))
    assert payload[19:] == b"\xaa" * 84
    assert len(payload) == 4 + 1 + 14 + 84


BLOCKS = st.builds(
    RedBlock, st.integers(0, 127), st.binary(max_size=60), st.integers(0, MAX_OFFSET)
)


@given(st.lists(BLOCKS, max_size=MAX_BLOCKS - 1), st.integers(0, 127), st.binary(max_size=2000))
def test_blocks_survive_a_payload(repeated: list[RedBlock], type_: int, newest: bytes) -> None:
    blocks = (*repeated, RedBlock(type_, newest))
    assert unpack(pack(blocks)) == blocks


@given(st.binary(max_size=200))
def test_any_octets_are_blocks_or_a_codec_error(payload: bytes) -> None:
    try:
        blocks = unpack(payload)
    except CodecError:
        return
    assert sum(len(block.payload) for block in blocks) == len(payload) - 4 * len(blocks) + 3
    assert pack(blocks) == payload


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "empty"),
        (b"\x80", "ends within its headers"),
        (b"\x80\x00\x00\x00", "ends within its headers"),
        (b"\x80\x00\x00\x05\x00abcd", "4 octets are left for a block of 5"),
        (b"\x80\x00\x00\x00" * 16 + b"\x00", "more than 16 blocks"),
        (b"\x80" * 100_000, "more than 16 blocks"),
    ],
)
def test_malformed_payloads_are_refused(payload: bytes, why: str) -> None:
    with pytest.raises(CodecError, match=why):
        unpack(payload)


def test_what_cannot_be_told_is_refused() -> None:
    for arguments in ((128, b""), (-1, b""), (0, b"", MAX_OFFSET + 1), (0, b"", -1)):
        with pytest.raises(CodecError):
            RedBlock(*arguments)
    newest = RedBlock(0, b"")
    for blocks in ([], [newest] * 17, [RedBlock(0, bytes(MAX_LENGTH + 1)), newest]):
        with pytest.raises(CodecError):
            pack(blocks)
    for depth in (0, MAX_BLOCKS):
        with pytest.raises(CodecError):
            RedCodec(g711_codec(Law.ULAW), 0, depth)


# ---------------------------------------------------------------- around a codec


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_frame_is_heard_from_the_packet_after_it(name: str) -> None:
    codec, plain = RedCodec(codec_of(name), 96), codec_of(name)
    assert isinstance(codec, FecCodec)
    samples = codec.info.sample_rate * codec.info.ptime_ms // 1000
    packets = [codec.encode(frame) for frame in sound(6, samples)]
    plain_packets = [plain.encode(frame) for frame in sound(6, samples)]
    heard = [
        codec.decode(packets[0]),
        codec.decode(packets[1]),
        codec.decode_fec(packets[3], samples),
        codec.decode(packets[3]),
        codec.decode_fec(packets[5]),
        codec.decode(packets[5]),
    ]
    expected = [plain.decode(payload) for payload in plain_packets]
    np.testing.assert_array_equal(np.concatenate(heard), np.concatenate(expected))


def test_what_is_repeated_is_told_in_the_clock_of_rtp() -> None:
    codec = RedCodec(codec_of("g722"), 9, depth=2)
    frames = sound(3, 320)
    first, _, third = (unpack(codec.encode(frame)) for frame in frames)
    assert [len(first), *(block.offset for block in third)] == [1, 320, 160, 0]
    assert [block.payload_type for block in third] == [9, 9, 9]


def test_two_lost_frames_need_two_repetitions() -> None:
    frames = sound(4)
    deep, shallow = (RedCodec(g711_codec(Law.ULAW), 0, depth) for depth in (2, 1))
    plain = g711_codec(Law.ULAW)
    for codec, first in ((deep, frames[1]), (shallow, np.zeros(160, np.int16))):
        last = [codec.encode(frame) for frame in frames][-1]
        heard = codec.decode_fec(last, 320)
        expected = np.concatenate([first, frames[2]])
        expected[expected != 0] = plain.decode(plain.encode(expected))[expected != 0]
        np.testing.assert_array_equal(heard[:320], expected)
        assert codec.decode_fec(last, 80).size == 80
        assert codec.decode_fec(last, 0).size == 0


def test_other_types_and_broken_repetitions_are_passed_over() -> None:
    codec = RedCodec(codec_of("ilbc"), 97)
    frame = np.ones(240, np.int16)
    good = codec.encode(frame)
    payload = unpack(good)[-1].payload
    strange = pack([RedBlock(0, payload, 240), RedBlock(97, b"?", 240), RedBlock(97, payload)])
    assert codec.decode_fec(strange, 240).size == 240, "concealed"
    assert codec.decode(strange).size == 240
    assert codec.decode_fec(good).size == 0, "it repeats nothing"
    with pytest.raises(CodecError, match="of type 0, not 97"):
        codec.decode(pack([RedBlock(0, payload)]))
    with pytest.raises(CodecError, match="cannot recover -1"):
        codec.decode_fec(good, -1)


def test_what_no_header_can_tell_is_not_repeated() -> None:
    codec = RedCodec(codec_of("l16"), 96)
    long = np.ones(600, np.int16)  # 1200 octets
    codec.encode(long)
    assert len(unpack(codec.encode(long))) == 1
    codec = RedCodec(g711_codec(Law.ULAW), 0, depth=15)
    for _ in range(20):
        payload = codec.encode(np.ones(1000, np.int16))
    assert max(block.offset for block in unpack(payload)) == 15_000
    codec = RedCodec(g711_codec(Law.ULAW), 0, depth=15)
    for _ in range(20):
        payload = codec.encode(np.ones(1020, np.int16))
    assert len(unpack(payload)) == 16
    codec.reset()
    assert len(unpack(codec.encode(np.ones(160, np.int16)))) == 1


def test_a_refused_frame_leaves_no_trace() -> None:
    codec, twin = (RedCodec(codec_of("ilbc"), 97) for _ in range(2))
    frame = sound(1, 240)[0]
    assert codec.encode(frame) == twin.encode(frame)
    with pytest.raises(CodecError):
        codec.encode(frame[:7])
    with pytest.raises(CodecError):
        codec.encode_into(frame, np.empty(80, np.uint8))
    with pytest.raises(CodecError):
        codec.encode_into(frame, np.empty(3, np.uint8))
    assert codec.encode(frame) == twin.encode(frame)


@given(payload=st.binary(max_size=400), lost=st.integers(0, 2000))
def test_any_payload_is_sound_of_its_length_or_a_codec_error(payload: bytes, lost: int) -> None:
    codec = RedCodec(codec_of("ilbc"), payload[0] & 127 if payload else 0)
    for work in (lambda: codec.decode(payload), lambda: codec.decode_fec(payload)):
        try:
            assert work().dtype == np.int16
        except CodecError:
            continue
    try:
        assert codec.decode_fec(payload, lost).size == lost
    except CodecError:
        with pytest.raises(CodecError):
            unpack(payload)

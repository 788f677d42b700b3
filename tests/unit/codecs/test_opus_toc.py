"""What Opus packets say of themselves: by RFC 6716 section 3, and by libopus' own parser."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from voip.codecs.opus.binding import LibOpus, candidates
from voip.codecs.opus.codec import OpusCodec
from voip.codecs.opus.settings import OpusSettings
from voip.codecs.opus.toc import MAX_PAYLOAD, Bandwidth, Mode, Packet, read_packet
from voip.errors import CodecError

pytestmark = pytest.mark.rfc("6716", "3")

TABLE_2 = [
    (range(4), Mode.SILK, Bandwidth.NARROW, (10, 20, 40, 60)),
    (range(4, 8), Mode.SILK, Bandwidth.MEDIUM, (10, 20, 40, 60)),
    (range(8, 12), Mode.SILK, Bandwidth.WIDE, (10, 20, 40, 60)),
    (range(12, 14), Mode.HYBRID, Bandwidth.SUPER_WIDE, (10, 20)),
    (range(14, 16), Mode.HYBRID, Bandwidth.FULL, (10, 20)),
    (range(16, 20), Mode.CELT, Bandwidth.NARROW, (2.5, 5, 10, 20)),
    (range(20, 24), Mode.CELT, Bandwidth.WIDE, (2.5, 5, 10, 20)),
    (range(24, 28), Mode.CELT, Bandwidth.SUPER_WIDE, (2.5, 5, 10, 20)),
    (range(28, 32), Mode.CELT, Bandwidth.FULL, (2.5, 5, 10, 20)),
]


def head(config: int, stereo: int = 0, code: int = 0) -> bytes:
    return bytes([config << 3 | stereo << 2 | code])


@pytest.mark.parametrize(("configs", "mode", "bandwidth", "durations"), TABLE_2)
def test_table_2(
    configs: range, mode: Mode, bandwidth: Bandwidth, durations: tuple[float, ...]
) -> None:
    for config, frame_ms in zip(configs, durations, strict=True):
        packet = read_packet(head(config) + b"\0")
        assert (packet.mode, packet.bandwidth, packet.frame_ms) == (mode, bandwidth, frame_ms)
        assert packet.duration_ms == frame_ms
        assert not packet.stereo
        assert read_packet(head(config, stereo=1)).stereo


@pytest.mark.parametrize(
    ("payload", "expected", "duration_ms"),
    [
        (head(1) + bytes(9), Packet(1, False, (9,), 1), 20),  # figure 8
        (head(29, code=1) + bytes(8), Packet(29, False, (4, 4), 1), 10),  # figure 9
        (head(15, code=3) + b"\x82\x03" + bytes(8), Packet(15, False, (3, 5), 3), 40),  # figure 10
        (head(31, 1, 3) + b"\x04" + bytes(12), Packet(31, True, (3, 3, 3, 3), 2), 80),  # figure 11
        (head(1, code=2) + b"\x02" + bytes(7), Packet(1, False, (2, 5), 2), 40),
        (head(1, code=2) + b"\x00", Packet(1, False, (0, 0), 2), 40),  # the valid one of 2 octets
        (head(1), Packet(1, False, (0,), 1), 20),  # DTX
        (head(1, code=2) + b"\xfc\x3f" + bytes(600), Packet(1, False, (504, 96), 3), 40),
        (head(1, code=3) + b"\x42\x03" + bytes(4 + 3), Packet(1, False, (2, 2), 3), 40),
        # 256 octets of padding: 2 for its length and 254, as section 3.2.5 counts them
        (head(1, code=3) + b"\x41\xff\x00" + bytes(5 + 254), Packet(1, False, (5,), 4), 20),
        (head(16, code=3) + b"\x30" + bytes(48), Packet(16, False, (1,) * 48, 2), 120),
    ],
)
def test_frames_are_where_the_rfc_has_them(
    payload: bytes, expected: Packet, duration_ms: float
) -> None:
    packet = read_packet(payload)
    assert packet == expected
    assert packet.duration_ms == duration_ms
    assert read_packet(memoryview(payload)) == packet


@pytest.mark.parametrize(
    ("rule", "payload"),
    [
        ("R1", b""),
        ("R2", head(1) + bytes(1276)),
        ("R2", head(1, code=1) + bytes(2 * 1276)),
        ("R2", head(1, code=2) + b"\x01" + bytes(1 + 1276)),
        ("R2", head(1, code=3) + b"\x01" + bytes(1276)),
        ("R3", head(1, code=1) + bytes(7)),
        ("R4", head(1, code=2)),
        ("R4", head(1, code=2) + b"\xfc"),
        ("R4", head(1, code=2) + b"\x01"),
        ("R4", head(1, code=2) + b"\xfb"),
        ("R5", head(1, code=3) + b"\x00"),
        ("R5", head(16, code=3) + b"\x31" + bytes(49)),
        ("R5", head(3, code=3) + b"\x03" + bytes(3)),
        ("R6", head(1, code=3)),
        ("R6", head(1, code=3) + b"\x41"),
        ("R6", head(1, code=3) + b"\x41\xff"),
        ("R6", head(1, code=3) + b"\x41\x05" + bytes(4)),
        ("R6", head(1, code=3) + b"\x02" + bytes(3)),
        ("R7", head(1, code=3) + b"\x82"),
        ("R7", head(1, code=3) + b"\x82\xfc"),
        ("R7", head(1, code=3) + b"\x82\x04" + bytes(3)),
        ("R7", head(1, code=3) + b"\xc2\x04\x02" + bytes(3)),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_name(rule: str, payload: bytes) -> None:
    with pytest.raises(CodecError, match="malformed Opus packet") as caught:
        read_packet(payload)
    assert caught.value.hint == f"RFC 6716 section 3.4 [{rule}]"


def test_padding_is_bounded_by_the_datagram() -> None:
    start = head(1, code=3) + b"\x41" + b"\xff" * 256 + b"\x00"
    most = start + bytes(MAX_PAYLOAD - len(start))
    assert read_packet(most).frames == (MAX_PAYLOAD - len(start) - 256 * 254,)
    with pytest.raises(CodecError, match="longer than 65535"):
        read_packet(most + b"\x00")


# ---------------------------------------------------------------- libopus as the judge


def parsed(library: LibOpus, payload: bytes) -> tuple[tuple[int, ...], int] | None:
    """What libopus' own parser says: the sizes of frames and where they begin, None for refused."""
    parse = ctypes.PyDLL(library.path).opus_packet_parse
    offset, sizes = ctypes.c_int(), (ctypes.c_int16 * 48)()
    count = parse(payload, len(payload), None, None, sizes, ctypes.byref(offset))
    return None if count < 0 else (tuple(sizes[:count]), offset.value)


def ours(payload: bytes) -> tuple[tuple[int, ...], int] | None:
    try:
        packet = read_packet(payload)
    except CodecError:
        return None
    return packet.frames, packet.first


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """Heads that lead somewhere, before bodies whose length is often just right, or nearly."""
    body = draw(st.binary(max_size=8))
    length = draw(st.integers(0, 40) | st.integers(1270, 1290) | st.integers(2540, 2560))
    return bytes([draw(st.integers(0, 255))]) + body + bytes(length)


@given(payload=st.binary(max_size=40) | packets())
@example(payload=b"")
def test_libopus_reads_the_same(library: LibOpus, payload: bytes) -> None:
    assert ours(payload) == parsed(library, payload)


@pytest.mark.long
def test_libopus_reads_every_short_packet_the_same(library: LibOpus) -> None:
    rng = np.random.default_rng(6716)
    accepted = 0
    for first in range(256):
        for second in range(256):
            payload = bytes((first, second)) + rng.bytes(int(rng.integers(0, 30)))
            assert ours(payload) == parsed(library, payload), payload.hex()
            accepted += ours(payload) is not None
    assert 20_000 < accepted < 50_000


# ---------------------------------------------------------------- redundancy


def test_redundancy_is_seen_where_it_is_and_by_the_library_too(library: LibOpus) -> None:
    rng = np.random.default_rng(3)
    newer = [one for one in map(_has_lbrr, candidates()) if one is not None]
    seen = 0
    for channels in (1, 2):
        for units in (4, 8, 16, 24):
            pcm = np.cumsum(rng.normal(0, 300, (12, units * 40 * channels)), axis=1)
            for loss in (0, 25):
                codec = OpusCodec(16000, channels, OpusSettings(48_000, expected_loss=loss))
                payloads = [codec.encode(frame.astype(np.int16)) for frame in pcm]
                told = [read_packet(payload).has_fec(payload) for payload in payloads]
                assert loss or not any(told)
                seen += any(told)
                for judge in newer:
                    assert told == [bool(judge(p, len(p))) for p in payloads]
    assert seen >= 6


def _has_lbrr(path: str) -> object:
    try:
        return ctypes.PyDLL(path).opus_packet_has_lbrr  # libopus 1.5 and newer
    except (OSError, AttributeError):
        return None

"""Header extensions: by hand from RFC 8285's figures, by another dissector, and by rubbish."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from dissector import as_protocol, fields
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import RtpError
from voip.pcap import PcapWriter
from voip.rtp.extensions import (
    ONE_BYTE,
    TWO_BYTE,
    AudioLevel,
    build_extension,
    parse_extension,
    read_extension,
    read_send_time,
    write_send_time,
)
from voip.rtp.packet import pack_header
from voip.types import Address

pytestmark = pytest.mark.rfc("8285", "4")

ELEMENTS = st.dictionaries(st.integers(1, 255), st.binary(max_size=255), max_size=12)


def packet_with(extension: bytes, payload: bytes = b"payload!") -> bytes:
    header = bytearray(pack_header(0, 1, 2, 3))
    header[0] |= 0x10
    return bytes(header) + extension + payload


def test_hand_written_extensions_are_read() -> None:
    # section 4.2: ID 1 of one octet, ID 2 of two, two of padding, ID 3 of four
    one = bytes.fromhex("10aa 21bbcc 0000 33ddddeeee")
    assert parse_extension(ONE_BYTE, one) == {1: b"\xaa", 2: b"\xbb\xcc", 3: b"\xdd\xdd\xee\xee"}
    # section 4.3: ID 1 empty, ID 2 of one octet, padding, ID 3 of four
    two = bytes.fromhex("0100 0201bb 00 0304ddddeeee")
    assert parse_extension(TWO_BYTE, two) == {1: b"", 2: b"\xbb", 3: b"\xdd\xdd\xee\xee"}
    assert parse_extension(TWO_BYTE | 7, two) == parse_extension(TWO_BYTE, two)
    assert parse_extension(ONE_BYTE, bytes.fromhex("10aa f0bb 20cc")) == {1: b"\xaa"}, "15 stops"
    assert parse_extension(0xABAC, one) == {}, "another profile"


@given(ELEMENTS, st.booleans())
def test_elements_survive(elements: dict[int, bytes], two_byte: bool) -> None:
    extension = build_extension(elements, two_byte=two_byte)
    assert len(extension) % 4 == 0
    assert read_extension(packet_with(extension) if extension else b"") == elements


@given(st.binary(max_size=80))
def test_anything_is_elements_or_an_error(data: bytes) -> None:
    for profile in (ONE_BYTE, TWO_BYTE):
        try:
            found = parse_extension(profile, data)
        except RtpError:
            continue
        assert sum(len(value) for value in found.values()) <= len(data)
    with suppress(RtpError):
        read_extension(b"\x90" + data)


def test_what_does_not_fit_is_refused() -> None:
    for elements in ({0: b"x"}, {256: b"x"}, {1: bytes(256)}):
        with pytest.raises(RtpError):
            build_extension(elements)
    with pytest.raises(RtpError, match="more than 64"):
        parse_extension(ONE_BYTE, b"\x10x" * 65)
    assert build_extension({15: b"x"})[:2] == b"\x10\x00"
    assert build_extension({1: b""})[:2] == b"\x10\x00"
    assert build_extension({1: bytes(17)})[:2] == b"\x10\x00"


@pytest.mark.rfc("6464", "3")
def test_audio_levels() -> None:
    assert AudioLevel.read(b"\xa0") == AudioLevel(32, True)
    for level in range(128):
        for voice in (False, True):
            one = AudioLevel(level, voice)
            assert AudioLevel.read(one.to_bytes()) == one
    with pytest.raises(RtpError):
        AudioLevel(128).to_bytes()
    with pytest.raises(RtpError):
        AudioLevel.read(b"")


def test_send_times_keep_four_microseconds() -> None:
    for seconds in (0.0, 1.25, 63.999, 64.5, 1_700_000_000.125):
        assert read_send_time(write_send_time(seconds)) == pytest.approx(seconds % 64, abs=4e-6)
    with pytest.raises(RtpError):
        read_send_time(b"xx")


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_tshark_reads_the_same(tmp_path: Path) -> None:
    level, name = AudioLevel(17, True).to_bytes(), b"audio0"
    capture = tmp_path / "extensions.pcap"
    with PcapWriter(capture) as file:
        for two_byte in (False, True):
            extension = build_extension({1: level, 4: name}, two_byte=two_byte)
            ends = Address("10.0.0.1", 10000), Address("10.0.0.2", 10000)
            file.udp(1e9 + two_byte, *ends, packet_with(extension, bytes(160)))
    columns = ("rtp.ext.rfc5285.id", "rtp.ext.rfc5285.data", "rtp.ext.profile")
    rows = fields(capture, *columns, options=as_protocol("rtp", 10000))
    assert len(rows) == 2
    for row in rows:
        assert row[0] == "1,4"
        assert row[1].replace(":", "") == f"{level.hex()},{name.hex()}"

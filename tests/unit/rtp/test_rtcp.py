"""RTCP packets: by hand from RFC 3550's figures, by another dissector, and by rubbish."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from dissector import as_protocol, fields
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import RtpError
from voip.rtp import rtcp
from voip.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SdesChunk,
    SdesType,
    SenderReport,
    SourceDescription,
    build_compound,
    parse_compound,
    source_description,
)

pytestmark = pytest.mark.rfc("3550", "6.4")

BLOCK = ReportBlock(
    ssrc=0x01020304,
    fraction_lost=64,
    packets_lost=-2,
    highest_sequence=0x0001FFFE,
    jitter=57,
    last_sr=0xB7052000,
    delay_since_last_sr=0x00054000,
)
SR = SenderReport(0xDEADBEEF, 0xB44DB70520000000, 0xFFFFFF00, 1500, 240_000, (BLOCK,))
EVERYTHING: list[RtcpPacket] = [
    SR,
    ReceiverReport(0xDEADBEEF, (replace(BLOCK, packets_lost=12345),)),
    source_description(0xDEADBEEF, "a1b2@[2001:db8::1]"),
    Bye((0xDEADBEEF,), "camera malfunction"),
]

# Written out field by field after RFC 3550, sections 6.4.1, 6.5 and 6.6.
BY_HAND = bytes.fromhex(
    "81c8000c deadbeef b44db705 20000000 ffffff00 000005dc 0003a980"  # SR, 1 block, 13 words
    "01020304 40fffffe 0001fffe 00000039 b7052000 00054000"  # 64/256 lost, -2 in 24 bits
    "81ca0003 deadbeef 01056140 622e6300"  # SDES: CNAME, 5, "a@b.c", end at the boundary
    "81cb0002 deadbeef 03627965"  # BYE: 3, "bye"
)
AS_VALUES: list[RtcpPacket] = [
    SR,
    SourceDescription((SdesChunk(0xDEADBEEF, ((SdesType.CNAME, "a@b.c"),)),)),
    Bye((0xDEADBEEF,), "bye"),
]


def test_hand_written_compound_is_read() -> None:
    assert parse_compound(BY_HAND) == AS_VALUES


def test_hand_written_compound_is_built() -> None:
    assert build_compound(AS_VALUES) == BY_HAND


def test_everything_survives_building_and_reading() -> None:
    assert parse_compound(build_compound(EVERYTHING)) == EVERYTHING


def test_cname_is_found_among_other_items() -> None:
    chunk = SdesChunk(7, ((SdesType.TOOL, "voip"), (SdesType.CNAME, "müller@host"), (42, "")))
    packets = parse_compound(build_compound([ReceiverReport(7), SourceDescription((chunk, chunk))]))
    assert packets == [ReceiverReport(7), SourceDescription((chunk, chunk))]
    assert chunk.cname == "müller@host"
    assert SdesChunk(7, ()).cname is None


@pytest.mark.parametrize("length", range(8))
def test_texts_of_every_alignment_are_padded(length: int) -> None:
    packets = [ReceiverReport(1), source_description(1, "x" * length), Bye((1, 2), "y" * length)]
    octets = build_compound(packets)
    assert len(octets) % 4 == 0
    assert parse_compound(octets) == packets


def test_unknown_types_and_extensions_are_passed_over() -> None:
    nack = struct.pack("!BBHIII", 0x81, 205, 3, 1, 2, 3)
    pause = struct.pack("!BBHI", 0x80, 208, 1, 1)
    extended = struct.pack("!BBHIII", 0x80, 201, 3, 1, 0xAAAA, 0xBBBB)  # profile-specific
    bye = struct.pack("!BBHI", 0x81, 203, 1, 1)
    assert parse_compound(extended + nack + pause + bye) == [ReceiverReport(1), Bye((1,))]


def test_padding_of_the_last_packet_is_removed() -> None:
    padded = struct.pack("!BBHI", 0x80 | 0x20 | 1, 203, 3, 5) + bytes([0, 0, 0, 0, 0, 0, 0, 8])
    octets = build_compound([ReceiverReport(5)]) + padded
    assert parse_compound(octets) == [ReceiverReport(5), Bye((5,))]


def test_reduced_size_is_accepted_where_it_was_agreed() -> None:
    bye = struct.pack("!BBHI", 0x81, 203, 1, 9)
    with pytest.raises(RtpError, match="begins with type 203"):
        parse_compound(bye)
    assert parse_compound(bye, reduced_size=True) == [Bye((9,))]


RR = bytes.fromhex("80c90001 00000001")


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "too short"),
        (b"\x80\xc9\x00\x00", "too short"),
        (b"\x40" + RR[1:], "version 1"),
        (RR + b"\x00", "do not add up"),
        (RR + b"\x40\xc9\x00\x01\x00\x00\x00\x01", "version 1"),
        (b"\x80\xc9\x00\x02\x00\x00\x00\x01", "longer than its datagram"),
        (b"\x81" + RR[1:], "no room for its 1 blocks"),
        (bytes.fromhex("80c80001 00000001"), "without sender information"),
        (bytes.fromhex("80c90000") + RR, "before its SSRC"),
        (b"\xa0" + RR[1:] + RR, "padding before the last"),
        (b"\xa0\xc9\x00\x01\x00\x00\x00\x00", "padding of 0"),
        (b"\xa0\xc9\x00\x01\x00\x00\x00\x03", "padding of 3"),
        (b"\xa0\xc9\x00\x01\x00\x00\x00\x08", "padding of 8 octets in a packet of 8"),
        (RR + bytes.fromhex("81ca0002 00000001 01ff6162"), "longer than its packet"),
        (RR + bytes.fromhex("81ca0002 00000001 01026162"), "without its end"),
        (RR + bytes.fromhex("82ca0002 00000001 00000000"), "before its SSRC"),
        (RR + bytes.fromhex("82cb0001 00000001"), "before its SSRC"),
        (RR + bytes.fromhex("81cb0002 00000001 04627965"), "reason is longer"),
        (RR * (rtcp.MAX_PACKETS + 1), "more than 64"),
    ],
)
def test_contradictions_are_refused_in_words(octets: bytes, words: str) -> None:
    with pytest.raises(RtpError, match=words):
        parse_compound(octets)


@given(st.binary(max_size=200))
def test_rubbish_is_refused_and_never_fatal(octets: bytes) -> None:
    for data in (octets, RR + octets):
        try:
            parse_compound(data, reduced_size=True)
        except RtpError:
            continue


def test_flipped_bits_in_a_real_packet_are_never_fatal() -> None:
    chance = random.Random(1)
    good = build_compound(EVERYTHING)
    refused = 0
    for _ in range(3000):
        octets = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
        try:
            parse_compound(bytes(octets[: chance.choice([len(octets), len(octets) - 4])]))
        except RtpError:
            refused += 1
    assert 0 < refused < 3000


@pytest.mark.parametrize(
    ("packets", "words"),
    [
        ([], "must begin with SR or RR"),
        ([Bye((1,))], "must begin with SR or RR"),
        ([ReceiverReport(1 << 32)], "does not fit"),
        ([ReceiverReport(1, (BLOCK,) * 32)], "32 entries"),
        ([ReceiverReport(1, (replace(BLOCK, fraction_lost=256),))], "256 does not fit"),
        ([ReceiverReport(1), source_description(1, "é" * 128)], "256 octets"),
        ([ReceiverReport(1), SourceDescription((SdesChunk(1, ((0, "x"),)),))], "type 0"),
    ],
)
def test_values_that_fit_no_field_are_refused(packets: list[RtcpPacket], words: str) -> None:
    with pytest.raises(RtpError, match=words):
        build_compound(packets)


# ---------------------------------------------------------------- figures of a report


def test_cumulative_loss_is_clamped_and_not_wrapped() -> None:
    for lost in (-0x800000, -1, 0, 0x7FFFFF):
        report = ReceiverReport(1, (replace(BLOCK, packets_lost=lost),))
        assert parse_compound(build_compound([report])) == [report]


# ---------------------------------------------------------------- another dissector


def write_pcap(path: Path, payload: bytes) -> None:
    udp = struct.pack("!HHHH", 5005, 5005, 8 + len(payload), 0) + payload
    ip = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(8)) + udp
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    path.write_bytes(header + struct.pack("<IIII", 0, 0, len(ip), len(ip)) + ip)


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_tshark_reads_what_we_build(tmp_path: Path) -> None:
    write_pcap(tmp_path / "rtcp.pcap", build_compound(EVERYTHING))
    expected = {
        "rtcp.pt": "200,201,202,203",
        "rtcp.senderssrc": "0xdeadbeef,0xdeadbeef",
        "rtcp.timestamp.ntp.msw": str(0xB44DB705),
        "rtcp.timestamp.ntp.lsw": str(0x20000000),
        "rtcp.timestamp.rtp": str(0xFFFFFF00),
        "rtcp.sender.packetcount": "1500",
        "rtcp.sender.octetcount": "240000",
        "rtcp.ssrc.identifier": "0x01020304,0x01020304,0xdeadbeef,0xdeadbeef",
        "rtcp.ssrc.fraction": "64,64",
        "rtcp.ssrc.cum_nr": "-2,12345",
        "rtcp.ssrc.ext_high": "131070,131070",
        "rtcp.ssrc.jitter": "57,57",
        "rtcp.ssrc.lsr": f"{0xB7052000},{0xB7052000}",
        "rtcp.ssrc.dlsr": f"{0x54000},{0x54000}",
        "rtcp.sdes.text": "a1b2@[2001:db8::1],camera malfunction",  # it names both so
        "rtcp.bye_reason_not_padded": "",
        "rtcp.length_check": "1",
        "_ws.malformed": "",
    }
    (row,) = fields(tmp_path / "rtcp.pcap", *expected, options=as_protocol("rtcp", 5005))
    assert dict(zip(expected, row, strict=True)) == expected

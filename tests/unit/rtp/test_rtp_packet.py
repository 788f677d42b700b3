"""RTP headers of a batch: against tshark on captures of others, by the RFC's figure, by rubbish."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from dissector import fields
from hypothesis import given
from hypothesis import strategies as st

from voip.rtp.packet import HEADER_BYTES, pack_header, parse_headers, write_headers

pytestmark = pytest.mark.rfc("3550", "5.1")

WIDTH = 1536


def batch(packets: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    data = np.full((len(packets), WIDTH), 0xA5, np.uint8)  # what a slot's last use left behind
    for i, packet in enumerate(packets):
        data[i, : len(packet)] = np.frombuffer(packet, np.uint8)
    return data, np.array([len(packet) for packet in packets], np.int32)


def udp_payloads(capture: Path) -> list[bytes]:
    """The UDP payloads of a classic little-endian Ethernet capture, IPv4 without options."""
    raw = capture.read_bytes()
    assert raw[:4] == bytes.fromhex("d4c3b2a1")
    payloads, at = [], 24
    while at < len(raw):
        length = struct.unpack_from("<I", raw, at + 8)[0]
        frame = raw[at + 16 : at + 16 + length]
        udp = frame[14 + 4 * (frame[14] & 15) :]
        payloads.append(udp[8 : struct.unpack_from("!H", udp, 4)[0]])
        at += 16 + length
    return payloads


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
@pytest.mark.reference
def test_headers_of_recorded_calls_read_as_tshark_reads_them(
    reference_data: Path, tmp_path: Path
) -> None:
    captures = [path.read_bytes() for path in sorted((reference_data / "pcap").glob("*.pcap"))]
    together = tmp_path / "together.pcap"  # starting tshark takes longer than what it does
    together.write_bytes(captures[0] + b"".join(capture[24:] for capture in captures[1:]))
    names = (f"rtp.{name}" for name in ("marker", "p_type", "seq", "timestamp", "ssrc", "payload"))
    rows = fields(together, *names, options=("--enable-heuristic", "rtp_udp"))
    data, lengths = batch(udp_payloads(together))
    headers = parse_headers(data, lengths, np.arange(lengths.size))
    assert len(rows) == len(lengths) > 300
    assert headers.valid.all()
    for i, (marker, kind, sequence, timestamp, ssrc, payload) in enumerate(rows):
        assert headers.marker[i] == int(marker)
        assert headers.payload_type[i] == int(kind)
        assert headers.sequence[i] == int(sequence)
        assert headers.timestamp[i] == int(timestamp)
        assert headers.ssrc[i] == int(ssrc, 16)
        start, size = headers.offset[i], headers.size[i]
        assert data[i, start : start + size].tobytes().hex() == payload.replace(":", "")


# Figure of RFC 3550, 5.1: V=2 P X CC, M PT, sequence, timestamp, SSRC.
PLAIN = bytes.fromhex("80 88 fffe fffffff0 deadbeef")


@pytest.mark.parametrize(
    ("packet", "offset", "size"),
    [
        (PLAIN + b"12345", 12, 5),
        (PLAIN, 12, 0),
        (b"\x82" + PLAIN[1:] + bytes(8) + b"xyz", 20, 3),  # two contributing sources
        (b"\x90" + PLAIN[1:] + bytes.fromhex("bede0001 00000000") + b"xy", 20, 2),  # extension
        (b"\x90" + PLAIN[1:] + bytes.fromhex("bede0000") + b"xy", 16, 2),  # of no words
        (b"\xa0" + PLAIN[1:] + b"abc\0\0\x03", 12, 3),  # padding
        (b"\xa0" + PLAIN[1:] + b"\0\0\x03", 12, 0),  # nothing but padding
        (b"\xb1" + PLAIN[1:] + bytes(4) + bytes.fromhex("bede0000") + b"a\x01", 20, 1),  # all
    ],
)  # fmt: skip
def test_the_payload_lies_behind_sources_and_extension_and_before_padding(packet, offset, size):
    headers = parse_headers(*batch([packet]), np.arange(1))
    assert headers.valid[0]
    assert (headers.offset[0], headers.size[0]) == (offset, size)
    assert (headers.marker[0], headers.payload_type[0]) == (True, 8)
    assert (headers.sequence[0], headers.timestamp[0]) == (0xFFFE, 0xFFFFFFF0)
    assert headers.ssrc[0] == 0xDEADBEEF


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        PLAIN[:11],
        b"\x40" + PLAIN[1:] + b"x",  # version 1
        b"\xc0" + PLAIN[1:] + b"x",  # version 3
        b"\x81" + PLAIN[1:],  # a source that is not there
        b"\x90" + PLAIN[1:] + b"\xbe\xde\0",  # half an extension header
        b"\x90" + PLAIN[1:] + bytes.fromhex("bedeffff") + b"x",  # longer than the packet
        b"\xa0" + PLAIN[1:] + b"\0",  # padding of no octets
        b"\xa0" + PLAIN[1:] + b"\x02",  # padding that reaches into the header
        b"\xa0" + PLAIN[1:],  # padding, and not an octet to say how much
        b"\x9f" + PLAIN[1:] + b"x" * 60,  # sources fill it: no room for the extension
    ],
)
def test_what_is_no_rtp_is_invalid(packet):
    headers = parse_headers(*batch([PLAIN + b"ok", packet, PLAIN + b"ok"]), np.arange(3))
    assert headers.valid.tolist() == [True, False, True]


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_read_without_raising_and_stay_inside_their_packet(packets):
    data, lengths = batch(packets)
    headers = parse_headers(data, lengths, np.arange(lengths.size))
    good = headers.valid
    assert (headers.offset[good] >= HEADER_BYTES).all()
    assert (headers.size[good] >= 0).all()
    assert (headers.offset[good] + headers.size[good] <= lengths[good]).all()


def test_the_longest_packet_with_the_longest_extension_is_read():
    words = (WIDTH - 16) // 4
    packet = b"\x90" + PLAIN[1:] + struct.pack("!HH", 0, words) + bytes(4 * words)
    headers = parse_headers(*batch([packet, packet[:-1]]), np.arange(2))
    assert headers.valid.tolist() == [True, False]


header_fields = st.tuples(
    st.integers(0, 127), st.booleans(), st.integers(0, 1 << 40), st.integers(0, 1 << 40),
    st.integers(0, 0xFFFFFFFF),
)  # fmt: skip


@given(st.lists(header_fields, min_size=1, max_size=8))
def test_what_is_written_is_read_back_however_far_the_counters_have_gone(fields):
    kinds, markers, sequences, timestamps, ssrcs = (
        np.array(column) for column in zip(*fields, strict=True)
    )
    rows = np.arange(len(fields))[::-1].copy() * 2  # not in order, not every row
    out = np.full((2 * len(fields), 20), 0x77, np.uint8)
    write_headers(
        out,
        rows,
        payload_type=kinds.astype(np.uint8),
        marker=markers.astype(np.bool_),
        sequence=sequences.astype(np.int64),
        timestamp=timestamps.astype(np.int64),
        ssrc=ssrcs.astype(np.int64),
    )
    headers = parse_headers(out, np.full(len(fields), 20, np.int32), rows)
    assert headers.valid.all()
    assert headers.payload_type.tolist() == kinds.tolist()
    assert headers.marker.tolist() == markers.tolist()
    assert headers.sequence.tolist() == [n & 0xFFFF for n in sequences.tolist()]
    assert headers.timestamp.tolist() == [n & 0xFFFFFFFF for n in timestamps.tolist()]
    assert headers.ssrc.tolist() == ssrcs.tolist()
    assert (headers.size == 8).all()
    assert (out[:, HEADER_BYTES:] == 0x77).all()
    assert (out[1::2] == 0x77).all()
    for row, (kind, marker, sequence, timestamp, ssrc) in zip(rows, fields, strict=True):
        single = pack_header(kind, sequence, timestamp, ssrc, marker=marker)
        assert out[row, :HEADER_BYTES].tobytes() == single


def test_no_packets_are_no_headers():
    headers = parse_headers(
        np.zeros((0, WIDTH), np.uint8), np.zeros(0, np.int32), np.zeros(0, np.intp)
    )
    assert headers.valid.size == 0

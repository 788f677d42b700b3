"""Capture files, judged by an independent dissector (tshark) and by their bytes."""

from __future__ import annotations

import io
import struct
import threading
from pathlib import Path

import pytest
from dissector import fields

from voip.pcap import MAX_CONNECTIONS, PcapWriter, redact

ALICE = ("192.0.2.1", 5060)
BOB = ("192.0.2.2", 5060)
ALICE6 = ("2001:db8::1", 5060)
BOB6 = ("2001:db8::2", 5060)
RTP = bytes.fromhex("8000000100000000deadbeef") + bytes(range(160))

REGISTER = (
    b"REGISTER sip:pbx.example SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n"
    b"From: <sip:alice@pbx.example>;tag=1\r\n"
    b"To: <sip:alice@pbx.example>\r\n"
    b"Call-ID: 1@192.0.2.1\r\n"
    b"CSeq: 2 REGISTER\r\n"
    b'Authorization: Digest username="alice", realm="pbx", nonce="n0", uri="sip:pbx.example",\r\n'
    b' response="6629fae49393a05397450978507c4ef1", algorithm=MD5\r\n'
    b"Content-Length: 0\r\n\r\n"
)
DIGEST = b"6629fae49393a05397450978507c4ef1"


def dissected(path: Path, *names: str, options: tuple[str, ...] = ()) -> list[list[str]]:
    """The fields of each packet, all checksums being verified."""
    checks = [f"{protocol}.check_checksum:TRUE" for protocol in ("ip", "udp", "tcp")]
    verified = [word for check in checks for word in ("-o", check)]
    return fields(path, *names, options=(*verified, *options))


def records(data: bytes) -> list[tuple[float, int, bytes]]:
    """Read (seconds, original length, bytes kept) of each record, strictly."""
    magic, major, minor, _, _, _, link = struct.unpack_from("!IHHiIII", data)
    assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 101)
    found, at = [], 24
    while at < len(data):
        seconds, microseconds, kept, original = struct.unpack_from("!IIII", data, at)
        assert microseconds < 1_000_000
        packet = data[at + 16 : at + 16 + kept]
        assert len(packet) == kept
        found.append((seconds + microseconds / 1e6, original, packet))
        at += 16 + kept
    return found


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071 by its own words: sum the 16-bit words, fold the carries."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
@pytest.mark.parametrize(("source", "destination"), [(ALICE, BOB), (ALICE6, BOB6)])
def test_tshark_sees_sip_and_rtp_with_good_checksums(tmp_path, source, destination):
    path = tmp_path / "call.pcap"
    with PcapWriter(path) as capture:
        capture.udp(1700000000.25, source, destination, REGISTER)
        capture.udp(1700000000.27, (source[0], 4000), (destination[0], 4002), RTP)
        capture.udp(1700000000.29, (source[0], 4000), (destination[0], 4002), RTP[:-1])
        capture.tcp(1700000000.31, source, destination, REGISTER)

    rows = dissected(
        path,
        "frame.time_epoch",
        "_ws.col.Protocol",
        "ip.checksum.status",
        "udp.checksum.status",
        "tcp.checksum.status",
        "udp.length",
        options=("-d", "udp.port==4002,rtp"),
    )

    assert [row[1] for row in rows] == ["SIP", "RTP", "RTP", "SIP"]
    assert [float(row[0]) for row in rows] == [
        1700000000.25,
        1700000000.27,
        1700000000.29,
        1700000000.31,
    ]
    good = "1"
    assert {row[2] for row in rows} == ({good} if source is ALICE else {""})
    assert [row[3] for row in rows] == [good, good, good, ""]
    assert [row[4] for row in rows] == ["", "", "", good]
    assert rows[1][5] == str(8 + len(RTP))


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_tshark_reassembles_a_sip_message_over_tcp(tmp_path):
    path = tmp_path / "tcp.pcap"
    body = b"x" * 4000
    invite = REGISTER.replace(b"REGISTER", b"MESSAGE").replace(
        b"Content-Length: 0\r\n\r\n",
        b"Content-Type: text/plain\r\nContent-Length: 4000\r\n\r\n" + body,
    )
    answer = b"SIP/2.0 200 OK\r\n" + b"".join(
        line + b"\r\n" for line in REGISTER.split(b"\r\n")[1:6]
    )
    answer += b"Content-Length: 0\r\n\r\n"
    with PcapWriter(path) as capture:
        for second in range(3):
            capture.tcp(second, ALICE, BOB, invite)
            capture.tcp(second + 0.5, BOB, ALICE, answer)

    messages = dissected(
        path, "sip.Method", "sip.Status-Code", "tcp.analysis.flags", options=("-Y", "sip")
    )
    flagged = dissected(path, "frame.number", options=("-Y", "tcp.analysis.flags"))

    assert messages == [["MESSAGE", "", ""], ["", "200", ""]] * 3
    assert flagged == []


def with_sdp(start: bytes, host: str, port: int) -> bytes:
    body = (
        f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 8\r\n"
    ).encode()
    headers = REGISTER.replace(b"REGISTER", b"INVITE").split(b"\r\n")[1:6]
    kind = b"Content-Type: application/sdp\r\nContent-Length: %d" % len(body)
    return b"\r\n".join((start, *headers, kind, b"", body))


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_tshark_ties_rtp_to_the_call_that_negotiated_it(tmp_path):
    path = tmp_path / "call.pcap"
    rtp = bytes((0x80, 8)) + RTP[2:]
    with PcapWriter(path) as capture:
        invite = with_sdp(b"INVITE sip:bob@192.0.2.2 SIP/2.0", ALICE[0], 4000)
        capture.udp(1.0, ALICE, BOB, invite)
        capture.udp(1.1, BOB, ALICE, with_sdp(b"SIP/2.0 200 OK", BOB[0], 4002))
        capture.udp(1.2, (ALICE[0], 4000), (BOB[0], 4002), rtp)
        capture.udp(1.3, (BOB[0], 4002), (ALICE[0], 4000), rtp)

    rows = dissected(path, "rtp.setup-method", "rtp.p_type", "rtp.ssrc", options=("-Y", "rtp"))

    assert rows == [["SDP", "8", "0xdeadbeef"]] * 2


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_tshark_accepts_a_file_cut_by_snaplen(tmp_path):
    path = tmp_path / "short.pcap"
    with PcapWriter(path, snaplen=64) as capture:
        capture.udp(1.0, ALICE, BOB, RTP)
    assert dissected(path, "frame.len", "frame.cap_len") == [[str(20 + 8 + len(RTP)), "64"]]


def test_checksums_add_up_by_the_words_of_rfc_1071_for_every_length():
    stream = io.BytesIO()
    with PcapWriter(stream) as capture:
        for length in range(300):
            payload = (RTP * 2)[:length]
            capture.udp(0.0, ALICE, BOB, payload)
            capture.udp(0.0, ALICE6, BOB6, payload)
    packets = [packet for _, _, packet in records(stream.getvalue())]
    assert len(packets) == 600
    for packet in packets:
        if packet[0] >> 4 == 4:
            assert ones_complement_sum(packet[:20]) == 0xFFFF
            addresses, body = packet[12:20], packet[20:]
            assert int.from_bytes(packet[2:4], "big") == len(packet)
        else:
            addresses, body = packet[8:40], packet[40:]
            assert int.from_bytes(packet[4:6], "big") == len(body)
        assert int.from_bytes(body[4:6], "big") == len(body)
        pseudo = addresses + struct.pack("!HH", 17, len(body))
        assert ones_complement_sum(pseudo + body) == 0xFFFF


def test_a_udp_checksum_of_zero_is_sent_as_all_ones():
    stream = io.BytesIO()
    with PcapWriter(stream) as capture:
        capture.udp(0.0, ALICE, BOB, b"\0\0")
    (_, _, packet) = records(stream.getvalue())[0]
    checksum = int.from_bytes(packet[26:28], "big")
    stream = io.BytesIO()
    with PcapWriter(stream) as capture:  # the payload that makes the sum 0xFFFF
        capture.udp(0.0, ALICE, BOB, checksum.to_bytes(2, "big"))
    (_, _, packet) = records(stream.getvalue())[0]
    assert packet[26:28] == b"\xff\xff"


def test_times_are_kept_to_the_microsecond_and_round_into_the_next_second():
    stream = io.BytesIO()
    with PcapWriter(stream) as capture:
        capture.udp(1700000000.9999996, ALICE, BOB, RTP)
        capture.udp(1700000000.123456, ALICE, BOB, RTP)
    assert [second for second, _, _ in records(stream.getvalue())] == [
        1700000001.0,
        1700000000.123456,
    ]


def test_digests_are_masked_and_nothing_else_changes():
    stream = io.BytesIO()
    with PcapWriter(stream) as capture:
        capture.udp(0.0, ALICE, BOB, REGISTER)
        capture.tcp(0.0, ALICE, BOB, REGISTER)
    written = [packet for _, _, packet in records(stream.getvalue())]
    assert len(written) == 2
    for packet in written:
        assert DIGEST not in packet
        assert packet.endswith(REGISTER.replace(DIGEST, b"x" * 32))


def test_secrets_are_written_only_when_asked_for():
    stream = io.BytesIO()
    with PcapWriter(stream, secrets=True) as capture:
        capture.udp(0.0, ALICE, BOB, REGISTER)
    assert DIGEST in stream.getvalue()


@pytest.mark.parametrize(
    ("header", "secret"),
    [
        (b'Authorization: Digest response="%s"', DIGEST),
        (b"AUTHORIZATION :Digest realm=x,RESPONSE = %s", DIGEST),
        (b'Proxy-Authorization: Digest nc=1,\r\n\tresponse="%s", qop=auth', DIGEST),
        (b'Authentication-Info: rspauth="%s", cnonce="c"', DIGEST),
        (b"Authorization: Basic %s", b"YWxpY2U6c2VjcmV0"),
        (b'Authorization:Digest response="%s"', DIGEST),
    ],
)
def test_every_spelling_of_a_proof_is_masked(header, secret):
    message = b"OPTIONS sip:a@b SIP/2.0\r\n" + header % secret + b"\r\nCSeq: 1 OPTIONS\r\n\r\n"
    masked = redact(message)
    assert secret not in masked
    assert masked == message.replace(secret, b"x" * len(secret))


def test_what_is_not_a_credential_stays():
    message = (
        b"SIP/2.0 401 Unauthorized\r\n"
        b'WWW-Authenticate: Digest nonce="abc", realm="response=here"\r\n'
        b"Subject: response=public\r\n\r\nresponse=body"
    )
    assert redact(message) == message
    assert redact(b"\x80Authorization: Basic abc") == b"\x80Authorization: Basic abc"
    assert redact(b"") == b""


def test_a_full_queue_drops_and_counts_and_never_grows():
    stream = io.BytesIO()
    capture = PcapWriter(stream, queue_records=3)
    for _ in range(5):
        capture.udp(0.0, ALICE, BOB, RTP)
    assert capture.dropped == 2
    capture.flush()
    capture.udp(0.0, ALICE, BOB, RTP)
    capture.close()
    assert (capture.written, capture.dropped) == (4, 2)
    assert len(records(stream.getvalue())) == 4


def test_the_queue_is_bounded_in_bytes_too():
    capture = PcapWriter(io.BytesIO(), queue_bytes=1000)
    for _ in range(3):
        capture.udp(0.0, ALICE, BOB, bytes(400))
    capture.close()
    assert (capture.written, capture.dropped) == (2, 1)


def test_nothing_is_written_before_flush_and_nothing_queued_after_close():
    stream = io.BytesIO()
    capture = PcapWriter(stream)
    capture.udp(0.0, ALICE, BOB, RTP)
    assert records(stream.getvalue()) == []
    capture.close()
    capture.close()
    capture.udp(0.0, ALICE, BOB, RTP)
    assert len(records(stream.getvalue())) == 1
    assert capture.dropped == 1
    assert not stream.closed


@pytest.mark.parametrize(
    ("source", "destination", "payload"),
    [
        (ALICE, BOB6, RTP),
        (("pbx.example", 5060), BOB, RTP),
        (("192.0.2.1", 70000), BOB, RTP),
        (ALICE, BOB, bytes(65508)),
    ],
)
def test_what_no_ip_packet_can_carry_is_counted_and_harms_no_other_record(
    source, destination, payload
):
    stream = io.BytesIO()
    with PcapWriter(stream) as capture:
        capture.udp(0.0, source, destination, payload)
        capture.udp(0.0, ALICE, BOB, RTP)
    assert (capture.written, capture.dropped) == (1, 1)
    assert len(records(stream.getvalue())) == 1


def test_zones_and_mapped_addresses_are_written_as_what_they_are_on_the_wire():
    stream = io.BytesIO()
    with PcapWriter(stream) as capture:
        capture.udp(0.0, ("fe80::1%eth0", 1), ("fe80::2", 2), RTP)
        capture.udp(0.0, ("::ffff:192.0.2.1", 1), BOB, RTP)
    first, second = (packet for _, _, packet in records(stream.getvalue()))
    assert first[0] >> 4 == 6
    assert first[8:24] == bytes.fromhex("fe80" + "00" * 13 + "01")
    assert second[0] >> 4 == 4
    assert second[12:16] == bytes((192, 0, 2, 1))


def test_the_payload_is_copied_because_its_buffer_is_used_again():
    stream = io.BytesIO()
    buffer = bytearray(RTP)
    with PcapWriter(stream) as capture:
        capture.udp(0.0, ALICE, BOB, memoryview(buffer))
        buffer[:] = bytes(len(buffer))
    assert records(stream.getvalue())[0][2].endswith(RTP)


def test_threads_may_add_while_another_flushes():
    stream = io.BytesIO()
    capture = PcapWriter(stream)

    def add() -> None:
        for _ in range(500):
            capture.udp(0.0, ALICE, BOB, RTP)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        capture.flush()
    for thread in threads:
        thread.join()
    capture.close()
    assert (capture.written, capture.dropped) == (2000, 0)
    assert len(records(stream.getvalue())) == 2000


def test_a_full_disk_raises_and_the_lost_records_are_counted():
    class FullDisk(io.BytesIO):
        def write(self, data) -> int:
            if self.tell() > 500:
                raise OSError(28, "No space left on device")
            return super().write(data)

    capture = PcapWriter(FullDisk())
    for _ in range(10):
        capture.udp(0.0, ALICE, BOB, RTP)
    with pytest.raises(OSError, match="No space left"):
        capture.flush()
    assert capture.written + capture.dropped == 10
    assert capture.dropped > 0


def test_a_path_that_cannot_be_opened_raises_at_once(tmp_path):
    with pytest.raises(FileNotFoundError):
        PcapWriter(tmp_path / "no" / "such" / "folder.pcap")


def test_connections_are_forgotten_when_there_are_too_many():
    stream = io.BytesIO()
    with PcapWriter(stream) as capture:
        capture.tcp(0.0, ALICE, BOB, b"first")
        for port in range(2 * MAX_CONNECTIONS):
            capture.tcp(0.0, ("192.0.2.1", 10000 + port), BOB, b"x")
        capture.tcp(0.0, ("192.0.2.1", 10000 + port), BOB, b"x")
        capture.tcp(0.0, ALICE, BOB, b"again")
    written = [packet for _, _, packet in records(stream.getvalue())]
    sequences = [int.from_bytes(packet[24:28], "big") for packet in written]
    assert sequences[-2:] == [2, 1]

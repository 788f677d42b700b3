"""Values of a description: directions, addresses, writing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sdp_transform

from voip.errors import SdpError
from voip.sdp import (
    Attribute,
    Connection,
    Direction,
    MediaDescription,
    Origin,
    RtcpAddress,
    RtpFormat,
    SessionDescription,
    parse,
)
from voip.types import Address

SENDRECV, SENDONLY = Direction.SENDRECV, Direction.SENDONLY
RECVONLY, INACTIVE = Direction.RECVONLY, Direction.INACTIVE

HERE = Connection("192.0.2.1")
LINE = MediaDescription("audio", 4000, "RTP/AVP", ("0",), encodings=(RtpFormat(0, "pcmu"),))
SESSION = SessionDescription(Origin("-", 1, 1, HERE), connection=HERE, media=(LINE,))


def with_line(**changes: object) -> SessionDescription:
    return replace(SESSION, media=(replace(LINE, **changes),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "mirrored"),
    [(SENDRECV, SENDRECV), (SENDONLY, RECVONLY), (RECVONLY, SENDONLY), (INACTIVE, INACTIVE)],
)
def test_mirrored_direction_is_the_other_sides(one: Direction, mirrored: Direction) -> None:
    assert one.mirrored is mirrored


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (SENDRECV, SENDRECV, SENDRECV),
        (SENDRECV, SENDONLY, SENDONLY),
        (SENDRECV, RECVONLY, RECVONLY),
        (SENDRECV, INACTIVE, INACTIVE),
        (SENDONLY, SENDONLY, SENDONLY),
        (SENDONLY, RECVONLY, INACTIVE),
        (SENDONLY, INACTIVE, INACTIVE),
        (RECVONLY, RECVONLY, RECVONLY),
        (RECVONLY, INACTIVE, INACTIVE),
        (INACTIVE, INACTIVE, INACTIVE),
    ],
)
def test_two_directions_allow_what_both_allow(
    one: Direction, other: Direction, both: Direction
) -> None:
    assert one & other is both
    assert other & one is both


@pytest.mark.parametrize(
    ("address", "family", "valid", "multicast", "unspecified"),
    [
        ("192.0.2.1", 4, True, False, False),
        ("2001:db8::1", 6, True, False, False),
        ("0.0.0.0", 4, True, False, True),
        ("::", 6, True, False, True),
        ("hold.invalid", 6, True, False, True),
        ("hold.INVALID.", 4, True, False, True),
        ("pbx.example.com", 4, True, False, False),
        ("224.2.1.1/127", 4, True, True, False),
        ("224.2.1.1/127/3", 4, True, True, False),
        ("ff15::101", 6, True, True, False),
        ("group.example.com/127", 4, True, True, False),
        ("192.0.2.1", 6, False, False, False),
        ("192.0.2.01", 4, False, False, False),
        ("a b", 4, False, False, False),
    ],
)
def test_addresses_say_what_they_are(
    address: str, family: int, valid: bool, multicast: bool, unspecified: bool
) -> None:
    connection = Connection(address, family)
    assert connection.valid is valid
    assert connection.multicast is multicast
    assert connection.unspecified is unspecified


@pytest.mark.parametrize(
    ("changes", "rtp", "rtcp"),
    [
        ({}, Address("192.0.2.1", 4000), Address("192.0.2.1", 4001)),
        (
            {"rtcp": RtcpAddress(53020)},
            Address("192.0.2.1", 4000),
            Address("192.0.2.1", 53020),
        ),
        (
            {"rtcp": RtcpAddress(53020, Connection("192.0.2.9"))},
            Address("192.0.2.1", 4000),
            Address("192.0.2.9", 53020),
        ),
        (
            {"rtcp": RtcpAddress(53020, Connection("0.0.0.0"))},
            Address("192.0.2.1", 4000),
            None,
        ),
        (
            {"rtcp": RtcpAddress(53020, Connection("2001:db8::9", 6))},
            Address("192.0.2.1", 4000),
            None,
        ),
        (
            {"connection": Connection("192.0.2.8")},
            Address("192.0.2.8", 4000),
            Address("192.0.2.8", 4001),
        ),
        ({"connection": Connection("0.0.0.0"), "rtcp": RtcpAddress(53020, HERE)}, None, None),
        ({"port": 0}, None, None),
        ({"port": 65535}, Address("192.0.2.1", 65535), None),
    ],
)
def test_media_go_where_the_lines_say(
    changes: dict[str, object], rtp: Address | None, rtcp: Address | None
) -> None:
    session = with_line(**changes)
    assert session.rtp_address(session.media[0]) == rtp
    assert session.rtcp_address(session.media[0]) == rtcp


def test_media_without_any_connection_line_go_nowhere() -> None:
    session = replace(SESSION, connection=None)
    assert session.rtp_address(LINE) is None
    assert session.rtcp_address(LINE) is None


def test_rejected_line_keeps_kind_protocol_and_formats() -> None:
    line = parse(
        "v=0\no=- 1 1 IN IP4 192.0.2.1\nm=video 5000/2 RTP/SAVPF 99 31\na=rtpmap:99 H264/90000\n"
    ).media[0]
    rejected = replace(SESSION, media=(line.rejected(),)).to_bytes()
    assert rejected.endswith(b"m=video 0 RTP/SAVPF 99 31\r\n")


def test_lines_are_written_in_the_order_of_rfc_8866() -> None:
    session = SessionDescription(
        Origin("-", 1, 1, HERE),
        connection=HERE,
        direction=SENDONLY,
        attributes=(Attribute("tool", "x"),),
        lines=("k=prompt", "b=AS:64", "i=about", "e=a@example.com", "u=http://example.com"),
        media=(
            replace(
                LINE,
                connection=HERE,
                direction=RECVONLY,
                ptime_ms=20,
                maxptime_ms=60,
                rtcp=RtcpAddress(5, HERE),
                lines=("b=AS:64", "i=mic"),
            ),
        ),
    )
    written = session.to_bytes().decode().split("\r\n")
    assert "".join(line[0] for line in written if line) == "vosiuecbtkaamicbaaaaa"
    assert parse(session.to_bytes()).to_bytes() == session.to_bytes()


def test_what_we_write_is_what_another_reader_reads() -> None:
    line = replace(
        LINE,
        formats=("0", "96"),
        encodings=(RtpFormat(0, "pcmu"), RtpFormat(96, "opus", 48000, 2, "useinbandfec=1")),
        ptime_ms=20,
        maxptime_ms=60,
        direction=SENDONLY,
        rtcp=RtcpAddress(5001, Connection("2001:db8::1", 6)),
    )
    read = sdp_transform.parse(replace(SESSION, media=(line,)).to_bytes().decode())
    assert read["origin"]["address"] == "192.0.2.1"
    assert read["connection"] == {"version": 4, "ip": "192.0.2.1"}
    assert read["timing"] == {"start": 0, "stop": 0}
    (media,) = read["media"]
    assert (media["type"], media["port"], media["protocol"]) == ("audio", 4000, "RTP/AVP")
    assert media["payloads"] == "0 96"
    assert media["rtp"] == [
        {"payload": 0, "codec": "PCMU", "rate": 8000},
        {"payload": 96, "codec": "opus", "rate": 48000, "encoding": 2},
    ]
    assert media["fmtp"] == [{"payload": 96, "config": "useinbandfec=1"}]
    assert (media["ptime"], media["maxptime"], media["direction"]) == (20, 60, "sendonly")
    assert media["rtcp"] == {"port": 5001, "netType": "IN", "ipVer": 6, "address": "2001:db8::1"}


@pytest.mark.parametrize("evil", ["x\r\nm=video 9 RTP/AVP 31", "x\ny", "x\0", "\ud800"])
def test_value_that_would_become_another_line_is_not_written(evil: str) -> None:
    for session in (
        replace(SESSION, name=evil),
        replace(SESSION, attributes=(Attribute("x", evil),)),
        replace(SESSION, lines=(f"i={evil}",)),
        with_line(kind=evil),
        with_line(formats=(evil,)),
        with_line(encodings=(RtpFormat(0, "pcmu", fmtp=evil),)),
    ):
        with pytest.raises(SdpError):
            session.to_bytes()

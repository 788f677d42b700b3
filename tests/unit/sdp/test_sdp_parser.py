"""Reading descriptions: what is typed, what is kept, what is refused."""

from __future__ import annotations

import pytest
import sdp_transform
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SdpError
from voip.sdp import (
    Attribute,
    Connection,
    Direction,
    RtcpAddress,
    RtpFormat,
    SessionDescription,
    Timing,
    parse,
)
from voip.sdp.parser import MAX_BYTES, MAX_LINE_LENGTH, MAX_LINES, MAX_MEDIA

pytestmark = pytest.mark.rfc("8866", "5")

HEAD = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
AUDIO = HEAD + "m=audio 4000 RTP/AVP 0 101\r\n"

ASTERISK = (
    b"v=0\r\n"
    b"o=- 1094221612 1094221612 IN IP4 192.0.2.7\r\n"
    b"s=Asterisk\r\n"
    b"c=IN IP4 192.0.2.7\r\n"
    b"t=0 0\r\n"
    b"m=audio 10062 RTP/AVP 0 8 9 107 101\r\n"
    b"a=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:9 G722/8000\r\n"
    b"a=rtpmap:107 opus/48000/2\r\n"
    b"a=fmtp:107 useinbandfec=1\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\n"
    b"a=fmtp:101 0-16\r\n"
    b"a=ptime:20\r\n"
    b"a=maxptime:140\r\n"
    b"a=sendrecv\r\n"
)


def audio(*attributes: str) -> SessionDescription:
    return parse(AUDIO + "".join(f"a={line}\r\n" for line in attributes))


def refused(data: bytes | str) -> SdpError:
    with pytest.raises(SdpError) as caught:
        parse(data)
    assert caught.value.status == 400
    assert caught.value.hint
    return caught.value


def test_description_of_a_pbx_is_read_whole() -> None:
    session = parse(ASTERISK)
    assert (session.origin.username, session.origin.session_id) == ("-", 1094221612)
    assert session.origin.version == 1094221612
    assert session.name == "Asterisk"
    assert session.connection == Connection("192.0.2.7", 4)
    assert session.timing == Timing(0, 0)
    (media,) = session.media
    assert (media.kind, media.port, media.protocol) == ("audio", 10062, "RTP/AVP")
    assert media.encodings == (
        RtpFormat(0, "pcmu"),
        RtpFormat(8, "pcma"),
        RtpFormat(9, "g722"),
        RtpFormat(107, "opus", 48000, 2, "useinbandfec=1"),
        RtpFormat(101, "telephone-event", 8000, 1, "0-16"),
    )
    assert (media.ptime_ms, media.maxptime_ms) == (20, 140)
    assert media.direction is Direction.SENDRECV
    assert session.to_bytes() == ASTERISK


def test_static_payload_types_need_no_rtpmap_and_dynamic_ones_do() -> None:
    session = parse(HEAD + "m=audio 4000 RTP/AVP 0 3 18 96\r\n")
    assert [f.name for f in session.media[0].encodings] == ["pcmu", "gsm", "g729"]
    assert session.media[0].formats == ("0", "3", "18", "96")


def test_rtpmap_outweighs_the_static_meaning() -> None:
    session = audio("rtpmap:0 L16/16000/2")
    assert session.media[0].encodings == (RtpFormat(0, "l16", 16000, 2),)


def test_static_numbers_mean_nothing_beyond_rtp_audio() -> None:
    session = parse(HEAD + "m=video 4000 RTP/AVP 0\r\nm=audio 4002 udp 0\r\n")
    assert [media.encodings for media in session.media] == [(), ()]


def test_encoding_names_are_compared_without_case() -> None:
    assert audio("rtpmap:101 Telephone-EVENT/8000").media[0].encodings[1].name == "telephone-event"


@pytest.mark.parametrize("direction", list(Direction))
def test_direction_of_media_outweighs_that_of_the_session(direction: Direction) -> None:
    text = HEAD + "a=inactive\r\nm=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/AVP 0\r\n"
    session = parse(text + f"a={direction.value}\r\n")
    assert session.direction_of(session.media[0]) is Direction.INACTIVE
    assert session.direction_of(session.media[1]) is direction


def test_direction_is_sendrecv_where_nobody_says() -> None:
    session = parse(AUDIO)
    assert session.direction_of(session.media[0]) is Direction.SENDRECV


def test_direction_with_a_tail_is_another_attribute() -> None:
    session = audio("sendonlyish", "inactive:1")
    assert session.direction_of(session.media[0]) is Direction.SENDRECV
    assert session.media[0].attributes == (Attribute("sendonlyish"), Attribute("inactive", "1"))


def test_connection_of_media_outweighs_that_of_the_session() -> None:
    session = parse(AUDIO + "c=IN IP6 2001:db8::9\r\nm=audio 4002 RTP/AVP 0\r\n")
    assert session.connection_of(session.media[0]) == Connection("2001:db8::9", 6)
    assert session.connection_of(session.media[1]) == Connection("192.0.2.1", 4)


def test_first_of_several_connection_lines_of_one_m_line_counts() -> None:
    session = parse(AUDIO + "c=IN IP4 192.0.2.8\r\nc=IN IP4 192.0.2.9\r\n")
    assert session.connection_of(session.media[0]) == Connection("192.0.2.8", 4)


def test_connection_may_be_a_host_name() -> None:
    session = parse(AUDIO.replace("c=IN IP4 192.0.2.1", "c=IN IP4 media_1.my-pbx.example"))
    address = session.rtp_address(session.media[0])
    assert address == ("media_1.my-pbx.example", 4000)


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("rtcp:53020", RtcpAddress(53020)),
        ("rtcp:53020 ", RtcpAddress(53020)),
        ("rtcp:53020 IN IP4 192.0.2.9", RtcpAddress(53020, Connection("192.0.2.9", 4))),
        ("rtcp:53020 IN IP6 2001:db8::9", RtcpAddress(53020, Connection("2001:db8::9", 6))),
        ("rtcp:0", None),
        ("rtcp:65536", None),
        ("rtcp:", None),
        ("rtcp:53020 IN IP4 300.0.0.1", None),
        ("rtcp:53020 IN IP4 224.0.0.1", None),
        ("rtcp:53020 somewhere", None),
        ("rtcp:53020 IN IP4\u2003192.0.2.9 x y", None),
    ],
)
def test_rtcp_attribute_is_read_or_kept(attribute: str, expected: RtcpAddress | None) -> None:
    media = audio(attribute).media[0]
    assert media.rtcp == expected
    assert len(media.attributes) == (expected is None)


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("ptime:20", 20),
        ("ptime:20.0", 20),
        ("ptime:2.5", None),
        ("ptime:0", None),
        ("ptime:", None),
        ("ptime:-20", None),
        ("ptime:1.2.3", None),
        ("ptime:99999999", None),
        ("ptime", None),
    ],
)
def test_packet_time_is_whole_milliseconds_or_kept(attribute: str, expected: int | None) -> None:
    media = audio(attribute).media[0]
    assert media.ptime_ms == expected
    assert len(media.attributes) == (expected is None)
    maxptime = audio("max" + attribute).media[0]
    assert maxptime.maxptime_ms == expected


@pytest.mark.parametrize(
    "line",
    [
        "rtpmap:",
        "rtpmap:101",
        "rtpmap:101 ",
        "rtpmap:101 telephone-event",
        "rtpmap:101 foo+bar/8000",
        "rtpmap:101  telephone-event/8000",
        "rtpmap:101 telephone-event/0",
        "rtpmap:101 telephone-event/x",
        "rtpmap:101 telephone-event/8000/0",
        "rtpmap:101 telephone-event/8000/999",
        "rtpmap:128 telephone-event/8000",
        "rtpmap:-1 telephone-event/8000",
        "rtpmap:1_0_1 telephone-event/8000",
        "rtpmap:\u0661\u0660\u0661 telephone-event/8000",
        "rtpmap:99 telephone-event/8000",
        f"rtpmap:101 {'x' * 65}/8000",
        "fmtp:101 0-16",
        "fmtp:0",
        "fmtp:x y",
        "fmtp:128 y",
    ],
)
def test_attribute_that_makes_no_sense_is_kept_and_means_nothing(line: str) -> None:
    media = audio(line).media[0]
    assert media.encodings == (RtpFormat(0, "pcmu"),)
    assert [str(attribute) for attribute in media.attributes] == [line]


def test_first_rtpmap_and_fmtp_of_a_payload_type_count() -> None:
    media = audio(
        "rtpmap:101 telephone-event/8000", "rtpmap:101 opus/48000/2", "fmtp:101 0-15", "fmtp:101 x"
    ).media[0]
    assert media.encodings[1] == RtpFormat(101, "telephone-event", fmtp="0-15")
    assert media.attributes == (
        Attribute("rtpmap", "101 opus/48000/2"),
        Attribute("fmtp", "101 x"),
    )


@pytest.mark.parametrize("text", ["1_6", "00", "1e5", "nan", "inf", "0.50", "0-15,66,70", "a; b=c"])
def test_fmtp_that_looks_like_a_number_stays_the_text_it_is(text: str) -> None:
    assert audio(f"fmtp:0 {text}").media[0].encodings[0].fmtp == text


def test_encoding_name_that_looks_like_a_number_stays_the_text_it_is() -> None:
    media = audio("rtpmap:101 1E5 / 8000", "rtpmap:0 1e5 /8000").media[0]
    assert media.encodings == (RtpFormat(0, "1e5"),)


def test_username_that_looks_like_a_number_stays_the_text_it_is() -> None:
    assert parse(AUDIO.replace("o=- ", "o=007 ")).origin.username == "007"


def test_unknown_attributes_and_lines_are_kept_in_order() -> None:
    text = (
        "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\ni=about\r\nc=IN IP4 192.0.2.1\r\n"
        "b=X-YZ:128\r\nt=0 0\r\nr=7d 1h 0 25h\r\nk=clear:x\r\n"
        "a=group:BUNDLE a v\r\na=x-odd: spaces  kept \r\n"
        "m=audio 4000 RTP/AVP 0\r\ni=mic\r\nb=AS:64\r\na=rtpmap:0 PCMU/8000\r\n"
        "a=mid:a\r\na=candidate:1 1 UDP 1 192.0.2.1 4000 typ host\r\na=mid:again\r\n"
    )
    session = parse(text)
    assert session.attributes == (
        Attribute("group", "BUNDLE a v"),
        Attribute("x-odd", " spaces  kept "),
    )
    assert [a.name for a in session.media[0].attributes] == ["mid", "candidate", "mid"]
    assert session.to_bytes().decode() == text


def test_m_line_with_a_count_of_ports_is_read() -> None:
    media = parse(HEAD + "m=video 49170/2 RTP/AVP 31\r\n").media[0]
    assert (media.port, media.port_count, media.formats) == (49170, 2, ("31",))


@pytest.mark.parametrize(
    ("line", "protocol", "formats"),
    [
        ("m=image 5006 udptl t38", "udptl", ("t38",)),
        (
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "UDP/DTLS/SCTP",
            ("webrtc-datachannel",),
        ),
        ("m=message 7394 TCP/TLS/MSRP *", "TCP/TLS/MSRP", ("*",)),
        ("m=x-odd 5006 UDP/MBMS-REPAIR *", "UDP/MBMS-REPAIR", ("*",)),
        ("m=audio  5006  RTP/AVP  0  8 ", "RTP/AVP", ("0", "8")),
    ],
)
def test_m_lines_of_other_media_keep_their_words(
    line: str, protocol: str, formats: tuple[str, ...]
) -> None:
    media = parse(f"{HEAD}{line}\r\n").media[0]
    assert (media.protocol, media.formats) == (protocol, formats)


@pytest.mark.parametrize("ending", ["\r\n", "\n", "\r"])
def test_any_line_ending_will_do(ending: str) -> None:
    assert parse(ASTERISK.decode().replace("\r\n", ending)) == parse(ASTERISK)


def test_last_line_may_lack_its_ending_and_empty_lines_are_skipped() -> None:
    assert parse(ASTERISK.rstrip() + b"\r\n\r\n") == parse(ASTERISK.rstrip()) == parse(ASTERISK)


def test_spaces_in_plenty_are_forgiven() -> None:
    text = AUDIO.replace("o=- 1", "o= -  1 ").replace("c=IN ", "c= IN  ").replace("t=0", "t= 0 ")
    assert parse(text + "a=rtcp: 53020  IN IP4 192.0.2.1 \r\n") == audio(
        "rtcp:53020 IN IP4 192.0.2.1"
    )


def test_missing_subject_and_times_are_forgiven() -> None:
    session = parse("v=0\no=- 1 2 IN IP4 192.0.2.1\nm=audio 0 RTP/AVP 0\n")
    assert (session.name, session.timing, session.connection) == ("-", Timing(0, 0), None)


@pytest.mark.parametrize("separator", "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
def test_line_separators_of_unicode_do_not_make_lines(separator: str) -> None:
    text = AUDIO.replace("s=-", f"s=a{separator}m=video 9 RTP/AVP 31")
    assert "video" in str(sdp_transform.parse(text)["media"])  # what the guard is there for
    session = parse(text)
    assert [media.kind for media in session.media] == ["audio"]
    assert session.name == f"a{separator}m=video 9 RTP/AVP 31"


def test_text_of_another_charset_survives() -> None:
    data = ASTERISK.replace(b"s=Asterisk", b"s=B\xfcro")
    assert parse(data).to_bytes() == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\0",
        b"hello",
        b"INVITE sip:bob@example.com SIP/2.0\r\n",
        "\ud800",
        HEAD.replace("v=0", "v=1"),
        HEAD.removeprefix("v=0\r\n"),
        "o=- 1 2 IN IP4 192.0.2.1\r\nv=0\r\ns=-\r\nt=0 0\r\n",
        "m=audio 4000 RTP/AVP 0\r\n" + HEAD,
        HEAD.replace("o=- 1 2 IN IP4 192.0.2.1\r\n", ""),
        HEAD + "o=- 1 2 IN IP4 192.0.2.1\r\n",
        HEAD + "v=0\r\n",
        HEAD + "s=-\r\n",
        HEAD + "x=unknown letter\r\n",
        HEAD + " a=indented\r\n",
        HEAD + "A=upper\r\n",
        AUDIO + "t=0 0\r\n",
        AUDIO + "o=- 1 2 IN IP4 192.0.2.1\r\n",
        AUDIO + "\0",
    ],
)
def test_garbage_is_refused_with_400(data: bytes | str) -> None:
    refused(data)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "-",
        "- 1 2 IN IP4",
        "- a 2 IN IP4 192.0.2.1",
        "- 1 b IN IP4 192.0.2.1",
        "-  2 IN IP4 192.0.2.1",
        "- 1 2 IN IP5 192.0.2.1",
        "- 1 2 ATM NSAP 47.0091",
        "- -1 2 IN IP4 192.0.2.1",
        f"- {'9' * 5000} 2 IN IP4 192.0.2.1",
        "- 1\t2 IN IP4 192.0.2.1",
    ],
)
def test_bad_origin_is_refused_with_400(origin: str) -> None:
    refused(AUDIO.replace("o=- 1 2 IN IP4 192.0.2.1", f"o={origin}"))


@pytest.mark.parametrize(
    "connection",
    [
        "",
        "IN IP4",
        "IN IP4 ",
        "IN IP5 192.0.2.1",
        "ATM NSAP 47.0091",
        "IN IP4 192.0.2.256",
        "IN IP4 192.0.2",
        "IN IP4 1000",
        "IN IP4 2001:db8::1",
        "IN IP6 192.0.2.1",
        "IN IP6 fe80::1%eth0",
        "IN IP4 -",
        "IN IP4 a..b",
        "IN IP4 " + "a" * 64,
        "IN IP4 " + "a." * 130,
        "IN IP4 b\u00fcro.example",
    ],
)
def test_bad_connection_is_refused_with_400(connection: str) -> None:
    refused(AUDIO + f"c={connection}\r\n")


@pytest.mark.parametrize("timing", ["", "0", "x y", "0 -1"])
def test_bad_timing_is_refused_with_400(timing: str) -> None:
    refused(AUDIO.replace("t=0 0", f"t={timing}"))


@pytest.mark.parametrize(
    "media",
    [
        "",
        "audio",
        "audio 4000",
        "audio 4000 RTP/AVP",
        "audio x RTP/AVP 0",
        "audio -1 RTP/AVP 0",
        "audio 65536 RTP/AVP 0",
        "audio 400000 RTP/AVP 0",
        "audio 4000/x RTP/AVP 0",
        "audio \u0664\u0660 RTP/AVP 0",
        "\u00e4udio 4000 RTP/AVP 0",
    ],
)
def test_bad_m_line_is_refused_with_400(media: str) -> None:
    refused(HEAD + f"m={media}\r\n")


def test_limits_hold_and_what_is_within_them_is_read() -> None:
    fill = "a=" + "x" * (MAX_LINE_LENGTH - 2) + "\r\n"
    assert parse(AUDIO + fill)
    assert "characters" in str(refused(AUDIO + "a=" + "x" * (MAX_LINE_LENGTH - 1)))

    lines = AUDIO.count("\r\n")
    assert parse(AUDIO + "a=x\n" * (MAX_LINES - lines))
    assert "lines" in str(refused(AUDIO + "a=x\n" * (MAX_LINES - lines + 1)))

    assert parse(HEAD + "m=audio 0 RTP/AVP 0\n" * MAX_MEDIA)
    assert "m= lines" in str(refused(HEAD + "m=audio 0 RTP/AVP 0\n" * (MAX_MEDIA + 1)))

    big = AUDIO + fill * 15
    assert parse(big + "a=" + "x" * (MAX_BYTES - len(big) - 2))
    assert "octets" in str(refused(big + "a=" + "x" * (MAX_BYTES - len(big) - 1)))
    assert "octets" in str(refused(b"\xff" * (MAX_BYTES + 1)))


def test_whatever_the_library_raises_is_an_sdp_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> dict[str, object]:
        raise RecursionError(text)

    monkeypatch.setattr(sdp_transform, "parse", broken)
    refused(ASTERISK)


def test_keys_stay_out_of_reprs() -> None:
    text = "k=clear:hush\r\n"
    secrets = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:hush\r\na=ice-pwd:hush\r\n"
    session = parse(HEAD + text + "m=audio 4000 RTP/AVP 0\r\n" + text + secrets)
    assert b"hush" in session.to_bytes()
    assert "hush" not in repr(session)


# ---------------------------------------------------------------- anything at all

_WORDS = st.sampled_from(
    [
        "v=0",
        "o=",
        "s=",
        "c=",
        "t=0 0",
        "m=",
        "a=",
        "b=AS:1",
        "audio",
        "video",
        "RTP/AVP",
        "RTP/SAVP",
        "IN IP4 ",
        "IN IP6 ",
        "192.0.2.1",
        "::1",
        "0.0.0.0",
        "- 1 1 ",
        "rtpmap:",
        "fmtp:",
        "ptime:",
        "rtcp:",
        "sendonly",
        "0",
        "8",
        "96",
        "101",
        "65536",
        "PCMU",
        "/8000",
        "/2",
        "nan",
        "1e400",
        " ",
        "\r\n",
        "\n",
        "\t",
        "\x85",
        "١",
        "_",
        "-",
        ":",
        "\x00",
    ]
)
_ALMOST = st.lists(_WORDS, max_size=60).map("".join)
_HEADED = st.builds(lambda tail: AUDIO + "a=" + tail, _ALMOST)


@examples(300)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=300), _ALMOST, _HEADED))
def test_anything_gives_a_description_or_an_sdp_error(data: bytes | str) -> None:
    try:
        session = parse(data)
    except SdpError as error:
        assert error.status == 400
    else:
        assert parse(session.to_bytes()) == session


@examples(200)
@given(st.data())
def test_damaged_description_gives_a_description_or_an_sdp_error(data: st.DataObject) -> None:
    damaged = bytearray(ASTERISK)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    try:
        session = parse(bytes(damaged))
    except SdpError as error:
        assert error.status == 400
    else:
        assert parse(session.to_bytes()) == session

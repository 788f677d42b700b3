"""Requests and responses against RFC 3261 sections 7, 8.2.6 and 18.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.check import validate
from voip.sip.headers import Headers
from voip.sip.limits import MAX_HEADERS, MAX_LINE_CHARS, MAX_MESSAGE_BYTES
from voip.sip.message import REASONS, Request, Response, make_response, parse_message

pytestmark = pytest.mark.rfc("3261", "7")

INVITE = (
    b"INVITE sip:bob@biloxi.com SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds, SIP/2.0/TCP 10.1.1.1\r\n"
    b"v: SIP/2.0/UDP third.example.com\r\n"
    b"Max-Forwards: 70\r\n"
    b"t: Bob <sip:bob@biloxi.com>\r\n"
    b"From: Alice <sip:alice@atlanta.com>;tag=1928301774\r\n"
    b"i: a84b4c76e66710@pc33.atlanta.com\r\n"
    b"CSeq: 314159 INVITE\r\n"
    b"Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>\r\n"
    b"Contact: <sip:alice@pc33.atlanta.com>;q=0.7\r\n"
    b"m: <sip:alice@backup.atlanta.com>\r\n"
    b"Timestamp: 54\r\n"
    b"X-Unknown: \xff\xfe stays;;, as=it <is\r\n"
    b"c: Application/SDP; charset=utf-8\r\n"
    b"Content-Length: 4\r\n"
    b"\r\n"
    b"\x00\xffab"
)


def request_of(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def refused(data: bytes) -> SipError:
    with pytest.raises(SipError) as caught:
        parse_message(data)
    return caught.value


def test_parts_of_a_request() -> None:
    invite = request_of(INVITE)
    assert (invite.method, invite.uri, invite.body) == (
        "INVITE", "sip:bob@biloxi.com", b"\x00\xffab",
    )  # fmt: skip
    assert (invite.via.branch, invite.via.host) == ("z9hG4bK776asdhds", "pc33.atlanta.com")
    assert (invite.from_.tag, invite.to.tag) == ("1928301774", None)
    assert invite.call_id == "a84b4c76e66710@pc33.atlanta.com"
    assert (invite.cseq.number, invite.cseq.method) == (314159, "INVITE")
    assert [contact.uri for contact in invite.contacts] == [
        "sip:alice@pc33.atlanta.com",
        "sip:alice@backup.atlanta.com",
    ]
    assert invite.content_type == "application/sdp"
    assert invite.max_forwards == 70


def test_parts_of_a_response() -> None:
    response = parse_message(b"SIP/2.0 180 Ringing now\r\nTo: <sip:a@b>;tag=9\r\n\r\n")
    assert isinstance(response, Response)
    assert (response.status, response.reason, response.to.tag) == (180, "Ringing now", "9")
    assert response.content_type is None
    assert response.contacts == []


@pytest.mark.parametrize("line", [b"SIP/2.0 200 ", b"SIP/2.0 200", b"sip/2.0 200 "])
def test_a_response_may_be_without_a_reason(line: bytes) -> None:
    response = parse_message(line + b"\r\nVia: SIP/2.0/UDP h\r\n\r\n")
    assert isinstance(response, Response)
    assert response.reason == ""


def test_a_message_is_written_with_every_byte_it_came_with() -> None:
    invite = request_of(INVITE)
    assert invite.to_bytes() == INVITE
    again = request_of(invite.to_bytes())
    assert again.headers == invite.headers
    assert again.body == invite.body


def test_writing_counts_the_body_anew() -> None:
    request = request_of(INVITE)
    request.body = b"other"
    request.headers.add("l", "99")
    data = request.to_bytes()
    assert data.endswith(b"Content-Length: 5\r\n\r\nother")
    assert data.count(b"ength:") + data.count(b"\r\nl:") == 1


def test_values_are_read_again_when_their_line_changes() -> None:
    invite = request_of(INVITE)
    assert invite.via is invite.via
    invite.headers.prepend("Via", "SIP/2.0/UDP proxy;branch=z9hG4bKnew")
    assert invite.via.branch == "z9hG4bKnew"
    invite.headers.remove("Via")
    with pytest.raises(SipError, match="no Via"):
        _ = invite.via


def test_header_values_are_not_read_before_somebody_asks() -> None:
    request = request_of(b"OPTIONS sip:a SIP/2.0\r\nVia: ;;\r\nFrom: <<<\r\nCSeq: -\r\n\r\n")
    for name in ("via", "from_", "to", "cseq", "call_id"):
        with pytest.raises(SipError) as caught:
            getattr(request, name)
        assert caught.value.status == 400


def test_what_is_behind_the_content_length_is_dropped() -> None:
    assert request_of(INVITE + b"trailing").body == b"\x00\xffab"


def test_without_content_length_a_datagram_ends_the_body() -> None:
    assert request_of(b"MESSAGE sip:a SIP/2.0\r\n\r\nhello").body == b"hello"


@pytest.mark.parametrize(
    "value", [b"5", b"-1", b"4, 4", b"four", b"", b"4\r\nl: 4", b"0x4", b"9" * 5000, "٤".encode()]
)
def test_a_content_length_that_cannot_be_kept_is_400_and_answerable(value: bytes) -> None:
    error = refused(INVITE.replace(b"Length: 4", b"Length: " + value))
    assert error.status == 400
    request = error.context["request"]
    assert make_response(request, 400).call_id == "a84b4c76e66710@pc33.atlanta.com"


def test_blank_lines_before_a_message_are_skipped() -> None:
    assert request_of(b"\r\n\r\n" + INVITE).method == "INVITE"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\x00\x00\x00\x00",
        b"hello",
        b"GET / HTTP/1.1\r\n\r\n",
        b"INVITE sip:bob@biloxi.com\r\nVia: x\r\n\r\n",
        b"INV@ITE sip:bob@biloxi.com SIP/2.0\r\n\r\n",
        b"\x80\x60\x00\x01" + bytes(160),
    ],
)
def test_what_is_no_sip_is_refused_and_cannot_be_answered(data: bytes) -> None:
    assert "request" not in refused(data).context


@pytest.mark.parametrize(
    "line",
    [
        b"INVITE  sip:bob@biloxi.com SIP/2.0",
        b"INVITE sip:bob@biloxi.com SIP/2.0 ",
        b"INVITE sip:bob@biloxi.com; lr SIP/2.0",
        b"INVITE <sip:bob@biloxi.com> SIP/2.0",
        b"INVITE sip:bob@bil\roxi.com SIP/2.0",
        b"INVITE sip:bob@bil\noxi.com SIP/2.0",
    ],
)
def test_a_malformed_request_line_is_400_and_answerable(line: bytes) -> None:
    error = refused(INVITE.replace(b"INVITE sip:bob@biloxi.com SIP/2.0", line))
    assert error.status == 400
    assert error.context["request"].cseq.number == 314159


def test_another_version_is_505() -> None:
    error = refused(INVITE.replace(b"com SIP/2.0\r", b"com SIP/3.0\r"))
    assert error.status == 505
    assert isinstance(error.context["request"], Request)


@pytest.mark.parametrize(
    "data",
    [
        b"SIP/2.0 20 OK\r\n\r\n",
        b"SIP/2.0 700 OK\r\n\r\n",
        b"SIP/2.0 2000 OK\r\n\r\n",
        b"SIP/3.0 200 OK\r\n\r\n",
        b"SIP/2.0 200 OK\r\nVia x\r\n\r\n",
        b"SIP/2.0 200 OK\r\nl: 4\r\n\r\n",
    ],
)
def test_a_bad_response_is_never_answered(data: bytes) -> None:
    error = refused(data)
    assert error.status is None
    assert "request" not in error.context


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Max-Forwards: 70", b"Max-Forwards 70"),
        (b"Max-Forwards: 70", b"Max Forwards: 70"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\nEvil: 1"),
        (b"Max-Forwards: 70", b"Max-Forwards: 70\rEvil: 1"),
        (b"\r\n\r\n\x00\xffab", b""),
        (b"\r\n\r\n\x00\xffab", b"\r\n"),
    ],
)
def test_a_line_that_is_no_header_is_400(old: bytes, new: bytes) -> None:
    error = refused(INVITE.replace(old, new))
    assert error.status == 400
    assert error.context["request"].method == "INVITE"


def test_limits_are_kept() -> None:
    exact = INVITE.replace(b"Length: 4", b"Length: 9")[:-4]
    room = MAX_MESSAGE_BYTES - len(INVITE) + 4 - 4  # "Length: 65xxx" is four digits longer
    assert refused(INVITE + bytes(MAX_MESSAGE_BYTES)).status == 513
    biggest = INVITE.replace(b"Length: 4", f"Length: {room}".encode())[:-4] + bytes(room)
    assert len(biggest) == MAX_MESSAGE_BYTES
    assert len(request_of(biggest).body) == room
    assert refused(exact).status == 400

    lines = len(request_of(INVITE).headers) - 1  # Content-Length is not counted
    spare = b"X: y\r\n" * (MAX_HEADERS - lines)
    most = INVITE.replace(b"Timestamp", spare + b"Timestamp")
    assert len(request_of(most).headers) == MAX_HEADERS + 1
    unsaid = request_of(most.replace(b"Content-Length: 4\r\n", b""))
    assert len(unsaid.headers) == MAX_HEADERS
    assert request_of(unsaid.to_bytes()).headers.get("Content-Length") == "4"
    assert refused(INVITE.replace(b"Timestamp", spare + b"X: y\r\nTimestamp")).status == 400

    long = b"X: " + b"y" * (MAX_LINE_CHARS - 3)
    assert request_of(INVITE.replace(b"Timestamp: 54", long)).headers.get("X") == "y" * 8189
    assert refused(INVITE.replace(b"Timestamp: 54", long + b"y")).status == 400
    folded = b"X: " + b"y\r\n " * MAX_LINE_CHARS
    assert refused(INVITE.replace(b"Timestamp: 54", folded + b"y")).status == 400
    uri = b"sip:" + b"a" * MAX_LINE_CHARS
    assert refused(INVITE.replace(b"sip:bob@biloxi.com SIP", uri + b" SIP")).status == 414


def test_no_start_line_can_smuggle_in_a_header() -> None:
    for request in (
        Request("INVITE", "sip:a@b\r\nEvil: 1"),
        Request("INVITE", "sip:a@b SIP/2.0\r\nEvil: 1 "),
        Request("IN VITE", "sip:a@b"),
        Request("INVITE", ""),
    ):
        with pytest.raises(SipError):
            request.to_bytes()
    with pytest.raises(SipError):
        Response(200, "OK\r\nEvil: 1").to_bytes()
    with pytest.raises(SipError):
        Request("INVITE", "sip:a@b", Headers([("X", "\ud800")])).to_bytes()


def test_a_summary_is_one_line_without_secrets() -> None:
    headers = Headers(
        [
            ("Call-ID", "c\x1b[2Jd"),
            ("CSeq", "1 INVITE"),
            ("Authorization", "Digest response=deadbeef"),
        ]
    )
    request = Request("INVITE", "sip:bob:s3cret@example.com?Authorization=x", headers)
    for text in (request.summary(), repr(request), repr(Response(200, None, headers))):
        assert "s3cret" not in text
        assert "deadbeef" not in text
        assert "Authorization" not in text
        assert text.isprintable()
    assert request.summary().startswith("INVITE sip:bob")
    assert Response(486, None, headers).summary().startswith("486 Busy Here (CSeq 1 INVITE")


class TestResponses:
    def test_a_200_copies_what_section_8_2_6_says(self) -> None:
        response = make_response(
            request_of(INVITE),
            200,
            to_tag="a6c85cf",
            headers=[("Contact", "<sip:bob@192.0.2.4>")],
            body=b"v=0",
            content_type="application/sdp",
        )
        assert list(response.headers) == [
            ("Via", "SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds, SIP/2.0/TCP 10.1.1.1"),
            ("Via", "SIP/2.0/UDP third.example.com"),
            ("From", "Alice <sip:alice@atlanta.com>;tag=1928301774"),
            ("To", "Bob <sip:bob@biloxi.com>;tag=a6c85cf"),
            ("Call-ID", "a84b4c76e66710@pc33.atlanta.com"),
            ("CSeq", "314159 INVITE"),
            ("Record-Route", "<sip:p2.example.com;lr>, <sip:p1.example.com;lr>"),
            ("Contact", "<sip:bob@192.0.2.4>"),
            ("Content-Type", "application/sdp"),
        ]
        assert (response.status, response.reason, response.body) == (200, "OK", b"v=0")

    def test_a_100_has_the_timestamp_and_no_tag(self) -> None:
        response = make_response(request_of(INVITE), 100, to_tag="x")
        assert response.to.tag is None
        assert response.headers.get("Timestamp") == "54"
        assert "Record-Route" not in response.headers

    def test_a_refusal_makes_no_dialog(self) -> None:
        response = make_response(request_of(INVITE), 486, to_tag="x")
        assert response.to.tag == "x"
        assert "Record-Route" not in response.headers

    def test_a_tag_that_is_there_stays(self) -> None:
        request = request_of(INVITE.replace(b"biloxi.com>\r\n", b"biloxi.com>;tag=old\r\n"))
        assert make_response(request, 200, to_tag="new").to.tag == "old"

    def test_a_request_with_parts_missing_or_broken_can_be_refused(self) -> None:
        request = request_of(b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nTo: <<\r\n\r\n")
        data = make_response(request, 400, "no Call-ID", to_tag="x").to_bytes()
        assert data == (
            b"SIP/2.0 400 no Call-ID\r\nVia: SIP/2.0/UDP h\r\nTo: <<\r\nContent-Length: 0\r\n\r\n"
        )

    def test_reasons_come_from_the_registry(self) -> None:
        assert (REASONS[481], REASONS[491], REASONS[606]) == (
            "Call/Transaction Does Not Exist", "Request Pending", "Not Acceptable",
        )  # fmt: skip
        assert make_response(request_of(INVITE), 499).reason == ""


class TestValidate:
    def test_a_good_request_passes(self) -> None:
        validate(request_of(INVITE))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"i: a84b4c76e66710@pc33.atlanta.com\r\n", b""),
            (b"i: a84b", b"i: two words a84b"),
            (b"CSeq: 314159 INVITE", b"CSeq: 314159 BYE"),
            (b"CSeq: 314159 INVITE", b"CSeq: 1 INVITE\r\nCSeq: 1 INVITE"),
            (b"From: Alice", b'From: "Alice'),
            (b"Max-Forwards: 70", b"Max-Forwards: 256"),
            (b"Max-Forwards: 70", b"Max-Forwards: -1"),
            (b"m: <sip", b"m: ;<sip"),
            (b"c: Application/SDP", b"c: SDP"),
            (b"sip:bob@biloxi.com SIP", b"sip:bob@@biloxi.com SIP"),
            (b"sip:bob@biloxi.com SIP", b"sip:bob@biloxi.com?a=b SIP"),
            (b"Via: SIP/2.0/UDP pc33", b"Via: SIP/2.0/ pc33"),
        ],
    )
    def test_a_request_that_cannot_be_worked_with_is_400(self, old: bytes, new: bytes) -> None:
        assert old in INVITE
        with pytest.raises(SipError) as caught:
            validate(request_of(INVITE.replace(old, new)))
        assert caught.value.status == 400

    def test_a_via_of_another_version_is_505(self) -> None:
        with pytest.raises(SipError) as caught:
            validate(request_of(INVITE.replace(b"Via: SIP/2.0", b"Via: SIP/3.0")))
        assert caught.value.status == 505

    @pytest.mark.parametrize("uri", [b"tel:+49", b"nobody:knows"])
    def test_other_schemes_are_not_its_business(self, uri: bytes) -> None:
        validate(request_of(INVITE.replace(b"sip:bob@biloxi.com SIP", uri + b" SIP")))

    def test_a_response_through_others_is_dropped(self) -> None:
        head = b"SIP/2.0 200 OK\r\n" + INVITE.partition(b"\r\n")[2].replace(
            b", SIP/2.0/TCP 10.1.1.1", b""
        )
        single = head.replace(b"v: SIP/2.0/UDP third.example.com\r\n", b"")
        validate(parse_message(single))
        with pytest.raises(SipError) as caught:
            validate(parse_message(head))
        assert caught.value.status is None
        with pytest.raises(SipError) as caught:
            validate(parse_message(single.replace(b"CSeq: ", b"CSeq: x")))
        assert caught.value.status is None


_names = st.sampled_from(["Via", "v", "X-y", "subject", "Call-ID", "UNKNOWN", "a%b"])
_values = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20).map(
    lambda text: text.strip(" \t")
)


@given(
    st.from_regex(r"[A-Z!%*_+`'~.-]{1,9}", fullmatch=True),
    st.from_regex(r"[a-z]{1,5}:[!-;=?-~é]{0,20}", fullmatch=True),
    st.lists(st.tuples(_names, _values), max_size=8),
    st.binary(max_size=40),
)
def test_any_request_that_can_be_written_reads_back(
    method: str, uri: str, lines: list[tuple[str, str]], body: bytes
) -> None:
    request = Request(method, uri, Headers(lines), body)
    again = parse_message(request.to_bytes())
    assert isinstance(again, Request)
    assert (again.method, again.uri, again.body) == (method, uri, body)
    assert list(again.headers)[:-1] == lines
    assert again.to_bytes() == request.to_bytes()


@given(
    st.integers(100, 699),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20),
    st.lists(st.tuples(_names, _values), max_size=8),
    st.binary(max_size=40),
)
def test_any_response_that_can_be_written_reads_back(
    status: int, reason: str, lines: list[tuple[str, str]], body: bytes
) -> None:
    response = Response(status, reason, Headers(lines), body)
    again = parse_message(response.to_bytes())
    assert isinstance(again, Response)
    assert (again.status, again.reason, again.body) == (status, reason, body)
    assert list(again.headers)[:-1] == lines


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(INVITE)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        data[start:end] = draw(
            st.binary(max_size=6) | st.sampled_from([b"\r\n", b" ", b'"', b"<", b","])
        )
    return bytes(data)


@given(st.binary(max_size=200) | _damaged())
def test_any_bytes_are_a_message_or_a_sip_error(data: bytes) -> None:
    try:
        message = parse_message(data)
        validate(message)
    except SipError as error:
        assert error.status in (None, 400, 414, 505, 513)
        if "request" in error.context:
            parse_message(make_response(error.context["request"], 400, to_tag="x").to_bytes())
        return
    assert parse_message(message.to_bytes()).headers.get("Via") == message.headers.get("Via")
    assert message.summary().isprintable()


@pytest.mark.parametrize(
    "filler",
    [b"X: y\r\n", b"X:\r\n y\r\n", b"\r\n ", b" ", b"a", b":", b"\n", b"\r", b"\r\n\t\n"],
)
def test_long_nonsense_ends(filler: bytes) -> None:
    """A quadratic reader would need minutes for one of these; the run itself is the judge."""
    data = b"OPTIONS sip:a SIP/2.0\r\nX: y" + (filler * 65_000)[:65_000] + b"\r\n\r\n"
    assert refused(data).status == 400


def test_what_is_unknown_survives_untouched() -> None:
    """Methods, schemes, headers and parameters of which nobody here has heard, odd blanks too."""
    data = (
        b"FROBNICATE urn:service:sos.fire;x=%20?y SIP/2.0\r\n"
        b'Via: SIP/2.0/CARRIER-PIGEON loft.example;branch=z9hG4bK1;wind="3, nw";calm\r\n'
        b"X-Trace:  a ; b , c\r\nxTRACE: \xff\xfe\r\n"
        b'From: "A, B" <news:comp.sip;z>;tag=1;mood="a;b\\"c"\r\n'
        b"To: <tel:+1555;phone-context=+1>\r\nCall-ID: 1\r\nCSeq: 1 FROBNICATE\r\n"
        b"Contact: <http://a.example/?q=1>;odd\r\nContact: <x-y:z>\r\nX-Empty:\r\n"
        b"Content-Length: 4\r\n\r\n\x00\r\n\xff"
    )
    message = parse_message(data)
    assert isinstance(message, Request)
    _ = message.via, message.from_, message.to, message.contacts  # reading changes nothing
    assert message.to_bytes() == data
    assert str(message.via) == (
        'SIP/2.0/CARRIER-PIGEON loft.example;branch=z9hG4bK1;wind="3, nw";calm'
    )
    assert str(message.from_) == '"A, B" <news:comp.sip;z>;tag=1;mood="a;b\\"c"'

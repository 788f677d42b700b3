"""Bodies of several parts: told apart, judged, and the session description found in them."""

from __future__ import annotations

from base64 import b64encode, encodebytes
from binascii import b2a_qp
from pathlib import Path

import pytest
from hypotheses import examples
from hypothesis import given
from hypothesis import strategies as st
from step_counter import StepCounter
from virtual_sip import Net, Stranger, request_text

from voip.errors import SipError
from voip.sip import grammar, headers, multipart
from voip.sip.events import Answered, IncomingInvite
from voip.sip.headers import Headers
from voip.sip.limits import MAX_DEPTH, MAX_PART_HEADERS, MAX_PARTS
from voip.sip.message import Request, Response, parse_message
from voip.sip.multipart import (
    BodyPart,
    find_body,
    is_readable,
    session_description,
    split_parts,
)

pytestmark = [pytest.mark.rfc("5621", "3"), pytest.mark.rfc("3261", "7.4.1")]

SDP = "application/sdp"
OFFER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\n"
OTHER = b"v=0\r\no=- 2 2 IN IP4 192.0.2.2\r\n"
ISUP = ("application/isup", b"\x01\x00\x49\r\n\x00--x\r\n")


def part(kind: str | None, body: bytes, *lines: str) -> bytes:
    head = [f"Content-Type: {kind}"] if kind is not None else []
    return "".join(f"{line}\r\n" for line in (*head, *lines)).encode() + b"\r\n" + body


def joined(*parts: bytes, boundary: str = "unique") -> bytes:
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + one + b"\r\n" for one in parts) + mark + b"--\r\n"


def message(body: bytes, kind: str | None = "multipart/mixed", *lines: str) -> Request:
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    if kind is not None:
        more = ';boundary="unique"' if kind.startswith("multipart/") else ""
        headers.append(("Content-Type", kind + more))
    return Request("INVITE", "sip:bob@example.com", Headers(headers), body)


def judged(request: Request) -> tuple[bool, bytes]:
    return is_readable(request, (SDP,)), session_description(request)


# ---------------------------------------------------------------- telling parts apart


def test_parts_come_as_they_were_written() -> None:
    body = b"for others\r\n" + joined(part(SDP, OFFER), part(*ISUP), b"\r\nno header") + b"after"
    parts = split_parts(body, "unique")
    assert [one.body for one in parts] == [OFFER, ISUP[1], b"no header"]
    assert [one.headers.get("Content-Type") for one in parts] == [SDP, ISUP[0], None]


def test_a_part_may_be_empty_and_its_headers_short_and_folded() -> None:
    body = joined(part(None, b"", "c: text/plain;", "  charset=utf-8"), b"X: y")
    first, second = split_parts(body, "unique")
    assert (first.body, second.body) == (b"", b"")
    assert (first.headers.get("Content-Type") or "").startswith("text/plain")
    assert second.headers.get("X") == "y"


def test_a_line_that_only_begins_like_the_boundary_is_text() -> None:
    text = b"--uniqueness\r\n -- unique\r\nx--unique\r\n--unique-\r\n"
    [only] = split_parts(joined(part("text/plain", text)), "unique")
    assert only.body == text


def test_blanks_behind_a_boundary_bare_line_feeds_and_a_missing_end_are_borne() -> None:
    body = b"--unique \t\nContent-Type: application/sdp\n\nv=0\ns=-\n--unique\n\nlast"
    first, second = split_parts(body, "unique")
    assert (first.headers.get("Content-Type"), first.body) == (SDP, b"v=0\ns=-")
    assert second.body == b"last"


def test_what_follows_the_closing_boundary_is_no_part() -> None:
    assert len(split_parts(joined(part(SDP, OFFER)) + joined(part(SDP, OTHER)), "unique")) == 1


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (b"", "unique"),
        (OFFER, "unique"),
        (b"--unique--\r\n", "unique"),
        (joined(b"no header\r\n\r\ntext"), "unique"),
        (joined(part(SDP, OFFER)), ""),
        (joined(part(SDP, OFFER)), "u" * 71),
        (joined(part(SDP, OFFER)), "üniqüe"),
        (joined(*[part(SDP, OFFER)] * (MAX_PARTS + 1)), "unique"),
        (joined(part(SDP, OFFER, *["X: y"] * MAX_PART_HEADERS)), "unique"),
    ],
)
def test_what_is_no_multipart_is_refused(body: bytes, boundary: str) -> None:
    with pytest.raises(SipError) as refused:
        split_parts(body, boundary)
    assert refused.value.status == 400


def test_as_many_parts_as_are_allowed() -> None:
    assert len(split_parts(joined(*[part(SDP, OFFER)] * MAX_PARTS), "unique")) == MAX_PARTS


# ---------------------------------------------------------------- what is in a body


@pytest.mark.parametrize(
    ("request_", "readable", "description"),
    [
        (message(OFFER, SDP), True, OFFER),
        (message(OFFER, None), True, OFFER),
        (message(b"", "text/plain"), True, b""),
        (message(OFFER, SDP, "Content-Disposition: session;handling=optional"), True, OFFER),
        (message(OFFER, SDP, "Content-Disposition: early-session"), False, b""),
        (message(OFFER, SDP, "Content-Disposition: early-session;handling=optional"), True, b""),
        (message(b"hi", "text/plain"), False, b""),
        (message(b"hi", "text/plain", "Content-Disposition: render; handling=Optional"), True, b""),
        (message(b"hi", "text/plain", "Content-Disposition: x; handling"), False, b""),
        (message(b"hi", "text/plain", 'Content-Disposition: x;"'), False, b""),
        (message(OFFER, SDP, "Content-Encoding: gzip"), False, b""),
        (message(b"dj0w", SDP, "Content-Transfer-Encoding: base64"), True, b"v=0"),
        (message(b"dj0", SDP, "Content-Transfer-Encoding: base64"), False, b""),
        (message(b"v=0", SDP, "Content-Transfer-Encoding: x-novel"), False, b""),
        (message(OFFER, SDP, "CONTENT-TRANSFER-ENCODING: 8bit"), True, OFFER),
        (message(OFFER, "application/SDP;charset=utf-8"), True, OFFER),
    ],
)
def test_a_body_that_is_one(request_: Request, readable: bool, description: bytes) -> None:
    assert judged(request_) == (readable, description)


OPTIONAL = "Content-Disposition: signal;handling=optional"


@pytest.mark.parametrize(
    ("parts", "readable", "description"),
    [
        ([part(SDP, OFFER)], True, OFFER),
        ([part(SDP, OFFER), part(SDP, OTHER)], True, OFFER),
        ([part(SDP, OFFER), part(*ISUP, OPTIONAL)], True, OFFER),
        ([part(*ISUP, OPTIONAL), part(SDP, OFFER)], True, OFFER),
        ([part(SDP, OFFER), part(*ISUP)], False, OFFER),
        ([part(SDP, OFFER), part(*ISUP, "Content-Disposition: signal")], False, OFFER),
        ([part(SDP, OFFER), b"\r\na text"], False, OFFER),
        ([part(*ISUP, OPTIONAL)], True, b""),
        ([part(SDP, OTHER, "Content-Disposition: early-session;handling=optional"),
          part(SDP, OFFER, "Content-Disposition: session")], True, OFFER),
        ([part(SDP, b"dj0w", "Content-Transfer-Encoding: Base64 ")], True, b"v=0"),
        ([part(SDP, b"dj0\r\nw=", "Content-Transfer-Encoding: base64")], True, b"v=0"),
        ([part(SDP, b"v=3D0=\r\n", "Content-Transfer-Encoding: quoted-printable")], True, b"v=0"),
        ([part(SDP, b"dj0", "Content-Transfer-Encoding: base64")], False, b""),
        ([part(SDP, b"dj0w", "Content-Transfer-Encoding: base64", "Content-Encoding: gzip")],
         False, b""),
        ([part(SDP, b"dj0", "Content-Transfer-Encoding: base64",
               "Content-Disposition: session;handling=optional"), part(SDP, OTHER)], True, OTHER),
        ([part(SDP, OFFER, "Content-Transfer-Encoding: binary")], True, OFFER),
    ],
)  # fmt: skip
def test_a_body_of_parts(parts: list[bytes], readable: bool, description: bytes) -> None:
    assert judged(message(joined(*parts))) == (readable, description)
    # a kind of multipart that nobody knows is read the same (RFC 2046 section 5.1.3)
    assert judged(message(joined(*parts), "multipart/novel")) == (readable, description)


@pytest.mark.parametrize(
    ("parts", "readable", "description"),
    [
        ([part("text/html", b"<p>"), part(SDP, OFFER)], True, OFFER),
        ([part(SDP, OFFER), part("text/html", b"<p>")], True, OFFER),
        ([part(SDP, OTHER), part(SDP, OFFER)], True, OFFER),
        ([part(SDP, OFFER), part("text/html", b"<p>", OPTIONAL)], True, OFFER),
        ([part("text/html", b"<p>"), part("text/plain", b"p")], False, b""),
    ],
)
def test_of_alternatives_the_last_that_can_be_read_counts(
    parts: list[bytes], readable: bool, description: bytes
) -> None:
    assert judged(message(joined(*parts), "multipart/alternative")) == (readable, description)


def test_parts_of_parts_are_not_written_in_letters() -> None:
    """RFC 2045 section 6.4: what is coded is what has no parts."""
    inner = b64encode(joined(part(SDP, OFFER), boundary="in"))
    kind = "multipart/mixed;boundary=in"
    whole = joined(part(kind, inner, "Content-Transfer-Encoding: base64"))
    assert judged(message(whole)) == (False, b"")


@pytest.mark.rfc("2045", "6")
@examples(100)
@given(st.binary(max_size=300))
def test_what_mail_writes_in_letters_is_read_back(body: bytes) -> None:
    """Written by the standard library's encoders, which break lines as mail does."""
    for transfer, written in (
        ("base64", encodebytes(body)),
        ("quoted-printable", b2a_qp(body, istext=False)),
    ):
        coded = part(SDP, written, f"Content-Transfer-Encoding: {transfer}")
        boundary = "so-long-that-nobody-writes-it-by-chance"
        request = message(joined(coded, boundary=boundary))
        request.headers.replace("Content-Type", f"multipart/mixed;boundary={boundary}")
        assert session_description(request) == body


# ---------------------------------------------------------------- a text among parts

TEXTS = ("text/plain", "text/html")


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (message(b"hi", "text/plain"), ("text/plain", b"hi")),
        (message(b"hi", None), ("text/plain", b"hi")),
        (message(b"hi", "TEXT/HTML;charset=utf-8"), ("text/html", b"hi")),
        (message(b"GIF", "image/gif"), None),
        (message(b"GIF", "image/gif", "Content-Disposition: render;handling=optional"), None),
        (message(joined(part("text/plain", b"hi"), part("image/gif", b"GIF"))), None),
        (message(joined(part("image/gif", b"GIF", "Content-Disposition: icon;handling=optional"),
                        b"\r\nhi")), ("text/plain", b"hi")),
        (message(joined(part("text/plain", b"hi"), part("text/html", b"<p>hi")),
                 "multipart/alternative"), ("text/html", b"<p>hi")),
        (message(joined(part("text/plain", b"hi"), part("image/gif", b"GIF")),
                 "multipart/alternative"), ("text/plain", b"hi")),
        (message(joined(part("text/plain", b"h=C3=A9",
                             "Content-Transfer-Encoding: quoted-printable"))),
         ("text/plain", "h\u00e9".encode())),
        (message(joined(part("text/plain", b"!", "Content-Disposition: alert"))), None),
    ],
)  # fmt: skip
def test_a_text_is_found(request_: Request, found: tuple[str, bytes] | None) -> None:
    assert find_body(request_, TEXTS, "text/plain") == found


def nested(depth: int) -> bytes:
    body = part(SDP, OFFER)
    for level in range(depth - 1):
        inner = joined(body, boundary=f"unique{level}")
        body = part(f"multipart/mixed;boundary=unique{level}", inner)
    return joined(body)


def test_parts_have_parts_to_a_depth() -> None:
    assert judged(message(nested(MAX_DEPTH))) == (True, OFFER)
    deeper = message(nested(MAX_DEPTH + 1))
    assert session_description(deeper) == b""
    with pytest.raises(SipError, match="multiparts in each other"):
        is_readable(deeper, (SDP,))


def test_a_body_whose_kind_nobody_can_read_is_taken_for_a_description() -> None:
    response = Response(200, None, Headers([("Content-Type", "sdp")]), OFFER)
    assert session_description(response) == OFFER


@pytest.mark.reference
def test_the_multipart_of_rfc_4475_has_two_parts(reference_data: Path) -> None:
    data = (reference_data / "sip-torture-rfc4475" / "valid" / "mpart01.dat").read_bytes()
    request = parse_message(data)
    assert isinstance(request, Request)
    found = split_parts(request.body, "7a9cbec02ceef655")
    assert [one.headers.get("Content-Type") for one in found] == [
        "text/plain",
        "application/octet-stream",
    ]
    assert found[0].body == b"Hello"
    assert len(found[1].body) > 100
    assert session_description(request) == b""


# ---------------------------------------------------------------- whatever comes

_KINDS = st.sampled_from((SDP, "text/plain", "multipart/mixed;boundary=unique", "nonsense", ""))
_PARTS = st.builds(
    lambda kind, body, optional: part(kind, body, *([OPTIONAL] if optional else [])),
    _KINDS,
    st.binary(max_size=60),
    st.booleans(),
)
_PIECES = st.sampled_from(
    (b"--unique", b"--unique--", b"--", b"\r\n", b"\n", b"\r", b" ", OFFER, b"c:application/sdp",
     b"Content-Type: multipart/mixed;boundary=unique", b"\xff", b"--u")
)  # fmt: skip


@examples(300)
@given(
    st.one_of(
        st.lists(_PARTS, max_size=5).map(lambda parts: joined(*parts)),
        st.lists(_PIECES, max_size=40).map(b"".join),
        st.binary(max_size=300),
    ),
    st.sampled_from(("multipart/mixed", "multipart/alternative", SDP, "text/plain")),
)
def test_any_body_is_judged(body: bytes, kind: str) -> None:
    request = message(body, kind)
    description = session_description(request)
    assert description in body
    try:
        is_readable(request, (SDP,))
    except SipError as error:
        assert error.status == 400
        assert description == b""


@examples(200)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=6))
def test_what_is_joined_is_split_into_the_same(bodies: list[bytes]) -> None:
    boundary = "so-long-that-no-body-of-eighty-bytes-has-it-" + "x" * 20
    body = joined(*(part("text/plain", one) for one in bodies), boundary=boundary)
    assert [one.body for one in split_parts(body, boundary)] == bodies
    assert all(isinstance(one, BodyPart) for one in split_parts(body, boundary))


_HOSTILE = {
    "beginnings of boundaries": b"--uniqu\r\n",
    "longer boundaries": b"--uniquest\r\n",
    "nearly a boundary": b"\n--uniqu",
    "line feeds": b"\n",
    "headers": b"X: y\r\n",
    "blanks": b" ",
    "quotes": b'"\\',
    "dashes": b"-",
}


@pytest.mark.parametrize("name", _HOSTILE)
def test_a_hostile_body_twice_as_long_costs_twice_as_much(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(data: bytes) -> None:
        for whole in (data, b"--unique\r\n" + data, part("text/plain", data)):
            for body in (whole, joined(whole), joined(*[whole] * MAX_PARTS)):
                assert isinstance(session_description(message(body)), bytes)

    counter = StepCounter(monkeypatch, grammar, headers, multipart)
    assert counter.patterns >= 5
    line = _HOSTILE[name]
    few, many = (counter.cost(read, line * (size // len(line))) for size in (2048, 4096))
    assert few > 0
    assert many <= 2.5 * few + 100


# ---------------------------------------------------------------- an agent


def told(stranger: Stranger, body: bytes, kind: str = "multipart/mixed") -> list[int]:
    text = request_text("INVITE", body=body.decode("latin-1"))
    text = text.replace(SDP, f"{kind};boundary=unique", 1)
    heard = stranger.tell(text)
    return [one.status for one in heard if isinstance(one, Response)]


def test_an_invite_with_parts_that_can_be_read_is_taken_with_its_offer() -> None:
    stranger = Stranger()
    assert told(stranger, joined(part(SDP, OFFER), part("text/plain", b"hi", OPTIONAL))) == []
    [event] = stranger.agent.events()
    assert isinstance(event, IncomingInvite)
    assert event.invite.offer == OFFER


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (joined(part(SDP, OFFER), part("application/isup", b"x")), 415),
        (b"no boundary in it", 400),
        (joined(*[part(SDP, OFFER)] * (MAX_PARTS + 1)), 400),
    ],
)
def test_an_invite_with_parts_that_cannot_is_refused(body: bytes, status: int) -> None:
    stranger = Stranger()
    assert told(stranger, body) == [status]
    assert stranger.agent.events() == []
    assert stranger.empty()


def test_parts_without_an_offer_ask_for_ours() -> None:
    net = Net()
    alice, bob = net.phone("192.0.2.1"), net.phone("192.0.2.2")
    offers: list[bytes] = []

    def answer(event: IncomingInvite) -> None:
        offers.append(event.invite.offer)
        bob.answer(event.invite)

    bob.on(IncomingInvite, answer)
    alice.agent.invite(
        bob.uri, flow=alice.to(bob), from_="<sip:alice@a.example>", to=f"<{bob.uri}>",
        contact=alice.contact, body=joined(part("text/plain", b"hi", OPTIONAL)),
        content_type="multipart/mixed;boundary=unique", now=net.now,
    )  # fmt: skip
    net.run(1)
    assert offers == [b""]
    assert len(alice.events(Answered)) == 1

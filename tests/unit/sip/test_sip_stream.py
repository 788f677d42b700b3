"""Messages out of a byte stream: RFC 3261 section 18.3, RFC 5626 section 3.5.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import SipError
from voip.sip.limits import MAX_LINE_CHARS, MAX_MESSAGE_BYTES, MAX_PINGS
from voip.sip.message import parse_message
from voip.sip.stream import StreamFramer

pytestmark = pytest.mark.rfc("3261", "18.3")


def message(body: bytes = b"", name: bytes = b"Content-Length") -> bytes:
    head = b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h\r\n%s: %d\r\n\r\n"
    return head % (name, len(body)) + body


RESPONSE = b"SIP/2.0 200 OK\r\nl  :\r\n  3\r\n\r\nabc"


def test_messages_come_out_whole_and_in_order() -> None:
    framer = StreamFramer()
    first, second = message(b"one\r\n\r\ntwo"), message(b"", b"l")
    assert framer.feed(first + second + RESPONSE + first[:30]) == [first, second, RESPONSE]
    assert framer.buffered == 30
    assert framer.feed(first[30:]) == [first]
    assert framer.buffered == 0


@given(
    st.lists(st.sampled_from([message(b"x" * 50), message(), RESPONSE]), min_size=1, max_size=5),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_slices_make_no_difference(messages: list[bytes], sizes: list[int]) -> None:
    framer = StreamFramer()
    data, out, at = b"\r\n".join(messages), [], 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        out += framer.feed(data[at : at + size])
        at += size
    assert out == messages
    assert framer.take_pings() == 0


def test_pings_are_counted_wherever_they_are_cut() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n\r\n") == []
    assert framer.take_pings() == 1
    assert framer.take_pings() == 0
    for byte in (b"\r", b"\n", b"\r", b"\n"):
        assert framer.feed(byte) == []
    assert framer.take_pings() == 1
    assert framer.feed(b"\r\n\r\n" + message() + b"\r\n\r\n\r\n\r\n") == [message()]
    assert framer.take_pings() == 3
    assert framer.buffered == 0


def test_a_pong_is_no_ping() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n") == []
    assert framer.feed(message()) == [message()]
    assert framer.take_pings() == 0


def test_a_flood_of_pings_is_answered_so_often_and_holds_nothing() -> None:
    framer = StreamFramer()
    assert framer.feed(b"\r\n" * 50_000) == []
    assert framer.take_pings() == MAX_PINGS
    assert framer.buffered == 0


def test_without_content_length_there_is_no_body() -> None:
    framer = StreamFramer()
    bare = b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\n\r\n"
    assert framer.feed(bare + bare) == [bare, bare]


@pytest.mark.parametrize(
    "lines", [b"Content-Length: -9", b"l: 5\r\nContent-Length: 5", b"l: five", b"l: ", b"l: 5, 5"]
)
def test_a_length_nobody_can_rely_on_breaks_the_stream_but_can_be_answered(lines: bytes) -> None:
    framer = StreamFramer()
    head = b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h\r\n" + lines + b"\r\n\r\n"
    assert framer.feed(message() + head + b"body") == [message(), head]
    assert framer.broken is not None
    assert framer.broken.status == 400
    with pytest.raises(SipError) as caught:
        parse_message(head)
    assert caught.value.context["request"].via.host == "h"
    with pytest.raises(SipError):
        framer.feed(message())
    assert framer.buffered == 0


def test_a_longer_message_than_allowed_breaks_the_stream() -> None:
    framer = StreamFramer()
    head = message().replace(b": 0", b": %d" % MAX_MESSAGE_BYTES)
    assert framer.feed(head) == [head]
    assert framer.broken is not None
    assert framer.broken.status == 513


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\n\r\n",
        b"\x16\x03\x01" + b"\x00" * MAX_LINE_CHARS,
        b" INVITE sip:a SIP/2.0\r\n\r\n",
    ],
)
def test_what_is_not_sip_is_refused(data: bytes) -> None:
    framer = StreamFramer()
    with pytest.raises(SipError) as caught:
        framer.feed(data)
    assert caught.value.status == 400
    assert framer.buffered == 0
    with pytest.raises(SipError):
        framer.feed(b"")


def test_headers_that_never_end_are_refused() -> None:
    framer = StreamFramer()
    framer.feed(b"OPTIONS sip:a SIP/2.0\r\n")
    with pytest.raises(SipError) as caught:
        for _ in range(MAX_MESSAGE_BYTES):
            framer.feed(b"X: y\r\n")
            assert framer.buffered <= MAX_MESSAGE_BYTES
    assert caught.value.status == 513


def test_a_body_that_looks_like_a_message_is_a_body() -> None:
    framer = StreamFramer()
    outer = message(message(b"inner"))
    assert framer.feed(outer) == [outer]


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\r\n", b"l: 3\r\n", message()])))
def test_any_bytes_are_framed_or_refused(chunks: list[bytes]) -> None:
    framer = StreamFramer(max_message=300)
    try:
        for chunk in chunks:
            for found in framer.feed(chunk):
                assert found.endswith(b"\r\n\r\n") or b"\r\n\r\n" in found
    except SipError as error:
        assert error.status in (400, 513)
        assert framer.broken is error


def test_a_tls_client_at_a_plain_port_is_not_waited_for() -> None:
    framer = StreamFramer()
    with pytest.raises(SipError, match="is TLS"):
        framer.feed(b"\x16\x03\x01\x02\x00\x01\x00")

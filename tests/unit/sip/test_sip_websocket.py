"""SIP over WebSocket without sockets (F135): handshake, frames, and what is neither."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    Request,
    TextMessage,
)

from voip.sip.framing import StreamFraming
from voip.sip.limits import MAX_MESSAGE_BYTES
from voip.sip.websocket import WebSocketFraming

pytestmark = [pytest.mark.rfc("7118", "4"), pytest.mark.rfc("6455", "5")]

INFO = b"INFO sip:a@b SIP/2.0\r\n\r\n"
HEAD = (
    b"GET / HTTP/1.1\r\nHost: proxy.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://www.example.com\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
)


def joined() -> tuple[WebSocketFraming, WebSocketFraming]:
    client, server = WebSocketFraming("proxy.example.com", 8088, "/ws"), WebSocketFraming()
    heard = server.feed(client.open())
    assert (heard.messages, heard.broken, server.is_ready) == ([], None, True)
    assert not client.is_ready
    assert client.feed(heard.answer).broken is None
    assert client.is_ready
    return client, server


def stranger() -> tuple[WSConnection, WebSocketFraming]:
    """wsproto as a client of our server."""
    ws, server = WSConnection(ConnectionType.CLIENT), WebSocketFraming()
    ws.receive_data(server.feed(ws.send(Request("x", "/", subprotocols=["sip"]))).answer)
    (accepted,) = ws.events()
    assert isinstance(accepted, AcceptConnection) and accepted.subprotocol == "sip"
    return ws, server


def test_F135_the_handshake_asks_for_sip_and_answers_as_rfc_6455_computes() -> None:
    asked = WebSocketFraming("proxy.example.com", 8088, "/ws").open()
    assert asked.startswith(b"GET /ws HTTP/1.1\r\n")
    assert b"Host: proxy.example.com:8088\r\n" in asked
    assert re.search(rb"(?i)sec-websocket-protocol: sip\r\n", asked)
    server = WebSocketFraming()
    heard = server.feed(HEAD + b"Sec-WebSocket-Protocol: sip\r\n\r\n")
    assert heard.answer.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in heard.answer
    assert re.search(rb"(?i)sec-websocket-protocol: sip\r\n", heard.answer)


@pytest.mark.parametrize("line", [b"", b"Sec-WebSocket-Protocol: chat, mqtt\r\n"])
def test_F135_a_websocket_without_the_sip_subprotocol_is_refused(line: bytes) -> None:
    server = WebSocketFraming()
    heard = server.feed(HEAD + line + b"\r\n")
    assert heard.answer.startswith(b"HTTP/1.1 400 ") and not server.is_ready
    assert heard.broken == "wants a WebSocket for something else than SIP"
    assert server.feed(b"more").messages == []


def test_F135_each_message_is_one_of_the_websocket() -> None:
    client, server = joined()
    whole = b"".join(client.frame(INFO + bytes([65 + n])) for n in range(3))
    assert server.feed(whole).messages == [INFO + b"A", INFO + b"B", INFO + b"C"]
    assert client.feed(server.frame(INFO * 1000)).messages == [INFO * 1000]
    got = [one for n in range(len(whole)) for one in joined()[1].feed(whole[n : n + 1]).messages]
    assert got == []  # another connection's frames are no beginning of ours
    data = client.frame(INFO)
    assert [m for n in range(len(data)) for m in server.feed(data[n : n + 1]).messages] == [INFO]


def test_F135_text_goes_as_text_and_anything_else_as_bytes() -> None:
    ws, server = stranger()
    for message, kind in ((INFO + "ü".encode(), TextMessage), (INFO + b"\xff", BytesMessage)):
        ws.receive_data(server.frame(message))
        (event,) = ws.events()
        assert isinstance(event, kind)
        data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        assert data == message
        assert server.feed(ws.send(BytesMessage(message))).messages == [message]


def test_F135_a_message_in_fragments_is_one() -> None:
    ws, server = stranger()
    for part in (INFO[:5], INFO[5:9]):
        assert (
            server.feed(ws.send(TextMessage(part.decode(), message_finished=False))).messages == []
        )
        assert server.has_part
    assert server.feed(ws.send(TextMessage(INFO[9:].decode()))).messages == [INFO]
    assert not server.has_part


def test_F135_pings_are_answered_and_pongs_noticed_of_both_kinds() -> None:
    ws, server = stranger()
    ws.receive_data(server.feed(ws.send(Ping(b"x"))).answer)
    assert list(ws.events()) == [Pong(b"x")]
    ws.receive_data(server.ping())
    (asked,) = ws.events()
    assert isinstance(asked, Ping)
    assert server.feed(ws.send(asked.response())).pong
    ws.receive_data(server.feed(ws.send(TextMessage("\r\n\r\n"))).answer)  # RFC 5626, 3.5.1
    (event,) = ws.events()
    assert isinstance(event, TextMessage) and event.data == "\r\n"
    heard = server.feed(ws.send(TextMessage("\r\n")))
    assert (heard.pong, heard.messages) == (True, [])


def test_F135_a_close_is_answered() -> None:
    ws, server = stranger()
    heard = server.feed(ws.send(CloseConnection(1001)))
    assert (heard.broken, heard.closed) == ("closed the WebSocket", True)
    ws.receive_data(heard.answer)
    assert [type(event) for event in ws.events()] == [CloseConnection]
    other, server = stranger()
    other.receive_data(server.close())
    assert [type(event) for event in other.events()] == [CloseConnection]


def test_F135_a_message_that_is_too_long_ends_the_connection() -> None:
    ws, server = stranger()
    assert server.feed(ws.send(BytesMessage(b"x" * MAX_MESSAGE_BYTES))).broken is None
    heard = server.feed(ws.send(BytesMessage(b"x" * MAX_MESSAGE_BYTES, message_finished=False)))
    assert heard.broken is None
    heard = server.feed(ws.send(BytesMessage(b"x")))
    assert heard.broken == f"sent a message of more than {MAX_MESSAGE_BYTES} bytes"
    ws.receive_data(heard.answer)
    (event,) = ws.events()
    assert isinstance(event, CloseConnection) and event.code == 1009


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "refused the WebSocket (HTTP 404)",
        ),
        (b"SIP/2.0 400 Bad Request\r\n\r\n", "sent what is no WebSocket: "),
        (b"HTTP/1.1 101 X\r\n\r\n", "sent what is no WebSocket: "),
    ],
)
def test_F135_a_server_that_does_not_want_us_is_quoted(answer: bytes, words: str) -> None:
    client = WebSocketFraming("x", 80)
    client.open()
    heard = client.feed(answer)
    assert heard.broken is not None and heard.broken.startswith(words)
    assert not client.is_ready and (client.ping(), client.close()) == (b"", b"")


@given(st.lists(st.binary(max_size=40), max_size=8), st.booleans())
def test_F135_nothing_from_the_network_raises(parts: list[bytes], shaken: bool) -> None:
    framing = joined()[1] if shaken else WebSocketFraming()
    for part in parts:
        framing.feed(part)
    framing.ping()
    framing.close()


def test_a_stream_has_its_messages_one_after_the_other() -> None:
    framing = StreamFraming()
    whole = INFO.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")
    heard = framing.feed(whole + b"\r\n\r\n" + whole)
    assert (heard.messages, heard.answer, heard.broken) == ([whole, whole], b"\r\n", None)
    assert framing.feed(b"\r\n").pong and not framing.has_part
    assert framing.feed(b"INFO").messages == [] and framing.has_part
    assert (framing.feed(b"\r\nx\r\n\r\n").broken or "").startswith("sent what is not SIP")

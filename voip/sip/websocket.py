"""SIP over WebSocket (RFC 7118), without I/O: a message in each WebSocket message, by wsproto."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voip.sip.framing import Heard
from voip.sip.keepalive import PING
from voip.sip.limits import MAX_MESSAGE_BYTES
from voip.sip.stream import PONG
from voip.sip.uri import format_host

if TYPE_CHECKING:
    from wsproto import WSConnection
    from wsproto.events import BytesMessage, Event, TextMessage

__all__ = ["WebSocketFraming"]

SUBPROTOCOL: Final = "sip"
_TOO_BIG: Final = 1009  # close codes: RFC 6455 section 7.4.1
_NORMAL: Final = 1000


class WebSocketFraming:
    """One end of a WebSocket. `host`: whom a client calls; None: we are the server.

    The subprotocol is `sip` or there is no connection. Pings of the other side are answered.
    """

    def __init__(self, host: str | None = None, port: int | None = None, path: str = "/") -> None:
        from wsproto import ConnectionType, WSConnection

        self._host = None if host is None else format_host(host, port)
        self._path = path
        kind = ConnectionType.SERVER if host is None else ConnectionType.CLIENT
        self._ws: WSConnection = WSConnection(kind)
        self._part = bytearray()
        self._ended = False
        self.is_ready = False

    @property
    def has_part(self) -> bool:
        """Whether a message has begun to come and is not complete."""
        return bool(self._part)

    def open(self) -> bytes:
        """Return the client's half of the handshake."""
        from wsproto.events import Request

        if self._host is None:
            return b""
        return self._ws.send(Request(self._host, self._path, subprotocols=[SUBPROTOCOL]))

    def feed(self, data: bytes) -> Heard:
        """Take what has come."""
        from wsproto.utilities import LocalProtocolError, RemoteProtocolError

        heard = Heard()
        if self._ended or not data:
            return heard
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                self._take(event, heard)
                if heard.broken is not None:
                    break
        except RemoteProtocolError as error:
            heard.broken = f"sent what is no WebSocket: {error}"
            if error.event_hint is not None and not self._ws.client:
                heard.answer += self._ws.send(error.event_hint)
        except (LocalProtocolError, UnicodeError, ValueError) as error:
            heard.broken = f"sent what is no WebSocket: {error}"
        self._ended = heard.broken is not None
        return heard

    def frame(self, message: bytes) -> bytes:
        """Return a message in one frame: as text where it is that, else as bytes."""
        from wsproto.events import BytesMessage, TextMessage

        try:
            return self._ws.send(TextMessage(message.decode()))
        except UnicodeDecodeError:
            return self._ws.send(BytesMessage(message))

    def ping(self) -> bytes:
        """Return a Ping frame (RFC 7118 section 6)."""
        from wsproto.events import Ping

        return self._ws.send(Ping()) if self.is_ready else b""

    def close(self) -> bytes:
        """Return a Close frame."""
        return self._close(_NORMAL) if self.is_ready else b""

    def _take(self, event: Event, heard: Heard) -> None:
        from wsproto import events

        match event:
            case events.BytesMessage() | events.TextMessage():
                self._take_message(event, heard)
            case events.Ping():
                heard.answer += self._ws.send(event.response())
            case events.Pong():
                heard.pong = True
            case events.Request():
                self._answer(event, heard)
            case events.AcceptConnection():
                self.is_ready = event.subprotocol == SUBPROTOCOL
                if not self.is_ready:
                    heard.broken = "does not speak SIP over WebSocket"
            case events.RejectConnection():
                heard.broken = f"refused the WebSocket (HTTP {event.status_code})"
            case events.CloseConnection():
                if self.is_ready:
                    self.is_ready = False
                    heard.answer += self._ws.send(event.response())
                heard.broken, heard.closed = "closed the WebSocket", True
            case _:  # the body of a refusal
                pass

    def _take_message(self, event: BytesMessage | TextMessage, heard: Heard) -> None:
        data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        if len(self._part) + len(data) > MAX_MESSAGE_BYTES:
            heard.broken = f"sent a message of more than {MAX_MESSAGE_BYTES} bytes"
            heard.answer += self._close(_TOO_BIG)
            return
        self._part += data
        if not event.message_finished:
            return
        message = bytes(self._part)
        self._part.clear()
        if message == PING:
            heard.answer += self.frame(PONG)
        elif message == PONG:
            heard.pong = True
        elif message.strip():
            heard.messages.append(message)

    def _answer(self, request: object, heard: Heard) -> None:
        """Answer a client's half of the handshake."""
        from wsproto.events import AcceptConnection, RejectConnection, Request

        if isinstance(request, Request) and SUBPROTOCOL in request.subprotocols:
            heard.answer += self._ws.send(AcceptConnection(subprotocol=SUBPROTOCOL))
            self.is_ready = True
            return
        heard.answer += self._ws.send(RejectConnection(status_code=400))
        heard.broken = "wants a WebSocket for something else than SIP"

    def _close(self, code: int) -> bytes:
        from wsproto.events import CloseConnection

        self.is_ready = False
        return self._ws.send(CloseConnection(code))

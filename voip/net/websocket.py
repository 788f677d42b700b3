"""WebSockets (RFC 6455) in the running event loop, client and server: messages in, messages out.

wsproto reads and writes the protocol (decision 0012). Messages have a limit, whoever says nothing
and answers no ping is cut, and who does not read what is sent keeps the sender waiting.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto import events as ws_events
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from voip.errors import ConfigError, TransportError
from voip.net.stream_server import StreamServer
from voip.types import Address

__all__ = ["MAX_MESSAGE_BYTES", "WebSocket", "WebSocketServer", "connect_websocket"]

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_CONNECTIONS: Final = 64
"""Of one server."""
HANDSHAKE_S: Final = 10.0
PING_S: Final = 20.0
"""Who says nothing for so long is pinged, and cut when nothing comes for as long again."""
CLOSING_S: Final = 2.0
_READ_BYTES: Final = 65_536
_TOO_BIG, _NORMAL = 1009, 1000  # RFC 6455 section 7.4.1


class WebSocket:
    """One connection. `path` and `headers`: what a client asked for, of a server's connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: ConnectionType
    ) -> None:
        self.path = ""
        self.headers: Mapping[str, str] = {}
        self.is_open = False
        self._reader, self._writer = reader, writer
        self._ws = WSConnection(kind)
        self._part: list[str | bytes] = []
        self._part_bytes = 0
        self._messages: deque[str | bytes] = deque()
        self._eof = False

    # ------------------------------------------------------------ messages

    async def receive(self) -> str | bytes | None:
        """Return the next message; None: the other side has closed, or is gone."""
        pinged = False
        while not self._messages:
            if self._eof:
                return None
            try:
                await asyncio.wait_for(self._read(), PING_S)
                pinged = False
            except TimeoutError:
                if pinged:
                    self._drop()
                    return None
                pinged = True
                await self._write(ws_events.Ping())
        return self._messages.popleft()

    async def send(self, message: str | bytes) -> None:
        """Send a message; waits while the other side does not read. Gone: `TransportError`."""
        if not self.is_open:
            raise TransportError("the WebSocket is closed")
        if isinstance(message, str):
            await self._write(ws_events.TextMessage(message))
        else:
            await self._write(ws_events.BytesMessage(message))

    async def close(self, code: int = _NORMAL) -> None:
        """Say goodbye and close; closing twice does nothing."""
        if self.is_open:
            self.is_open = False
            with suppress(TransportError, TimeoutError):
                await asyncio.wait_for(self._write(ws_events.CloseConnection(code)), CLOSING_S)
        self._drop()
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.wait_closed(), CLOSING_S)

    def _drop(self) -> None:
        self.is_open, self._eof = False, True
        self._writer.close()

    async def _write(self, event: ws_events.Event) -> None:
        try:
            self._writer.write(self._ws.send(event))
            await self._writer.drain()
        except (OSError, LocalProtocolError) as error:
            self._drop()
            raise TransportError(f"the WebSocket is closed: {error}") from error

    async def _read(self) -> None:
        """Read some, and take what it holds."""
        try:
            data = await self._reader.read(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._drop()
            return
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                await self._take(event)
        except RemoteProtocolError as error:
            log.debug("sent what is no WebSocket: %s", error)
            if error.event_hint is not None:
                with suppress(TransportError):
                    await self._write(error.event_hint)
            self._drop()
        except (TransportError, LocalProtocolError, ValueError):
            self._drop()

    async def _take(self, event: ws_events.Event) -> None:
        match event:
            case ws_events.TextMessage() | ws_events.BytesMessage():
                data = event.data
                self._part.append(data if isinstance(data, str) else bytes(data))
                self._part_bytes += len(data)
                if self._part_bytes > MAX_MESSAGE_BYTES:
                    await self.close(_TOO_BIG)
                elif event.message_finished:
                    whole = self._part
                    if isinstance(event, ws_events.TextMessage):
                        self._messages.append("".join(map(str, whole)))
                    else:
                        self._messages.append(b"".join(bytes(part) for part in whole))  # type: ignore[arg-type]
                    self._part, self._part_bytes = [], 0
            case ws_events.Ping():
                await self._write(event.response())
            case ws_events.CloseConnection():
                if self.is_open:
                    await self._write(event.response())
                self._drop()
            case ws_events.AcceptConnection():
                self.is_open = True
            case ws_events.RejectConnection():
                self._drop()
                raise TransportError(f"the WebSocket was refused (HTTP {event.status_code})")
            case ws_events.Request():
                self.path = event.target
                self.headers = {
                    name.decode("latin-1"): value.decode("latin-1")
                    for name, value in event.extra_headers
                }
                await self._write(ws_events.AcceptConnection())
                self.is_open = True
            case _:
                pass

    async def shake_hands(self, request: ws_events.Request | None = None) -> None:
        """Open the connection: by `request`, or by answering the other side's.

        Raises `TransportError` where it comes to nothing.
        """
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                if request is not None:
                    await self._write(request)
                while not (self.is_open or self._eof):
                    await self._read()
        except TimeoutError:
            self._drop()
        if not self.is_open:
            raise TransportError("no WebSocket was opened", hint="is that a WebSocket's address?")


async def connect_websocket(
    url: str, *, headers: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None
) -> WebSocket:
    """Connect to `ws://` or `wss://host[:port]/path`; tls: other than the system's trust.

    Raises `ConfigError` for another URL, `TransportError` where nobody answers as a WebSocket.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{url[:80]!r} is no URL: {error}") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ConfigError("that is no WebSocket's URL", hint="wss://agent.example/path")
    context = None
    if parts.scheme == "wss":
        context = tls or ssl.create_default_context()
    where = Address(parts.hostname, port or (80 if context is None else 443))
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            reader, writer = await asyncio.open_connection(where.host, where.port, ssl=context)
    except (OSError, TimeoutError) as error:
        raise TransportError(f"no WebSocket at {where}: {error}", hint="is it running?") from error
    socket = WebSocket(reader, writer, ConnectionType.CLIENT)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await socket.shake_hands(ws_events.Request(parts.netloc, target, extra_headers=lines))
    return socket


class WebSocketServer:
    """Takes WebSockets: `handler` is a coroutine function of each, which is closed at its end."""

    def __init__(self, handler: Callable[[WebSocket], Awaitable[None]]) -> None:
        self._handler = handler
        self._server = StreamServer("WebSockets", self._serve, MAX_CONNECTIONS)

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> Address:
        """Listen, and return where; raises `TransportError` where that cannot be."""
        return await self._server.start(host, port, tls=tls)

    async def close(self) -> None:
        """Listen no more, and close what is open."""
        await self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket = WebSocket(reader, writer, ConnectionType.SERVER)
        try:
            await socket.shake_hands()
            await self._handler(socket)
        except TransportError as error:
            log.debug("a WebSocket ended: %s", error)
        except Exception:
            log.exception("what serves a WebSocket failed")
        finally:
            await socket.close()

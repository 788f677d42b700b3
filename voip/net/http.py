"""A few texts over HTTP/1.1 (RFC 9112), in the running event loop: for monitoring, not for a web.

h11 reads and writes the protocol. Requests are answered one after the other on each connection;
whoever is slow, or sends what is no request, is cut.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import h11

from voip.net.stream_server import StreamServer
from voip.types import Address

__all__ = ["HttpServer", "Page"]

log = logging.getLogger(__name__)

Page = Callable[[str], Awaitable[tuple[str, bytes]]]
"""A coroutine function that returns (content type, body) for the value of an Accept header."""

MAX_CONNECTIONS: Final = 32
MAX_HEAD_BYTES: Final = 16_384
MAX_BODY_BYTES: Final = 65_536
"""Of a request; nobody reads it."""
PATIENCE_S: Final = 120.0
"""How long a connection waits for a request to be complete, and for an answer to be taken."""
_READ_BYTES: Final = 4096
_PLAIN: Final = "text/plain; charset=utf-8"


class HttpServer:
    """Answers GET and HEAD for `pages`, by path; 404 and 405 for all else."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        self._server = StreamServer("HTTP", self._serve, MAX_CONNECTIONS)

    async def start(self, host: str, port: int) -> Address:
        """Listen, and return where; raises `TransportError` where that cannot be."""
        return await self._server.start(host, port)

    async def close(self) -> None:
        """Listen no more, and cut who is connected."""
        await self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        try:
            with suppress(TimeoutError, OSError, h11.ProtocolError):
                while True:
                    async with asyncio.timeout(PATIENCE_S):
                        request = await _next_request(connection, reader)
                        if request is None:
                            return
                        writer.write(await self._answer(connection, request))
                        await writer.drain()
                    if connection.our_state is h11.MUST_CLOSE:
                        return
                    connection.start_next_cycle()
        except Exception:
            log.exception("answering an HTTP request failed")
        finally:
            writer.close()

    async def _answer(self, connection: h11.Connection, request: h11.Request | int) -> bytes:
        status, content_type, body = await self._respond(request)
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        if status == 405:
            headers.append(("Allow", "GET, HEAD"))
        sent = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        if not (isinstance(request, h11.Request) and request.method == b"HEAD"):
            sent += connection.send(h11.Data(data=body)) or b""
        return sent + (connection.send(h11.EndOfMessage()) or b"")

    async def _respond(self, request: h11.Request | int) -> tuple[int, str, bytes]:
        """Return (status, content type, body)."""
        if isinstance(request, int):
            return request, _PLAIN, b"that is no request\n"
        page = self._pages.get(request.target.split(b"?")[0].decode("ascii", "replace"))
        if page is None:
            there = ", ".join(self._pages)
            return 404, _PLAIN, f"nothing is here; see {there}\n".encode()
        if request.method not in (b"GET", b"HEAD"):
            return 405, _PLAIN, b"this can be read only\n"
        accept = b",".join(value for name, value in request.headers if name == b"accept")
        try:
            content_type, body = await page(accept.decode("ascii", "replace"))
        except Exception:
            log.exception("a page could not be made")
            return 500, _PLAIN, b"the log says why\n"
        return 200, content_type, body


async def _next_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> h11.Request | int | None:
    """Return a request that has come in full, the status that refuses it, or None for no more."""
    request: h11.Request | None = None
    body = 0
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            answerable = connection.our_state in (h11.IDLE, h11.SEND_RESPONSE)
            return error.error_status_hint if answerable else None
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += len(event.data)
            if body > MAX_BODY_BYTES:
                return None
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:  # closed, or something else than HTTP is wanted
            return None

"""Texts, and what others can do: MESSAGE (RFC 3428) and OPTIONS (RFC 3261 section 11)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from voip.account import Account
from voip.desk import Desk
from voip.errors import ConfigError, RequestError, SipError, TransportError
from voip.events import MessageReceived
from voip.session.ask import ask
from voip.sip.client_request import ClientRequest
from voip.sip.message import Response
from voip.sip.multipart import MULTIPART, find_body
from voip.sip.server_request import ServerRequest
from voip.ways import Ways

__all__ = ["Capabilities", "Messages"]

MAX_TEXT_BYTES: Final = 1_300
"""Longer ones might not fit a datagram (RFC 3428 section 8)."""
Handler = TypeVar("Handler", bound=Callable[..., Any])
_KINDS: Final = ("text/plain", "text/html", "application/im-iscomposing+xml", "message/cpim")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What somebody answered to OPTIONS."""

    status: int
    allow: tuple[str, ...]
    supported: tuple[str, ...]
    accept: tuple[str, ...]
    allow_events: tuple[str, ...]
    user_agent: str | None

    @classmethod
    def of(cls, response: Response) -> Capabilities:
        """Read a response; lists that cannot be read are empty."""

        def words(name: str) -> tuple[str, ...]:
            try:
                return tuple(value for value in response.headers.values(name) if value)
            except SipError:
                return ()

        name = response.headers.get("Server") or response.headers.get("User-Agent")
        return cls(
            response.status, words("Allow"), words("Supported"), words("Accept"),
            words("Allow-Events"), name,
        )  # fmt: skip


class Messages:
    """Sends texts and takes them.

    account: whom to send as; the phone's first where none is named.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def on_received(self, handler: Handler) -> Handler:
        """Call `handler(event)` with every `MessageReceived`; `Softphone.events` has them too."""
        self._desk.handlers.message = handler
        return handler

    async def send(
        self,
        target: str,
        text: str,
        *,
        content_type: str = "text/plain",
        account: Account | str | None = None,
    ) -> None:
        """Send a text; returns when it has been taken, raises `RequestError` where it has not."""
        body = text.encode()
        if not body or len(body) > MAX_TEXT_BYTES:
            raise ConfigError(
                f"a message of {len(body)} bytes cannot be sent", hint=f"1 to {MAX_TEXT_BYTES}"
            )
        await self.request("MESSAGE", target, body=body, content_type=content_type, account=account)

    async def options(self, target: str, *, account: Account | str | None = None) -> Capabilities:
        """Ask what somebody can do; raises `RequestError` where nobody says."""
        return Capabilities.of(await self.request("OPTIONS", target, account=account))

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_type: str | None = None,
        account: Account | str | None = None,
    ) -> Response:
        """Send a request outside of calls and return its 2xx."""
        desk, line = self._desk, self._desk.lines.of(account)
        desk.check_open()
        uri = line.account.dial_uri(target)
        failure: RequestError | None = None
        async with line.ways_to(uri) as ways:
            while (way := await ways.next()) is not None:
                registrar, flow = way
                handle = desk.stack.agent.request(
                    method,
                    uri,
                    flow=flow,
                    from_=line.identity(flow),
                    to=f"<{uri}>",
                    route=registrar.route(),
                    headers=list((headers or {}).items()),
                    body=body,
                    content_type=content_type,
                    credentials=line.account.credentials(),
                    now=desk.now(),
                )
                leaving = asyncio.ensure_future(self._leave_silent(handle, ways))
                try:
                    return await ask(desk.stack, handle, str(uri))
                except RequestError as error:
                    if not _passes_elsewhere(error):
                        raise
                    desk.stack.signalling.avoid(flow)
                    failure = failure or error
                finally:
                    leaving.cancel()
        raise failure or TransportError("the phone was closed", hint="make another one")

    async def _leave_silent(self, handle: ClientRequest, ways: Ways) -> None:
        """Wait no longer for who says nothing, if there is another way."""
        if await ways.lead_around(handle):
            handle.give_up(self._desk.now())
            self._desk.flush()

    def on_message(self, request: ServerRequest) -> None:
        """Take a text that came: 200 says that it is here, not that anybody has read it."""
        desk, message = self._desk, request.request
        try:
            found = find_body(message, _KINDS, "text/plain")
        except SipError as error:
            request.reply(error.status or 400, now=desk.now())
            return
        if found is None:
            accept = ", ".join((*_KINDS, *MULTIPART))
            request.reply(415, headers=[("Accept", accept)], now=desk.now())
            return
        request.reply(200, now=desk.now())
        text = found.body.decode("utf-8", "replace")
        line = desk.lines.called(message, request.flow)
        event = MessageReceived(message.from_.uri, text, found.media_type, line.aor)
        desk.tell(event)
        handler: Callable[[MessageReceived], object] | None = desk.handlers.message
        if handler is not None:
            desk.spawn(desk.ask(handler, event, None))


def _passes_elsewhere(error: RequestError) -> bool:
    """Whether another server may do what this one did not (RFC 3263 section 4.3)."""
    return error.status == 503 or (error.status == 408 and "response" not in error.context)

"""Texts, and what others can do: MESSAGE (RFC 3428) and OPTIONS (RFC 3261 section 11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from voip.account import Account
from voip.desk import Desk
from voip.errors import ConfigError, SipError
from voip.events import MessageReceived
from voip.session.ask import ask
from voip.sip.focus import is_focus
from voip.sip.headers import NameAddr
from voip.sip.message import Response
from voip.sip.multipart import MULTIPART, find_body
from voip.sip.server_request import ServerRequest
from voip.ways import seek

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
    is_focus: bool = False
    """It is a conference (RFC 4579 section 4.3)."""

    @classmethod
    def of(cls, response: Response) -> Capabilities:
        """Read a response; lists that cannot be read are empty."""

        def words(name: str) -> tuple[str, ...]:
            try:
                return tuple(value for value in response.headers.values(name) if value)
            except SipError:
                return ()

        contacts = response.headers.readable("Contact", NameAddr.parse)
        name = response.headers.get("Server") or response.headers.get("User-Agent")
        return cls(
            response.status, words("Allow"), words("Supported"), words("Accept"),
            words("Allow-Events"), name, any(map(is_focus, contacts)),
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
        registrar, flow = await desk.way_to(line, uri)
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
            seek=seek(desk, line, uri),
            now=desk.now(),
        )
        return await ask(desk.stack, handle, str(uri))

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

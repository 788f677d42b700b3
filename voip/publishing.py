"""States this phone publishes (RFC 3903), kept published in the event loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from voip.account import Account
from voip.desk import Desk
from voip.errors import RequestError
from voip.line import Line
from voip.sip.events import SipEvent
from voip.sip.publication import Publication, PublicationFailed, Published, Unpublished
from voip.sip.uri import SipUri
from voip.ways import seek

__all__ = ["PublishedState", "Publishing"]

log = logging.getLogger(__name__)

GOODBYE_S: Final = 4.0


class PublishedState:
    """A state that is published until it is closed; made by `Softphone.publish`."""

    def __init__(self, desk: Desk, line: Line, publication: Publication) -> None:
        self.line = line
        self._desk = desk
        self._publication = publication
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._closing: asyncio.Future[RequestError | None] | None = None
        self.closed = False

    @property
    def published(self) -> bool:
        """Whether the other side holds it."""
        return self._publication.etag is not None

    async def update(self, body: bytes, content_type: str) -> None:
        """Publish another state in its place; raises `RequestError` where it is refused.

        After a refusal that may pass it is tried again all the same.
        """
        if self.closed:
            raise RequestError("it is not published any more")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._publication.publish(body, content_type, self._desk.now())
        self.settle()
        await done

    async def close(self) -> None:
        """Take it back; returns when the other side has agreed, or after a moment."""
        if self.closed:
            return
        self.closed = True
        self._closing = asyncio.get_running_loop().create_future()
        self._publication.remove(self._desk.now())
        self.settle()
        try:
            async with asyncio.timeout(GOODBYE_S):
                error = await self._closing
            if error is not None:
                log.info("%s", error)
        except TimeoutError:
            log.info("nobody has agreed in %g s to hold our state no more", GOODBYE_S)
        finally:
            self.stop()

    async def __aenter__(self) -> PublishedState:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def stop(self) -> None:
        """Forget it without a word."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_event(self, event: SipEvent) -> bool:
        """Take an event of the agent; True when it was about this."""
        taken = self._publication.handle(event, self._desk.now())
        if taken:
            self.settle()
        return taken

    def settle(self) -> None:
        """Send what is to be sent, tell who waits, and set the timer."""
        self._desk.flush()
        for event in self._publication.events():
            match event:
                case Published():
                    self._answer(None)
                case PublicationFailed(error):
                    self._answer(error)
                case Unpublished(error):
                    if self._closing is not None and not self._closing.done():
                        self._closing.set_result(error)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._publication.next_timer()
        if due is not None and not self.closed:
            self._timer = asyncio.get_running_loop().call_at(due, self._on_timer, due)

    def _on_timer(self, due: float) -> None:
        self._timer = None
        self._publication.handle_timer(max(due, self._desk.now()))
        self.settle()

    def _answer(self, error: RequestError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if one.done():
                continue
            if error is None:
                one.set_result(None)
            else:
                one.set_exception(error)


class Publishing:
    """All states one phone publishes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._states: list[PublishedState] = []

    async def publish(
        self,
        event: str,
        body: bytes,
        content_type: str,
        *,
        target: str | None = None,
        expires_s: int = 3600,
        account: Account | str | None = None,
    ) -> PublishedState:
        """Publish a state of ours (RFC 3903), and keep it published until it is closed.

        target: where, None for the account itself; account: which, None for the first. Raises
        `RequestError` where it is refused.
        """
        desk, line = self._desk, self._desk.lines.of(account)
        desk.check_open()
        account = line.account
        uri: SipUri = account.aor if target is None else account.dial_uri(target)
        registrar, flow = await desk.way_to(line, uri)
        state = PublishedState(
            desk,
            line,
            Publication(
                desk.stack.agent,
                desk.stack.random,
                target=uri,
                event=event,
                from_=line.identity(flow),
                flow=flow,
                expires_s=expires_s,
                route=registrar.route(),
                credentials=account.credentials(),
                seek=seek(desk, line, uri),
            ),
        )
        self._states = [one for one in self._states if not one.closed]
        self._states.append(state)
        try:
            await state.update(body, content_type)
        except BaseException:
            state.stop()
            raise
        return state

    def on_event(self, event: SipEvent) -> bool:
        """Take an event of the agent; True when it was about a PUBLISH of ours."""
        return any(state.on_event(event) for state in tuple(self._states))

    async def close(self, line: Line | None = None) -> None:
        """Take everything back, or what is published as `line`."""
        states = [one for one in self._states if line is None or one.line is line]
        await asyncio.gather(*(state.close() for state in states))
        self._states = [one for one in self._states if not one.closed]

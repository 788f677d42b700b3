"""A request of somebody else's that is not an INVITE: REGISTER, MESSAGE, INFO, BYE ..."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from voip.errors import CallStateError, SipError
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.flow import Flow
from voip.sip.message import Request, Response, make_response
from voip.sip.via import way_back

__all__ = ["ServerRequest"]


class ServerRequest:
    """A request to be replied to, once.

    `flow` is how it came; `dialog` the dialog it came in, None outside of any; `tag` our To tag. A
    reply later than 64*T1, or than the end of the call, is not sent: nobody waits for it any more.
    `describe` returns the agent's own headers of a reply by its status; `replied` is told of a
    final one that has been sent.
    """

    def __init__(
        self,
        core: Core,
        request: Request,
        flow: Flow,
        dialog: Dialog | None,
        now: float,
        *,
        describe: Callable[[int], list[tuple[str, str]]] | None = None,
        replied: Callable[[Response, float], None] | None = None,
    ) -> None:
        self.request = request
        self.flow = flow
        self.dialog = dialog
        self.replied = False
        self._is_over = False
        self._core = core
        self.tag = request.to.tag or core.new_tag()
        self._describe = describe
        self._on_replied = replied
        self._transaction = core.transactions.accept(request, way_back(request, flow), self, now)

    @property
    def waiting(self) -> bool:
        """Whether a reply can still be sent."""
        return not self._transaction.answered

    def reply(
        self,
        status: int,
        reason: str | None = None,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        now: float,
    ) -> None:
        """Send a response; CallStateError after a final one has been given.

        SipError for what RFC 4320 forbids: 408, and any provisional response but 100.
        """
        if self._is_over:
            self._core.counters.late_replies += 1
            return
        if self.replied:
            raise CallStateError(
                f"the {self.request.method} has been answered", hint="reply once to each request"
            )
        if status == 408 or 100 < status < 200:
            raise SipError(
                f"{status} may not answer a {self.request.method}",
                hint="RFC 4320: say nothing where nobody waits any more",
            )
        own = self._describe(status) if self._describe else self._core.response_headers()
        response = make_response(
            self.request,
            status,
            reason,
            to_tag=self.tag,
            headers=[*own, *headers],
            body=body,
            content_type=content_type,
        )
        if not self._transaction.respond(response, now):
            self._core.counters.late_replies += 1
        self.replied = status >= 200
        if self.replied:
            self._transaction.release()
            if self._on_replied is not None:
                self._on_replied(response, now)

    def give_up(self, now: float) -> None:
        """Answer 487 where nothing has been replied: the call is over (RFC 3261 section 15.1.2)."""
        if not self.replied and self.waiting:
            own = self._core.response_headers()
            response = make_response(self.request, 487, to_tag=self.tag, headers=own)
            self._transaction.respond(response, now)
            self._transaction.release()
            self.replied = self._is_over = True

    def on_ack(self, request: Request, now: float) -> None:
        """Never comes: this is no INVITE."""

    def on_terminated(self, now: float) -> None:
        """Nothing is left to do; a reply after this is counted as late."""

    def __repr__(self) -> str:
        return f"<ServerRequest {self.request.summary()}>"

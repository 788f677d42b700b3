"""A request of somebody else's that is not an INVITE: REGISTER, MESSAGE, INFO, BYE ..."""

from __future__ import annotations

from collections.abc import Iterable

from voip.errors import CallStateError
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.flow import Flow
from voip.sip.message import Request, make_response
from voip.sip.via import way_back

__all__ = ["ServerRequest"]


class ServerRequest:
    """A request to be replied to, once.

    `flow` is how it came; `dialog` the dialog it came in, None outside of any; `tag` our To tag. A
    reply later than 64*T1 is not sent: nobody waits for it any more.
    """

    def __init__(
        self, core: Core, request: Request, flow: Flow, dialog: Dialog | None, now: float
    ) -> None:
        self.request = request
        self.flow = flow
        self.dialog = dialog
        self.replied = False
        self._core = core
        self.tag = request.to.tag or core.new_tag()
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
        """Send a response; CallStateError after a final one has been given."""
        if self.replied:
            raise CallStateError(
                f"the {self.request.method} has been answered", hint="reply once to each request"
            )
        response = make_response(
            self.request,
            status,
            reason,
            to_tag=self.tag,
            headers=[*self._core.response_headers(), *headers],
            body=body,
            content_type=content_type,
        )
        if not self._transaction.respond(response, now):
            self._core.counters.late_replies += 1
        self.replied = status >= 200

    def on_ack(self, request: Request, now: float) -> None:
        """Never comes: this is no INVITE."""

    def on_terminated(self, now: float) -> None:
        """Nothing is left to do; a reply after this is counted as late."""

    def __repr__(self) -> str:
        return f"<ServerRequest {self.request.summary()}>"

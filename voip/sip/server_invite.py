"""An INVITE or re-INVITE of the peer's, as the callee's core sees it.

RFC 3261 sections 13.3 and 14.2. The 2xx is repeated here until its ACK comes, the last 1xx every
minute while it rings.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from voip.errors import CallStateError, SipError
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.events import Acknowledged, InviteCancelled
from voip.sip.flow import Flow
from voip.sip.headers import parse_seconds
from voip.sip.message import Request, Response, make_response
from voip.sip.timers import Timer
from voip.sip.usage import InviteUsage
from voip.sip.via import way_back

__all__ = ["ServerInvite", "ServerInviteState"]


class ServerInviteState(Enum):
    """How far the peer's INVITE has come. ACCEPTED: 2xx sent, ACK awaited."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"


class ServerInvite:
    """A call the peer asks for, or a change to one; answered with `SipAgent.respond`.

    `flow` is how it came. `tag` is our To tag, the same in every response. `replaces` is the dialog
    whose place the call is to take (RFC 3891): who answers it ends that.
    """

    def __init__(
        self, core: Core, request: Request, flow: Flow, usage: InviteUsage | None, now: float
    ) -> None:
        self.request = request
        self.flow = flow
        self.tag = request.to.tag or core.new_tag()
        self.state = ServerInviteState.WAITING
        self.is_reinvite = usage is not None
        self.replaces: Dialog | None = None
        self._core = core
        self._usage = usage
        self._contact = usage.dialog.contact if usage else None
        self._offered = False
        self._repeat: Timer | None = None
        self._limit: Timer | None = None
        self._interval = core.durations.t1
        self._transaction = core.transactions.accept(request, way_back(request, flow), self, now)
        if usage is not None:
            usage.begin(self)
        expires = parse_seconds(request.headers.get("Expires"))
        if expires is not None:
            self._limit = core.timers.start(now + expires, self._on_expired)

    @property
    def waiting(self) -> bool:
        """Whether it can still be answered."""
        return self.state is ServerInviteState.WAITING

    @property
    def offered(self) -> bool:
        """Whether our 2xx carries an offer whose answer is to come in the ACK."""
        return self._offered and self.state is ServerInviteState.ACCEPTED

    @property
    def dialog(self) -> Dialog | None:
        """The dialog it is in or has made, None before the first response with a tag."""
        return self._usage.dialog if self._usage else None

    def respond(
        self,
        status: int,
        reason: str | None = None,
        *,
        contact: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        now: float,
    ) -> None:
        """Answer; CallStateError once there is a final response or the peer has given up."""
        if not self.waiting:
            raise CallStateError(
                f"the INVITE is {self.state.value} already",
                hint="the caller may have cancelled; see the events",
            )
        self._contact = contact or self._contact
        if 100 < status < 300 and self._contact is None:
            raise SipError(
                f"a {status} to an INVITE needs a Contact", hint="pass contact='<sip:...>'"
            )
        lines = self._core.response_headers(describe=200 <= status < 300)
        if 200 <= status < 300 and "Recv-Info" in self.request.headers:
            lines += self._core.recv_info()
        if contact is not None or (100 < status < 300 and self._contact is not None):
            lines.append(("Contact", self._contact or ""))
        response = make_response(
            self.request,
            status,
            reason,
            to_tag=self.tag,
            headers=[*lines, *headers],
            body=body,
            content_type=content_type,
        )
        if status < 200:
            self._progress(response, now)
        elif status < 300:
            self._accept(response, now)
        else:
            self._refuse(response, now)

    def give_up(self, reason: str, now: float) -> None:
        """Answer 487, because nobody wants it any more, and tell the user."""
        if self.waiting:
            self.respond(487, now=now)
            self._core.emit(InviteCancelled(self, reason))

    def release(self) -> None:
        """Stop repeating the 2xx: the dialog is over."""
        self._stop()

    def on_ack(self, request: Request, now: float) -> None:
        """Take the ACK to our 2xx."""
        if self.state is not ServerInviteState.ACCEPTED or self._usage is None:
            return
        self._stop()
        self.state = ServerInviteState.ACKNOWLEDGED
        self._core.emit(Acknowledged(self._usage.dialog, request))
        self._usage.finish(self, now)

    def on_terminated(self, now: float) -> None:
        """Nothing is left to do: a 2xx has its own limit of the same length."""

    def _progress(self, response: Response, now: float) -> None:
        if response.status > 100:
            self._use()
        self._transaction.respond(response, now)
        if response.status > 100:
            self._keep_telling(response, now)

    def _accept(self, response: Response, now: float) -> None:
        usage = self._use()
        self._transaction.respond(response, now)
        self._stop()
        if self.is_reinvite:
            usage.dialog.refresh_target(self.request)
            usage.dialog.contact = self._contact or usage.dialog.contact
        else:
            usage.confirm()
        self.state = ServerInviteState.ACCEPTED
        self._offered = not self.request.body
        self._repeat_until_ack(response, now)
        self._limit = self._core.timers.start(now + self._core.durations.timeout, self._on_no_ack)

    def _refuse(self, response: Response, now: float) -> None:
        self._transaction.respond(response, now)
        self._stop()
        self.state = ServerInviteState.REFUSED
        if self._usage is not None:
            self._usage.finish(self, now)
            if not self.is_reinvite:
                self._usage.vanish(now)

    def _use(self) -> InviteUsage:
        """Return the dialog, made by the first response that has a tag (section 12.1.1)."""
        if self._usage is None:
            dialog = Dialog.as_callee(self.request, self.tag, self.flow, self._contact or "")
            self._usage = InviteUsage(self._core, dialog)
            self._usage.begin(self)
        return self._usage

    def _keep_telling(self, response: Response, now: float) -> None:
        """Say it again every minute, or a proxy may give the call up (section 13.3.1.1)."""

        def again(at: float) -> None:
            self._transaction.respond(response, at)
            self._keep_telling(response, at)

        if self._repeat is not None:
            self._repeat.cancel()
        self._repeat = self._core.timers.start(now + self._core.config.progress_interval, again)

    def _repeat_until_ack(self, response: Response, now: float) -> None:
        """Repeat the 2xx at T1, doubled up to T2, on every transport (section 13.3.1.4)."""

        def again(at: float) -> None:
            self._transaction.respond(response, at)
            self._interval = min(2 * self._interval, self._core.durations.t2)
            self._repeat_until_ack(response, at)

        self._repeat = self._core.timers.start(now + self._interval, again)

    def _on_expired(self, now: float) -> None:
        self._limit = None
        self.give_up("the INVITE has expired", now)

    def _on_no_ack(self, now: float) -> None:
        self._limit = None
        self._stop()
        if self._usage is not None:
            self._usage.lose("the ACK never came", 408, now)

    def _stop(self) -> None:
        for timer in (self._repeat, self._limit):
            if timer is not None:
                timer.cancel()
        self._repeat = self._limit = None

    def __repr__(self) -> str:
        return f"<ServerInvite {self.state.value}: {self.request.summary()}>"

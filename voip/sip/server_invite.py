"""An INVITE or re-INVITE of the peer's, as the callee's core sees it.

RFC 3261 sections 13.3 and 14.2. The 2xx is repeated here until its ACK comes, the last 1xx every
minute while it rings; reliable ones have a rhythm of their own (RFC 3262).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from voip.errors import CallStateError, SipError
from voip.sip.core import Core
from voip.sip.dialog import Dialog, DialogId
from voip.sip.events import Acknowledged, InviteCancelled
from voip.sip.flow import Flow
from voip.sip.headers import parse_seconds
from voip.sip.message import Request, Response, make_response
from voip.sip.multipart import session_description
from voip.sip.reliable import OPTION, ReliableResponses, has_option, supports
from voip.sip.session_timer import OPTION as TIMER
from voip.sip.session_timer import SessionExpires, granted
from voip.sip.timers import Timer
from voip.sip.usage import InviteUsage
from voip.sip.via import way_back

__all__ = ["ServerInvite", "ServerInviteState"]

_RELIABLE_INTERVAL_S: Final = 150.0
"""How often a ringing call says so by a reliable response (RFC 3262 section 3)."""


class ServerInviteState(Enum):
    """How far the peer's INVITE has come. ACCEPTED: 2xx sent, ACK awaited."""

    WAITING = "waiting"
    ACCEPTED = "accepted"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"


class ServerInvite:
    """A call the peer asks for, or a change to one; answered with `SipAgent.respond`.

    `offer` is the session description it brings, b"" without one. `flow` is how it came. `tag` is
    our To tag, the same in every response. `replaces` is the dialog whose place the call is to take
    (RFC 3891): who answers it ends that; `joins` the one it is to become part of (RFC 3911).
    """

    def __init__(
        self, core: Core, request: Request, flow: Flow, usage: InviteUsage | None, now: float
    ) -> None:
        self.request = request
        self.offer = session_description(request)
        self.flow = flow
        self.tag = request.to.tag or core.new_tag()
        self.state = ServerInviteState.WAITING
        self.is_reinvite = usage is not None
        self.replaces: Dialog | None = None
        self.joins: Dialog | None = None
        self._core = core
        self._usage = usage
        self._contact = usage.dialog.contact if usage else None
        self._offered = False
        self._reliable: ReliableResponses | None = None
        self._accepting: tuple[Response, SessionExpires | None] | None = None  # waits for a PRACK
        self._repeat: Timer | None = None
        self._limit: Timer | None = None
        self._interval = core.durations.t1
        self._transaction = core.transactions.accept(request, way_back(request, flow), self, now)
        if usage is not None:
            usage.begin(self)
        else:
            core.dialling.add(self)
        expires = parse_seconds(request.headers.get("Expires"))
        if expires is not None:
            self._limit = core.timers.start(now + expires, self._on_expired)

    @property
    def waiting(self) -> bool:
        """Whether it can still be answered."""
        return self.state is ServerInviteState.WAITING

    @property
    def accepting(self) -> bool:
        """Whether our 2xx waits for the PRACK to a session description of ours."""
        return self._accepting is not None

    @property
    def offered(self) -> bool:
        """Whether an offer of ours waits for its answer, in the ACK or in a PRACK."""
        if self._offered:
            return self.state is ServerInviteState.ACCEPTED
        return not self.offer and self.description_pending

    @property
    def owes_answer(self) -> bool:
        """Whether its offer has no answer of ours yet."""
        return self.waiting and bool(self.offer) and not self.described

    @property
    def described(self) -> bool:
        """Whether a reliable response has our session description: the 2xx then needs none."""
        return self._reliable is not None and self._reliable.described

    @property
    def description_pending(self) -> bool:
        """Whether that description waits for its PRACK."""
        return self._reliable is not None and self._reliable.description_pending

    @property
    def exchanged(self) -> bool:
        """Whether that description has been sent, so that a PRACK may bring another offer."""
        return self._reliable is not None and self._reliable.exchanged

    @property
    def must_be_reliable(self) -> bool:
        """Whether the caller demands reliable provisional responses."""
        return has_option(self.request, "Require", OPTION)

    @property
    def may_be_reliable(self) -> bool:
        """Whether both sides know reliable provisional responses."""
        return OPTION in self._core.config.supported and supports(self.request, OPTION)

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
        reliable: bool | None = None,
        now: float,
    ) -> None:
        """Answer; CallStateError once there is a final response or the peer has given up.

        `reliable`: for 101-199; None: where the caller demands it, and for a session description
        where the caller knows it.
        """
        if not self.waiting or (self._accepting is not None and status < 300):
            raise CallStateError(
                f"the INVITE is {self.state.value} already",
                hint="the caller may have cancelled; see the events",
            )
        self._contact = contact or self._contact
        if 100 < status < 300 and self._contact is None:
            raise SipError(
                f"a {status} to an INVITE needs a Contact", hint="pass contact='<sip:...>'"
            )
        reliable = 100 < status < 200 and self._is_reliable(reliable, body)
        lines = self._core.response_headers(describe=200 <= status < 300 or reliable)
        if (200 <= status < 300 or reliable) and "Recv-Info" in self.request.headers:
            lines += self._core.recv_info()
        expires = granted(self.request, self._core.config) if 200 <= status < 300 else None
        if expires is not None:
            lines.append(("Session-Expires", str(expires)))
            if supports(self.request, TIMER):
                lines.append(("Require", TIMER))
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
            self._progress(response, reliable, now)
        elif status < 300:
            self._accept(response, expires, now)
        else:
            self._refuse(response, now)

    def give_up(self, reason: str, now: float, request: Request | None = None) -> None:
        """Answer 487, because nobody wants it any more, and tell the user."""
        if self.waiting:
            self.respond(487, now=now)
            self._core.emit(InviteCancelled(self, reason, request=request))

    def release(self) -> None:
        """Stop repeating the 2xx: the dialog is over."""
        self._stop()

    def on_ack(self, request: Request, now: float) -> None:
        """Take the ACK to our 2xx."""
        if self.state is not ServerInviteState.ACCEPTED or self._usage is None:
            return
        self._stop()
        if self._reliable is None:  # else a PRACK may still come, until the transaction ends
            self._transaction.release()
        self.state = ServerInviteState.ACKNOWLEDGED
        self._core.emit(Acknowledged(self._usage.dialog, request))
        self._usage.finish(self, now)

    def on_terminated(self, now: float) -> None:
        """No PRACK comes any more; a 2xx has its own limit of the same length."""
        if self._usage is not None:
            self._core.reliable.pop(self._key(self._usage), None)

    def unacknowledged(self, number: int) -> Response | None:
        """Return the reliable response that waits for a PRACK of this number."""
        return self._reliable.unacknowledged(number) if self._reliable is not None else None

    def pause(self) -> None:
        """Repeat a reliable response no more while the user looks at what its PRACK offers."""
        if self._reliable is not None:
            self._reliable.pause()

    def resume(self, now: float) -> None:
        """Repeat it again, for another PRACK: that one was refused."""
        if self.waiting and self._reliable is not None:
            self._reliable.resume(now)

    def acknowledge(self, now: float) -> None:
        """Take it that a reliable response has arrived, and send what has waited for that.

        Which is the next provisional response, or the 2xx.
        """
        if self._reliable is not None:
            self._reliable.acknowledge()
        if self.waiting and self._reliable is not None:
            self._reliable.proceed(now)
        if self.waiting and self._accepting is not None and not self._must_wait:
            response, expires = self._accepting
            self._accepting = None
            self._accept(response, expires, now)
        if self._usage is not None:
            self._usage.settle_later(now)

    @property
    def _must_wait(self) -> bool:
        """Whether a 2xx may not be sent: an offer or answer is on its way (RFC 3262 section 5)."""
        return self._reliable is not None and (
            self._reliable.description_pending
            or (self._usage is not None and self._usage.is_serving("PRACK"))
        )

    def _is_reliable(self, wanted: bool | None, body: bytes) -> bool:
        if wanted and not self.may_be_reliable:
            raise CallStateError(
                "the caller does not know reliable provisional responses",
                hint="send it without reliable=True",
            )
        if not self.may_be_reliable:
            return False
        reliable = self.must_be_reliable or (bool(body) if wanted is None else wanted)
        if reliable and not (self.offer or body or self.described):
            raise SipError(
                "the first reliable response to an INVITE without an offer has to bring one",
                hint="give it a body (RFC 3262 section 5)",
            )
        return reliable

    def _progress(self, response: Response, reliable: bool, now: float) -> None:
        if response.status > 100:
            usage = self._use()
            if reliable:
                if self._reliable is None:
                    self._reliable = ReliableResponses(
                        self._core, self._transaction.respond, self._on_no_prack
                    )
                self._core.reliable[self._key(usage)] = self
                self._reliable.send(response, now)
            else:
                self._transaction.respond(response, now)
            self._keep_telling(response, reliable, now)
        else:
            self._transaction.respond(response, now)

    def _key(self, usage: InviteUsage) -> tuple[DialogId, int]:
        return usage.dialog.id, self.request.cseq.number

    def _accept(self, response: Response, expires: SessionExpires | None, now: float) -> None:
        usage = self._use()
        if self._must_wait:
            self._accepting = response, expires
            self._stop_telling()
            return
        self._transaction.respond(response, now)
        self._stop()
        usage.timer.on_request(self.request)
        usage.timer.on_granted(expires, now)
        if self.is_reinvite:
            usage.dialog.refresh_target(self.request, self.flow)
            usage.dialog.contact = self._contact or usage.dialog.contact
        else:
            usage.confirm()
        self.state = ServerInviteState.ACCEPTED
        self._offered = not self.offer and not self.described
        self._repeat_until_ack(response, now)
        self._limit = self._core.timers.start(now + self._core.durations.timeout, self._on_no_ack)

    def _refuse(self, response: Response, now: float) -> None:
        self._transaction.respond(response, now)
        self._stop()
        if self._reliable is None:  # else a PRACK may still come
            self._transaction.release()
        self.state = ServerInviteState.REFUSED
        self._core.dialling.discard(self)
        if self._usage is not None:
            self._usage.finish(self, now)
            if not self.is_reinvite:
                self._usage.vanish(now)

    def _use(self) -> InviteUsage:
        """Return the dialog, made by the first response that has a tag (section 12.1.1)."""
        if self._usage is None:
            dialog = Dialog.as_callee(self.request, self.tag, self.flow, self._contact or "")
            self._usage = InviteUsage(self._core, dialog)
            self._core.dialling.discard(self)
            self._usage.begin(self)
        return self._usage

    def _keep_telling(self, response: Response, reliable: bool, now: float) -> None:
        """Say it again every minute, or a proxy may give the call up (section 13.3.1.1)."""

        def again(at: float) -> None:
            if reliable:  # each has its number, the description only once
                self.respond(response.status, response.reason, reliable=True, now=at)
            else:
                self._transaction.respond(response, at)
                self._keep_telling(response, reliable, at)

        self._stop_telling()
        interval = _RELIABLE_INTERVAL_S if reliable else self._core.config.progress_interval
        self._repeat = self._core.timers.start(now + interval, again)

    def _stop_telling(self) -> None:
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None

    def _on_no_prack(self, now: float) -> None:
        """Refuse the INVITE: the caller never acknowledged a reliable response (RFC 3262)."""
        self._accepting = None
        self.respond(504, now=now)
        self._core.emit(InviteCancelled(self, "a reliable response was never acknowledged", 504))

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
        if self._reliable is not None:
            self._reliable.stop()

    def __repr__(self) -> str:
        return f"<ServerInvite {self.state.value}: {self.request.summary()}>"

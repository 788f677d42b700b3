"""A call of ours until it is answered: the INVITE, what its callees say, and where it goes on.

What a call is once it is up is in `session.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from voip.errors import CallError, MediaError, SdpError, VoipError
from voip.events import CallEnded, CallState, EarlyMedia, EndedBy, Redirected, Ringing
from voip.session.early import EarlyDialogs
from voip.session.failures import call_failure
from voip.session.forwarding import following_headers
from voip.session.media import SDP
from voip.session.redirect import Redirects
from voip.sip.client_invite import ClientInvite
from voip.sip.dialog import Dialog
from voip.sip.digest import CredentialSource
from voip.sip.events import Cause, InviteFailed, Provisional
from voip.sip.failover import Seek, Way
from voip.sip.flow import Flow, Peer
from voip.sip.headers import NameAddr
from voip.sip.message import Response
from voip.sip.multipart import session_description
from voip.sip.uri import SipUri

if TYPE_CHECKING:
    from voip.session.session import CallSession

__all__ = ["CallPlan", "Caller"]

_CALLING = (CallState.CALLING, CallState.RINGING, CallState.EARLY)


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How somebody is called, wherever others send us on to.

    `from_` and `contact` say who we are and how whom we call is to reach us by a flow; `redirect`
    finds the flow to another place (None: 3xx are not followed). `late_offer`: the callee makes the
    offer. `focus`: the user of the conference that they are called to. `seek` returns who finds
    other ways to a place where nobody answers. `preferred`: who we are where From does not say it,
    for none but a proxy of ours and our own domain (RFC 3325 section 9.2).
    """

    from_: Callable[[Flow], NameAddr]
    contact: Callable[[SipUri, Flow], str]
    route: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    credentials: CredentialSource | None = field(default=None, repr=False)
    late_offer: bool = False
    redirect: Callable[[SipUri], Awaitable[Flow]] | None = None
    max_redirects: int = 5
    focus: str | None = None
    seek: Callable[[SipUri], Seek] | None = None
    preferred: NameAddr | None = None

    def headers_to(self, uri: SipUri) -> list[tuple[str, str]]:
        """Return what is added to an INVITE to `uri`."""
        ours = self.preferred
        if ours is None or not (self.route or uri.host.lower() == ours.sip_uri.host.lower()):
            return list(self.headers)
        return [*self.headers, ("P-Preferred-Identity", str(ours))]


class Caller:
    """The caller's half of a session."""

    def __init__(self, session: CallSession) -> None:
        self.invite: ClientInvite | None = None
        self.early = EarlyDialogs(session.media, session.log)
        self.has_heard = False  # the callee has said something
        self.has_rung = False
        self._has_password = False
        self._session = session
        self._stack, self._media = session.stack, session.media
        self._plan: CallPlan | None = None
        self._redirects: Redirects | None = None
        self._going_on: asyncio.Task[None] | None = None
        self._uri = ""

    async def call(self, uri: str, plan: CallPlan, *, flow: Flow) -> None:
        """Send the INVITE; what comes of it is told by events. Raises where it cannot be sent."""
        await self._media.open(flow.remote.host, flow.local.host)
        self._plan = plan
        self._session.focus = plan.focus
        self._has_password = plan.credentials is not None
        if plan.redirect is not None:
            self._redirects = Redirects(uri, plan.max_redirects)
        self._invite(uri, flow, plan)
        self._session.move(CallState.CALLING)
        self._stack.signalling.flush()

    def _invite(
        self, uri: str, flow: Flow, plan: CallPlan, *, tried: frozenset[Peer] = frozenset()
    ) -> None:
        session, self._uri = self._session, uri
        target = SipUri.parse(uri)
        before = self.invite.request if self.invite is not None else None
        session.contact = plan.contact(target, flow)
        body = b"" if plan.late_offer else self._media.offer()
        self.invite = self._stack.agent.invite(
            target,
            flow=flow,
            from_=before.from_ if before else plan.from_(flow),
            to=session.remote,
            contact=session.own_contact,
            call_id=before.call_id if before else None,
            cseq=before.cseq.number + 1 if before else 1,
            route=plan.route,
            headers=plan.headers_to(target),
            body=body,
            content_type=SDP if body else None,
            credentials=plan.credentials,
            seek=None if plan.seek is None else plan.seek(target),
            tried=tried,
            now=self._stack.signalling.now(),
        )
        session.answers_to(self.invite)
        session.log.know(sip_call_id=self.invite.request.call_id)
        words = "calling %s by way of %s %s"
        session.log.event(logging.INFO, "call_started", words, uri, flow.transport, flow.remote)

    def on_provisional(self, event: Provisional) -> None:
        """A 1xx came: ringing, or sound before the answer."""
        session = self._session
        response, dialog = event.response, event.dialog
        self.has_heard = True
        session.response = response
        if session.state not in _CALLING:
            return
        if dialog is not None:
            session.answers_to(dialog)
        if response.status == 180 and not self.has_rung:
            self.has_rung = True
            if session.state is CallState.CALLING:
                session.move(CallState.RINGING)
            session.emit(Ringing())
        described = session_description(response)
        if dialog is not None and event.prack_owed:
            self._answer_early(dialog, described)
        elif (
            dialog is not None
            and described
            and self._media.has_offered
            and self.early.hear(dialog, described, reliable=event.reliable)
        ):
            self._sound_early()
        if session.state is not CallState.CALLING:
            session.progressed.set()

    def _answer_early(self, dialog: Dialog, offer: bytes) -> None:
        """Answer the offer of a reliable response by its PRACK; without that there is no call."""
        session = self._session
        try:
            answer = self.early.take_offer(dialog, offer)
        except (SdpError, MediaError) as error:
            reason = f"the offer of {session.remote.uri} cannot be used: {error.message}"
            session.failure = CallError(reason, status=488)
            session.say_goodbye()
            return
        now = self._stack.signalling.now()
        self._stack.agent.prack(dialog, body=answer, content_type=SDP, now=now)
        self._stack.signalling.flush()
        self._sound_early()

    def _sound_early(self) -> None:
        session = self._session
        session.move(CallState.EARLY)
        if not session.early_media:
            session.early_media = True
            session.emit(EarlyMedia())

    def on_early_ended(self, dialog: Dialog) -> None:
        """One of the callees does not ring any more (199)."""
        self.early.forget(dialog)
        self._stack.sessions.pop(dialog, None)

    def on_answered(self, response: Response, dialog: Dialog) -> None:
        """The 2xx came; the agent has acknowledged it."""
        session = self._session
        session.dialog = dialog
        session.answers_to(dialog)
        session.answer_response = session.response = response
        if session.state not in _CALLING:
            session.bye()
            return
        body = session_description(response)
        try:
            if self._plan is not None and self._plan.late_offer and not self.early.agreed(dialog):
                self._answer_late(dialog, body)
            elif not self.early.settle(dialog, body):
                session.give_up("the answer has no session description")
                return
        except (SdpError, MediaError) as error:
            session.give_up(f"the answer cannot be used: {error.message}")
            return
        session.come_up()

    def _answer_late(self, dialog: Dialog, offer: bytes) -> None:
        """Answer the offer of the 2xx by the ACK; `SdpError` where it cannot be."""
        answer = self.early.take_offer(dialog, offer)
        self.early.clear()
        now = self._stack.signalling.now()
        self._stack.agent.ack(dialog, body=answer, content_type=SDP, now=now)
        self._stack.signalling.flush()

    def on_failed(self, event: InviteFailed) -> None:
        """Our INVITE came to nothing, or is sent on to somebody else."""
        session = self._session
        if event.response is not None:
            session.response = session.farewell = event.response
        if self._goes_on(event):
            return
        if session.failure is None:
            session.failure = call_failure(
                event, session.remote.uri, has_password=self._has_password
            )
        by = EndedBy.REMOTE if event.cause is Cause.RESPONSE else EndedBy.FAILURE
        if event.cause is Cause.CANCELLED:  # by us, or because the callee hung up before answering
            by = EndedBy.LOCAL if session.state is CallState.ENDING else EndedBy.REMOTE
        session.finish(CallEnded(by, event.reason, event.status))

    def _goes_on(self, event: InviteFailed) -> bool:
        """Call the next place a 3xx has named, if there is one (RFC 3261 section 8.1.3.4)."""
        redirects, plan, response = self._redirects, self._plan, event.response
        if redirects is None or plan is None or self._session.state not in _CALLING:
            return False
        if event.cause is Cause.CANCELLED or event.status >= 600:
            return False
        if response is not None:
            redirects.learn(response)
        contact = redirects.next()
        if contact is None:
            return False
        headers = following_headers(plan.headers, response, contact)
        plan = self._plan = replace(plan, headers=headers)
        self._go_on(self._redirect(contact.sip_uri, plan, event))
        return True

    def _go_on(self, work: Coroutine[Any, Any, None]) -> None:
        self._going_on = asyncio.get_running_loop().create_task(work)

    async def _redirect(self, uri: SipUri, plan: CallPlan, refusal: InviteFailed) -> None:
        session = self._session
        try:
            flow = await plan.redirect(uri) if plan.redirect is not None else None
            if flow is None or session.state not in _CALLING:
                return
            self.early.clear()
            self._media.abandon()
            self._invite(str(uri), flow, plan)
        except VoipError as error:
            words = "%s cannot be called instead: %s"
            session.log.event(logging.INFO, "redirect_failed", words, uri, error)
            self.on_failed(refusal)
            return
        session.emit(Redirected(str(uri)))
        self._stack.signalling.flush()

    def on_left(self, way: Way, tried: frozenset[Peer]) -> None:
        """Nobody answers by the way our INVITE went: it goes by another one."""
        self._stack.sessions.pop(self.invite, None)
        if self._plan is not None and self._session.state in _CALLING:
            self._go_on(self._call_by(way, self._plan, tried))

    async def _call_by(self, way: Way, plan: CallPlan, tried: frozenset[Peer]) -> None:
        session = self._session
        try:
            await self._media.move(way.flow.remote.host, way.flow.local.host)
            if session.state not in _CALLING:
                return
            self.early.clear()
            self._media.abandon()
            plan = self._plan = plan if way.route is None else replace(plan, route=way.route)
            self._invite(self._uri, way.flow, plan, tried=tried)
        except VoipError as error:
            session.failure = CallError(error.message, hint=error.hint, status=error.status or 503)
            session.finish(CallEnded(EndedBy.FAILURE, error.message, error.status or 503))
            return
        self._stack.signalling.flush()

    def stop(self) -> None:
        """Call nobody else: it is over."""
        if self._going_on is not None:
            self._going_on.cancel()

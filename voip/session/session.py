"""A SIP dialog bound to a media session: what happens to one becomes what the other does.

Both directions of a call are here, because after the answer there is no difference any more. SIP
events come in through `on_...`; what the application wants is an async method that returns when it
has happened on the wire, and raises when it has not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from voip.errors import (
    CallError,
    CallStateError,
    MediaError,
    NoAnswerError,
    RequestError,
    SdpError,
    SipError,
    VoipError,
)
from voip.events import (
    Answered,
    CallEnded,
    CallEvent,
    CallState,
    EarlyMedia,
    EndedBy,
    HeldByRemote,
    Redirected,
    ResumedByRemote,
    Ringing,
)
from voip.sdp.description import Direction
from voip.session.ask import ask
from voip.session.change import Changes
from voip.session.early import EarlyDialogs
from voip.session.failures import call_failure, sdp_warning
from voip.session.forwarding import forwarding_headers
from voip.session.info import Info, read_info
from voip.session.media import SDP, MediaSession
from voip.session.redirect import Redirects
from voip.session.stack import Stack
from voip.session.states import allowed
from voip.sip.client_invite import ClientInvite
from voip.sip.client_request import ClientRequest
from voip.sip.dialog import Dialog, DialogState
from voip.sip.digest import CredentialSource
from voip.sip.events import (
    Cause,
    DialogEnded,
    InviteCancelled,
    InviteFailed,
    PrackReceived,
    Provisional,
    ReinviteDone,
    RequestDone,
    RequestFailed,
    UpdateDone,
    UpdateReceived,
)
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response
from voip.sip.server_invite import ServerInvite
from voip.sip.server_request import ServerRequest
from voip.sip.uri import SipUri

__all__ = ["CallPlan", "CallSession"]

log = logging.getLogger(__name__)

GOODBYE_S = 4.0
"""How long ending a call waits for the other side's word; then the call is over all the same."""
LEAVE_S = 2.0
"""How long a peer that has been replaced (RFC 3891) has for its BYE."""
NOT_A_WORD_S = 0.5
"""The same where the callee has not said anything yet: until then a CANCEL may not be sent."""
HeaderLines = Sequence[tuple[str, str]]
_UP = (CallState.ACTIVE, CallState.HELD)
_CALLING = (CallState.CALLING, CallState.RINGING, CallState.EARLY)
_CALLED = (CallState.NEW, CallState.RINGING, CallState.EARLY)


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How somebody is called, wherever others send us on to.

    `from_` and `contact` say who we are and how we are reached by a flow; `redirect` finds the flow
    to another place (None: 3xx are not followed). `late_offer`: the callee makes the offer.
    """

    from_: Callable[[Flow], NameAddr]
    contact: Callable[[Flow], str]
    route: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    credentials: CredentialSource | None = field(default=None, repr=False)
    late_offer: bool = False
    redirect: Callable[[SipUri], Awaitable[Flow]] | None = None
    max_redirects: int = 5


class CallSession:
    """One call. `emit` gets its events, in order; the last is `CallEnded`, once."""

    def __init__(
        self, stack: Stack, *, outgoing: bool, remote: NameAddr, emit: Callable[[CallEvent], None]
    ) -> None:
        self.stack = stack
        self.outgoing = outgoing
        self.remote = remote
        self.media = MediaSession(stack)
        self.state = CallState.NEW
        self.end: CallEnded | None = None
        self.dialog: Dialog | None = None
        self.early_media = False
        self.answer_response: Response | None = None
        self.response: Response | None = None  # the callee's latest
        self.farewell: Request | Response | None = None  # what the peer ended the call with
        self.up_s: float | None = None  # how long it was up, once it is over
        self._up_since: float | None = None
        self._emit = emit
        self._contact = ""
        self._has_password = False
        self._client: ClientInvite | None = None
        self._server: ServerInvite | None = None
        self._failure: CallError | None = None
        self._rang = False
        self._heard = False  # the callee has said something
        self._progressed = asyncio.Event()
        self._settled = asyncio.Event()  # answered (and acknowledged), or over
        self._over = asyncio.Event()
        self._answering = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._our_answer = b""  # to the offer of the INVITE that came
        self._early = EarlyDialogs(self.media, remote.uri)
        self._plan: CallPlan | None = None
        self._redirects: Redirects | None = None
        self._redirecting: asyncio.Task[None] | None = None
        self._was_held = False
        self._handles: list[object] = []
        self._ping: ClientRequest | None = None
        self._changes = Changes(
            stack, self.media, peer=remote.uri, respond=self._respond, changed=self._settle_hold
        )

    @property
    def invite_request(self) -> Request | None:
        """The INVITE that began the call, whoever sent it."""
        invite = self._server or self._client
        return invite.request if invite else None

    @property
    def early_dialogs(self) -> list[Dialog]:
        """The dialogs of a call that is not answered yet."""
        if self.dialog is not None:
            return []
        if self._client is not None:
            return self._client.dialogs
        early = self._server.dialog if self._server is not None else None
        return [] if early is None else [early]

    @property
    def current_dialog(self) -> Dialog | None:
        """The dialog as far as there is one: before the answer, the latest early one."""
        return self.dialog or next(reversed(self.early_dialogs), None)

    @property
    def is_trusted(self) -> bool:
        """Whether the peer's messages come from a host within the trust domain (RFC 3324)."""
        invite = self._server or self._client
        return invite is not None and invite.flow.remote.host in self.stack.trusted

    @property
    def is_up(self) -> bool:
        """Whether the call has been answered and is not over."""
        return self.state in _UP

    # ------------------------------------------------------------ calling somebody

    async def call(self, uri: str, plan: CallPlan, *, flow: Flow) -> None:
        """Send the INVITE; what comes of it is told by events. Raises where it cannot be sent."""
        await self.media.open(flow.remote.host, flow.local.host)
        self._plan = plan
        self._has_password = plan.credentials is not None
        if plan.redirect is not None:
            self._redirects = Redirects(uri, plan.max_redirects)
        self._invite(uri, flow, plan)
        self._move(CallState.CALLING)
        self.stack.signalling.flush()

    def _invite(self, uri: str, flow: Flow, plan: CallPlan) -> None:
        before = self._client.request if self._client is not None else None
        self._contact = plan.contact(flow)
        body = b"" if plan.late_offer else self.media.offer()
        self._client = self.stack.agent.invite(
            uri,
            flow=flow,
            from_=before.from_ if before else plan.from_(flow),
            to=self.remote,
            contact=self._contact,
            call_id=before.call_id if before else None,
            cseq=before.cseq.number + 1 if before else 1,
            route=plan.route,
            headers=plan.headers,
            body=body,
            content_type=SDP if body else None,
            credentials=plan.credentials,
            now=self.stack.signalling.now(),
        )
        self._answers_to(self._client)

    async def wait_answered(self, timeout: float | None) -> None:
        """Return when the call is up; raises `CallError` when it came to nothing.

        After `timeout` seconds the call is given up with `NoAnswerError`.
        """
        await self._wait(self._settled, timeout)

    async def wait_progress(self, timeout: float | None) -> None:
        """Return when the callee rings, sounds or answers; else as `wait_answered`."""
        await self._wait(self._progressed, timeout)

    async def _wait(self, event: asyncio.Event, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            if not event.is_set():
                await self.hangup()
                raise NoAnswerError(
                    f"no answer in {timeout:g} s", hint="nobody took the call", status=487
                ) from None
        if self._failure is not None:
            await self._closed()  # whoever hears of the failure finds nothing left of the call
            raise self._failure

    def on_provisional(self, event: Provisional) -> None:
        """A 1xx came: ringing, or sound before the answer."""
        response, dialog = event.response, event.dialog
        self._heard = True
        self.response = response
        if self.state not in _CALLING:
            return
        if dialog is not None:
            self._answers_to(dialog)
        if response.status == 180 and not self._rang:
            self._rang = True
            if self.state is CallState.CALLING:
                self._move(CallState.RINGING)
            self._emit(Ringing())
        if dialog is not None and event.prack_owed:
            self._answer_early(dialog, response.body)
        elif (
            dialog is not None
            and _carries_sdp(response)
            and self.media.has_offered
            and self._early.hear(dialog, response.body, reliable=event.reliable)
        ):
            self._sound_early()
        if self.state is not CallState.CALLING:
            self._progressed.set()

    def _answer_early(self, dialog: Dialog, offer: bytes) -> None:
        """Answer the offer of a reliable response by its PRACK; without that there is no call."""
        try:
            answer = self._early.take_offer(dialog, offer)
        except (SdpError, MediaError) as error:
            reason = f"the offer of {self.remote.uri} cannot be used: {error.message}"
            self._failure = CallError(reason, status=488)
            self._say_goodbye()
            return
        now = self.stack.signalling.now()
        self.stack.agent.prack(dialog, body=answer, content_type=SDP, now=now)
        self.stack.signalling.flush()
        self._sound_early()

    def _sound_early(self) -> None:
        self._move(CallState.EARLY)
        if not self.early_media:
            self.early_media = True
            self._emit(EarlyMedia())

    def on_early_ended(self, dialog: Dialog) -> None:
        """One of the callees does not ring any more (199)."""
        self._early.forget(dialog)
        self.stack.sessions.pop(dialog, None)

    @property
    def rings_here(self) -> bool:
        """Whether nobody sounds yet though somebody rings: see `Call.rings_here`."""
        waiting = self.outgoing and self.state in (CallState.RINGING, CallState.EARLY)
        return waiting and self._rang and self.media.stats.packets_received == 0

    def on_answered(self, response: Response, dialog: Dialog) -> None:
        """The 2xx came; the agent has acknowledged it."""
        self.dialog = dialog
        self._answers_to(dialog)
        self.answer_response = self.response = response
        if self.state not in _CALLING:
            self._bye()
            return
        body = response.body if _carries_sdp(response) else b""
        try:
            if self._plan is not None and self._plan.late_offer and not self._early.agreed(dialog):
                self._answer_late(dialog, body)
            elif not self._early.settle(dialog, body):
                self._give_up("the answer has no session description")
                return
        except (SdpError, MediaError) as error:
            self._give_up(f"the answer cannot be used: {error.message}")
            return
        self._come_up()

    def _answer_late(self, dialog: Dialog, offer: bytes) -> None:
        """Answer the offer of the 2xx by the ACK; `SdpError` where it cannot be."""
        answer = self._early.take_offer(dialog, offer)
        self._early.clear()
        now = self.stack.signalling.now()
        self.stack.agent.ack(dialog, body=answer, content_type=SDP, now=now)
        self.stack.signalling.flush()

    def on_failed(self, event: InviteFailed) -> None:
        """Our INVITE came to nothing, or is sent on to somebody else."""
        if event.response is not None:
            self.response = self.farewell = event.response
        if self._goes_on(event):
            return
        if self._failure is None:
            self._failure = call_failure(event, self.remote.uri, has_password=self._has_password)
        by = EndedBy.REMOTE if event.cause is Cause.RESPONSE else EndedBy.FAILURE
        if event.cause is Cause.CANCELLED:  # by us, or because the callee hung up before answering
            by = EndedBy.LOCAL if self.state is CallState.ENDING else EndedBy.REMOTE
        self._finish(CallEnded(by, event.reason, event.status))

    def _goes_on(self, event: InviteFailed) -> bool:
        """Call the next place a 3xx has named, if there is one (RFC 3261 section 8.1.3.4)."""
        redirects, plan, response = self._redirects, self._plan, event.response
        if redirects is None or plan is None or self.state not in _CALLING:
            return False
        if event.cause is Cause.CANCELLED or event.status >= 600:
            return False
        if response is not None:
            redirects.learn(response)
        uri = redirects.next()
        if uri is None:
            return False
        self._redirecting = asyncio.get_running_loop().create_task(self._redirect(uri, plan, event))
        return True

    async def _redirect(self, uri: SipUri, plan: CallPlan, refusal: InviteFailed) -> None:
        try:
            flow = await plan.redirect(uri) if plan.redirect is not None else None
            if flow is None or self.state not in _CALLING:
                return
            self._early.clear()
            self.media.abandon()
            self._invite(str(uri), flow, plan)
        except VoipError as error:
            log.info("%s cannot be called instead of %s: %s", uri, self.remote.uri, error)
            self.on_failed(refusal)
            return
        self._emit(Redirected(str(uri)))
        self.stack.signalling.flush()

    def _give_up(self, reason: str) -> None:
        """End a call that was answered and cannot be used."""
        self._failure = CallError(f"{reason} ({self.remote.uri})", status=488)
        self._move(CallState.ENDING)
        self._bye()
        self._finish(CallEnded(EndedBy.LOCAL, reason, 488))

    # ------------------------------------------------------------ being called

    def incoming(self, invite: ServerInvite, contact: str) -> None:
        """Bind this session to an INVITE of the peer's."""
        self._server = invite
        self._contact = contact
        self._answers_to(invite)

    async def ring(self, headers: HeaderLines = ()) -> None:
        """Tell the caller that it rings (180)."""
        server = self._unanswered()
        if server.must_be_reliable and not server.request.body and not server.described:
            async with self._answering:  # a reliable response has to bring the offer
                await self._describe_early(180, headers)
        else:
            self._respond(server, 180, headers=headers)
        if self.state is CallState.NEW:
            self._move(CallState.RINGING)

    async def progress(self, headers: HeaderLines = ()) -> None:
        """Describe ourselves early (183): the caller hears us before the call is answered.

        Where the INVITE has no offer this is ours, and sound begins with the caller's answer.
        """
        async with self._answering:
            server = self._unanswered()
            if not server.request.body and not server.may_be_reliable:
                raise CallStateError("the INVITE has no offer", hint="answer the call instead")
            await self._describe_early(183, headers)

    async def _describe_early(self, status: int, headers: HeaderLines) -> None:
        server = self._unanswered()
        if not (self.early_media or server.described):
            await self._prepare(server)
        body = b"" if server.described else self._our_answer
        self._respond(server, status, headers=headers, body=body)
        if server.request.body:
            self.early_media = True
            self._move(CallState.EARLY)

    async def answer(self, headers: HeaderLines = ()) -> None:
        """Answer the call; returns when the caller has acknowledged that."""
        async with self._answering:
            server = self._unanswered()
            if not (self.early_media or server.described):
                await self._prepare(server)
            body = b"" if server.described else self._our_answer
            self._respond(server, 200, headers=headers, body=body)
        await self._settled.wait()
        if self._failure is not None:
            await self._closed()
            raise self._failure

    async def _prepare(self, server: ServerInvite) -> None:
        """Open the stream and make our answer, or our offer where the INVITE has none."""
        await self.media.open(server.flow.remote.host, server.flow.local.host)
        self._unanswered()  # it may have been cancelled meanwhile
        if not server.request.body:
            self.media.abandon()  # what an answer that was given up had offered
            self._our_answer = self.media.offer()
            return
        try:
            self._our_answer = self.media.answer(server.request.body)
        except SdpError as error:
            self._refuse_offer(server, error)
            await self._closed()
            raise CallError(error.message, hint=error.hint, status=error.status) from error
        await self.media.connect()
        self._unanswered()

    def _refuse_offer(self, server: ServerInvite, error: SdpError) -> None:
        status = error.status or 488
        self._respond(server, status, headers=sdp_warning(error))
        self._failure = CallError(error.message, hint=error.hint, status=status)
        self._finish(CallEnded(EndedBy.LOCAL, error.message, status))

    async def reject(
        self, status: int = 486, reason: str | None = None, headers: HeaderLines = ()
    ) -> None:
        """Refuse the call, with 486 (busy) unless told otherwise."""
        server = self._unanswered()
        if not 400 <= status <= 699:
            hint = "redirect() sends on" if status // 100 == 3 else "400 to 699"
            raise CallStateError(f"a call is not refused with {status}", hint=hint)
        self._respond(server, status, reason, headers=headers)
        self._finish(CallEnded(EndedBy.LOCAL, reason or "rejected", status))
        await self._closed()

    async def redirect(
        self, targets: Sequence[SipUri], reason: str, headers: HeaderLines = ()
    ) -> None:
        """Send the caller on to somebody else (302), the first of them first."""
        server = self._unanswered()
        lines = forwarding_headers(server.request, targets, reason)
        self._respond(server, 302, headers=[*lines, *headers])
        self._finish(CallEnded(EndedBy.LOCAL, f"sent on to {targets[0]}", 302))
        await self._closed()

    def on_cancelled(self, event: InviteCancelled) -> None:
        """The caller gave up, or (504) never acknowledged that we ring."""
        self.farewell = event.request
        what = "gave up" if event.status == 487 else f"is not there: {event.reason}"
        self._failure = CallError(f"{self.remote.uri} {what}", status=event.status)
        by = EndedBy.REMOTE if event.status == 487 else EndedBy.FAILURE
        self._finish(CallEnded(by, event.reason or "cancelled", event.status))

    def on_prack(self, event: PrackReceived) -> None:
        """A PRACK came with the answer to our early offer, or with another offer."""
        if event.reply is not None:
            error = self._changes.on_prack(event.reply)
            if error is not None and self.state in _CALLED:
                self._refuse_offer(event.invite, error)
            return
        try:
            self.media.take_answer(event.request.body)
            self.media.connect_soon()
        except (SdpError, MediaError) as error:
            if isinstance(error, SdpError) and self.state in _CALLED:
                self._refuse_offer(event.invite, error)
            return
        if self.state in _CALLED:
            self.early_media = True
            self._move(CallState.EARLY)

    def on_acknowledged(self, request: Request) -> None:
        """The ACK to our 200 came, with the answer to our offer where we made it."""
        if self.is_up:
            self._changes.on_acknowledged(request)
            return
        if self.state not in _CALLED:  # hung up before it came
            return
        server = self._server
        if server is not None and not server.request.body and not server.described:
            try:
                self.media.take_answer(request.body)
                self.media.connect_soon()
            except (SdpError, MediaError) as error:
                self._give_up(f"the answer cannot be used: {error.message}")
                return
        self._come_up()

    def _unanswered(self) -> ServerInvite:
        if self._server is None:
            raise CallStateError("this call is ours", hint="the callee answers it")
        if self.state not in _CALLED:
            raise self._failure or CallStateError(f"the call is {self.state.value}")
        if self.dialog is not None:
            raise CallStateError("the call has been answered")
        return self._server

    def _respond(
        self,
        server: ServerInvite,
        status: int,
        reason: str | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        server.respond(
            status,
            reason,
            contact=self._contact if status < 300 else None,  # a 3xx names others
            headers=headers,
            body=body,
            content_type=SDP if body else None,
            now=self.stack.signalling.now(),
        )
        if server.dialog is not None and status < 300:
            self._answers_to(server.dialog)
            if status >= 200:
                self.dialog = server.dialog
        self.stack.signalling.flush()

    # ------------------------------------------------------------ a call that is up

    async def hold(self) -> None:
        """Put the peer on hold; returns when it has agreed."""
        await self._change(Direction.SENDONLY)

    async def resume(self) -> None:
        """Take the peer off hold."""
        await self._change(Direction.SENDRECV)

    async def _change(self, direction: Direction) -> None:
        dialog = self.dialog
        if self.state is CallState.EARLY and dialog is None:
            dialog = self._server.dialog if self._server else self._early.heard
            if dialog is not None and "UPDATE" not in dialog.allowed:
                dialog = None
        elif not self.is_up:
            dialog = None
        if dialog is None:
            raise CallStateError(f"the call is {self.state.value}")
        await self._changes.change(dialog, direction)

    def on_reinvite(self, invite: ServerInvite) -> None:
        """The peer changes the session."""
        self._changes.on_reinvite(invite)

    def on_update(self, event: UpdateReceived) -> None:
        """The peer changes the session by UPDATE."""
        if self.outgoing and self.dialog is None:
            self._early.update(event.dialog)
        self._changes.on_update(event.request)

    def on_change_done(self, event: ReinviteDone | UpdateDone) -> None:
        """Our re-INVITE or UPDATE is over."""
        self._changes.on_done(event)

    def on_refresh_due(self, dialog: Dialog) -> None:
        """The session would expire."""
        if self.is_up:
            self._changes.refresh(dialog)

    def _settle_hold(self) -> None:
        """Take it that the session has changed."""
        if not self.is_up:
            return
        remote = self.media.held_by_remote
        self._move(CallState.HELD if remote or self._changes.held_by_us else CallState.ACTIVE)
        if remote != self._was_held:
            self._was_held = remote
            self._emit(HeldByRemote() if remote else ResumedByRemote())

    def _come_up(self) -> None:
        self._move(CallState.ACTIVE)
        self._up_since = self.stack.signalling.now()
        self._emit(Answered(self.media.codec or ""))
        self._progressed.set()
        self._settled.set()
        self._settle_hold()

    def ask_after_peer(self) -> None:
        """Send OPTIONS in the dialog: no answer, and the agent ends the dialog (row H04)."""
        if self.dialog is None or not self.is_up or self._ping is not None:
            return
        try:
            self._ping = self.stack.agent.dialog_request(
                self.dialog, "OPTIONS", now=self.stack.signalling.now()
            )
        except (SipError, CallStateError) as error:
            log.debug("asking after %s: %s", self.remote.uri, error)
            return
        self.stack.sessions[self._ping] = self
        self.stack.signalling.flush()

    def on_info(self, request: ServerRequest) -> None:
        """The peer says something in an INFO."""
        answer = read_info(request.request, self.stack.agent.config.info_packages)
        request.reply(answer.status, headers=answer.headers, now=self.stack.signalling.now())
        self.stack.signalling.flush()
        if answer.event is not None and self.end is None:
            self._emit(answer.event)

    async def send_info(self, info: Info) -> None:
        """Say something in an INFO; raises `CallError` where the peer does not take it."""
        if self.dialog is None or not self.is_up:
            raise CallStateError(f"the call is {self.state.value}")
        stack = self.stack
        handle = stack.agent.dialog_request(
            self.dialog,
            "INFO",
            headers=info.headers(),
            body=info.body,
            content_type=info.content_type if info.body else None,
            now=stack.signalling.now(),
        )
        try:
            await ask(stack, handle, self.remote.uri)
        except RequestError as error:
            raise CallError(error.message, hint=error.hint, status=error.status) from None

    def on_asked(self, event: RequestDone | RequestFailed) -> None:
        """The peer answered our OPTIONS, or is gone; 408 and 481 have ended the dialog already."""
        self.stack.sessions.pop(self._ping, None)
        self._ping = None
        if isinstance(event, RequestFailed) and event.cause is Cause.TRANSPORT and self.is_up:
            self._bye()
            self._finish(CallEnded(EndedBy.FAILURE, event.reason, event.status))

    # ------------------------------------------------------------ the end

    async def hangup(self, headers: HeaderLines = ()) -> None:
        """End the call, whatever its state; returns when it is over.

        `headers` go with a BYE or a refusal, not with a CANCEL.
        """
        if self.end is None and self.state is not CallState.ENDING:
            end = self._say_goodbye(headers)
            if end is not None:
                self._finish(end)
        patience = GOODBYE_S if self._heard or self._client is None else NOT_A_WORD_S
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._over.wait()
        if self.end is None and self._client is not None and self.dialog is None:
            self._finish(CallEnded(EndedBy.LOCAL, "given up", 487))
        elif self.end is None:
            self._finish(CallEnded(EndedBy.LOCAL, "hung up; the peer did not answer", 408))
        await self._closed()

    def _say_goodbye(self, headers: HeaderLines = ()) -> CallEnded | None:
        """Tell the peer; return how the call ended where no word of the peer's is waited for."""
        self._move(CallState.ENDING)
        try:
            if self.dialog is not None and self.dialog.state is not DialogState.EARLY:
                self._bye(headers)
                return None
            if self._server is not None:
                self._respond(self._server, 603, headers=headers)
                return CallEnded(EndedBy.LOCAL, "rejected", 603)
            if self._client is not None:
                self.stack.agent.cancel(self._client, now=self.stack.signalling.now())
                self.stack.signalling.flush()
                return None
        except VoipError as error:
            log.warning("ending the call with %s: %s", self.remote.uri, error)
        return CallEnded(EndedBy.LOCAL, "given up")

    def _bye(self, headers: HeaderLines = ()) -> None:
        if self.dialog is not None:
            self.stack.agent.bye(self.dialog, headers=headers, now=self.stack.signalling.now())
            self.stack.signalling.flush()

    def on_dialog_ended(self, event: DialogEnded) -> None:
        """The dialog is over: BYE by either side, or the peer is gone."""
        self.farewell = event.request
        by = EndedBy.REMOTE if event.by_remote else EndedBy.LOCAL
        if not event.by_remote and self.state is not CallState.ENDING:
            by = EndedBy.FAILURE
        self._finish(CallEnded(by, event.reason, event.status))

    def fail(self, reason: str) -> None:
        """End the call because something of ours failed."""
        if self.end is None:
            self._failure = CallError(reason)
            if self.state is not CallState.ENDING:
                self._say_goodbye()
            self._finish(CallEnded(EndedBy.FAILURE, reason))

    async def wait_ended(self) -> CallEnded:
        """Return how the call ended, once it has."""
        await self._over.wait()
        await self._closed()
        if self.end is None:
            raise CallStateError("the call is not over")
        return self.end

    async def settled(self) -> None:
        """Return when the call is answered, or over."""
        await self._settled.wait()

    @property
    def is_answered(self) -> bool:
        """Whether it has been answered, acknowledged or not."""
        return self.dialog is not None or self.is_up

    async def leave(self) -> None:
        """End a call whose peer goes on with somebody else: it hangs up, or else we do."""
        try:
            await self.wait_ended_for(LEAVE_S)
        except TimeoutError:
            await self.hangup()

    async def wait_ended_for(self, seconds: float) -> None:
        """Return when the call is over; TimeoutError where it is not in time."""
        async with asyncio.timeout(seconds):
            await self._over.wait()

    def _finish(self, end: CallEnded) -> None:
        if self.end is not None:
            return
        self.end = end
        if self._up_since is not None:
            self.up_s = self.stack.signalling.now() - self._up_since
        if self._failure is None and not self._settled.is_set():
            self._failure = CallError(f"the call ended: {end.reason}", status=end.status)
        self._changes.end()
        self._move(CallState.ENDED)
        if self._redirecting is not None:
            self._redirecting.cancel()
        for handle in (*self._handles, self._ping):
            self.stack.sessions.pop(handle, None)
        # last figures first, then the news: who hears of the end can read them
        self._closing = asyncio.get_running_loop().create_task(self._close(end))
        self._progressed.set()
        self._settled.set()
        self._over.set()

    async def _close(self, end: CallEnded) -> None:
        try:
            await self.media.close()
        finally:
            self._emit(end)

    async def _closed(self) -> None:
        if self._closing is not None and asyncio.current_task() is not self._closing:
            await asyncio.shield(self._closing)

    def _answers_to(self, handle: object) -> None:
        """Let the events of an INVITE or a dialog find this session."""
        if handle not in self.stack.sessions:
            self._handles.append(handle)
            self.stack.sessions[handle] = self

    def _move(self, state: CallState) -> None:
        """Take the next state; `CallStateError` for one that cannot follow."""
        if state is self.state:
            return
        if not allowed(self.state, state):
            raise CallStateError(f"a call cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.stack.call_changed()


def _carries_sdp(response: Response) -> bool:
    """Whether the body is said to be a session description, or at least nothing else."""
    try:
        return bool(response.body) and (response.content_type or SDP) == SDP
    except SipError:  # a Content-Type nobody can read
        return True

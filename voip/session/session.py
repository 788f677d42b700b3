"""A SIP dialog bound to a media session: what happens to one becomes what the other does.

Both directions of a call are here, because after the answer there is no difference any more. SIP
events come in through `on_...`; what the application wants is an async method that returns when it
has happened on the wire, and raises when it has not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from voip.errors import (
    AuthenticationError,
    CallError,
    CallStateError,
    MediaError,
    NoAnswerError,
    SdpError,
    SipError,
)
from voip.events import (
    Answered,
    CallEnded,
    CallEvent,
    CallState,
    EarlyMedia,
    EndedBy,
    HeldByRemote,
    ResumedByRemote,
    Ringing,
)
from voip.sdp.description import Direction
from voip.session.media import SDP, MediaSession
from voip.session.stack import Stack
from voip.session.states import allowed
from voip.sip.client_invite import ClientInvite
from voip.sip.client_request import ClientRequest
from voip.sip.dialog import Dialog
from voip.sip.digest import Credentials
from voip.sip.events import Cause, InviteFailed, ReinviteDone, RequestDone, RequestFailed
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response
from voip.sip.reinvite import Reinvite, ReinviteState
from voip.sip.server_invite import ServerInvite

__all__ = ["CallSession"]

log = logging.getLogger(__name__)

GOODBYE_S = 4.0
"""How long ending a call waits for the other side's word; then the call is over all the same."""
_UP = (CallState.ACTIVE, CallState.HELD)


class CallSession:
    """One call. `emit` gets its events, in order; `advertised` is the host our SDP names."""

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
        self.held_by_us = False
        self.answer_response: Response | None = None
        self._emit = emit
        self._contact = ""
        self._client: ClientInvite | None = None
        self._server: ServerInvite | None = None
        self._reinvite: Reinvite | None = None
        self._reinvite_done: asyncio.Future[ReinviteDone] | None = None
        self._failure: CallError | None = None
        self._progressed = asyncio.Event()
        self._settled = asyncio.Event()  # answered (and acknowledged), or over
        self._over = asyncio.Event()
        self._changing = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._early_answer = b""
        self._was_held = False
        self._handles: list[object] = []
        self._ping: ClientRequest | None = None

    @property
    def invite_request(self) -> Request | None:
        """The INVITE that began the call, whoever sent it."""
        invite = self._server or self._client
        return invite.request if invite else None

    @property
    def is_up(self) -> bool:
        """Whether the call has been answered and is not over."""
        return self.state in _UP

    # ------------------------------------------------------------ calling somebody

    async def call(
        self,
        uri: str,
        *,
        flow: Flow,
        from_: NameAddr,
        contact: str,
        route: Sequence[str] = (),
        headers: Sequence[tuple[str, str]] = (),
        credentials: Credentials | None = None,
    ) -> None:
        """Send the INVITE; what comes of it is told by events."""
        await self.media.open(flow.remote.host, flow.local.host)
        if self.end is not None:  # given up meanwhile
            await self.media.close()
            return
        self._contact = contact
        self._move(CallState.CALLING)
        self._client = self.stack.agent.invite(
            uri,
            flow=flow,
            from_=from_,
            to=self.remote,
            contact=contact,
            route=route,
            headers=headers,
            body=self.media.offer(),
            content_type=SDP,
            credentials=credentials,
            now=self.stack.signalling.now(),
        )
        self._answers_to(self._client)
        self.stack.signalling.flush()

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

    def on_provisional(self, response: Response, dialog: Dialog | None) -> None:
        """A 1xx came: ringing, or sound before the answer."""
        if self.state not in (CallState.CALLING, CallState.RINGING, CallState.EARLY):
            return
        if response.status == 180 and self.state is CallState.CALLING:
            self._move(CallState.RINGING)
            self._emit(Ringing())
        if dialog is not None and _carries_sdp(response) and self._take_answer(response):
            if not self.early_media:
                self.early_media = True
                self._emit(EarlyMedia())
            self._move(CallState.EARLY)
        if response.status > 100 and self.state is not CallState.CALLING:
            self._progressed.set()

    def on_answered(self, response: Response, dialog: Dialog) -> None:
        """The 2xx came; the agent has acknowledged it."""
        self.dialog = dialog
        self._answers_to(dialog)
        self.answer_response = response
        if self.state is CallState.ENDING:
            return
        if not _carries_sdp(response) and self.media.agreed is None:
            self._give_up("the answer has no session description", 488)
            return
        if _carries_sdp(response) and not self._take_answer(response):
            self._give_up("the answer cannot be used", 488)
            return
        self._come_up()

    def on_failed(self, event: InviteFailed) -> None:
        """Our INVITE came to nothing."""
        self._failure = _failure(event, self.remote)
        by = EndedBy.REMOTE if event.cause is Cause.RESPONSE else EndedBy.FAILURE
        if event.cause is Cause.CANCELLED:
            by = EndedBy.LOCAL
        self._finish(CallEnded(by, event.reason, event.status))

    def _take_answer(self, response: Response) -> bool:
        try:
            self.media.take_answer(response.body)
            self.media.connect_soon()
        except (SdpError, MediaError) as error:
            log.warning("the answer of %s cannot be used: %s", self.remote.uri, error)
            self._failure = CallError(
                f"the answer of {self.remote.uri} cannot be used: {error.message}", status=488
            )
            return False
        return True

    def _give_up(self, reason: str, status: int) -> None:
        """End a call that was answered and cannot be used."""
        if self._failure is None:
            self._failure = CallError(f"{reason} ({self.remote.uri})", status=status)
        self._move(CallState.ENDING)
        self._bye()
        self._finish(CallEnded(EndedBy.LOCAL, reason, status))

    # ------------------------------------------------------------ being called

    def incoming(self, invite: ServerInvite, contact: str) -> None:
        """Bind this session to an INVITE of the peer's."""
        self._server = invite
        self._contact = contact
        self._answers_to(invite)

    async def ring(self) -> None:
        """Tell the caller that it rings (180)."""
        server = self._unanswered()
        self._respond(server, 180)
        if self.state is CallState.NEW:
            self._move(CallState.RINGING)

    async def progress(self) -> None:
        """Answer the offer early (183): the caller hears us before the call is answered."""
        server = self._unanswered()
        body = await self._answer_offer(server)
        if body is None:
            raise CallStateError("the INVITE has no offer", hint="answer the call instead")
        await self.media.connect()
        self.early_media = True
        self._respond(server, 183, body=body)
        self._move(CallState.EARLY)

    async def answer(self) -> None:
        """Answer the call; returns when the caller has acknowledged that."""
        server = self._unanswered()
        body: bytes | None = b""
        if not self.early_media:
            body = await self._answer_offer(server)
            self._unanswered()  # it may have been cancelled meanwhile
            if body is None:
                body = self.media.offer()
            else:
                await self.media.connect()
                self._unanswered()
        else:
            body = self._early_answer
        self._respond(server, 200, body=body)
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    async def _answer_offer(self, server: ServerInvite) -> bytes | None:
        """Open the stream and return our answer; None where the INVITE has no offer."""
        flow = server.flow
        if not self.media.is_open:
            await self.media.open(flow.remote.host, flow.local.host)
        if not server.request.body:
            return None
        try:
            self._early_answer = self.media.answer(server.request.body)
        except SdpError as error:
            self._refuse_offer(server, error)
            raise CallError(error.message, hint=error.hint, status=error.status) from error
        return self._early_answer

    def _refuse_offer(self, server: ServerInvite, error: SdpError) -> None:
        status = error.status or 488
        self._respond(server, status, headers=_warning(error, self._contact))
        self._failure = CallError(error.message, hint=error.hint, status=status)
        self._finish(CallEnded(EndedBy.LOCAL, error.message, status))

    async def reject(self, status: int = 486, reason: str | None = None) -> None:
        """Refuse the call, with 486 (busy) unless told otherwise."""
        server = self._unanswered()
        if not 300 <= status <= 699:
            raise CallStateError(f"a call is not refused with {status}", hint="300 to 699")
        response_reason = reason or ""
        self._respond(server, status, reason)
        self._finish(CallEnded(EndedBy.LOCAL, response_reason or "rejected", status))
        await self._closed()

    def on_cancelled(self, reason: str) -> None:
        """The caller gave up."""
        self._failure = CallError(f"{self.remote.uri} gave up", status=487)
        self._finish(CallEnded(EndedBy.REMOTE, reason or "cancelled", 487))

    def on_acknowledged(self, request: Request) -> None:
        """The ACK to our 200 came, with the answer to our offer where we made it."""
        if self.state in _UP:
            self._reinvite_acknowledged(request)
            return
        if self._server is not None and not self._server.request.body:
            try:
                self.media.take_answer(request.body)
                self.media.connect_soon()
            except (SdpError, MediaError) as error:
                log.warning("the answer of %s cannot be used: %s", self.remote.uri, error)
                self._give_up(error.message, 488)
                return
        self._come_up()

    def _unanswered(self) -> ServerInvite:
        if self._server is None:
            raise CallStateError("this call is ours", hint="the callee answers it")
        if self.state not in (CallState.NEW, CallState.RINGING, CallState.EARLY) or self.dialog:
            raise self._failure or CallStateError(f"the call is {self.state.value}")
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
            contact=self._contact,
            headers=headers,
            body=body,
            content_type=SDP if body else None,
            now=self.stack.signalling.now(),
        )
        if 200 <= status < 300 and self.dialog is None and server.dialog is not None:
            self.dialog = server.dialog
            self._answers_to(server.dialog)
        self.stack.signalling.flush()

    # ------------------------------------------------------------ a call that is up

    async def hold(self) -> None:
        """Put the peer on hold; returns when it has agreed."""
        await self._change(Direction.SENDONLY)
        self.held_by_us = True
        self._settle_hold()

    async def resume(self) -> None:
        """Take the peer off hold."""
        await self._change(Direction.SENDRECV)
        self.held_by_us = False
        self._settle_hold()

    async def _change(self, direction: Direction) -> None:
        async with self._changing:
            if self.dialog is None or not self.is_up:
                raise CallStateError(f"the call is {self.state.value}")

            def offer() -> bytes:
                self._abandon()  # what was offered before the glare
                return self.media.offer(direction)

            self._reinvite_done = asyncio.get_running_loop().create_future()
            self._reinvite = self.stack.agent.reinvite(
                self.dialog,
                body=offer,
                content_type=SDP,
                now=self.stack.signalling.now(),
            )
            self.stack.signalling.flush()
            try:
                done = await self._reinvite_done
            finally:
                self._reinvite = self._reinvite_done = None
            if done.response is None or not 200 <= done.status < 300:
                self._abandon()
                raise CallError(
                    f"{self.remote.uri} refused the change: {done.reason} ({done.status})",
                    status=done.status,
                )
            try:
                self.media.take_answer(done.response.body)
            except SdpError as error:
                self._abandon()
                raise CallError(error.message, hint=error.hint, status=error.status) from error
            await self.media.connect()

    def _abandon(self) -> None:
        with suppress(MediaError, SdpError):
            self.media.abandon()

    def on_reinvite_done(self, event: ReinviteDone) -> None:
        """Our re-INVITE is over."""
        if event.handle is not self._reinvite:
            return
        if self._reinvite_done is not None and not self._reinvite_done.done():
            self._reinvite_done.set_result(event)

    def on_reinvite(self, invite: ServerInvite) -> None:
        """The peer changes the session: hold, resume, another address."""
        if self._reinvite is not None and self._reinvite.state is ReinviteState.WAITING:
            self._abandon()  # theirs came first: ours will be made anew
        try:
            if invite.request.body:
                body = self.media.answer(invite.request.body)
            else:
                body = self.media.offer()
        except SdpError as error:
            self._respond(invite, error.status or 488, headers=_warning(error, self._contact))
            return
        self._respond(invite, 200, body=body)
        if invite.request.body:
            self.media.connect_soon()
            self._settle_hold()

    def _reinvite_acknowledged(self, request: Request) -> None:
        """Take the answer to an offer of ours in the 200 to the peer's re-INVITE."""
        if not request.body:
            return
        try:
            self.media.take_answer(request.body)
            self.media.connect_soon()
        except (SdpError, MediaError) as error:
            log.warning("the answer of %s cannot be used: %s", self.remote.uri, error)
            self._abandon()
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
        self._answers_to(self._ping)
        self.stack.signalling.flush()

    def on_asked(self, event: RequestDone | RequestFailed) -> None:
        """The peer answered our OPTIONS, or is gone; 408 and 481 have ended the dialog already."""
        self.stack.sessions.pop(self._ping, None)
        self._ping = None
        if isinstance(event, RequestFailed) and event.cause is Cause.TRANSPORT and self.is_up:
            self._bye()
            self._finish(CallEnded(EndedBy.FAILURE, event.reason, event.status))

    def _settle_hold(self) -> None:
        remote = self.media.held_by_remote
        if remote != self._was_held:
            self._was_held = remote
            self._emit(HeldByRemote() if remote else ResumedByRemote())
        wanted = CallState.HELD if remote or self.held_by_us else CallState.ACTIVE
        if self.is_up:
            self._move(wanted)

    def _come_up(self) -> None:
        self._move(CallState.ACTIVE)
        self._emit(Answered(self.media.codec or ""))
        self._progressed.set()
        self._settled.set()
        if self.media.held_by_remote:
            self._settle_hold()

    # ------------------------------------------------------------ the end

    async def hangup(self) -> None:
        """End the call, whatever its state; returns when it is over."""
        if self.state is CallState.ENDED:
            await self._closed()
            return
        if self.state is not CallState.ENDING:
            self._say_goodbye()
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._over.wait()
        if self.end is None:
            self._finish(CallEnded(EndedBy.LOCAL, "hung up; the peer did not answer", 408))
        await self._closed()

    def _say_goodbye(self) -> None:
        agent, now = self.stack.agent, self.stack.signalling.now()
        before = self.state
        self._move(CallState.ENDING)
        if self.dialog is not None and (before in _UP or self._server is not None):
            self._bye()
        elif self._server is not None:
            self._respond(self._server, 603)
            self._finish(CallEnded(EndedBy.LOCAL, "rejected", 603))
        elif self._client is not None:
            agent.cancel(self._client, now=now)
            self.stack.signalling.flush()
            if before is CallState.CALLING:  # nobody has said a word: nobody is waited for
                self._finish(CallEnded(EndedBy.LOCAL, "given up", 487))
        else:
            self._finish(CallEnded(EndedBy.LOCAL, "given up"))

    def _bye(self) -> None:
        if self.dialog is not None:
            self.stack.agent.bye(self.dialog, now=self.stack.signalling.now())
            self.stack.signalling.flush()

    def on_dialog_ended(self, by_remote: bool, reason: str, status: int | None) -> None:
        """The dialog is over: BYE by either side, or the peer is gone."""
        by = EndedBy.REMOTE if by_remote else EndedBy.LOCAL
        if not by_remote and self.state is not CallState.ENDING:
            by = EndedBy.FAILURE
        self._finish(CallEnded(by, reason, status))

    def fail(self, reason: str) -> None:
        """End the call because something of ours failed."""
        if self.state is not CallState.ENDED:
            self._failure = CallError(reason)
            self._say_goodbye()
            self._finish(CallEnded(EndedBy.FAILURE, reason))

    async def wait_ended(self) -> CallEnded:
        """Return how the call ended, once it has."""
        await self._over.wait()
        await self._closed()
        if self.end is None:
            raise CallStateError("the call is not over")
        return self.end

    def _finish(self, end: CallEnded) -> None:
        if self.end is not None:
            return
        self.end = end
        if self._failure is None and not self._settled.is_set():
            self._failure = CallError(f"the call ended: {end.reason}", status=end.status)
        if self._reinvite_done is not None and not self._reinvite_done.done():
            self._reinvite_done.set_exception(CallStateError("the call ended"))
        self._move(CallState.ENDED)
        for handle in self._handles:
            self.stack.sessions.pop(handle, None)
        # last figures first, then the news: who hears of the end can read them
        self._closing = asyncio.get_running_loop().create_task(self._close(end))
        self._progressed.set()
        self._settled.set()
        self._over.set()

    async def _close(self, end: CallEnded) -> None:
        await self.media.close()
        self._emit(end)

    async def _closed(self) -> None:
        if self._closing is not None and asyncio.current_task() is not self._closing:
            await asyncio.shield(self._closing)

    def _answers_to(self, handle: object) -> None:
        """Let the events of an INVITE or a dialog find this session."""
        self._handles.append(handle)
        self.stack.sessions[handle] = self

    def _move(self, state: CallState) -> None:
        if state is self.state:
            return
        if not allowed(self.state, state):
            log.error("a call went from %s to %s", self.state.value, state.value)
        self.state = state


def _carries_sdp(response: Response) -> bool:
    return bool(response.body) and (response.content_type or SDP).lower().startswith(SDP)


def _warning(error: SdpError, contact: str) -> list[tuple[str, str]]:
    """Return the Warning that says why (RFC 3261 section 20.43)."""
    code = error.context.get("warning")
    if code is None:
        return []
    text = str(error.context.get("warning_text", error.message)).replace('"', "'")
    return [("Warning", f'{int(code)} voip "{text}"')]


def _failure(event: InviteFailed, remote: NameAddr) -> CallError:
    """Turn a failed INVITE into what a person can act on."""
    uri = remote.uri
    status, reason = event.status, event.reason
    match event.cause:
        case Cause.AUTHENTICATION:
            return _not_authorized(event)
        case Cause.TIMEOUT:
            return NoAnswerError(
                f"no response from {uri}", hint="is the address right, and the host up?",
                status=status,
            )  # fmt: skip
        case Cause.TRANSPORT:
            return CallError(reason, hint="check the address and the transport", status=status)
        case Cause.CANCELLED:
            return CallError(f"the call to {uri} was given up", status=status)
        case _:
            return CallError(f"{reason.lower()} ({status})", status=status)


def _not_authorized(event: InviteFailed) -> AuthenticationError:
    sender = event.invite.request.from_.uri.partition(":")[2]
    if event.invite.authorized:
        return AuthenticationError(
            f"{event.status} twice: wrong password for {sender}", status=event.status
        )
    return AuthenticationError(
        f"{event.status} but no password was given for {sender}",
        hint="pass password=, --password-file or VOIP_PASSWORD",
        status=event.status,
    )

"""A SIP dialog bound to a media session: what happens to one becomes what the other does.

Until it is answered it is a `Caller`'s or a `Callee`'s; after that there is no difference any more.
SIP events come in through `on_...`; what the application wants is an async method that returns when
it has happened on the wire, and raises when it has not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from weakref import proxy

from voip.errors import CallError, CallStateError, NoAnswerError, RequestError, VoipError
from voip.events import (
    Answered,
    CallEnded,
    CallEvent,
    CallState,
    EndedBy,
    HeldByRemote,
    ResumedByRemote,
)
from voip.logs import CallLog, Limit
from voip.sdp.description import Direction
from voip.session.ask import ask
from voip.session.callee import Callee
from voip.session.caller import Caller
from voip.session.change import Changes
from voip.session.info import Info, read_info
from voip.session.media import SDP, MediaSession
from voip.session.presence import Presence
from voip.session.stack import Stack
from voip.session.states import allowed
from voip.sip.client_invite import ClientInvite
from voip.sip.dialog import Dialog, DialogState
from voip.sip.events import DialogEnded, ReinviteDone, UpdateDone, UpdateReceived
from voip.sip.focus import as_focus
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response
from voip.sip.reason import reason_header
from voip.sip.server_invite import ServerInvite
from voip.sip.server_request import ServerRequest

__all__ = ["CallSession"]

GOODBYE_S = 4.0
"""How long ending a call waits for the other side's word; then the call is over all the same."""
NOT_A_WORD_S = 0.5
"""The same where the callee has not said anything yet: until then a CANCEL may not be sent."""
LEAVE_S = 2.0
"""How long a peer that has been replaced (RFC 3891) has for its BYE."""
HeaderLines = Sequence[tuple[str, str]]
_UP = (CallState.ACTIVE, CallState.HELD)


class CallSession:
    """One call. `emit` gets its events, in order; the last is `CallEnded`, once."""

    def __init__(
        self, stack: Stack, *, outgoing: bool, remote: NameAddr, emit: Callable[[CallEvent], None]
    ) -> None:
        self.stack = stack
        self.outgoing = outgoing
        self.remote = remote
        direction = "outgoing" if outgoing else "incoming"
        # `Call` says whose lines they are
        self.log = CallLog(Limit(stack.signalling.now), direction=direction, peer=remote.uri)
        self.media = MediaSession(stack, self.log)
        self.state = CallState.NEW
        self.end: CallEnded | None = None
        self.dialog: Dialog | None = None
        self.early_media = False
        self.answer_response: Response | None = None
        self.response: Response | None = None  # the callee's latest
        self.farewell: Request | Response | None = None  # what the peer ended the call with
        self.up_s: float | None = None  # how long it was up, once it is over
        self._up_since: float | None = None
        self.emit = emit
        self.hold_changed: Callable[[bool], None] = _nobody_held
        self.contact = ""  # how the peer reaches us
        self.focus: str | None = None  # the user of the conference that this call is in
        self.failure: CallError | None = None  # why it came to nothing
        self.progressed = asyncio.Event()  # the callee rings, sounds or has answered
        # Its halves name it weakly: a call that is over is gone when nobody has it any more.
        self._caller = Caller(proxy(self)) if outgoing else None
        self._callee: Callee | None = None
        self._settled = asyncio.Event()  # answered (and acknowledged), or over
        self._over = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._was_held = False
        self._handles: list[object] = []
        self.presence = Presence(proxy(self))
        self.changes = Changes(
            stack,
            self.media,
            peer=remote.uri,
            respond=self.respond,
            changed=self._settle_hold,
            log=self.log,
        )

    @property
    def caller(self) -> Caller:
        """What it is to call; `CallStateError` in a call that came in."""
        if self._caller is None:
            raise CallStateError("this call came in", hint="the caller does that")
        return self._caller

    @property
    def callee(self) -> Callee:
        """What it is to be called; `CallStateError` in a call of ours."""
        if self._callee is None:
            raise CallStateError("this call is ours", hint="the callee answers it")
        return self._callee

    @property
    def _invite(self) -> ClientInvite | ServerInvite | None:
        half = self._caller or self._callee
        return None if half is None else half.invite

    @property
    def invite_request(self) -> Request | None:
        """The INVITE that began the call, whoever sent it."""
        invite = self._invite
        return None if invite is None else invite.request

    @property
    def early_dialogs(self) -> list[Dialog]:
        """The dialogs of a call that is not answered yet."""
        if self.dialog is not None:
            return []
        if self._caller is not None:
            return [] if self._caller.invite is None else self._caller.invite.dialogs
        early = None if self._callee is None else self._callee.invite.dialog
        return [] if early is None else [early]

    @property
    def current_dialog(self) -> Dialog | None:
        """The dialog as far as there is one: before the answer, the latest early one."""
        return self.dialog or next(reversed(self.early_dialogs), None)

    @property
    def is_trusted(self) -> bool:
        """Whether the peer's messages come from a host within the trust domain (RFC 3324)."""
        invite = self._invite
        return invite is not None and invite.flow.remote.host in self.stack.trusted

    @property
    def is_up(self) -> bool:
        """Whether the call has been answered and is not over."""
        return self.state in _UP

    # ------------------------------------------------------------ until it is up

    async def wait_answered(self, timeout: float | None) -> None:
        """Return when the call is up; raises `CallError` when it came to nothing.

        After `timeout` seconds the call is given up with `NoAnswerError`.
        """
        await self._wait(self._settled, timeout)

    async def wait_progress(self, timeout: float | None) -> None:
        """Return when the callee rings, sounds or answers; else as `wait_answered`."""
        await self._wait(self.progressed, timeout)

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
        if self.failure is not None:
            await self.closed()  # whoever hears of the failure finds nothing left of the call
            raise copy(self.failure)  # what was raised names who had the call

    @property
    def rings_here(self) -> bool:
        """Whether nobody sounds yet though somebody rings: see `Call.rings_here`."""
        waiting = self.outgoing and self.state in (CallState.RINGING, CallState.EARLY)
        return waiting and self.caller.has_rung and self.media.stats.packets_received == 0

    def give_up(self, reason: str) -> None:
        """End a call that was answered and cannot be used."""
        self.failure = CallError(f"{reason} ({self.remote.uri})", status=488)
        self.move(CallState.ENDING)
        self.bye([reason_header(488, reason)])
        self.finish(CallEnded(EndedBy.LOCAL, reason, 488))

    def incoming(self, invite: ServerInvite, contact: str) -> None:
        """Bind this session to an INVITE of the peer's."""
        self._callee = Callee(proxy(self), invite)
        self.contact = contact
        request = invite.request
        self.log.know(sip_call_id=request.call_id)
        words = "a call comes in for %s"
        self.log.event(logging.INFO, "call_incoming", words, request.uri)
        self.answers_to(invite)

    def on_acknowledged(self, request: Request) -> None:
        """The ACK to our 200 came, with the answer to our offer where we made it."""
        if self.is_up:
            self.changes.on_acknowledged(request)
        elif self._callee is not None:
            self._callee.on_acknowledged(request)

    def respond(
        self,
        server: ServerInvite,
        status: int,
        reason: str | None = None,
        *,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        """Answer an INVITE of the peer's: the first one, or a re-INVITE."""
        server.respond(
            status,
            reason,
            contact=self.own_contact if status < 300 else None,  # a 3xx names others
            headers=headers,
            body=body,
            content_type=SDP if body else None,
            now=self.stack.signalling.now(),
        )
        if server.dialog is not None and status < 300:
            self.answers_to(server.dialog)
            if status >= 200:
                self.dialog = server.dialog
        self.stack.signalling.flush()

    @property
    def own_contact(self) -> str:
        """Our Contact: that of the conference which this call is in (RFC 4579), else `contact`."""
        return self.contact if self.focus is None else as_focus(self.contact, self.focus)

    # ------------------------------------------------------------ a call that is up

    async def name_focus(self, focus: str | None, *, resume: bool = False) -> None:
        """Name ourselves to the peer as a conference, or as ourselves again (None).

        By a re-INVITE (RFC 5359 section 2.10), which takes the peer off hold too (`resume`).
        """
        self.focus = focus
        if self.dialog is not None:
            self.dialog.contact = self.own_contact
        await self._change(Direction.SENDRECV if resume else self.media.direction)

    async def hold(self) -> None:
        """Put the peer on hold; returns when it has agreed."""
        await self._change(Direction.SENDONLY)
        self.log.event(logging.INFO, "call_held", "we put the other side on hold")

    async def resume(self) -> None:
        """Take the peer off hold."""
        await self._change(Direction.SENDRECV)
        self.log.event(logging.INFO, "call_resumed", "we took the other side off hold")

    async def _change(self, direction: Direction) -> None:
        dialog = self.dialog
        if self.state is CallState.EARLY and dialog is None:
            early = self._caller.early.heard if self._caller is not None else None
            dialog = self._callee.invite.dialog if self._callee is not None else early
            if dialog is not None and "UPDATE" not in dialog.allowed:
                dialog = None
        elif not self.is_up:
            dialog = None
        if dialog is None:
            raise CallStateError(f"the call is {self.state.value}")
        await self.changes.change(dialog, direction)

    def on_reinvite(self, invite: ServerInvite) -> None:
        """The peer changes the session."""
        self.changes.on_reinvite(invite)

    def on_update(self, event: UpdateReceived) -> None:
        """The peer changes the session by UPDATE."""
        if self._caller is not None and self.dialog is None:
            self._caller.early.update(event.dialog)
        self.changes.on_update(event.request)

    def on_change_done(self, event: ReinviteDone | UpdateDone) -> None:
        """Our re-INVITE or UPDATE is over."""
        self.changes.on_done(event)

    def on_refresh_due(self, dialog: Dialog) -> None:
        """The session would expire."""
        if self.is_up:
            self.changes.refresh(dialog)

    def _settle_hold(self) -> None:
        """Take it that the session has changed."""
        if not self.is_up:
            return
        self.hold_changed(self.changes.held_by_us)
        remote = self.media.held_by_remote
        self.move(CallState.HELD if remote or self.changes.held_by_us else CallState.ACTIVE)
        if remote != self._was_held:
            self._was_held = remote
            self.emit(HeldByRemote() if remote else ResumedByRemote())

    def come_up(self) -> None:
        """Begin the call itself: both sides have agreed."""
        self.move(CallState.ACTIVE)
        self._up_since = self.stack.signalling.now()
        self.presence.begin()
        self.emit(Answered(self.media.codec or ""))
        self.progressed.set()
        self._settled.set()
        self._settle_hold()

    def on_info(self, request: ServerRequest) -> None:
        """The peer says something in an INFO."""
        answer = read_info(request.request, self.stack.agent.config.info_packages)
        request.reply(answer.status, headers=answer.headers, now=self.stack.signalling.now())
        self.stack.signalling.flush()
        if answer.event is not None and self.end is None:
            self.emit(answer.event)

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

    # ------------------------------------------------------------ the end

    async def hangup(self, headers: HeaderLines = ()) -> None:
        """End the call, whatever its state; returns when it is over.

        `headers` go with a BYE or a refusal, not with a CANCEL.
        """
        if self.end is None and self.state is not CallState.ENDING:
            end = self.say_goodbye(headers)
            if end is not None:
                self.finish(end)
        invite = None if self._caller is None else self._caller.invite
        is_silent = invite is not None and not self.caller.has_heard
        with suppress(TimeoutError):
            async with asyncio.timeout(NOT_A_WORD_S if is_silent else GOODBYE_S):
                await self._over.wait()
        if self.end is None and invite is not None and self.dialog is None:
            self.finish(CallEnded(EndedBy.LOCAL, "given up", 487))
        elif self.end is None:
            self.finish(CallEnded(EndedBy.LOCAL, "hung up; the peer did not answer", 408))
        await self.closed()

    def say_goodbye(self, headers: HeaderLines = ()) -> CallEnded | None:
        """Tell the peer; return how the call ended where no word of the peer's is waited for."""
        self.move(CallState.ENDING)
        try:
            if self.dialog is not None and self.dialog.state is not DialogState.EARLY:
                self.bye(headers)
                return None
            if self._callee is not None:
                self.respond(self._callee.invite, 603, headers=headers)
                return CallEnded(EndedBy.LOCAL, "rejected", 603)
            if self._caller is not None and self._caller.invite is not None:
                self.stack.agent.cancel(self._caller.invite, now=self.stack.signalling.now())
                self.stack.signalling.flush()
                return None
        except VoipError as error:
            self.log.warning("the other side cannot be told of the end: %s", error)
        return CallEnded(EndedBy.LOCAL, "given up")

    def bye(self, headers: HeaderLines = ()) -> None:
        """Send a BYE, if there is whom to."""
        if self.dialog is not None:
            self.stack.agent.bye(self.dialog, headers=headers, now=self.stack.signalling.now())
            self.stack.signalling.flush()

    def on_dialog_ended(self, event: DialogEnded) -> None:
        """The dialog is over: BYE by either side, or the peer is gone."""
        self.farewell = event.request
        by = EndedBy.REMOTE if event.by_remote else EndedBy.LOCAL
        if not event.by_remote and self.state is not CallState.ENDING:
            by = EndedBy.FAILURE
        self.finish(CallEnded(by, event.reason, event.status))

    def lose(self, reason: str, status: int) -> None:
        """End a call that is up and of no use any more; the BYE says why (row I03)."""
        if self.is_up:
            self.bye([reason_header(status, reason)])
            self.finish(CallEnded(EndedBy.FAILURE, reason, status))

    def lose_media(self, reason: str) -> None:
        """End the call, whatever its state, because its media engine is gone."""
        self.lose(reason, 500)
        self.fail(reason)

    def fail(self, reason: str) -> None:
        """End the call because something of ours failed."""
        if self.end is None:
            self.failure = CallError(reason)
            if self.state is not CallState.ENDING:
                self.say_goodbye()
            self.finish(CallEnded(EndedBy.FAILURE, reason))

    async def wait_ended(self) -> CallEnded:
        """Return how the call ended, once it has."""
        await self._over.wait()
        await self.closed()
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

    def finish(self, end: CallEnded) -> None:
        """Take it that the call is over; only the first time counts."""
        if self.end is not None:
            return
        self.end = end
        if self._up_since is not None:
            self.up_s = self.stack.signalling.now() - self._up_since
        if self.failure is None and not self._settled.is_set():
            self.failure = CallError(f"the call ended: {end.reason}", status=end.status)
        self.changes.end()
        self.move(CallState.ENDED)
        if self._caller is not None:
            self._caller.stop()
        self.presence.end()
        for handle in self._handles:
            self.stack.sessions.pop(handle, None)
        # last figures first, then the news: who hears of the end can read them
        self._closing = asyncio.get_running_loop().create_task(self._close(end))
        self.progressed.set()
        self._settled.set()
        self._over.set()

    async def _close(self, end: CallEnded) -> None:
        try:
            await self.media.close()
        finally:
            self.emit(end)
            self.emit = _nobody
            self.hold_changed = _nobody_held

    async def closed(self) -> None:
        """Return when the media of a call that is over is closed, and its end told."""
        if self._closing is not None and asyncio.current_task() is not self._closing:
            await asyncio.shield(self._closing)

    def answers_to(self, handle: object) -> None:
        """Let the events of an INVITE or a dialog find this session."""
        if handle not in self.stack.sessions:
            self._handles.append(handle)
            self.stack.sessions[handle] = self

    def move(self, state: CallState) -> None:
        """Take the next state; `CallStateError` for one that cannot follow."""
        if state is self.state:
            return
        if not allowed(self.state, state):
            raise CallStateError(f"a call cannot go from {self.state.value} to {state.value}")
        self.log.event(logging.DEBUG, "call_state", "from %s to %s", self.state.value, state.value)
        self.state = state
        self.stack.call_changed()


def _nobody(event: CallEvent) -> None:
    """Hear what comes after the end of a call."""


def _nobody_held(held: bool) -> None:
    """Hear of our holding a call that nobody has bound yet."""

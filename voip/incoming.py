"""Calls that come in: who may call, who is asked, and whose place a call takes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from voip.answering import Answering, intercom
from voip.call import Call
from voip.conference import Conference
from voip.conferencing import Conferencing
from voip.desk import Authorize, Desk, IncomingHandler
from voip.errors import CallError, MediaError, VoipError
from voip.line import Line
from voip.session.forwarding import forwarding_headers, may_forward
from voip.sip.core import Refusal
from voip.sip.endpoint.tasks import is_cancelled
from voip.sip.flow import Flow
from voip.sip.focus import user_of
from voip.sip.headers import Headers
from voip.sip.message import Request
from voip.sip.server_invite import ServerInvite
from voip.strangers import Strangers
from voip.successors import Successor

__all__ = ["IncomingCalls"]

Handler = TypeVar("Handler", bound=Callable[..., Any])


class IncomingCalls:
    """Takes every INVITE that begins a call, after a look at who sent it."""

    def __init__(
        self,
        desk: Desk,
        authorize: Authorize | None,
        strangers: Strangers,
        conferencing: Conferencing,
    ) -> None:
        self._desk = desk
        self._conferencing = conferencing
        self._authorize = authorize
        self._strangers = strangers

    def on_incoming(self, handler: Handler) -> Handler:
        """Call `handler(call)` for every call that comes in; usable as a decorator.

        It may be a coroutine function. A call it leaves unanswered when it returns is refused
        with 480; an exception is logged, told as `CallbackFailed`, and refused with 500.
        """
        self._desk.handlers.incoming = handler
        return handler

    def screen(self, request: Request, flow: Flow, is_known: bool, now: float) -> Refusal | None:
        """Say how a call is refused before anybody hears of it: see `SipAgent.set_screen`."""
        if self._authorize is not None:
            try:
                challenge = self._authorize(request, now)
                if challenge is not None:
                    return 401, list(Headers(challenge))
            except Exception as error:
                self._desk.failed(self._authorize, error)
                return 500, []
        is_known = is_known or user_of(request.uri) in self._desk.stack.agent.focuses
        if not is_known and self._strangers.refuses(request, flow):
            return 404, []
        return None

    def invited(self, invite: ServerInvite) -> None:
        """Take a call that comes in: refuse it, or hand it to the application."""
        desk = self._desk
        replaced = None if invite.replaces is None else desk.call_of(invite.replaces)
        handler = desk.handlers.incoming
        if desk.closed:
            self._refuse(invite, 503, "the phone is being closed")
        elif len(desk.calls) >= desk.max_calls:
            self._refuse(invite, 503, "there are too many calls")
        elif invite.replaces is not None and replaced is None:
            self._refuse(invite, 481, "it is to replace a call that is none of ours")
        elif replaced is not None and replaced.successors.taken is not None:
            self._refuse(invite, 603, "it is to replace a call whose place has been taken")
        elif replaced is not None:
            self._take_over(invite, replaced)
        elif invite.joins is not None or self._conferencing.called(invite) is not None:
            self._join(invite)
        elif not self._is_settled(invite, line := desk.lines.called(invite.request, invite.flow)):
            ask = intercom(invite.request)
            if ask is not None and desk.answering.auto_answer:
                desk.spawn(self._answer_by_itself(self._new_call(invite, line), ask.after_s))
            elif ask is not None and ask.required:
                self._refuse(invite, 403, "it demands to be answered by the phone itself")
            elif handler is None:
                self._refuse(invite, 480, "nobody wants calls (on_incoming)")
            else:
                call = self._new_call(invite, line)
                desk.spawn(self._handle(handler, call))
                self._forward_later(call)

    def _is_settled(self, invite: ServerInvite, line: Line) -> bool:
        """Whether the phone's own settings have refused a call or sent it on."""
        desk, rules = self._desk, self._desk.answering
        busy = rules.busy_at is not None and len(desk.calls) >= rules.busy_at
        if rules.do_not_disturb:
            self._refuse(invite, 486, "nobody is to be disturbed")
        elif rules.forward_always is not None:
            self._forward(invite, line, rules.forward_always, "unconditional")
        elif busy and rules.forward_busy is not None:
            self._forward(invite, line, rules.forward_busy, "user-busy")
        elif busy:
            self._refuse(invite, 486, "there are calls already")
        else:
            return False
        return True

    def _forward(self, invite: ServerInvite, line: Line, target: str, reason: str) -> None:
        if not may_forward(invite.request):
            self._refuse(invite, 482, "it has been sent on too often")
            return
        uri = line.account.dial_uri(target)
        headers = forwarding_headers(invite.request, [uri], reason)
        self._refuse(invite, 302, f"it is sent on to {uri}", headers)

    def _refuse(
        self,
        invite: ServerInvite,
        status: int,
        why: str,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Answer what becomes no call, count it, and say so in the log."""
        self._desk.refused.refuse(invite.request, status, why)
        invite.respond(status, headers=headers, now=self._desk.now())

    def _forward_later(self, call: Call) -> None:
        rules = self._desk.answering
        if rules.forward_no_answer is not None:
            self._desk.spawn(self._forward_unanswered(call, rules))

    async def _forward_unanswered(self, call: Call, rules: Answering) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(rules.no_answer_s):
                await call._session.settled()
        if call.ended is None and not call._session.is_answered and rules.forward_no_answer:
            with suppress(CallError):  # it may be answered at this moment
                await call.redirect(rules.forward_no_answer, reason="no-answer")

    def _new_call(self, invite: ServerInvite, line: Line) -> Call:
        call = self._desk.new_call(line, outgoing=False, remote=invite.request.from_)
        call._session.incoming(invite, line.contact_for(invite.request, invite.flow))
        return call

    def _take_over(self, invite: ServerInvite, replaced: Call) -> None:
        """Take a call that is to take another's place (RFC 3891).

        The handler is asked where it was asked for the other one, and has not connected that to
        another call; else it is answered at once.
        """
        handler = self._desk.handlers.incoming
        call = self._new_call(invite, self._desk.lines.of(replaced.account))
        call.replaces = replaced
        self._desk.spawn(self._replace(replaced, call, replaced.successors.expect(call)))
        if handler is not None and not (replaced.outgoing or replaced.bridged):
            self._desk.spawn(self._handle(handler, call))
        else:
            self._desk.spawn(self._answer(call))

    def _join(self, invite: ServerInvite) -> None:
        """Take a call that is to become part of another one (RFC 3911), or of a conference."""
        desk = self._desk
        wanted: Call | Conference | None = self._conferencing.called(invite)
        line = desk.lines.called(invite.request, invite.flow)
        if invite.joins is not None:
            wanted = desk.call_of(invite.joins)
            line = line if wanted is None else desk.lines.of(wanted.account)
        if wanted is None:
            self._refuse(invite, 481, "it is to join a call that is none of ours")
        elif desk.answering.do_not_disturb:
            self._refuse(invite, 486, "nobody is to be disturbed")
        else:
            desk.spawn(self._conferencing.admit(self._new_call(invite, line), wanted))

    async def _answer_by_itself(self, call: Call, after_s: float) -> None:
        """Answer for the user after a while, then let the application have the call."""
        call.auto_answered = True
        try:
            if after_s > 0:
                await call.ring()
                await asyncio.sleep(after_s)
            await call.answer()
        except CallError as error:
            call.log.info("it was to be answered by itself: %s", error)
            return
        handler = self._desk.handlers.incoming
        if handler is not None:
            await self._handle(handler, call)

    async def _answer(self, call: Call) -> None:
        """Answer a call that takes the place of one of ours (RFC 3891 section 3)."""
        try:
            await call.answer()
        except CallError as error:
            call.log.info("it was to replace another call: %s", error)

    async def _replace(self, old: Call, new: Call, successor: Successor[Call]) -> None:
        """End the old call once the new one is answered; where that fails it stays as it is."""
        try:
            await new.wait_answered()
        except CallError as error:
            successor.fail(error.status or 480)
            return
        if not successor.take():  # the place is another's by now
            await new.hangup()
            return
        old._give_place(new)
        self._desk.spawn(old.successors.give_up())
        if old.ended is None:
            await old.hangup()

    async def _handle(self, handler: IncomingHandler, call: Call) -> None:
        desk, status = self._desk, 480
        try:
            with call.log.current():
                result = handler(call)
                if inspect.isawaitable(result):
                    await result
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                if not desk.closed:
                    desk.spawn(call.hangup())
                raise
            if call.ended is None or not isinstance(error, CallError):
                desk.failed(handler, error, call)
            # no ports, or no engine: the same phone may take the next call
            status = 503 if isinstance(error, MediaError) else 500
        if call.ended is None and not call._session.is_up:
            try:
                await call.reject(status)
            except VoipError as error:
                call.log.debug("it cannot be refused: %s", error)
        elif call.ended is None and status != 480:
            await call.hangup()

"""Calls that come in: who may call, who is asked, and whose place a call takes."""

from __future__ import annotations

import asyncio
import inspect
import logging

from voip.call import Call
from voip.desk import Authorize, Desk, IncomingHandler
from voip.errors import CallError, VoipError
from voip.events import Replaced
from voip.sip.endpoint.tasks import is_cancelled
from voip.sip.server_invite import ServerInvite
from voip.sip.uri import uri_scheme

__all__ = ["IncomingCalls"]

log = logging.getLogger(__name__)


class IncomingCalls:
    """Takes every INVITE that begins a call."""

    def __init__(self, desk: Desk, authorize: Authorize | None) -> None:
        self._desk = desk
        self._authorize = authorize

    def invited(self, invite: ServerInvite) -> None:
        """Take a call that comes in: challenge, refuse, or hand it to the application."""
        desk, now = self._desk, self._desk.now()
        if self._authorize is not None:
            try:
                challenge = self._authorize(invite.request, now)
                if challenge is not None:
                    invite.respond(401, headers=challenge, now=now)
                    return
            except Exception as error:
                desk.failed(self._authorize, error)
                invite.respond(500, now=now)
                return
        replaced = None if invite.replaces is None else desk.call_of(invite.replaces)
        if invite.replaces is not None and replaced is None:
            invite.respond(481, now=now)
            return
        handler = desk.handlers.incoming
        by_handler = handler is not None and (replaced is None or not replaced.outgoing)
        if desk.closed or len(desk.calls) >= desk.max_calls:
            invite.respond(503, now=now)
            return
        if replaced is None and handler is None:
            invite.respond(480, now=now)
            return
        call = desk.new_call(outgoing=False, remote=invite.request.from_)
        scheme = uri_scheme(invite.request.uri) or "sip"
        call._session.incoming(invite, desk.contact(invite.flow, scheme))
        if replaced is not None:
            call.replaces = replaced
            desk.spawn(self._replace(replaced, call))
        if handler is not None and by_handler:
            desk.spawn(self._handle(handler, call))
        else:
            desk.spawn(self._answer(call))

    async def _answer(self, call: Call) -> None:
        """Answer a call that takes the place of one of ours (RFC 3891 section 3)."""
        try:
            await call.answer()
        except CallError as error:
            log.info("a call that was to replace another: %s", error)

    async def _replace(self, old: Call, new: Call) -> None:
        """End the old call once the new one is answered; where that fails it stays as it is."""
        try:
            await new.wait_answered()
        except CallError:
            return
        if old.ended is None:
            old.replaced_by = new
            old._emit(Replaced(new))
            await old.hangup()

    async def _handle(self, handler: IncomingHandler, call: Call) -> None:
        desk, status = self._desk, 480
        try:
            result = handler(call)
            if inspect.isawaitable(result):
                await result
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                if not desk.closed:
                    desk.spawn(call.hangup())
                raise
            if call.ended is None or not isinstance(error, CallError):
                desk.failed(handler, error)
            status = 500
        if call.ended is None and not call._session.is_up:
            try:
                await call.reject(status)
            except VoipError as error:
                log.debug("refusing an unanswered call: %s", error)
        elif call.ended is None and status == 500:
            await call.hangup()

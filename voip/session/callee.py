"""A call that comes in until it is answered: what we say to its INVITE, and what comes meanwhile.

What a call is once it is up is in `session.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

from voip.errors import CallError, CallStateError, MediaError, SdpError
from voip.events import CallEnded, CallState, EndedBy
from voip.session.failures import sdp_warning
from voip.session.forwarding import forwarding_headers
from voip.sip.events import InviteCancelled, PrackReceived
from voip.sip.message import Request
from voip.sip.multipart import session_description
from voip.sip.server_invite import ServerInvite
from voip.sip.uri import SipUri

if TYPE_CHECKING:
    from voip.session.session import CallSession

__all__ = ["Callee"]

HeaderLines = Sequence[tuple[str, str]]
_CALLED = (CallState.NEW, CallState.RINGING, CallState.EARLY)


class Callee:
    """The callee's half of a session."""

    def __init__(self, session: CallSession, invite: ServerInvite) -> None:
        self.invite = invite
        self._session = session
        self._stack, self._media = session.stack, session.media
        self._answering = asyncio.Lock()
        self._our_answer = b""  # to the offer of the INVITE, or our offer
        self._is_prepared = False

    async def ring(self, headers: HeaderLines = ()) -> None:
        """Tell the caller that it rings (180)."""
        session = self._session
        server = self._unanswered()
        if server.must_be_reliable and not server.offer and not server.described:
            async with self._answering:  # a reliable response has to bring the offer
                await self._describe_early(180, headers)
        else:
            session.respond(server, 180, headers=headers)
        session.log.event(logging.INFO, "call_ringing", "the caller is told that it rings")
        if session.state is CallState.NEW:
            session.move(CallState.RINGING)

    async def progress(self, headers: HeaderLines = ()) -> None:
        """Describe ourselves early (183): the caller hears us before the call is answered.

        Where the INVITE has no offer this is ours, and sound begins with the caller's answer.
        """
        async with self._answering:
            server = self._unanswered()
            if not server.offer and not server.may_be_reliable:
                raise CallStateError("the INVITE has no offer", hint="answer the call instead")
            await self._describe_early(183, headers)

    async def _describe_early(self, status: int, headers: HeaderLines) -> None:
        session = self._session
        server = self._unanswered()
        if not (self._is_prepared or session.early_media or server.described):
            await self._prepare(server)
        body = b"" if server.described else self._our_answer
        session.respond(server, status, headers=headers, body=body)
        if server.offer:
            session.early_media = True
            session.move(CallState.EARLY)

    async def prepare(self) -> None:
        """Make our answer, and say nothing yet: an offer that cannot be used is refused now."""
        async with self._answering:
            await self._prepare(self._unanswered())
            self._is_prepared = True

    async def answer(self, headers: HeaderLines = ()) -> None:
        """Answer the call; returns when the caller has acknowledged that."""
        session = self._session
        async with self._answering:
            server = self._unanswered()
            if not (self._is_prepared or session.early_media or server.described):
                await self._prepare(server)
            body = b"" if server.described else self._our_answer
            session.respond(server, 200, headers=headers, body=body)
        await session.settled()
        if session.failure is not None:
            await session.closed()
            raise copy(session.failure)

    async def _prepare(self, server: ServerInvite) -> None:
        """Open the stream and make our answer, or our offer where the INVITE has none."""
        await self._media.open(server.flow.remote.host, server.flow.local.host)
        self._unanswered()  # it may have been cancelled meanwhile
        if not server.offer:
            self._media.abandon()  # what an answer that was given up had offered
            self._our_answer = self._media.offer()
            return
        try:
            self._our_answer = self._media.answer(server.offer)
            await self._media.connect()
        except (SdpError, MediaError) as error:
            self._unanswered()
            self._refuse_offer(server, error)
            await self._session.closed()
            raise CallError(error.message, hint=error.hint, status=error.status or 488) from error
        self._unanswered()

    def _refuse_offer(self, server: ServerInvite, error: SdpError | MediaError) -> None:
        session = self._session
        status = error.status or 488
        session.respond(server, status, headers=sdp_warning(error))
        session.failure = CallError(error.message, hint=error.hint, status=status)
        session.finish(CallEnded(EndedBy.LOCAL, error.message, status))

    async def reject(
        self, status: int = 486, reason: str | None = None, headers: HeaderLines = ()
    ) -> None:
        """Refuse the call, with 486 (busy) unless told otherwise."""
        session = self._session
        server = self._unanswered()
        if not 400 <= status <= 699:
            hint = "redirect() sends on" if status // 100 == 3 else "400 to 699"
            raise CallStateError(f"a call is not refused with {status}", hint=hint)
        session.respond(server, status, reason, headers=headers)
        session.finish(CallEnded(EndedBy.LOCAL, reason or "rejected", status))
        await session.closed()

    async def redirect(
        self, targets: Sequence[SipUri], reason: str, headers: HeaderLines = ()
    ) -> None:
        """Send the caller on to somebody else (302), the first of them first."""
        session = self._session
        server = self._unanswered()
        lines = forwarding_headers(server.request, targets, reason)
        session.respond(server, 302, headers=[*lines, *headers])
        session.finish(CallEnded(EndedBy.LOCAL, f"sent on to {targets[0]}", 302))
        await session.closed()

    def on_cancelled(self, event: InviteCancelled) -> None:
        """The caller gave up, or (504) never acknowledged that we ring."""
        session = self._session
        session.farewell = event.request
        what = "gave up" if event.status == 487 else f"is not there: {event.reason}"
        session.failure = CallError(f"{session.remote.uri} {what}", status=event.status)
        by = EndedBy.REMOTE if event.status == 487 else EndedBy.FAILURE
        session.finish(CallEnded(by, event.reason or "cancelled", event.status))

    def on_prack(self, event: PrackReceived) -> None:
        """A PRACK came with the answer to our early offer, or with another offer."""
        session, server = self._session, event.invite
        if event.reply is not None:
            answered = server.accepting or not server.waiting
            error = session.changes.on_prack(event.reply, answered=answered)
            if error is not None and not answered:
                self._refuse_offer(server, error)
            return
        try:
            self._media.take_answer(session_description(event.request))
            self._media.connect_soon()
        except (SdpError, MediaError) as error:
            if isinstance(error, SdpError) and session.state in _CALLED:
                if server.waiting:
                    self._refuse_offer(server, error)
                else:  # our 2xx had waited for nothing else
                    session.give_up(f"the answer cannot be used: {error.message}")
            return
        if session.state in _CALLED:
            session.early_media = True
            session.move(CallState.EARLY)

    def on_acknowledged(self, request: Request) -> None:
        """The ACK to our 200 came, with the answer to our offer where we made it."""
        session = self._session
        if session.state not in _CALLED:  # hung up before it came
            return
        if not self.invite.offer and not self.invite.described:
            try:
                self._media.take_answer(session_description(request))
                self._media.connect_soon()
            except (SdpError, MediaError) as error:
                session.give_up(f"the answer cannot be used: {error.message}")
                return
        session.come_up()

    def _unanswered(self) -> ServerInvite:
        session = self._session
        if session.state not in _CALLED:
            if session.failure is not None:
                raise copy(session.failure)
            raise CallStateError(f"the call is {session.state.value}")
        if session.dialog is not None:
            raise CallStateError("the call has been answered")
        return self.invite

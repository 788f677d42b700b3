"""Changes of a call: hold and resume, by either side, and its refresh.

By re-INVITE (RFC 3261 section 14), before the answer by UPDATE (RFC 3311); the peer's as it
likes. What comes of them is decided when it arrives, whether or not
anybody still waits for it: whoever asked for a change may have been cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from voip.errors import CallError, CallStateError, MediaError, SdpError, VoipError
from voip.logs.lines import CallLog
from voip.sdp.description import Direction
from voip.session.failures import sdp_warning
from voip.session.media import SDP, MediaSession
from voip.session.stack import Stack
from voip.sip.dialog import Dialog, DialogState
from voip.sip.events import ReinviteDone, UpdateDone
from voip.sip.message import Request
from voip.sip.multipart import session_description
from voip.sip.reinvite import Reinvite, ReinviteState
from voip.sip.server_invite import ServerInvite
from voip.sip.server_request import ServerRequest
from voip.sip.update import Update, UpdateState

__all__ = ["Changes"]


class Respond(Protocol):
    """Answers an INVITE of the peer's."""

    def __call__(
        self,
        server: ServerInvite,
        status: int,
        reason: str | None = None,
        *,
        headers: list[tuple[str, str]] = ...,
        body: bytes = ...,
    ) -> None: ...


class Changes:
    """The changes of one call. `changed` is called after each that either side made.

    `peer` is who errors speak of.
    """

    def __init__(
        self,
        stack: Stack,
        media: MediaSession,
        *,
        peer: str,
        respond: Respond,
        changed: Callable[[], None],
        log: CallLog,
    ) -> None:
        self.held_by_us = False
        self._stack = stack
        self._media = media
        self._peer = peer
        self._respond = respond
        self._changed = changed
        self._log = log
        self._turn = asyncio.Lock()
        self._ours: Reinvite | Update | None = None
        self._wanted = Direction.SENDRECV
        self._outcome: asyncio.Future[VoipError | None] | None = None
        self._over = False

    # ------------------------------------------------------------ ours

    async def change(self, dialog: Dialog, direction: Direction) -> None:
        """Agree with the peer on another direction; one change at a time.

        Raises `CallError` where the peer refuses, `CallStateError` where the call ends before.
        """
        async with self._turn:
            if self._outcome is not None:  # who asked for that does not wait for it any more
                await asyncio.wait([self._outcome])
            if self._over:
                raise CallStateError("the call is over")
            outcome = self._begin(dialog, direction)
            error = await asyncio.shield(outcome)
        if error is not None:
            raise error
        await self._media.read_stats()  # what was told to the engine has been done now

    def refresh(self, dialog: Dialog) -> None:
        """Say the same again, for a session that would expire; a change under way does it too."""
        if self._outcome is None and not self._over:
            try:
                by_update = "UPDATE" in dialog.allowed
                self._begin(dialog, self._media.direction, by_update=by_update)
            except VoipError as error:
                self._log.warning("the session cannot be refreshed: %s", error)

    def _begin(
        self, dialog: Dialog, direction: Direction, *, by_update: bool = False
    ) -> asyncio.Future[VoipError | None]:
        def offer() -> bytes:
            self._media.abandon()  # what was offered before the glare
            return self._media.offer(direction)

        signalling = self._stack.signalling
        agent = self._stack.agent
        by_update = by_update or dialog.state is DialogState.EARLY
        begin = agent.update if by_update else agent.reinvite
        self._log.event(
            logging.INFO,
            "session_change",
            "we describe the session anew",
            method="UPDATE" if by_update else "INVITE",
            wanted=direction.value,
        )
        self._ours = begin(dialog, body=offer, content_type=SDP, now=signalling.now())
        self._wanted = direction
        outcome = self._outcome = asyncio.get_running_loop().create_future()
        signalling.flush()
        return outcome

    def on_done(self, event: ReinviteDone | UpdateDone) -> None:
        """Our re-INVITE or UPDATE is over."""
        if event.handle is not self._ours:
            return
        error: VoipError | None = None
        try:
            self._take(event)
        except VoipError as failure:
            self._media.abandon()
            error = failure
            self._log.event(logging.WARNING, "session_unchanged", "%s", failure.message)
        self._settle(error)
        if error is None:
            self.held_by_us = not self._wanted.receives
            self._changed()

    def _take(self, event: ReinviteDone | UpdateDone) -> None:
        """Apply what the peer answered; raises where it is no agreement."""
        if event.status == 487 and event.dialog.state is not DialogState.CONFIRMED:
            raise CallStateError("the call ended before the change was made", status=487)
        if event.response is None or not 200 <= event.status < 300:
            raise CallError(
                f"{self._peer} refused the change: {event.reason} ({event.status})",
                status=event.status,
            )
        try:
            body = (
                event.body
                if isinstance(event, ReinviteDone)
                else session_description(event.response)
            )
            self._media.take_answer(body)
        except SdpError as error:
            raise CallError(
                f"the answer of {self._peer} cannot be used: {error.message}",
                hint=error.hint,
                status=error.status,
            ) from error
        self._media.connect_soon()

    def _settle(self, error: VoipError | None) -> None:
        self._ours = None
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not outcome.done():
            outcome.set_result(error)

    # ------------------------------------------------------------ theirs

    def on_reinvite(self, invite: ServerInvite) -> None:
        """The peer changes the session: hold, resume, another address; or asks for our offer."""
        self._tell("INVITE")
        self._give_way()
        offered = bool(invite.offer)
        try:
            body = self._media.answer(invite.offer) if offered else self._media.offer()
        except SdpError as error:
            self._media.abandon()
            self._respond(invite, error.status or 488, headers=sdp_warning(error))
            return
        self._respond(invite, 200, body=body)
        if offered:
            self._connect()

    def on_update(self, request: ServerRequest) -> None:
        """The peer changes the session, and wants to know at once."""
        self._tell("UPDATE")
        self._give_way()
        error = self._agree(request)
        if error is not None:
            self._refuse(request, error)
        self._stack.signalling.flush()

    def on_prack(self, request: ServerRequest, *, answered: bool) -> SdpError | None:
        """The PRACK to a response of ours offers anew; return why that cannot be, None: it is done.

        A PRACK that matches has a 2xx whatever it offers (RFC 3262 section 3): what cannot be
        agreed on ends the INVITE (RFC 6337 section 2.3). Where we have `answered` that already,
        the PRACK is refused, and the call goes on without it.
        """
        error = self._agree(request)
        if error is not None and answered:
            self._refuse(request, error)
        elif error is not None:
            request.reply(200, now=self._stack.signalling.now())
        self._stack.signalling.flush()
        return error

    def _refuse(self, request: ServerRequest, error: SdpError) -> None:
        now = self._stack.signalling.now()
        request.reply(error.status or 488, headers=sdp_warning(error), now=now)

    def _agree(self, request: ServerRequest) -> SdpError | None:
        """Answer an offer with 200; return why not where it cannot be."""
        try:
            body = self._media.answer(session_description(request.request))
        except SdpError as error:
            self._media.abandon()
            return error
        now = self._stack.signalling.now()
        request.reply(200, body=body, content_type=SDP, now=now)
        self._connect()
        return None

    def _tell(self, method: str) -> None:
        words = "the other side describes the session anew"
        self._log.event(logging.INFO, "session_change_by_peer", words, method=method)

    def _give_way(self) -> None:
        """Take back an offer that has not been sent: theirs came first, ours is made anew."""
        waiting = (ReinviteState.WAITING, UpdateState.WAITING)
        if self._ours is not None and self._ours.state in waiting:
            self._media.abandon()

    def on_acknowledged(self, request: Request) -> None:
        """The ACK to a re-INVITE of the peer's, with the answer where ours was the offer."""
        if not self._media.awaits_answer:
            return
        try:
            self._media.take_answer(session_description(request))
        except SdpError as error:  # the session stays as it was
            words = "its answer cannot be used: %s"
            self._log.event(logging.WARNING, "session_unchanged", words, error)
            self._media.abandon()
            return
        self._connect()

    def _connect(self) -> None:
        try:
            self._media.connect_soon()
        except MediaError as error:
            words = "the session cannot be changed: %s"
            self._log.event(logging.WARNING, "session_unchanged", words, error)
        self._changed()

    # ------------------------------------------------------------ the end

    def end(self) -> None:
        """The call is over: nobody waits for a change any more."""
        self._over = True
        self._respond, self._changed = _unanswered, _nothing  # let go of the call
        self._settle(CallStateError("the call ended before the change was made"))


def _unanswered(server: ServerInvite, status: int, reason: str | None = None, **_: object) -> None:
    """Leave a change to its dialog, which is over."""


def _nothing() -> None:
    """Hear of a change to a call that is over."""

"""Transfers the other side asks for: a REFER that came in (RFC 3515, RFC 5589)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from voip.call import Call
from voip.desk import Desk, TransferRequest
from voip.dialling import Dialling
from voip.errors import CallError, SipError, VoipError
from voip.events import CallEvent, CallState, EarlyMedia, Ringing, Transferred, TransferRequested
from voip.line import Line
from voip.session.transfer import GOODBYE_S, Progress
from voip.sip.headers import NameAddr
from voip.sip.identity import ANONYMOUS
from voip.sip.notifier import Notifier
from voip.sip.refer import ReferTarget, refer_target
from voip.successors import Successor, Successors
from voip.target_dialog import named_call

__all__ = [
    "RING_S",
    "TransferRequest",
    "Transfers",
    "follow",
    "refer_headers",
    "report",
    "status_of",
]

Handler = TypeVar("Handler", bound=Callable[..., Any])

RING_S: Final = 120.0
"""How long the target of a transfer may ring."""
MAX_EXPECTED: Final = 4
"""Transfers of one call that are under way at a time."""


class Transfers:
    """Takes every REFER.

    In a call that is up (or with a Target-Dialog that names one) it is followed, unless the
    application's handler says no; outside of any only where that says yes.
    """

    def __init__(self, desk: Desk, dialling: Dialling) -> None:
        self._desk = desk
        self._dialling = dialling

    def on_transfer(self, handler: Handler) -> Handler:
        """Ask `handler(request)` (a `TransferRequest`) before a transfer is followed.

        It returns whether, and may be a coroutine function. Without a handler every transfer
        asked for in a call that is up is followed, and none outside of a call.
        """
        self._desk.handlers.transfer = handler
        return handler

    def on_refer(self, notifier: Notifier) -> None:
        """Take a REFER up, or refuse it."""
        desk = self._desk
        call = desk.call_of(notifier.dialog) or named_call(desk, notifier.request)
        line = self._line(call, notifier)
        try:
            target = refer_target(notifier.request)
        except SipError as error:
            notifier.reject(error.status or 400, now=desk.now())
            return
        if target.method != "INVITE":
            notifier.reject(501, now=desk.now())
        elif desk.closed or (call is not None and not _goes_on(call)):
            notifier.reject(481 if call is not None else 503, now=desk.now())
        elif call is None and desk.handlers.transfer is None:
            notifier.reject(603, now=desk.now())
        elif self._is_crowded(call):
            notifier.reject(503, headers=[("Retry-After", "5")], now=desk.now())
        else:
            progress = None
            contact = _contact(call, line, notifier)
            if target.wants_subscription:
                progress = Progress(notifier, desk.now)
                progress.accept(contact)
            else:
                notifier.accept_once(contact=contact, now=desk.now())
            expected = (Successors[Call]() if call is None else call.successors).expect()
            obey = partial(self._obey, target, call, line, progress, expected)
            desk.spawn(follow(desk, progress, obey))

    def _is_crowded(self, call: Call | None) -> bool:
        """Whether nobody more is called, at anybody's wish or at that of one call's other side."""
        desk = self._desk
        theirs = 0 if call is None else len(call.successors)
        return theirs >= MAX_EXPECTED or len(desk.calls) >= desk.max_calls

    def _line(self, call: Call | None, notifier: Notifier) -> Line:
        """Return whom we follow as: whose call it is, or whom we were asked as."""
        lines = self._desk.lines
        if call is None:
            return lines.called(notifier.request, notifier.flow)
        return lines.of_call(call.account)

    async def _obey(
        self,
        target: ReferTarget,
        call: Call | None,
        line: Line,
        progress: Progress | None,
        expected: Successor[Call],
    ) -> int:
        status = 500
        try:
            status = await self._call(target, call, line, progress, expected)
        finally:
            if status >= 300:
                expected.fail(status)
                self._tell_not_made(call, status)
        return status

    async def _call(
        self,
        target: ReferTarget,
        call: Call | None,
        line: Line,
        progress: Progress | None,
        expected: Successor[Call],
    ) -> int:
        """Call the target, if that is wanted; return what became of it."""
        desk = self._desk
        request = TransferRequest(
            str(target.uri), call, target.referred_by, target.replaces is not None
        )
        if call is not None:
            call._emit(TransferRequested(request.target, request.referred_by))
        handler = desk.handlers.transfer
        if handler is not None and not await desk.ask(handler, request, False):
            return 603
        if not expected.is_wanted:  # the handler took its time
            return 487
        try:
            who = None if call is None else _who_we_are(call, line)
            headers = refer_headers(target)
            new = await self._dialling.place(line, target.uri, headers=headers, who=who)
            if progress is not None:
                new.on_event(lambda event: report(desk, progress, event))
            await expected.begin(new)
            await new.wait_answered(RING_S)
        except VoipError as error:
            return status_of(error)
        if not expected.take():  # somebody else was quicker, or nobody waits any more
            await new.hangup()
            return 487
        if call is not None:
            desk.spawn(call.successors.give_up())
        if call is not None and call.ended is None:
            call._emit(Transferred(new))
            desk.spawn(self._see_off(call))
        elif new.ended is None:  # the call that is over tells nothing any more
            told = Transferred(new)
            desk.tell(told)
            new.on_ended(lambda _: desk.untell(told))
        return 200

    def _tell_not_made(self, call: Call | None, status: int) -> None:
        """Say in the log that we have not called whom we were asked to call."""
        if call is not None:
            words = "the transfer that it asked for came to nothing"
            call.log.event(logging.INFO, "transfer_not_made", words, status=status)

    async def _see_off(self, call: Call) -> None:
        """Hang up what the referrer should have hung up by now."""
        try:
            await call._session.wait_ended_for(GOODBYE_S)
        except TimeoutError:
            await call.hangup()


async def follow(desk: Desk, progress: Progress | None, obey: Callable[[], Awaitable[int]]) -> None:
    """Do what a REFER asks for, and report the status that comes of it: 500 for a fault of ours."""
    status = 500
    try:
        status = await obey()
    finally:
        if progress is not None:
            progress.tell(status)
            desk.flush()


def _goes_on(call: Call) -> bool:
    """Whether a call is answered, and goes on; its ACK may be overtaken by the REFER."""
    over = call.state in (CallState.ENDING, CallState.ENDED) or call.successors.taken is not None
    return call._session.is_answered and not over


def _contact(call: Call | None, line: Line, notifier: Notifier) -> str:
    """Return how we are reached about a transfer: as in the call, and as anonymous as there."""
    if notifier.dialog is not None:
        return notifier.dialog.contact
    who = None if call is None else _who_we_are(call, line)
    anonymous = who is not None and who.uri == ANONYMOUS.uri
    return line.contact_for(notifier.request, notifier.flow, anonymous=anonymous)


def _who_we_are(call: Call, line: Line) -> NameAddr | None:
    """Return who we are to the referrer, so that we are the same to the target (RFC 3892 2.2).

    None: as always. A call that came in may have been for one of many names, which not all servers
    let us call as.
    """
    dialog = call._session.dialog
    if dialog is None or (line.named and not call.outgoing):
        return None
    return NameAddr(dialog.local.display, dialog.local.uri)


def report(desk: Desk, progress: Progress, event: CallEvent) -> None:
    """Tell a referrer that whom it has us call rings, or is heard."""
    if isinstance(event, Ringing | EarlyMedia):
        progress.tell(180 if isinstance(event, Ringing) else 183)
        desk.flush()


def refer_headers(target: ReferTarget) -> list[tuple[str, str]]:
    """Return what an INVITE says of the REFER that it follows."""
    lines: list[tuple[str, str]] = []
    if target.replaces is not None:
        lines.append(("Replaces", str(target.replaces)))
    if target.require_replaces:
        lines.append(("Require", "replaces"))
    if target.referred_by is not None:
        lines.append(("Referred-By", target.referred_by))
    return lines


def status_of(error: VoipError) -> int:
    """Return what to report of a call that came to nothing."""
    if error.status is not None and 300 <= error.status <= 699:
        return error.status
    return 480 if isinstance(error, CallError) else 503

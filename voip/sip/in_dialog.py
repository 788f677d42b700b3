"""Requests of the peer's within a dialog (RFC 3261 sections 12.2.2, 14.2, 15.1.2).

The races of RFC 5407 are decided here.
"""

from __future__ import annotations

from voip.sip.core import Core
from voip.sip.dialog import DialogState
from voip.sip.events import ReinviteReceived, RequestReceived, UpdateReceived
from voip.sip.flow import Flow
from voip.sip.glare import retry_after
from voip.sip.message import Request, Response
from voip.sip.multipart import session_description
from voip.sip.prack import receive_prack
from voip.sip.reinvite import ReinviteState
from voip.sip.reliable import supports
from voip.sip.server_invite import ServerInvite
from voip.sip.server_request import ServerRequest
from voip.sip.session_timer import OPTION as TIMER
from voip.sip.session_timer import granted
from voip.sip.usage import InviteUsage

__all__ = ["receive_in_dialog"]


def receive_in_dialog(
    core: Core, usage: InviteUsage, request: Request, flow: Flow, now: float
) -> None:
    """Take a request that is new, readable, and of a method we do."""
    if not usage.dialog.in_order(request.cseq.number):
        core.answer(request, flow, 500)
    elif request.method == "BYE":
        _receive_bye(core, usage, request, flow, now)
    elif usage.dialog.state is DialogState.TERMINATING:
        core.answer_once(request, flow, 481, now=now)  # RFC 5407 section 3.2.2
    elif request.method == "INVITE":
        _receive_reinvite(core, usage, request, flow, now)
    elif request.method == "UPDATE":
        _receive_update(core, usage, request, flow, now)
    elif request.method == "PRACK":
        receive_prack(core, usage, request, flow, now)
    elif request.method == "OPTIONS":
        core.answer_once(request, flow, 200, core.capabilities(), now=now)
    else:
        _receive_other(core, usage, request, flow, now)


def _receive_bye(core: Core, usage: InviteUsage, request: Request, flow: Flow, now: float) -> None:
    core.answer_once(request, flow, 200, now=now)
    usage.end(by_remote=True, reason="hung up by the other side", request=request, now=now)
    if usage.invite is not None:
        usage.invite.on_early_end(now)


def _receive_reinvite(
    core: Core, usage: InviteUsage, request: Request, flow: Flow, now: float
) -> None:
    ours = usage.reinvite
    if usage.unanswered or usage.is_serving("UPDATE"):
        core.answer_once(request, flow, 500, retry_after(core.random), now=now)
    elif (
        usage.dialog.state is DialogState.EARLY
        or (ours is not None and ours.state is ReinviteState.SENT)
        or (usage.update is not None and usage.update.open)  # RFC 5407 section 3.3.2
        or usage.offer_pending  # RFC 5407 section 3.1.5
    ):
        core.answer_once(request, flow, 491, now=now)
    else:
        invite = ServerInvite(core, request, flow, usage, now)
        core.emit(ReinviteReceived(invite, usage.dialog))


def _receive_update(
    core: Core, usage: InviteUsage, request: Request, flow: Flow, now: float
) -> None:
    """Take an UPDATE (RFC 3311 section 5.2); one without an offer is answered here."""
    offers = bool(session_description(request))
    if usage.is_serving("UPDATE") or (offers and usage.server_exchange_open):
        core.answer_once(request, flow, 500, retry_after(core.random), now=now)
        return
    if offers and usage.client_exchange_open:
        core.answer_once(request, flow, 491, now=now)
        return
    expires = granted(request, core.config)

    def describe(status: int) -> list[tuple[str, str]]:
        success = 200 <= status < 300
        lines = core.response_headers(describe=success)
        if success:
            lines.append(("Contact", usage.dialog.contact))
        if success and expires is not None:
            lines.append(("Session-Expires", str(expires)))
            if supports(request, TIMER):
                lines.append(("Require", TIMER))
        return lines

    def replied(response: Response, now: float) -> None:
        if response.status < 300:
            usage.dialog.refresh_target(request, flow)
            if usage.dialog.state is DialogState.CONFIRMED:
                usage.timer.on_request(request)
                usage.timer.on_granted(expires, now)
        usage.settle(now)

    received = ServerRequest(
        core, request, flow, usage.dialog, now, describe=describe, replied=replied
    )
    if offers:
        usage.served.append(received)
        core.emit(UpdateReceived(received, usage.dialog))
    else:
        received.reply(200, now=now)


def _receive_other(
    core: Core, usage: InviteUsage, request: Request, flow: Flow, now: float
) -> None:
    usage.served = [served for served in usage.served if served.waiting]
    if len(usage.served) >= core.config.max_dialog_requests:
        core.counters.overload += 1
        core.answer_once(request, flow, 503, [("Retry-After", "5")], now=now)
        return
    received = ServerRequest(core, request, flow, usage.dialog, now)
    usage.served.append(received)
    core.emit(RequestReceived(received))

"""SUBSCRIBE, NOTIFY and REFER of the peer's: which subscription they mean (RFC 6665, RFC 3515)."""

from __future__ import annotations

from typing import Final

from voip.sip.check import check_contact
from voip.sip.core import Core
from voip.sip.dialog import Dialog, DialogState
from voip.sip.event_headers import event_of, state_of
from voip.sip.events import ReferReceived, SubscribeReceived, UnsolicitedNotify
from voip.sip.flow import Flow
from voip.sip.headers import parse_seconds
from voip.sip.message import Request
from voip.sip.notifier import Notifier
from voip.sip.refer import check_refer
from voip.sip.server_request import ServerRequest

__all__ = ["EVENT_METHODS", "receive_event_request"]

EVENT_METHODS: Final = frozenset(("SUBSCRIBE", "NOTIFY", "REFER"))
_HOUR_S: Final = 3600


def receive_event_request(core: Core, request: Request, flow: Flow, now: float) -> None:
    """Take a request that is new, readable, and of a method we do; SipError where it is wrong."""
    tag = request.to.tag
    dialog = None
    if tag is not None:
        dialog = core.dialog((request.call_id, tag, request.from_.tag or ""))
        if dialog is not None and not dialog.in_order(request.cseq.number):
            core.answer(request, flow, 500)
            return
    if request.method == "NOTIFY":
        _receive_notify(core, request, flow, now)
    elif tag is not None and (dialog is None or dialog.state is DialogState.TERMINATING):
        core.answer_once(request, flow, 481, now=now)  # RFC 5407 section 3.3.3
    elif request.method == "REFER":
        check_refer(request)
        _begin(core, request, flow, dialog, now)
    else:
        _receive_subscribe(core, request, flow, dialog, now)


def _receive_notify(core: Core, request: Request, flow: Flow, now: float) -> None:
    event = event_of(request)
    found = core.subscriptions.ours(request.call_id, request.to.tag or "")
    mine = [one for one in found if one.matches(event)]
    meant = next((one for one in mine if one.expects(request.from_.tag)), None)
    if meant is None and 0 < len(mine) < core.config.max_forks:
        meant = mine[0]  # another fork of what was asked for
    if meant is not None and meant.on_notify(request, flow, now) is not None:
        return
    if not found and event.package in core.config.unsolicited:
        _ = state_of(request)  # it has to be there (400)
        core.emit(UnsolicitedNotify(ServerRequest(core, request, flow, None, now)))
        return
    core.answer_once(request, flow, 481, now=now)


def _receive_subscribe(
    core: Core, request: Request, flow: Flow, dialog: Dialog | None, now: float
) -> None:
    event = event_of(request)
    known = None if dialog is None else core.subscriptions.notifier(dialog.id, event)
    wished = parse_seconds(request.headers.get("Expires"))
    if known is None and event.package == "refer":
        core.answer_once(request, flow, 403, now=now)  # RFC 3515 section 2.4.4
    elif known is None and event.package not in core.config.events:
        core.answer_once(request, flow, 489, now=now)
    elif wished is not None and 0 < wished < min(core.config.subscription_min_s, _HOUR_S):
        least = ("Min-Expires", str(core.config.subscription_min_s))
        core.answer_once(request, flow, 423, [least], now=now)
    elif known is not None:
        known.on_subscribe(request, flow, now)
    else:
        _begin(core, request, flow, dialog, now)


def _begin(core: Core, request: Request, flow: Flow, dialog: Dialog | None, now: float) -> None:
    config, subscriptions = core.config, core.subscriptions
    crowded = dialog is not None and (
        len(subscriptions.theirs(dialog.id)) >= config.max_dialog_subscriptions
    )
    if crowded or len(subscriptions) >= config.max_subscriptions:
        core.counters.overload += 1
        core.answer_once(request, flow, 503, [("Retry-After", "5")], now=now)
        return
    if dialog is None:
        check_contact(request)
        _ = Dialog.as_callee(request, "", flow, "")  # SipError while it can still be refused
    notifier = Notifier(core, request, flow, dialog, now)
    refer = request.method == "REFER"
    core.emit(ReferReceived(notifier) if refer else SubscribeReceived(notifier))

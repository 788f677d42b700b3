"""What becomes of a request that arrives (RFC 3261 sections 8.2, 9.2, 11, 18.2.1).

What the agent refuses or answers by itself leaves no state behind (section 8.2.7), so that
strangers' requests cost memory only where a user is to see them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from voip.errors import SipError
from voip.sip.check import accepts_answer, check_contact, told_reason, validate
from voip.sip.core import Core
from voip.sip.event_requests import EVENT_METHODS, receive_event_request
from voip.sip.events import IncomingInvite, RequestReceived
from voip.sip.flow import Flow
from voip.sip.focus import focus_of
from voip.sip.headers import NameAddr
from voip.sip.in_dialog import receive_in_dialog
from voip.sip.join import find_joined
from voip.sip.message import Request
from voip.sip.multipart import SDP, is_readable
from voip.sip.prack import receive_prack
from voip.sip.reliable import supports
from voip.sip.replaces import find_replaced
from voip.sip.server_invite import ServerInvite
from voip.sip.server_request import ServerRequest
from voip.sip.session_timer import interval_too_small
from voip.sip.sips import check_request, comes_insecurely, not_allowed
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri, uri_scheme
from voip.sip.via import mark_source

__all__ = ["belongs", "receive_request", "refuse_unreadable"]

_DESCRIBING: Final = ("INVITE", "UPDATE", "PRACK")
"""Requests that may carry an offer or an answer."""


def receive_request(core: Core, request: Request, flow: Flow, now: float) -> None:
    """Take a request as parsed."""
    try:
        mark_source(request, flow.remote)
        _dispatch(core, request, flow, now)
    except SipError as error:
        refuse_unreadable(core, request, flow, error)


def belongs(core: Core, request: Request) -> bool:
    """Whether a request is of a transaction or a dialog that is there."""
    transactions = core.transactions
    try:
        if transactions.of_request(request) is not None:
            return True
        if request.method == "CANCEL":
            return transactions.to_cancel(request) is not None
        name = _dialog_id(request)
    except SipError:
        return False
    return core.dialog(name) is not None or bool(core.subscriptions.ours(name[0], name[1]))


def refuse_unreadable(core: Core, request: Request, flow: Flow, error: SipError) -> None:
    """Answer what is wrong in itself, unless it is an ACK or does not say where it came from."""
    core.counters.malformed += 1
    if request.method == "ACK" or error.status is None:
        return
    with suppress(SipError):  # the answer then goes without `received`
        mark_source(request, flow.remote)
    with suppress(SipError):  # no way back, or nothing that can be written
        core.answer(request, flow, error.status, reason=told_reason(error))


def _dispatch(core: Core, request: Request, flow: Flow, now: float) -> None:
    known = core.transactions.of_request(request)
    if request.method == "ACK":
        if known is not None:
            known.receive_ack(request, now)
        else:
            _receive_ack(core, request, now)
        core.guard.acknowledge(request.to.tag)
    elif known is not None:
        known.repeated(now)
    else:
        validate(request)
        if request.method == "CANCEL":
            _receive_cancel(core, request, flow, now)
        else:
            _receive_new(core, request, flow, now)


def _receive_ack(core: Core, request: Request, now: float) -> None:
    usage = core.usages.get(_dialog_id(request))
    if usage is None:
        core.counters.stray_acks += 1
    else:
        usage.on_ack(request, now)


def _receive_cancel(core: Core, request: Request, flow: Flow, now: float) -> None:
    """Answer a CANCEL, and its INVITE with 487 unless that has its answer (section 9.2)."""
    transaction = core.transactions.to_cancel(request)
    if transaction is None:
        core.answer(request, flow, 481)
        return
    invite = transaction.user
    if isinstance(invite, ServerInvite):
        core.answer(request, flow, 200, tag=invite.tag)
        invite.give_up("cancelled by the caller", now, request)
    else:
        core.answer(request, flow, 200)  # an INVITE that the agent itself has refused


def _is_a_method_name(method: str) -> bool:
    """Whether a method is written as all registered ones are: in capital letters.

    Such a one is told that it is not allowed here (405, section 8.2.1), and what is; a token that
    names no method of any RFC is not understood (501, RFC 4475 section 3.1.1.2).
    """
    return method.isascii() and method.isalpha() and method.isupper()


def _receive_new(core: Core, request: Request, flow: Flow, now: float) -> None:
    method = request.method
    if method not in core.config.allow:
        core.answer(request, flow, 405 if _is_a_method_name(method) else 501)
        return
    if comes_insecurely(request, flow):
        core.answer(request, flow, *not_allowed())
        return
    supported = core.config.supported
    unsupported = [tag for tag in _tags(request, "Require") if tag.lower() not in supported]
    if unsupported:
        core.answer(request, flow, 420, [("Unsupported", ", ".join(unsupported))])
        return
    _check_addresses(request)
    check_request(request, lambda: core.dialog(_dialog_id(request)))
    if method != "INVITE" and ("Join" in request.headers or "Replaces" in request.headers):
        raise SipError("only an INVITE joins or replaces (RFC 3911 4, RFC 3891 3)", status=400)
    missing = _missing(core, request)
    if missing:
        core.answer(request, flow, 421, [("Require", ", ".join(missing))])
    elif method in ("INVITE", "UPDATE") and interval_too_small(request, core.config):
        core.answer(request, flow, 422, [("Min-SE", str(core.config.min_session_expires))])
    elif method in _DESCRIBING and not is_readable(request, core.config.accept):
        core.answer(request, flow, 415, core.accepts())
    elif method == "INVITE" and SDP in core.config.accept and not accepts_answer(request):
        core.answer(request, flow, 406)
    elif request.to.tag is not None:
        _receive_tagged(core, request, flow, now)
    elif core.transactions.is_merged(request):
        core.answer(request, flow, 482)
    elif method == "OPTIONS":
        core.answer(request, flow, 200, [*core.capabilities(), *focus_of(core, request)])
    elif method in ("BYE", "PRACK", "UPDATE"):
        core.answer(request, flow, 481)
    elif core.transactions.full or (method == "INVITE" and not _has_room(core, flow, now)):
        _refuse_overload(core, request, flow)
    elif method == "INVITE":
        replaces, joins = find_replaced(core, request), find_joined(core, request)
        is_known = replaces is not None or joins is not None
        refusal = core.screen and core.screen(request, flow, is_known, now)
        if refusal:
            core.answer(request, flow, *refusal)
            return
        invite = ServerInvite(core, request, flow, None, now)
        invite.replaces, invite.joins = replaces, joins
        core.guard.begin(flow.remote.host, invite.tag, now)
        core.emit(IncomingInvite(invite))
    elif method in EVENT_METHODS:
        receive_event_request(core, request, flow, now)
    else:
        core.emit(RequestReceived(ServerRequest(core, request, flow, None, now)))


def _receive_tagged(core: Core, request: Request, flow: Flow, now: float) -> None:
    usage = core.usages.get(_dialog_id(request))
    if request.method in EVENT_METHODS and not core.transactions.full:
        receive_event_request(core, request, flow, now)
    elif usage is None and request.method == "PRACK":
        receive_prack(core, None, request, flow, now)
    elif usage is None:
        core.answer(request, flow, 481)
    elif core.transactions.full and request.method != "BYE":
        _refuse_overload(core, request, flow)
    else:
        receive_in_dialog(core, usage, request, flow, now)


def _has_room(core: Core, flow: Flow, now: float) -> bool:
    return not core.full and core.guard.has_room(flow.remote.host, now)


def _missing(core: Core, request: Request) -> list[str]:
    """Return the extensions that we demand of a caller and that it does not know."""
    if request.method != "INVITE":
        return []
    return [option for option in core.config.required if not supports(request, option)]


def _refuse_overload(core: Core, request: Request, flow: Flow) -> None:
    core.counters.overload += 1
    core.answer(request, flow, 503, [("Retry-After", "5")])


def _check_addresses(request: Request) -> None:
    """Read what a dialog would need; SipError (416, 400) where it cannot be."""
    if uri_scheme(request.uri) == "tel":
        TelUri.parse(request.uri)
    else:
        SipUri.parse(request.uri)
    if request.method == "INVITE":
        for value in request.headers.values("Record-Route"):
            _ = NameAddr.parse(value).sip_uri
        if request.to.tag is None:
            check_contact(request)


def _tags(request: Request, name: str) -> list[str]:
    return [tag for tag in request.headers.values(name) if tag]


def _dialog_id(request: Request) -> tuple[str, str, str]:
    return request.call_id, request.to.tag or "", request.from_.tag or ""

"""Requests made from parts or from other requests (RFC 3261 sections 8.1.1, 9.1 and 17.1.1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from voip.sip.flow import Flow
from voip.sip.headers import CSeq, Headers, NameAddr
from voip.sip.message import Request, Response
from voip.sip.sips import secured
from voip.sip.via import Via, via_of

__all__ = ["ack_failure", "cancel", "credentials_of", "new_request", "over", "renewed"]

_MAX_FORWARDS: Final = ("Max-Forwards", "70")
_CREDENTIALS: Final = ("Authorization", "Proxy-Authorization")


def new_request(
    method: str,
    uri: str,
    *,
    via: Via,
    from_: NameAddr | str,
    to: NameAddr | str,
    call_id: str,
    cseq: int,
    route: Iterable[str] = (),
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Request:
    """Return a request with all that section 8.1.1 asks for, then `headers` as they are."""
    lines = Headers([("Via", str(via)), _MAX_FORWARDS])
    for hop in route:
        lines.add("Route", hop)
    lines.add("From", str(from_))
    lines.add("To", str(to))
    lines.add("Call-ID", call_id)
    lines.add("CSeq", str(CSeq(cseq, method)))
    for name, value in headers:
        lines.add(name, value)
    if content_type is not None:
        lines.add("Content-Type", content_type)
    return Request(method, uri, lines, body)


def renewed(
    request: Request,
    *,
    via: Via,
    cseq: int,
    authorization: Iterable[tuple[str, str]] = (),
    changed: Iterable[tuple[str, str]] = (),
    route: Sequence[str] | None = None,
) -> Request:
    """Return a request to be tried once more as a transaction of its own (section 22.2).

    `changed`: headers that have another value this time; `route`: so has Route, None: it has not.
    """
    headers = request.headers.copy()
    headers.set("Via", str(via))
    headers.set("CSeq", str(CSeq(cseq, request.method)))
    for name in _CREDENTIALS:
        headers.remove(name)
    for name, value in changed:
        headers.set(name, value)
    if route:
        headers.set("Route", ", ".join(secured(request.uri, route)))
    elif route is not None:
        headers.remove("Route")
    for name, value in authorization:
        headers.add(name, value)
    return Request(request.method, request.uri, headers, request.body)


def over(request: Request, flow: Flow) -> Request:
    """Return our request as it goes by another flow: in the same transaction."""
    via = via_of(flow, request.via.branch)
    headers = request.headers.copy()
    headers.replace("Via", str(via))  # ours; those of others below it stay
    return Request(request.method, request.uri, headers, request.body)


def cancel(invite: Request) -> Request:
    """Return the CANCEL of an INVITE: its transaction's branch, its route (section 9.1)."""
    return _hop_by_hop("CANCEL", invite, invite)


def ack_failure(invite: Request, response: Response) -> Request:
    """Return the ACK that the transaction sends to a 300-699 (section 17.1.1.3)."""
    return _hop_by_hop("ACK", invite, response)


def _hop_by_hop(method: str, invite: Request, to: Request | Response) -> Request:
    return new_request(
        method,
        invite.uri,
        via=invite.via,
        from_=invite.headers.get("From") or "",
        to=to.headers.get("To") or "",
        call_id=invite.call_id,
        cseq=invite.cseq.number,
        route=invite.headers.get_all("Route"),
    )


def credentials_of(request: Request) -> list[tuple[str, str]]:
    """Return the credentials a request carries, for the ACK to its 2xx (section 13.2.2.4)."""
    return [(name, value) for name in _CREDENTIALS for value in request.headers.get_all(name)]

"""Whether a message says all that RFC 3261 section 8.1.1 demands, once and readably.

Parsing leaves header values alone; this is the one look at those that nobody can do without. What a
readable request asks for (methods, extensions, body types) is the agent's to judge.
"""

from __future__ import annotations

from typing import Final

from voip.errors import SipError
from voip.sip.message import Request, Response
from voip.sip.uri import SipUri, uri_scheme
from voip.sip.via import is_of_rfc_3261

__all__ = ["accepts_answer", "check_contact", "told_reason", "validate"]

_ONCE: Final = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Type", "Expires")


def validate(message: Request | Response) -> None:
    """Raise SipError when a message cannot be worked with.

    Its `status` answers a request (400, 505 for a Via of another version); for a response, which is
    to be dropped, it is None.
    """
    try:
        _check(message)
    except SipError as error:
        if isinstance(message, Response):
            error.status = None
        raise


def accepts_answer(request: Request, media_type: str = "application/sdp") -> bool:
    """Whether the sender can read a body of that type (406 where it cannot, section 21.4.7).

    Without an Accept header the answer is yes for application/sdp (section 20.1).
    """
    if "Accept" not in request.headers:
        return media_type == "application/sdp"
    main = media_type.partition("/")[0]
    return any(
        accepted.partition(";")[0].strip(" \t").lower() in (media_type, f"{main}/*", "*/*")
        for accepted in request.headers.values("Accept")
    )


def check_contact(request: Request) -> None:
    """Raise SipError (400) where a request that begins a dialog does not say where its sender is.

    It has one Contact, a SIP or SIPS URI (section 8.1.1.8). RFC 2543, whose branches begin
    otherwise, did not ask for it in an INVITE.
    """
    contacts = request.contacts
    if not contacts and request.method == "INVITE" and not is_of_rfc_3261(request.via):
        return
    if len(contacts) != 1:
        raise SipError(
            f"one Contact is needed in {request.method}, not {len(contacts)}", status=400
        )
    if uri_scheme(contacts[0].uri) not in ("sip", "sips"):
        raise SipError(f"a SIP URI is needed in the Contact of {request.method}", status=400)
    _ = contacts[0].sip_uri


def told_reason(error: SipError) -> str | None:
    """Return the reason phrase of a 400, which should say what is wrong (section 21.4.1)."""
    return error.message if error.status == 400 and error.message.isprintable() else None


def _check(message: Request | Response) -> None:
    headers = message.headers
    twice = headers.repeated(_ONCE)
    if twice is not None:
        raise SipError(f"{twice} stands more than once", status=400)
    if message.via.protocol != "SIP/2.0":
        raise SipError(f"a Via of {message.via.protocol[:20]}, not SIP/2.0", status=505)
    # Reading a property is the check: each raises where its header is missing or malformed.
    _ = message.from_, message.to, message.call_id, message.contacts
    cseq = message.cseq
    if isinstance(message, Response):
        if len(headers.values("Via")) > 1:
            raise SipError("a response that was meant for somebody else: more than one Via")
        return
    if cseq.method != message.method:
        raise SipError(f"a {message.method} whose CSeq says {cseq.method[:40]}", status=400)
    _ = message.max_forwards, message.content_type
    _check_uri(message)


def _check_uri(request: Request) -> None:
    if uri_scheme(request.uri) in ("sip", "sips") and SipUri.parse(request.uri).headers:
        raise SipError("a Request-URI with headers in it", status=400)
    if request.method == "REGISTER":
        if uri_scheme(request.to.uri) not in ("sip", "sips"):
            raise SipError("a REGISTER for what is no SIP address", status=400)
        _ = request.to.sip_uri

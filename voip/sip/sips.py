"""What a sips: URI promises: TLS at every hop, never less (RFC 3261 section 26.2.2, RFC 5630)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from voip.errors import SipError
from voip.sip.flow import SECURE, Flow
from voip.sip.headers import NameAddr

if TYPE_CHECKING:
    from voip.sip.dialog import Dialog
    from voip.sip.message import Request, Response

__all__ = [
    "answers_by_sips",
    "check_contact_scheme",
    "check_request",
    "comes_insecurely",
    "is_sips",
    "not_allowed",
    "secured",
    "top_is_sips",
]

_REFRESHING: Final = frozenset(("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"))
"""Requests whose Contact says where their sender is reached."""


def is_sips(uri: str) -> bool:
    """Whether a URI is to be reached by TLS only."""
    return uri[:5].lower() == "sips:"


def comes_insecurely(request: Request, flow: Flow) -> bool:
    """Whether a request to a sips: URI has come by what others can read: it is not to be taken."""
    return is_sips(request.uri) and not flow.secure


def not_allowed() -> tuple[int, list[tuple[str, str]]]:
    """Return what refuses a sips: URI that cannot be had (RFC 5630 sections 4.1 and 5.1.2)."""
    return 480, [("Warning", '380 voip "SIPS Not Allowed"')]


def check_contact_scheme(message: Request | Response, *, secure: bool) -> None:
    """Raise SipError (400) for a Contact by sip: where sips: was called (RFC 5630 section 5.1.2).

    `secure`: the dialog was begun so. What names TLS in another way is let pass: Asterisk calls who
    has registered by sips: from `sip:...;transport=TLS`.
    """
    for contact in message.contacts if secure else ():
        if not is_sips(contact.uri) and contact.sip_uri.transport not in SECURE:
            raise SipError("a Contact that is not sips: though sips: was called", status=400)


def check_request(request: Request, dialog: Callable[[], Dialog | None]) -> None:
    """Raise SipError (400) for such a Contact of whoever sends a request, in a dialog or not."""
    if request.method in _REFRESHING:
        within = None if request.to.tag is None else dialog()
        secure = within is not None and within.secure
        check_contact_scheme(request, secure=secure or is_sips(request.uri))


def answers_by_sips(request: Request) -> bool:
    """Whether our Contact in the answer has to be a sips: URI (RFC 3261 section 12.1.1)."""
    routes = request.headers.values("Record-Route")
    before = routes or request.headers.values("Contact")
    return is_sips(request.uri) or top_is_sips(before)


def top_is_sips(values: Iterable[str]) -> bool:
    """Whether the first of these addresses, Route values or Contacts, is a sips: URI."""
    for value in values:
        try:
            return is_sips(NameAddr.parse(value).uri)
        except SipError:
            return False
    return False


def secured(uri: str, route: Iterable[str]) -> list[str]:
    """Return the Route of a request to `uri`: of sips: URIs where that is one (RFC 5630 5.1.1)."""
    return [_upgraded(value) for value in route] if is_sips(uri) else list(route)


def _upgraded(value: str) -> str:
    hop = NameAddr.parse(value)
    return value if is_sips(hop.uri) else str(hop._replace(uri=f"sips{hop.uri[3:]}"))

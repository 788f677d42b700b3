"""A focus: the end of a call at which a conference is (RFC 4579, RFC 3840)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from voip.errors import SipError
from voip.sip.headers import NameAddr
from voip.sip.message import Request
from voip.sip.uri import SipUri

if TYPE_CHECKING:
    from voip.sip.core import Core

__all__ = ["as_focus", "focus_of", "is_focus", "user_of"]

_ISFOCUS: Final = "isfocus"


def is_focus(contact: NameAddr) -> bool:
    """Whether a Contact says that its URI is a conference's (RFC 4579 section 4)."""
    return contact.param(_ISFOCUS) is not None


def as_focus(contact: str, user: str) -> str:
    """Return our Contact as that of a conference of ours, whose name there is `user`.

    A GRUU keeps the name by which the registrar knows it (RFC 5627).
    """
    address = NameAddr.parse(contact)
    uri = address.sip_uri
    if uri.param("gr") is None:
        uri = replace(uri, user=user, password=None)
    params = tuple(one for one in address.params if one[0].lower() != _ISFOCUS)
    return str(NameAddr(address.display, str(uri), (*params, (_ISFOCUS, None))))


def user_of(uri: str) -> str | None:
    """Return whom a Request-URI names; None where it names nobody, or is no SIP URI."""
    try:
        return SipUri.parse(uri).user
    except SipError:
        return None


def focus_of(core: Core, request: Request) -> list[tuple[str, str]]:
    """Return the Contact by which an OPTIONS to a conference is answered (RFC 4579 4.3)."""
    if user_of(request.uri) not in core.focuses:
        return []
    return [("Contact", f"<{request.uri}>;{_ISFOCUS}")]

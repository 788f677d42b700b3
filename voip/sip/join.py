"""Join: a call that is to become part of another one (RFC 3911)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voip.errors import SipError
from voip.sip.dialog import Dialog
from voip.sip.focus import user_of
from voip.sip.message import Request
from voip.sip.replaces import Replaces, find_named

if TYPE_CHECKING:
    from voip.sip.core import Core

__all__ = ["Join", "find_joined"]


@dataclass(frozen=True, slots=True)
class Join:
    """Names a dialog as the one who is called knows it: `to_tag` is its own tag."""

    call_id: str
    to_tag: str
    from_tag: str

    @classmethod
    def of(cls, dialog: Dialog) -> Join:
        """Return what the peer of `dialog` finds it by."""
        named = Replaces.of(dialog)
        return cls(named.call_id, named.to_tag, named.from_tag)

    @classmethod
    def parse(cls, text: str) -> Join:
        """Read a Join value; SipError (400) when it is none."""
        try:
            named = Replaces.parse(text)
        except SipError:
            raise SipError(f"not a Join: {text[:80]!r}", status=400) from None
        return cls(named.call_id, named.to_tag, named.from_tag)

    def __str__(self) -> str:
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}"


def find_joined(core: Core, request: Request) -> Dialog | None:
    """Return the dialog a new INVITE is to join, early ones too; None where it joins none.

    SipError with the status of section 4 where it cannot: 400 malformed, or beside a Replaces; 481
    no such call; 603 it is just over. Where the Request-URI is a conference's, a call that is not
    found does not matter. Whether the caller may is the user's to say.
    """
    values = request.headers.get_all("Join")
    if not values or "join" not in core.config.supported:
        return None
    if len(values) > 1 or "Replaces" in request.headers:
        raise SipError("more than one Join, or one beside a Replaces", status=400)
    wanted = Join.parse(values[0])
    try:
        return find_named(core, wanted.call_id, wanted.to_tag, wanted.from_tag, what="join").dialog
    except SipError:
        if user_of(request.uri) in core.focuses:
            return None
        raise

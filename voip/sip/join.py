"""Join: a call that is to become part of another one (RFC 3911)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voip.errors import SipError
from voip.sip.dialog import Dialog
from voip.sip.dialog_name import DialogName, find_named, only_value, read_name
from voip.sip.focus import user_of
from voip.sip.message import Request

if TYPE_CHECKING:
    from voip.sip.core import Core

__all__ = ["Join", "find_joined"]


@dataclass(frozen=True, slots=True)
class Join(DialogName):
    """Names a dialog as the one who is called knows it: `to_tag` is its own tag."""

    @classmethod
    def parse(cls, text: str) -> Join:
        """Read a Join value; SipError (400) when it is none."""
        return cls(*read_name(text, "Join")[:3])


def find_joined(core: Core, request: Request) -> Dialog | None:
    """Return the dialog a new INVITE is to join, early ones too; None where it joins none.

    SipError with the status of section 4 where it cannot: 400 malformed, or beside a Replaces; 481
    no such call; 603 it is just over. Where the Request-URI is a conference's, a call that is not
    found does not matter. Whether the caller may is the user's to say.
    """
    value = only_value(core, request, "Join", "Replaces")
    if value is None:
        return None
    wanted = Join.parse(value)
    try:
        return find_named(core, wanted, what="join").dialog
    except SipError:
        if user_of(request.uri) in core.focuses:
            return None
        raise

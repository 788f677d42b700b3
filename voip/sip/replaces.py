"""Replaces: a call that is to take another's place (RFC 3891)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from voip.errors import SipError
from voip.sip.dialog import Dialog, DialogState
from voip.sip.dialog_name import DialogName, find_named, only_value, read_name
from voip.sip.message import Request
from voip.sip.uri import SipUri

if TYPE_CHECKING:
    from voip.sip.core import Core

__all__ = ["Replaces", "find_replaced", "place_of"]


@dataclass(frozen=True, slots=True)
class Replaces(DialogName):
    """Names a dialog as the one who is to be replaced in knows it: `to_tag` is its own tag."""

    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Replaces:
        """Read a Replaces value; SipError (400) when it is none."""
        call_id, to_tag, from_tag, params = read_name(text, "Replaces")
        return cls(call_id, to_tag, from_tag, any(n.lower() == "early-only" for n, _ in params))

    def __str__(self) -> str:
        return DialogName.__str__(self) + (";early-only" if self.early_only else "")


def place_of(dialog: Dialog) -> SipUri:
    """Return where who takes our place in `dialog` has to call: the peer, with a Replaces."""
    peer = SipUri.parse(dialog.remote_target)
    return replace(peer, headers=(("Replaces", str(Replaces.of(dialog))),))


def find_replaced(core: Core, request: Request) -> Dialog | None:
    """Return the dialog a new INVITE is to replace; None where it replaces none.

    SipError with the status of section 3 where it cannot: 400 malformed, 481 no such dialog, 486
    only an early one was wanted, 603 it is just over. Whether the caller may is the user's to say.
    """
    value = only_value(core, request, "Replaces", "Join")
    if value is None:
        return None
    wanted = Replaces.parse(value)
    usage = find_named(core, wanted, what="replace")
    state = usage.dialog.state
    if state is DialogState.EARLY and not usage.dialog.is_caller:
        raise SipError("a call that rings here is not replaced", status=481)
    if state is DialogState.CONFIRMED and wanted.early_only:
        raise SipError("the call to replace is answered", status=486)
    return usage.dialog

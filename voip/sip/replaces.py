"""Replaces: a call that is to take another's place (RFC 3891)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from voip.errors import SipError
from voip.sip.dialog import Dialog, DialogState
from voip.sip.grammar import find_param, parse_params
from voip.sip.message import Request
from voip.sip.uri import SipUri

if TYPE_CHECKING:
    from voip.sip.core import Core
    from voip.sip.usage import InviteUsage

__all__ = ["Replaces", "find_named", "find_replaced", "place_of"]

_VALUE: Final = re.compile(r"[ \t]*+([^;,\s]++)[ \t]*+(;.*+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Replaces:
    """Names a dialog as the one who is to be replaced in knows it: `to_tag` is its own tag."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    @classmethod
    def of(cls, dialog: Dialog) -> Replaces:
        """Return what the peer of `dialog` finds it by."""
        return cls(dialog.call_id, dialog.remote.tag or "0", dialog.local.tag or "0")

    @classmethod
    def parse(cls, text: str) -> Replaces:
        """Read a Replaces value; SipError (400) when it is none."""
        match = _VALUE.fullmatch(text)
        params = parse_params(match[2]) if match else ()
        names = [name.lower() for name, _ in params]
        to_tag, from_tag = find_param(params, "to-tag"), find_param(params, "from-tag")
        if match is None or not to_tag or not from_tag or len(names) != len(set(names)):
            raise SipError(f"not a Replaces: {text[:80]!r}", status=400)
        return cls(match[1], to_tag, from_tag, "early-only" in names)

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"


def place_of(dialog: Dialog) -> SipUri:
    """Return where who takes our place in `dialog` has to call: the peer, with a Replaces."""
    peer = SipUri.parse(dialog.remote_target)
    return replace(peer, headers=(("Replaces", str(Replaces.of(dialog))),))


def find_replaced(core: Core, request: Request) -> Dialog | None:
    """Return the dialog a new INVITE is to replace; None where it replaces none.

    SipError with the status of section 3 where it cannot: 400 malformed, 481 no such dialog, 486
    only an early one was wanted, 603 it is just over. Whether the caller may is the user's to say.
    """
    values = request.headers.get_all("Replaces")
    if not values or "replaces" not in core.config.supported:
        return None
    if len(values) > 1 or "Join" in request.headers:
        raise SipError("more than one Replaces, or one beside a Join", status=400)
    wanted = Replaces.parse(values[0])
    usage = find_named(core, wanted.call_id, wanted.to_tag, wanted.from_tag, what="replace")
    state = usage.dialog.state
    if state is DialogState.EARLY and not usage.dialog.is_caller:
        raise SipError("a call that rings here is not replaced", status=481)
    if state is DialogState.CONFIRMED and wanted.early_only:
        raise SipError("the call to replace is answered", status=486)
    return usage.dialog


def find_named(
    core: Core, call_id: str, local_tag: str, remote_tag: str, *, what: str
) -> InviteUsage:
    """Return the call of that name; SipError for none: 481, 603 where it is just over, or ending.

    A remote tag of 0 is that of an RFC 2543 peer without one (RFC 3891 section 6.1, RFC 3911
    section 7.1). `what`: to replace, or to join.
    """
    names = [(call_id, local_tag, remote_tag)]
    if remote_tag == "0":
        names.append((call_id, local_tag, ""))
    usage = next((core.usages[name] for name in names if name in core.usages), None)
    if usage is None:
        over = any(name in core.ended for name in names)
        raise SipError(f"no such call to {what}", status=603 if over else 481)
    if usage.dialog.state is DialogState.TERMINATING:
        raise SipError(f"the call to {what} is ending", status=603)
    return usage

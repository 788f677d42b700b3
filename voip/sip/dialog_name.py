"""What Replaces (RFC 3891) and Join (RFC 3911) have in common: the name of a dialog.

It is the name by which the one who is asked knows the dialog: `to_tag` is its own tag.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from voip.errors import SipError
from voip.sip.dialog import Dialog, DialogState
from voip.sip.grammar import Params, find_param, parse_params
from voip.sip.message import Request

if TYPE_CHECKING:
    from voip.sip.core import Core
    from voip.sip.usage import InviteUsage

__all__ = ["DialogName", "find_named", "only_value", "read_name"]

Header = Literal["Replaces", "Join"]

_VALUE: Final = re.compile(r"[ \t]*+([^;,\s]++)[ \t]*+(;.*+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DialogName:
    """Names a dialog."""

    call_id: str
    to_tag: str
    from_tag: str

    @classmethod
    def of(cls, dialog: Dialog) -> Self:
        """Return what the peer of `dialog` finds it by."""
        return cls(dialog.call_id, dialog.remote.tag or "0", dialog.local.tag or "0")

    def __str__(self) -> str:
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}"


def read_name(text: str, header: Header) -> tuple[str, str, str, Params]:
    """Return Call-ID, to-tag, from-tag and all parameters; SipError (400) where it is no name."""
    match = _VALUE.fullmatch(text)
    params = parse_params(match[2]) if match else ()
    names = [name.lower() for name, _ in params]
    to_tag, from_tag = find_param(params, "to-tag"), find_param(params, "from-tag")
    if match is None or not to_tag or not from_tag or len(names) != len(set(names)):
        raise SipError(f"not a {header}: {text[:80]!r}", status=400)
    return match[1], to_tag, from_tag, params


def only_value(core: Core, request: Request, header: Header, other: Header) -> str | None:
    """Return the value of a header that we know; None without.

    SipError (400) where there are several, or the `other` one beside it.
    """
    values = request.headers.get_all(header)
    if not values or header.lower() not in core.config.supported:
        return None
    if len(values) > 1 or other in request.headers:
        raise SipError(f"more than one {header}, or one beside a {other}", status=400)
    return values[0]


def find_named(core: Core, name: DialogName, *, what: str) -> InviteUsage:
    """Return the call of that name; SipError for none: 481, 603 where it is just over, or ending.

    A remote tag of 0 is that of an RFC 2543 peer without one (RFC 3891 section 6.1, RFC 3911
    section 7.1). `what`: to replace, or to join.
    """
    names = [(name.call_id, name.to_tag, name.from_tag)]
    if name.from_tag == "0":
        names.append((name.call_id, name.to_tag, ""))
    usage = next((core.usages[name] for name in names if name in core.usages), None)
    if usage is None:
        over = any(name in core.ended for name in names)
        raise SipError(f"no such call to {what}", status=603 if over else 481)
    if usage.dialog.state is DialogState.TERMINATING:
        raise SipError(f"the call to {what} is ending", status=603)
    return usage

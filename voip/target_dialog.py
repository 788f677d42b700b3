"""Target-Dialog: a request outside of calls that is about one, and proves to know it (RFC 4538)."""

from __future__ import annotations

import re
from typing import Final

from voip.call import Call
from voip.desk import Desk
from voip.errors import SipError
from voip.sip.dialog import Dialog
from voip.sip.grammar import find_param, parse_params
from voip.sip.message import Request

__all__ = ["named_call", "target_dialog"]

_TARGET_DIALOG: Final = re.compile(r"[ \t]*+([^;,\s]++)[ \t]*+(;.*)", re.DOTALL)


def target_dialog(dialog: Dialog) -> tuple[str, str]:
    """Return the header that names a call of ours to its other side, whose own tag is the local."""
    tags = f"local-tag={dialog.remote.tag};remote-tag={dialog.local.tag}"
    return ("Target-Dialog", f"{dialog.call_id};{tags}")


def named_call(desk: Desk, request: Request) -> Call | None:
    """Return the answered call that a request names, whichever tag is called local.

    Ours is, by RFC 4538; some name a call as they see it themselves.
    """
    match = _TARGET_DIALOG.fullmatch(request.headers.get("Target-Dialog") or "")
    if match is None:
        return None
    try:
        params = parse_params(match[2])
    except SipError:
        return None
    ours, theirs = find_param(params, "local-tag"), find_param(params, "remote-tag")
    if not ours or not theirs:
        return None
    agent = desk.stack.agent
    for tags in ((ours, theirs), (theirs, ours)):
        dialog = agent.call_dialog((match[1], *tags))
        call = None if dialog is None else desk.call_of(dialog)
        if call is not None and call._session.dialog is dialog:
            return call
    return None

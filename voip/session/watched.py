"""A call as those see it who watch us (RFC 4235 section 4.1)."""

from __future__ import annotations

from typing import Final

from voip.events import CallState
from voip.session.session import CallSession
from voip.sip.dialog import Dialog
from voip.sip.headers import NameAddr
from voip.sip.packages.dialog_info import WatchedDialog

__all__ = ["watched"]

_STATES: Final = {
    CallState.NEW: "trying",
    CallState.CALLING: "trying",
    CallState.RINGING: "early",
    CallState.EARLY: "early",
    CallState.ACTIVE: "confirmed",
    CallState.HELD: "confirmed",
}


def watched(session: CallSession, name: str) -> WatchedDialog | None:
    """Return the call's dialog as a document names it; None when the call is over."""
    state = _STATES.get(session.state)
    if state is None:
        return None
    dialog = session.current_dialog
    direction = "initiator" if session.outgoing else "recipient"
    if dialog is None:
        return WatchedDialog(name, "trying", direction=direction, remote=session.remote.uri)
    return WatchedDialog(
        name,
        state,
        dialog.call_id,
        dialog.local.tag,
        dialog.remote.tag,
        direction,
        dialog.local.uri,
        dialog.remote.uri,
        _uri(dialog),
    )


def _uri(dialog: Dialog) -> str:
    return NameAddr.parse(dialog.contact).uri

"""Asking others to call somebody, outside of any call, or beside one (RFC 3515, 4538, 4579)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from voip.call import Call
from voip.desk import Desk
from voip.errors import CallStateError
from voip.line import Line
from voip.session.transfer import follow
from voip.sip.dialog import Dialog
from voip.sip.headers import NameAddr
from voip.sip.identity import ANONYMOUS
from voip.sip.subscription import Subscription
from voip.sip.uri import SipUri
from voip.target_dialog import target_dialog
from voip.ways import seek

__all__ = ["ask_to_call", "dialog_of", "refer_beside"]


async def ask_to_call(
    desk: Desk, line: Line, whom: str | Call, target: SipUri, *, timeout: float
) -> None:
    """Ask `whom` to call `target`; returns when it says that it has, else raises `CallError`.

    A call means what its other side has in its Contact: a conference, to which our call is known.
    """
    if isinstance(whom, Call):
        dialog = dialog_of(whom)
        handle = await refer_beside(desk, line, dialog, target)
    else:
        uri = line.account.dial_uri(whom)
        handle = await _refer(desk, line, uri, target)
    await follow(desk.stack, handle, handle.wanted.uri, timeout=timeout, tell=lambda _: None)


async def refer_beside(
    desk: Desk, line: Line, dialog: Dialog, target: SipUri, *, required: bool = False
) -> Subscription:
    """Make a REFER to the other side of a call in a dialog of its own that names the call.

    required: whether only who knows Target-Dialog is to take it (RFC 4538). We are who we are in
    the call.
    """
    headers = [target_dialog(dialog), *([("Require", "tdialog")] if required else [])]
    who = NameAddr(dialog.local.display, dialog.local.uri)
    uri = SipUri.parse(dialog.remote_target)
    return await _refer(desk, line, uri, target, headers=headers, who=who)


async def _refer(
    desk: Desk,
    line: Line,
    uri: SipUri,
    target: SipUri,
    *,
    headers: Sequence[tuple[str, str]] = (),
    who: NameAddr | None = None,
) -> Subscription:
    registrar, flow = await desk.way_to(line, uri)
    who = who or line.identity(flow)
    contact = partial(line.contact_to, uri, anonymous=who.uri == ANONYMOUS.uri)
    return desk.stack.agent.subscriptions.refer_outside(
        uri,
        str(NameAddr("", str(target))),
        flow=flow,
        from_=who,
        to=f"<{uri}>",
        contact=contact(flow),
        route=registrar.route(),
        headers=[("Referred-By", str(NameAddr("", who.uri))), *headers],
        credentials=line.account.credentials(),
        seek=seek(desk, line, uri, contact),
        now=desk.now(),
    )


def dialog_of(call: Call) -> Dialog:
    """Return the dialog of a call that is answered; `CallStateError` for another."""
    dialog = call._session.dialog
    if dialog is None:
        raise CallStateError(f"the call is {call.state.value}", hint="wait for its answer")
    return dialog

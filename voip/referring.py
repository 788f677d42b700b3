"""Asking others to call somebody, outside of any call (RFC 3515, RFC 4579)."""

from __future__ import annotations

from functools import partial

from voip.call import Call
from voip.desk import Desk
from voip.errors import CallStateError
from voip.line import Line
from voip.session.transfer import follow
from voip.sip.dialog import Dialog
from voip.sip.headers import NameAddr
from voip.sip.uri import SipUri
from voip.target_dialog import target_dialog
from voip.ways import seek

__all__ = ["ask_to_call", "dialog_of"]


async def ask_to_call(
    desk: Desk, line: Line, whom: str | Call, target: SipUri, *, timeout: float
) -> None:
    """Ask `whom` to call `target`; returns when it says that it has, else raises `CallError`.

    A call means what its other side has in its Contact: a conference, to which our call is known.
    """
    account = line.account
    headers = []
    if isinstance(whom, Call):
        dialog = dialog_of(whom)
        uri = SipUri.parse(dialog.remote_target)
        headers.append(target_dialog(dialog))
    else:
        uri = account.dial_uri(whom)
    registrar, flow = await desk.way_to(line, uri)
    identity = line.identity(flow)
    handle = desk.stack.agent.subscriptions.refer_outside(
        uri,
        str(NameAddr("", str(target))),
        flow=flow,
        from_=identity,
        to=f"<{uri}>",
        contact=line.contact_to(uri, flow),
        route=registrar.route(),
        headers=[("Referred-By", str(NameAddr("", identity.uri))), *headers],
        credentials=account.credentials(),
        seek=seek(desk, line, uri, partial(line.contact_to, uri)),
        now=desk.now(),
    )
    await follow(desk.stack, handle, str(uri), timeout=timeout, tell=lambda _: None)


def dialog_of(call: Call) -> Dialog:
    """Return the dialog of a call that is answered; `CallStateError` for another."""
    dialog = call._session.dialog
    if dialog is None:
        raise CallStateError(f"the call is {call.state.value}", hint="wait for its answer")
    return dialog

"""Requests of ours that are refused for how they were sent, and are sent anew at once."""

from __future__ import annotations

from voip.sip.challenge import Challenges
from voip.sip.dialog import Dialog
from voip.sip.message import Request, Response
from voip.sip.session_timer import raised

__all__ = ["changed_for_retry", "next_cseq"]


def changed_for_retry(
    request: Request, response: Response, dialog: Dialog | None, challenges: Challenges
) -> list[tuple[str, str]] | None:
    """Return the headers that `request` is sent anew with; None where it is not, or often enough.

    422: its session was to be too short (RFC 4028 section 7.4). 500: a later request of ours in the
    dialog came before it.
    """
    changed: list[tuple[str, str]] | None = None
    if response.status == 422:
        changed = raised(request, response)
    elif dialog is not None and _overtaken(dialog, response):
        changed = []
    return changed if changed is not None and challenges.count() else None


def next_cseq(request: Request, dialog: Dialog | None) -> int:
    """Return the number of its next try (RFC 3261 section 22.2)."""
    return request.cseq.number + 1 if dialog is None else dialog.next_cseq()


def _overtaken(dialog: Dialog, response: Response) -> bool:
    """Whether a request in a dialog was refused because a later one of ours came before it.

    A lost request is repeated under its number, and the peer, that has seen a greater one
    meanwhile, has to answer 500 (RFC 3261 section 12.2.2): it is to be sent under a new one.
    """
    is_late = dialog.local_cseq > response.cseq.number
    return is_late and response.status == 500 and "Retry-After" not in response.headers

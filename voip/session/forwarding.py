"""Sending a call on: what a 302 says of where it goes, and the way it came (RFC 5806, 7044)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from voip.sip.headers import NameAddr
from voip.sip.message import Request
from voip.sip.reason import Reason
from voip.sip.retargeting import Diversion, HistoryEntry, diversions, history, retargeted
from voip.sip.uri import SipUri

__all__ = ["forwarding_headers", "may_forward"]

MAX_DIVERSIONS: Final = 5
"""A call that has been sent on so often is refused: it goes round in circles."""
_CAUSES: Final = {"user-busy": 486, "no-answer": 408, "do-not-disturb": 480}


def may_forward(invite: Request) -> bool:
    """Whether a call has not been sent on too often already."""
    return sum(one.counter for one in diversions(invite.headers)) < MAX_DIVERSIONS


def forwarding_headers(
    invite: Request, targets: Sequence[SipUri], reason: str
) -> list[tuple[str, str]]:
    """Return what a 302 says that sends a call on: where, the first of them first, who did so, why.

    History-Info goes on to the first of them.
    """
    called = NameAddr("", invite.uri)
    earlier = history(invite.headers) or [HistoryEntry(called, (1,))]
    cause = Reason("SIP", _CAUSES.get(reason, 302))
    entries = retargeted(earlier, str(targets[0]), reason=cause)
    places = [f"<{uri}>;q={1 - rank / 10:.1f}" for rank, uri in enumerate(targets)]
    return [
        ("Contact", ", ".join(places)),
        ("Diversion", str(Diversion(called, reason))),
        *(("Diversion", str(one)) for one in diversions(invite.headers)),
        *(("History-Info", str(entry)) for entry in entries),
    ]

"""Sending a call on: what a 302 says of where it goes and the way it came (RFC 5806, RFC 7044).

And what the INVITE says that follows one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from voip.sip.headers import Headers, NameAddr
from voip.sip.message import Request, Response
from voip.sip.reason import Reason
from voip.sip.retargeting import (
    MAX_HISTORY,
    Diversion,
    HistoryEntry,
    diversions,
    followed,
    history,
    retargeted,
)
from voip.sip.uri import SipUri

__all__ = ["following_headers", "forwarding_headers", "may_forward"]

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


def following_headers(
    headers: Sequence[tuple[str, str]], refusal: Response | None, contact: NameAddr
) -> list[tuple[str, str]]:
    """Return what an INVITE to the Contact of a 3xx adds, where the one before it added `headers`.

    Who sent the call on (RFC 5806 section 5.2) and the way it has come (RFC 7044 section 6.1), as
    far as the 3xx tells. `refusal`: what the one before it came to, which may be no 3xx where
    an earlier 3xx named several places.
    """
    before = Headers(headers)
    told = refusal.headers if refusal is not None and refusal.status // 100 == 3 else Headers()
    by = diversions(told)
    by += [one for one in diversions(before) if one not in by]
    way = followed(history(told) or history(before), contact)
    return [
        *(line for line in headers if line[0].lower() not in ("diversion", "history-info")),
        *(("Diversion", str(one)) for one in by[:MAX_HISTORY]),
        *(("History-Info", str(entry)) for entry in way[:MAX_HISTORY]),
    ]

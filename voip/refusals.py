"""Calls that are refused before there is a call: counted by why, and logged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from voip.errors import SipError
from voip.logs import CallLog, Limit
from voip.logs.lines import event
from voip.sip.message import REASONS, Request

__all__ = ["REFUSALS", "RefusedCalls"]

log = logging.getLogger(__name__)

FLOOD: Final = "flood"
PROTOCOL: Final = "protocol"
_BY_STATUS: Final = {
    302: "forwarded",
    401: "challenged",
    403: "forbidden",
    404: "unknown",
    407: "challenged",
    480: "unavailable",
    481: "no_call",
    482: "loop",
    483: "loop",
    486: "busy",
    500: "failed",
    503: "overload",
    603: "declined",
}
REFUSALS: Final = tuple(dict.fromkeys((*_BY_STATUS.values(), PROTOCOL, FLOOD)))
"""Why calls are refused; whatever is wrong with an INVITE in itself is `protocol`."""
_FLOOD_LINES: Final = 1.0
"""Lines a second about floods."""


class RefusedCalls:
    """The INVITEs that became no call of a phone, or were not forwarded by a proxy.

    `counts`: how many, by `REFUSALS`; an INVITE that is repeated, and refused again, counts again.
    Each has a line in the log, by the Call-ID of its INVITE, with these `fields`; `now` (seconds)
    limits how many.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.counts = dict.fromkeys(REFUSALS, 0)
        self.fields: dict[str, object] = {}
        self._limit = Limit(now)
        self._flood_limit = Limit(now, _FLOOD_LINES, _FLOOD_LINES)

    def refuse(self, request: Request, status: int, why: str) -> None:
        """Take an INVITE that is answered with `status`; `why` ends a sentence of ours."""
        self._take(request, status, "refused, as %s", why)

    def refused(self, request: Request, status: int) -> None:
        """Take one that the agent has refused by itself."""
        self._take(
            request, status, "refused with %s", f"{status} {REASONS.get(status, '')}".rstrip()
        )

    def flooded(self, host: str, *, is_call: bool) -> None:
        """Take a request that was one too many of a stranger's, and maybe an INVITE."""
        self.counts[FLOOD] += is_call
        limit = self._flood_limit
        if log.isEnabledFor(logging.WARNING) and limit.admit():
            left_out, limit.left_out = limit.left_out, 0
            words = "too many requests come from strangers, as from %s"
            event(log, logging.WARNING, "flood", words, host, **self.fields, left_out=left_out)

    def _take(self, request: Request, status: int, words: str, given: str) -> None:
        reason = _BY_STATUS.get(status, PROTOCOL)
        self.counts[reason] += 1
        level = logging.DEBUG if reason == "challenged" else logging.INFO
        line = CallLog(self._limit, **self.fields, direction="incoming")
        if not line.isEnabledFor(level):
            return
        try:
            peer, call_id = request.from_.uri, request.call_id
        except SipError:
            peer, call_id = "", request.headers.get("Call-ID") or ""
        line.know(peer=peer, call_id=call_id, sip_call_id=call_id)
        line.event(level, "call_refused", words, given, status=status, reason=reason)

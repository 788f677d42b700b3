"""When two changes of one session cross: who waits how long (RFC 3261 section 14, RFC 3311)."""

from __future__ import annotations

from typing import Final

from voip.sip.challenge import Failure
from voip.sip.dialog import Dialog
from voip.sip.headers import parse_seconds
from voip.types import Random

__all__ = ["retry_after", "wait_after"]

_MAX_RETRY_AFTER_S: Final = 10
"""What a 500 to a crossing change may ask us to wait (RFC 3261 section 14.2)."""


def wait_after(failure: Failure, dialog: Dialog, random: Random) -> float | None:
    """Return how long to wait until a change is tried again, None when it is not."""
    if failure.status == 491:
        # In units of 10 ms; the owner of the Call-ID waits longer.
        low, high = (210, 401) if dialog.is_caller else (0, 201)
        return (low + random.below(high - low)) / 100
    if failure.status == 500 and failure.response is not None:
        seconds = parse_seconds(failure.response.headers.get("Retry-After"))
        if seconds is not None and seconds <= _MAX_RETRY_AFTER_S:
            return float(seconds)
    return None


def retry_after(random: Random) -> list[tuple[str, str]]:
    """Return what a 500 says that refuses a change while another one is under way."""
    return [("Retry-After", str(random.below(_MAX_RETRY_AFTER_S + 1)))]

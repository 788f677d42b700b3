"""When two changes of one session cross: who waits how long (RFC 3261 section 14, RFC 3311)."""

from __future__ import annotations

from typing import Final

from voip.sip.challenge import Failure
from voip.sip.dialog import Dialog
from voip.sip.headers import parse_seconds
from voip.types import Random

__all__ = ["GIVE_UP_S", "retry_after", "wait_after"]

GIVE_UP_S: Final = 32.0
"""A change that has crossed others for so long is given up: 64 T1 (RFC 3261 section 17)."""

_T1_S: Final = 0.5
_MAX_RETRY_AFTER_S: Final = 10
"""What a 500 to a crossing change may ask us to wait (RFC 3261 section 14.2)."""


def wait_after(
    failure: Failure, dialog: Dialog, random: Random, *, tried_for: float
) -> float | None:
    """Return how long to wait until a change is tried again, None when it is not.

    `tried_for`: the seconds since it was tried first. What the peer has under way, a change or
    the end of one, is over after 64 T1 at the latest, however much of it is lost.
    """
    wait = _wait(failure, dialog, random)
    return wait if wait is not None and tried_for + wait <= GIVE_UP_S else None


def _wait(failure: Failure, dialog: Dialog, random: Random) -> float | None:
    if failure.status == 491:
        # In units of 10 ms; the owner of the Call-ID waits longer.
        low, high = (210, 401) if dialog.is_caller else (0, 201)
        return (low + random.below(high - low)) / 100
    if failure.status == 500 and failure.response is not None:
        seconds = parse_seconds(failure.response.headers.get("Retry-After"))
        if seconds is not None and seconds <= _MAX_RETRY_AFTER_S:
            return max(float(seconds), _T1_S)  # "0" again and again shall not be a flood
    return None


def retry_after(random: Random) -> list[tuple[str, str]]:
    """Return what a 500 says that refuses a change while another one is under way."""
    return [("Retry-After", str(random.below(_MAX_RETRY_AFTER_S + 1)))]

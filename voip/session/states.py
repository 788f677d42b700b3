"""The life of a call as a table (row M02): which state may follow which."""

from __future__ import annotations

from voip.events import CallState

__all__ = ["TRANSITIONS", "allowed"]

_S = CallState

TRANSITIONS: dict[CallState, frozenset[CallState]] = {
    _S.NEW: frozenset({_S.CALLING, _S.RINGING, _S.EARLY, _S.ACTIVE, _S.ENDING, _S.ENDED}),
    _S.CALLING: frozenset({_S.RINGING, _S.EARLY, _S.ACTIVE, _S.ENDING, _S.ENDED}),
    _S.RINGING: frozenset({_S.EARLY, _S.ACTIVE, _S.ENDING, _S.ENDED}),
    _S.EARLY: frozenset({_S.ACTIVE, _S.ENDING, _S.ENDED}),
    _S.ACTIVE: frozenset({_S.HELD, _S.ENDING, _S.ENDED}),
    _S.HELD: frozenset({_S.ACTIVE, _S.ENDING, _S.ENDED}),
    _S.ENDING: frozenset({_S.ENDED}),
    _S.ENDED: frozenset(),
}
"""An incoming call is `NEW` until it rings or is answered; `ENDED` is for ever."""


def allowed(before: CallState, after: CallState) -> bool:
    """Whether a call may go from `before` to `after`; staying is no step."""
    return after in TRANSITIONS[before]

"""What of our parameters answers an offered format, encoding by encoding.

Where nothing is said here they are declarative: each side says what it wants to receive, and an
answer does not depend on the offer. So it is with Opus (RFC 7587, section 7.1), and with encodings
that have no parameters: G.711, G.722, L16, GSM, CN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from voip.fmtp import Value, read, write
from voip.sdp.ilbc import ILBC, common_mode
from voip.sdp.telephone_event import TELEPHONE_EVENT, common_events

__all__ = ["SHARED", "answer_fmtp"]

SHARED: Final = frozenset({ILBC, "amr", "amr-wb", "g729"})
"""Encodings of which an answer's parameters hold for both directions."""


_SAME: Final = ("octet-align", "crc", "robust-sorting", "interleaving")
"""What of AMR makes another payload format: both sides have the same (RFC 4867, 8.3.1)."""


def answer_fmtp(name: str, ours: str, theirs: str) -> str | None:
    """Return the a=fmtp of an answer, from ours and the offered; None where they do not fit."""
    rule = _RULES.get(name)
    return ours if rule is None else rule(ours, theirs)


def _events(ours: str, theirs: str) -> str | None:
    """Return the events that both sides know (RFC 4733, section 2.5.1.1)."""
    return common_events(ours, theirs) or None


def _g729(ours: str, theirs: str) -> str | None:
    """Return Annex B only where both have it: a side that says nothing has (RFC 4856, 2.1.9)."""
    both = all(read("g729", fmtp).get("annexb", True) for fmtp in (ours, theirs))
    return ours if both else "annexb=no"


def _amr(name: str) -> Callable[[str, str], str | None]:
    def answer(ours: str, theirs: str) -> str | None:
        mine, offered = read(name, ours), read(name, theirs)
        if any(mine.get(key, False) != offered.get(key, False) for key in _SAME):
            return None
        modes = offered.get("mode-set")
        if modes is None:
            return ours
        if not _within(modes, mine.get("mode-set")):
            return None
        return write(name, {**mine, "mode-set": modes})  # theirs, unchanged

    return answer


def _within(modes: Value, ours: Value | None) -> bool:
    """Whether we can keep to a set of modes; None: all are ours."""
    if ours is None or not isinstance(modes, tuple) or not isinstance(ours, tuple):
        return True
    return set(modes) <= set(ours)


_RULES: Final[Mapping[str, Callable[[str, str], str | None]]] = MappingProxyType(
    {
        ILBC: common_mode,  # RFC 3952, section 5
        TELEPHONE_EVENT: _events,
        "g729": _g729,
        "amr": _amr("amr"),
        "amr-wb": _amr("amr-wb"),
    }
)

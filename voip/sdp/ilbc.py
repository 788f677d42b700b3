"""The frame size behind an iLBC payload type (RFC 3952, section 5)."""

from __future__ import annotations

from voip.fmtp import read

__all__ = ["ILBC", "common_mode", "mode_ms"]

ILBC = "ilbc"
"""The encoding name, as it stands in `RtpFormat.name`."""


def mode_ms(fmtp: str) -> int:
    """Return the frame size that a side prefers: 20 where it says so, else 30 ms.

    A side that says nothing means 30; so does one that says 0 (reserved) or nonsense, because
    every implementation has the longer frame.
    """
    return 20 if read(ILBC, fmtp).get("mode") == 20 else 30


def common_mode(one: str, other: str) -> str:
    """Return the parameter both sides use: the frame of fewer bits, 30 ms if either prefers it.

    "" where neither says anything, which means 30 too.
    """
    if not one and not other:
        return ""
    return f"mode={max(mode_ms(one), mode_ms(other))}"

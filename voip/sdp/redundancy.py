"""Redundant audio in session descriptions (RFC 2198, section 5): what may repeat which encoding.

An encoding that may be repeated has a `red` format beside it, whose a=fmtp lists payload types of
the same description: that of the packet's own block, then those of repeated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from voip.sdp.format import MAX_PAYLOAD_TYPE, RtpFormat
from voip.sdp.payload_types import PayloadTypes

__all__ = ["MAX_TYPES", "RED", "answered", "offered", "repeated_types", "repeating"]

RED: Final = "red"
"""The encoding name, as it stands in `RtpFormat.name`."""
MAX_TYPES: Final = 32
"""Payload types of a list; no packet has so many blocks."""


def repeated_types(fmtp: str) -> tuple[int, ...]:
    """Return the payload types of a list such as "0/0"; none where it cannot be read."""
    elements = fmtp.replace(" ", "").split("/")
    if len(elements) > MAX_TYPES:
        return ()
    plain = all(one.isascii() and one.isdigit() and len(one) <= 3 for one in elements)
    types = tuple(int(one) for one in elements) if plain else ()
    return types if max(types, default=0) <= MAX_PAYLOAD_TYPE else ()


def offered(speech: Sequence[RtpFormat], numbers: PayloadTypes) -> tuple[RtpFormat, ...]:
    """Return a `red` format for each of our encodings, as far as there are numbers for them."""
    return tuple(
        _red(number, one, (one.payload_type, one.payload_type))
        for one in speech
        if (number := numbers.redundant(one.encoding)) is not None
    )


def answered(
    theirs: Sequence[RtpFormat], speech: Sequence[RtpFormat], numbers: PayloadTypes
) -> tuple[RtpFormat, ...]:
    """Return those `red` formats of an offer that repeat encodings of our answer, `speech`.

    What is repeated besides, and is none of ours, is left out of their lists.
    """
    named = {one.payload_type: one.encoding for one in theirs}
    ours = {one.encoding: one for one in speech}
    found: dict[int, RtpFormat] = {}  # by the payload type of what is repeated
    for red in theirs:
        if red.name != RED:
            continue
        types: Sequence[RtpFormat | None] = [
            ours.get(named[one]) if one in named else None for one in repeated_types(red.fmtp)
        ]
        if not red.fmtp:  # whatever is of its clock
            types = [one for one in speech if one.clock_rate == red.clock_rate][:1]
        if not types or types[0] is None or types[0].payload_type in found:
            continue
        first = types[0]
        number = numbers.redundant(first.encoding, red.payload_type)
        if number is not None:
            listed = tuple(one.payload_type for one in types if one is not None)
            listed = listed if len(listed) > 1 else listed * 2
            found[first.payload_type] = _red(number, red, listed)
    return tuple(found.values())


def repeating(formats: Sequence[RtpFormat], speech: RtpFormat) -> RtpFormat | None:
    """Return the `red` format of a description that may repeat one of its encodings, or None."""
    for red in formats:
        fits = red.name == RED and red.clock_rate == speech.clock_rate
        if fits and (not red.fmtp or speech.payload_type in repeated_types(red.fmtp)):
            return red
    return None


def _red(number: int, like: RtpFormat, types: Sequence[int]) -> RtpFormat:
    listed = "/".join(str(one) for one in types)
    return RtpFormat(number, RED, like.clock_rate, like.channels, listed)

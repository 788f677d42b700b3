"""The list of events behind a telephone-event payload type (RFC 4733, section 2.4)."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["DEFAULT_EVENTS", "TELEPHONE_EVENT", "common_events", "format_events", "parse_events"]

TELEPHONE_EVENT = "telephone-event"
"""The encoding name, as it stands in `RtpFormat.name`."""

DEFAULT_EVENTS = frozenset(range(16))
"""What a side supports that lists no events: the DTMF digits (RFC 4733, section 7.1.1)."""

MAX_EVENT = 255
"""Event codes are one octet."""

MAX_RANGES = 256
"""Elements of a list; more cannot be needed for 256 codes."""

_RANGE = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?", re.ASCII)


@lru_cache(maxsize=64)
def parse_events(fmtp: str) -> frozenset[int]:
    """Return the event codes of a list such as "0-15,66,70".

    An absent list and one that cannot be read mean `DEFAULT_EVENTS`: digits are what every
    implementation has, and a telephone that writes the list wrongly still wants them.
    """
    elements = fmtp.removeprefix("events=").replace(" ", "").split(",")
    if len(elements) > MAX_RANGES:
        return DEFAULT_EVENTS
    events: set[int] = set()
    for element in elements:
        match = _RANGE.fullmatch(element)
        if match is None:
            return DEFAULT_EVENTS
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= MAX_EVENT:
            return DEFAULT_EVENTS
        events.update(range(first, last + 1))
    return frozenset(events)


def format_events(events: frozenset[int]) -> str:
    """Return event codes as the shortest sorted list of ranges; the inverse of `parse_events`."""
    ranges: list[list[int]] = []
    for event in sorted(events):
        if ranges and event == ranges[-1][1] + 1:
            ranges[-1][1] = event
        else:
            ranges.append([event, event])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges)


def common_events(one: str, other: str) -> str:
    """Return the list of the events that both lists hold, "" where there are none."""
    return format_events(parse_events(one) & parse_events(other))

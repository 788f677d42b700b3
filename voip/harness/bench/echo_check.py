"""Is what came back what was sent? Byte for byte, saying for every packet why if not.

An echo returns the bytes it got, later by its jitter buffer's delay. Where a packet was lost or
late it returns what it made up instead, and where the delay changes it leaves out or repeats some
samples. Everything else must be equal.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["EchoVerdict", "check_echo"]

SEARCH_BYTES = 8000
"""How far from where it is expected a packet is looked for: 1 s."""
CROSSFADE_BYTES = 160
"""Around a gap, the samples that may be blended with what was made up for it."""


@dataclass(frozen=True, slots=True)
class EchoVerdict:
    """Packets by what became of them."""

    equal: int = 0
    concealed: int = 0  # beside a packet that was lost or reordered on its way to the echo
    adjusted: int = 0  # where the echo's delay changed
    outside: int = 0  # before the first and after the last packet that was sent
    wrong: int = 0

    @property
    def compared(self) -> int:
        """Packets that had something to be compared with."""
        return self.equal + self.concealed + self.adjusted + self.wrong

    def plus(self, other: EchoVerdict) -> EchoVerdict:
        """Return the sum of both."""
        return EchoVerdict(
            self.equal + other.equal,
            self.concealed + other.concealed,
            self.adjusted + other.adjusted,
            self.outside + other.outside,
            self.wrong + other.wrong,
        )


def check_echo(
    sent: npt.NDArray[np.uint8],
    disturbed: Collection[int],
    heard: list[tuple[int, bytes]],
) -> EchoVerdict:
    """Compare `heard`, (timestamp, payload) in order of sending, with `sent`, uint8 (n, 160).

    `disturbed` are the numbers of the sent packets that were dropped or delayed on purpose.
    """
    stream = sent.tobytes()
    places = _places(stream, heard)
    found = [index for index, place in enumerate(places) if place is not None]
    if not found:
        return EchoVerdict(wrong=len(heard))
    counts = {"equal": len(found), "concealed": 0, "adjusted": 0, "wrong": 0}
    width = sent.shape[1]
    gaps = np.zeros(len(sent) + 2, np.bool_)
    gaps[[number for number in disturbed if number < len(sent)]] = True
    for before, after in pairwise(found):
        if after == before + 1:
            continue
        begin, end = _place(places, before), _place(places, after)
        first = max(0, (begin + len(heard[before][1]) - CROSSFADE_BYTES) // width)
        last = (end + CROSSFADE_BYTES - 1) // width
        if gaps[first : last + 1].any():
            reason = "concealed"
        elif end - begin != heard[after][0] - heard[before][0]:
            reason = "adjusted"
        else:
            reason = "wrong"
        counts[reason] += after - before - 1
    return EchoVerdict(outside=found[0] + len(heard) - 1 - found[-1], **counts)


def _places(stream: bytes, heard: list[tuple[int, bytes]]) -> list[int | None]:
    """Where in `stream` each packet lies; None: nowhere near where it should."""
    places: list[int | None] = []
    offset: int | None = None  # place minus timestamp, as last seen
    for timestamp, payload in heard:
        if offset is None:
            place = stream.find(payload)
        else:
            expected = max(0, timestamp + offset)
            if stream[expected : expected + len(payload)] == payload:
                place = expected
            else:
                low = max(0, expected - SEARCH_BYTES)
                place = stream.find(payload, low, expected + SEARCH_BYTES)
        if place < 0:
            places.append(None)
        else:
            offset = place - timestamp
            places.append(place)
    return places


def _place(places: list[int | None], index: int) -> int:
    place = places[index]
    return 0 if place is None else place

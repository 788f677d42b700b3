"""Packet indexes: sequence numbers that do not go round, and which of them have come."""

from __future__ import annotations

__all__ = ["INDEX_LIMIT", "RTCP_INDEX_LIMIT", "WINDOW", "ReplayWindow", "estimate"]

INDEX_LIMIT = 1 << 48
"""Packets that one master key is good for (RFC 3711 section 9.2)."""
RTCP_INDEX_LIMIT = 1 << 31
"""The same for RTCP."""
WINDOW = 128
"""How far behind the latest a packet may be: 2.5 s of packets of 20 ms."""
_ALL = (1 << WINDOW) - 1


def estimate(highest: int | None, sequence: int) -> int:
    """Return the 48-bit index that `sequence` most likely stands for (RFC 3711, 3.3.1).

    highest: the highest index of the source so far; None: it is new.
    """
    if highest is None:
        return sequence
    index = highest + ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
    return index if index >= 0 else sequence


class ReplayWindow:
    """Which of the last indexes have come, of one source (RFC 3711, 3.3.2)."""

    __slots__ = ("highest", "seen")

    def __init__(self, highest: int | None = None) -> None:
        self.highest = highest
        """The highest index that has come; all before it count as come where it is given."""
        self.seen = 0 if highest is None else _ALL
        """Which of the last have: bit 0 for the highest, bit 1 for the one before."""

    def is_new(self, index: int) -> bool:
        """Whether a packet with that index is neither a copy nor too old to tell."""
        if self.highest is None or index > self.highest:
            return True
        behind = self.highest - index
        return behind < WINDOW and not self.seen >> behind & 1

    def note(self, index: int) -> None:
        """Note that it has come: after it was authenticated, and not before."""
        if self.highest is None:
            self.highest, self.seen = index, 1
        elif index > self.highest:
            ahead = index - self.highest
            self.seen = (self.seen << ahead | 1) & _ALL if ahead < WINDOW else 1
            self.highest = index
        else:
            self.seen |= 1 << self.highest - index

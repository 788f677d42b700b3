"""Our own SSRC coming from somebody else: a collision, or a loop (RFC 3550, section 8.2).

For one peer per stream: two sources that are not ours and collide are told apart by their address
before anybody looks at an SSRC (`source.py`).
"""

from __future__ import annotations

from voip.types import Address

__all__ = ["CONFLICT_S", "MAX_CONFLICTS", "Conflicts"]

CONFLICT_S = 50.0
"""How long an address is remembered after its last conflict: ten report intervals."""
MAX_CONFLICTS = 4
"""Addresses that are remembered; while they are, others do not make us change our SSRC.

So whoever knows our SSRC and forges addresses makes us change it so often, and no more.
"""


class Conflicts:
    """The conflicting addresses of one stream, and the SSRCs that were ours."""

    def __init__(self) -> None:
        self.count = 0
        """Packets that have come with an SSRC of ours."""
        self.former: list[int] = []
        """The last few SSRCs that we have given up."""
        self.loops = False
        """Whether our own packets come back: what we say as another source does, too."""
        self.goodbye = b""
        """What we said when we gave the last one up."""
        self._seen: dict[Address, float] = {}

    def is_new(self, address: Address, now: float) -> bool:
        """Take a packet with our SSRC; True: a collision, and we are to change the SSRC.

        False: its address has conflicted before. It is our own packets that come back, since
        another source would have changed its SSRC, too; or too many addresses have.
        """
        self.count += 1
        known = address in self._seen
        if not known:
            stale = [one for one, at in self._seen.items() if now - at > CONFLICT_S]
            for one in stale:
                del self._seen[one]
            if len(self._seen) >= MAX_CONFLICTS:
                return False
        self._seen[address] = now
        self.loops |= known
        return not known

    def came_back(self, packet: bytes) -> bool:
        """Whether a packet is our own goodbye: a loop, as nobody else would say it."""
        self.loops |= bool(packet) and packet == self.goodbye
        return self.loops

    def were_ours(self, theirs: int) -> set[int]:
        """Return the former SSRCs that are not the peer's now, as far as is known."""
        return {ssrc for ssrc in self.former if self.loops or ssrc != theirs}

    def give_up(self, ssrc: int, goodbye: bytes) -> None:
        """Note that `ssrc` was ours, and what we said to that."""
        self.goodbye = goodbye
        self.former = [*self.former[1 - MAX_CONFLICTS :], ssrc]

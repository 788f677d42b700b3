"""Whom to believe: learning that a peer sends from another address than it said.

Symmetric RTP (RFC 4961) behind a NAT, without handing the call to whoever sends fastest. The
negotiated address is always believed. Another one is learned only while nothing valid comes from
the negotiated one, after a probation: `PROBATION` packets in sequence, of one SSRC and a negotiated
payload type (RFC 3550, A.1, asks for two), and never within `GRACE_S` of a session description, so
that a stranger who sends faster than the peer does not win the first packets.
"""

from __future__ import annotations

from voip.types import Address

__all__ = ["GRACE_S", "MAX_STRANGERS", "PROBATION", "SILENCE_S", "SourceLearner"]

PROBATION = 4
"""Packets in sequence that make a stranger the peer."""
GRACE_S = 0.25
"""How long the negotiated address has the first word after a session description."""
SILENCE_S = 2.0
"""How long a locked source must be silent before another may take its place."""
MAX_STRANGERS = 8
"""Sources that are counted by name; more are counted together."""


class SourceLearner:
    """The strangers of one stream. Made when the first stranger's packet arrives."""

    def __init__(self) -> None:
        self.counts: dict[Address, int] = {}
        self.uncounted = 0
        self._probation: dict[Address, tuple[int, int, int]] = {}  # ssrc, next sequence, run

    @property
    def total(self) -> int:
        """Packets from strangers so far."""
        return sum(self.counts.values()) + self.uncounted

    def restart(self) -> None:
        """Forget any probation under way: a new session description was agreed."""
        self._probation.clear()

    def packet(self, address: Address, ssrc: int, sequence: int, *, may_learn: bool) -> bool:
        """Take one RTP packet of a negotiated payload type; True when `address` is now believed.

        `may_learn` says whether the rule allows learning at this time at all; the packet is
        counted in any case.
        """
        self.count(address)
        if not may_learn:
            self._probation.clear()
            return False
        if address not in self._probation and len(self._probation) >= MAX_STRANGERS:
            # whoever got least far, the earliest of these, makes room: none is kept out for ever
            del self._probation[min(self._probation, key=lambda one: self._probation[one][2])]
        expected_ssrc, expected, run = self._probation.get(address, (ssrc, sequence, 0))
        run = run + 1 if (ssrc, sequence) == (expected_ssrc, expected) else 1
        if run >= PROBATION:
            self._probation.clear()
            return True
        self._probation[address] = (ssrc, (sequence + 1) & 0xFFFF, run)
        return False

    def count(self, address: Address) -> None:
        """Count a packet of `address`, by name while there is room."""
        if address in self.counts or len(self.counts) < MAX_STRANGERS:
            self.counts[address] = self.counts.get(address, 0) + 1
        else:
            self.uncounted += 1

"""Which of our payload type numbers means what, for the life of a session."""

from __future__ import annotations

from voip.sdp.capability import AudioCapability
from voip.sdp.format import Encoding
from voip.sdp.telephone_event import TELEPHONE_EVENT

__all__ = ["PayloadTypes"]

_EVENTS_FIRST = 101
_DYNAMIC: tuple[int, ...] = (*range(96, 101), *range(102, 128), *range(35, 64), _EVENTS_FIRST)
"""96-127 (RFC 3551, section 3), then the unassigned ones; 101 is kept for telephone-event,
which many telephones look for there."""


class PayloadTypes:
    """Gives numbers to encodings, and never another meaning to a number (RFC 3264, 8.3.2)."""

    def __init__(self) -> None:
        self._meaning: dict[int, Encoding] = {}
        self._latest: dict[Encoding, int] = {}

    def copy(self) -> PayloadTypes:
        """Return numbers that may be tried out without consequence."""
        other = PayloadTypes()
        other._meaning = self._meaning.copy()
        other._latest = self._latest.copy()
        return other

    def number(self, capability: AudioCapability, wish: int | None = None) -> int | None:
        """Return the number of an encoding, None where all are taken.

        `wish` (the peer's number, RFC 3264, 6.1) is granted unless it already means another
        encoding; else the number stays, or is the capability's own wish, the static one of RFC
        3551, or the next free one.
        """
        return self._give(
            capability.encoding,
            wish,
            capability.payload_type,
            capability.static_payload_type,
            _EVENTS_FIRST if capability.name == TELEPHONE_EVENT else None,
        )

    def redundant(self, repeated: Encoding, wish: int | None = None) -> int | None:
        """Return the number of what repeats an encoding (RFC 2198), by the same rules."""
        name, clock_rate, channels = repeated
        return self._give((f"red of {name}", clock_rate, channels), wish)

    def _give(self, encoding: Encoding, wish: int | None, *wishes: int | None) -> int | None:
        for number in (wish, self._latest.get(encoding), *wishes, *_DYNAMIC):
            if number is not None and self._meaning.get(number, encoding) == encoding:
                self._meaning[number] = encoding
                self._latest[encoding] = number
                return number
        return None

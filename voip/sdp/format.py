"""An RTP encoding as a session description names it, and the numbers RFC 3551 gave away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "MAX_NAME_LENGTH",
    "MAX_PAYLOAD_TYPE",
    "STATIC_FORMATS",
    "Encoding",
    "RtpFormat",
    "spelled",
    "static_payload_type",
]

MAX_PAYLOAD_TYPE = 127
MAX_NAME_LENGTH = 64
"""Characters of an encoding name."""

Encoding = tuple[str, int, int]
"""What an encoding is, whatever its number: (lower-case name, clock rate in Hz, channels)."""


@dataclass(frozen=True, slots=True)
class RtpFormat:
    """A payload type of one direction and what it means (a=rtpmap and a=fmtp together).

    `name` is lower case ("pcmu", "telephone-event"); `clock_rate` in Hz; `fmtp` is the text
    behind the payload type, "" where there was none.
    """

    payload_type: int
    name: str
    clock_rate: int = 8000
    channels: int = 1
    fmtp: str = ""

    @property
    def encoding(self) -> Encoding:
        """The format without its number and parameters."""
        return self.name, self.clock_rate, self.channels


STATIC_FORMATS: Mapping[int, Encoding] = MappingProxyType(
    {
        0: ("pcmu", 8000, 1),
        3: ("gsm", 8000, 1),
        4: ("g723", 8000, 1),
        5: ("dvi4", 8000, 1),
        6: ("dvi4", 16000, 1),
        7: ("lpc", 8000, 1),
        8: ("pcma", 8000, 1),
        9: ("g722", 8000, 1),
        10: ("l16", 44100, 2),
        11: ("l16", 44100, 1),
        12: ("qcelp", 8000, 1),
        13: ("cn", 8000, 1),
        14: ("mpa", 90000, 1),
        15: ("g728", 8000, 1),
        16: ("dvi4", 11025, 1),
        17: ("dvi4", 22050, 1),
        18: ("g729", 8000, 1),
    }
)
"""Payload types of audio that mean something without a=rtpmap (RFC 3551, table 4)."""

_NUMBERS: Mapping[Encoding, int] = MappingProxyType(
    {encoding: number for number, encoding in STATIC_FORMATS.items()}
)

_SPELLING: Mapping[str, str] = MappingProxyType(
    {name: name.upper() for name, _, _ in STATIC_FORMATS.values()}
    | {"ilbc": "iLBC", "amr": "AMR", "amr-wb": "AMR-WB"}
    | {f"g726-{rate}": f"G726-{rate}" for rate in (16, 24, 32, 40)}
)


def static_payload_type(encoding: Encoding) -> int | None:
    """Return the number RFC 3551 gave to an encoding, None where it is dynamic."""
    return _NUMBERS.get(encoding)


def spelled(name: str) -> str:
    """Return an encoding name as its registration spells it.

    Names are compared without case (RFC 4855, section 3); not every telephone knows.
    """
    return _SPELLING.get(name, name)

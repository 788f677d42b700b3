"""What an Opus packet says of itself, before anything of it is decoded (RFC 6716, section 3).

Packets that break a rule of section 3.4 never reach the library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from voip.errors import CodecError

__all__ = [
    "FRAME_UNITS",
    "MAX_FRAME",
    "MAX_PACKET_UNITS",
    "MAX_PAYLOAD",
    "PACKET_UNITS",
    "UNITS_PER_SECOND",
    "Bandwidth",
    "Mode",
    "Packet",
    "read_packet",
]

UNITS_PER_SECOND: Final = 400
"""Durations are counted in units of 2.5 ms, the shortest frame."""
MAX_PACKET_UNITS: Final = 48
"""120 ms, the longest packet [R5]."""
PACKET_UNITS: Final = (1, 2, 4, 8, 16, 24, 32, 40, 48)
"""How long a packet that libopus encodes may be: 2.5, 5, 10, 20, 40, 60, 80, 100 or 120 ms."""
MAX_FRAME: Final = 1275
"""Octets of the largest frame [R2]."""
MAX_PAYLOAD: Final = 65_535
"""Octets; Opus itself bounds no padding, a UDP datagram does."""


class Mode(Enum):
    """By which of its layers a packet is coded: speech, speech and music, music."""

    SILK = "silk"
    HYBRID = "hybrid"
    CELT = "celt"


class Bandwidth(IntEnum):
    """Audio bandwidths; the value is the sample rate in Hz that has all of it (table 1)."""

    NARROW = 8000
    MEDIUM = 12000
    WIDE = 16000
    SUPER_WIDE = 24000
    FULL = 48000


# Table 2: mode, bandwidth and frame durations in units, by ascending configuration number.
_CONFIGURATIONS: Final = tuple(
    (mode, bandwidth, units)
    for mode, bandwidths, durations in (
        (Mode.SILK, (Bandwidth.NARROW, Bandwidth.MEDIUM, Bandwidth.WIDE), (4, 8, 16, 24)),
        (Mode.HYBRID, (Bandwidth.SUPER_WIDE, Bandwidth.FULL), (4, 8)),
        (
            Mode.CELT,
            (Bandwidth.NARROW, Bandwidth.WIDE, Bandwidth.SUPER_WIDE, Bandwidth.FULL),
            (1, 2, 4, 8),
        ),
    )
    for bandwidth in bandwidths
    for units in durations
)
FRAME_UNITS: Final = tuple(units for _, _, units in _CONFIGURATIONS)
"""Duration of a frame in units of 2.5 ms, by configuration number."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A well-formed packet. `config`: 0 to 31 (table 2); `frames`: octets of each, 0 for none.

    `first`: where in the payload the first frame begins.
    """

    config: int
    stereo: bool
    frames: tuple[int, ...]
    first: int

    @property
    def mode(self) -> Mode:
        """Which layers code it."""
        return _CONFIGURATIONS[self.config][0]

    @property
    def bandwidth(self) -> Bandwidth:
        """What of the sound it carries."""
        return _CONFIGURATIONS[self.config][1]

    @property
    def frame_ms(self) -> float:
        """How long each of its frames lasts, in ms."""
        return FRAME_UNITS[self.config] * 2.5

    @property
    def units(self) -> int:
        """How long it lasts, in units of 2.5 ms."""
        return FRAME_UNITS[self.config] * len(self.frames)

    @property
    def duration_ms(self) -> float:
        """How long it lasts, in ms."""
        return self.units * 2.5

    def has_fec(self, payload: Sequence[int]) -> bool:
        """Whether its first frame repeats what the packet before it had (sections 4.2.2, 4.2.3).

        `payload` is what it was read from.
        """
        if self.mode is Mode.CELT or not self.frames[0]:
            return False
        voices = max(1, FRAME_UNITS[self.config] // 8)  # SILK frames of 20 ms, or one of 10
        flags = payload[self.first] >> 7 - voices & 1
        if self.stereo:  # the side channel's own flags follow
            flags |= payload[self.first] >> 6 - 2 * voices & 1
        return bool(flags)


def read_packet(payload: Sequence[int]) -> Packet:
    """Read what a payload says of itself. Its octets are taken one by one: bytes, or a memoryview.

    Raises CodecError, naming the rule of RFC 6716 section 3.4 that is broken.
    """
    size = len(payload)
    if size == 0:
        raise _malformed("R1", "it is empty")
    if size > MAX_PAYLOAD:
        raise CodecError(f"an Opus packet of {size} octets is longer than {MAX_PAYLOAD}")
    toc = payload[0]
    frames: tuple[int, ...]
    match toc & 3:
        case 0:
            frames, first = (size - 1,), 1
        case 1:
            if size % 2 == 0:
                raise _malformed("R3", f"two equal frames cannot take {size - 1} octets")
            frames, first = ((size - 1) // 2,) * 2, 1
        case 2:
            length, first = _length(payload, 1, size, "R4")
            if length > size - first:
                raise _malformed("R4", f"{size - first} octets are left for a frame of {length}")
            frames = (length, size - first - length)
        case _:
            frames, first = _many(payload, toc >> 3)
    if max(frames) > MAX_FRAME:
        raise _malformed("R2", f"a frame of {max(frames)} octets is too long")
    return Packet(toc >> 3, bool(toc & 4), frames, first)


def _many(payload: Sequence[int], config: int) -> tuple[tuple[int, ...], int]:
    """Read a code 3 packet (section 3.2.5): the sizes of its frames, and where they begin."""
    size = len(payload)
    if size < 2:
        raise _malformed("R6", "it has no count of frames")
    count = payload[1] & 0x3F
    if not 0 < count * FRAME_UNITS[config] <= MAX_PACKET_UNITS:
        raise _malformed("R5", f"it has {count} frames of {FRAME_UNITS[config] * 2.5:g} ms")
    first, end = 2, size
    if payload[1] & 0x40:
        more = True
        while more:
            if first == size:
                raise _malformed("R6", "its padding has no length")
            more = payload[first] == 255
            end -= 254 if more else payload[first]
            first += 1
    if not payload[1] & 0x80:
        if end < first or (end - first) % count:
            raise _malformed("R6", f"{count} equal frames cannot take {end - first} octets")
        return ((end - first) // count,) * count, first
    lengths = []
    for _ in range(count - 1):
        length, first = _length(payload, first, end, "R7")
        lengths.append(length)
    last = end - first - sum(lengths)
    if last < 0:
        raise _malformed("R7", f"its frames are {-last} octets longer than it is")
    return (*lengths, last), first


def _length(payload: Sequence[int], position: int, end: int, rule: str) -> tuple[int, int]:
    """Read the length of a frame (section 3.2.1); return it and where it ended."""
    if position < end and payload[position] < 252:
        return payload[position], position + 1
    if position + 1 < end:
        return payload[position] + 4 * payload[position + 1], position + 2
    raise _malformed(rule, "it ends within the length of a frame")


def _malformed(rule: str, why: str) -> CodecError:
    return CodecError(f"malformed Opus packet: {why}", hint=f"RFC 6716 section 3.4 [{rule}]")

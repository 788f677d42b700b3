"""AMR and AMR-WB payloads (RFC 4867): a mode request, a table of contents, frames of bits.

Bandwidth-efficient and octet-aligned; one channel, without interleaving, checksums or sorting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from voip.errors import CodecError

__all__ = ["MAX_FRAMES", "NO_DATA", "NO_REQUEST", "AmrFrame", "AmrKind", "pack", "unpack"]

NO_REQUEST: Final = 15
"""The mode request of who asks for none."""
NO_DATA: Final = 15
"""The type of a frame that was not sent."""
MAX_FRAMES: Final = 12
"""Of one payload, read or made: 240 ms."""


@dataclass(frozen=True, slots=True)
class AmrKind:
    """AMR or AMR-WB: bits of a frame by its type (3GPP TS 26.101 and 26.201, RFC 4867 table 1)."""

    name: str
    bits: tuple[int, ...]
    bit_rates: tuple[int, ...]
    """By mode, which is the type of a frame of speech; the type after them is a silence's."""
    lost: int | None
    """The type of a frame that was lost on its way, where there is one."""

    def bits_of(self, type_: int) -> int:
        """Return how many bits a frame of a type has. Raises CodecError where there is no such."""
        if type_ < len(self.bits):
            return self.bits[type_]
        if type_ in (NO_DATA, self.lost):
            return 0
        raise CodecError(f"{self.name} has no frame type {type_}")


@dataclass(frozen=True, slots=True)
class AmrFrame:
    """20 ms. `data`: its bits, the first one the highest of the first octet. `good`: Q."""

    type: int
    data: bytes = b""
    good: bool = True


def pack(
    frames: Sequence[AmrFrame], kind: AmrKind, *, aligned: bool, request: int = NO_REQUEST
) -> bytes:
    """Make a payload of 1 to 12 frames; `request`: the mode we would like to receive."""
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise CodecError(f"{kind.name} has 1 to {MAX_FRAMES} frames in a payload")
    bits = _Writer()
    bits.put(request, 4)
    bits.fill(aligned)
    for number, frame in enumerate(frames):
        bits.put((number < len(frames) - 1) << 5 | frame.type << 1 | frame.good, 6)
        bits.fill(aligned)
    for frame in frames:
        size = kind.bits_of(frame.type)
        bits.put(int.from_bytes(frame.data, "big") >> -size % 8, size)
        bits.fill(aligned)
    bits.fill(True)
    return bits.value.to_bytes(bits.size // 8, "big")


def unpack(payload: bytes, kind: AmrKind, *, aligned: bool) -> tuple[int, tuple[AmrFrame, ...]]:
    """Read a payload: the mode that its sender would like to receive, and its frames.

    Raises CodecError where it is cut off, or has a type there is not. What follows the last frame
    is passed over, as section 4.3.2 has it for padding.
    """
    if len(payload) > 2 + MAX_FRAMES * 61:
        raise CodecError(f"{len(payload)} octets are no payload of {kind.name}")
    bits = _Reader(payload)
    request = bits.take(4)
    bits.skip(aligned)
    entries: list[int] = []
    more = True
    while more:
        if len(entries) == MAX_FRAMES:
            raise CodecError(f"{kind.name} has 1 to {MAX_FRAMES} frames in a payload")
        entry = bits.take(6)
        bits.skip(aligned)
        more = bool(entry & 0x20)
        entries.append(entry)
    frames = []
    for entry in entries:
        type_ = entry >> 1 & 0xF
        size = kind.bits_of(type_)
        data = (bits.take(size) << -size % 8).to_bytes(-(-size // 8), "big")
        bits.skip(aligned)
        frames.append(AmrFrame(type_, data, bool(entry & 1)))
    return request, tuple(frames)


class _Writer:
    def __init__(self) -> None:
        self.value = self.size = 0

    def put(self, value: int, bits: int) -> None:
        self.value, self.size = self.value << bits | value, self.size + bits

    def fill(self, aligned: bool) -> None:
        if aligned:
            self.put(0, -self.size % 8)


class _Reader:
    def __init__(self, payload: bytes) -> None:
        self._value, self._size = int.from_bytes(payload, "big"), 8 * len(payload)
        self._at = 0

    def take(self, bits: int) -> int:
        self._at += bits
        if self._at > self._size:
            raise CodecError("an AMR payload ends within its frames", hint="RFC 4867, section 4")
        return self._value >> self._size - self._at & (1 << bits) - 1

    def skip(self, aligned: bool) -> None:
        if aligned:
            self._at += -self._at % 8

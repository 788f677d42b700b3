"""RTP header extensions (RFC 8285): elements with one- and two-byte headers, read and built.

Which identifier stands for what is agreed on by a=extmap; some of what they carry is read here:
audio levels (RFC 6464), texts such as MID and stream names (RFC 9143, 8852), send times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from voip.errors import RtpError

__all__ = [
    "ABS_SEND_TIME",
    "AUDIO_LEVEL",
    "MAX_ELEMENTS",
    "MID",
    "ONE_BYTE",
    "TWO_BYTE",
    "AudioLevel",
    "build_extension",
    "parse_extension",
    "read_extension",
    "read_send_time",
    "write_send_time",
]

ONE_BYTE = 0xBEDE
"""The profile of elements with one-byte headers (section 4.2)."""
TWO_BYTE = 0x1000
"""That of two-byte headers (4.3), its last four bits being the application's."""
MAX_ELEMENTS = 64
"""What is read of one packet; more would be nobody's."""
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

_HEADER_BYTES = 12
_STOP = 15  # an identifier that ends reading, with one-byte headers


@dataclass(frozen=True, slots=True)
class AudioLevel:
    """How loud a packet is (RFC 6464, 3): -dBov, 0 to 127 (silence); voice: somebody speaks."""

    level: int
    voice: bool = False

    @classmethod
    def read(cls, data: bytes) -> AudioLevel:
        """Read an element; raises RtpError for an empty one."""
        if not data:
            raise RtpError("an audio level without an octet")
        return cls(data[0] & 0x7F, bool(data[0] >> 7))

    def to_bytes(self) -> bytes:
        """Return what the element holds; raises RtpError for a level out of range."""
        if not 0 <= self.level <= 127:
            raise RtpError(f"an audio level of -{self.level} dBov", hint="0 to 127")
        return bytes([self.voice << 7 | self.level])


def read_send_time(data: bytes) -> float:
    """Return seconds, modulo 64, of an abs-send-time: 24 bits, 18 of them behind the point."""
    if len(data) != 3:
        raise RtpError(f"a send time of {len(data)} octets", hint="3")
    return int.from_bytes(data, "big") / (1 << 18)


def write_send_time(seconds: float) -> bytes:
    """Return the abs-send-time of an instant in seconds, of whatever clock."""
    return (round(seconds * (1 << 18)) % (1 << 24)).to_bytes(3, "big")


def read_extension(packet: bytes) -> dict[int, bytes]:
    """Return the elements of an RTP packet by identifier; none where it has no extension.

    Raises RtpError for an extension that is longer than its packet, or contradicts itself.
    """
    if len(packet) < _HEADER_BYTES or not packet[0] & 0x10:
        return {}
    at = _HEADER_BYTES + 4 * (packet[0] & 0x0F)
    if at + 4 > len(packet):
        raise RtpError("RTP extension behind the end of its packet")
    profile = int.from_bytes(packet[at : at + 2], "big")
    end = at + 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
    if end > len(packet):
        raise RtpError("RTP extension is longer than its packet")
    return parse_extension(profile, packet[at + 4 : end])


def parse_extension(profile: int, body: bytes) -> dict[int, bytes]:
    """Return the elements of an extension's `body`: data by identifier, the last one of each.

    Of another profile than RFC 8285's there are none. Raises RtpError for an element that is
    longer than the extension, and for more than `MAX_ELEMENTS`.
    """
    short = profile == ONE_BYTE
    if not short and profile & 0xFFF0 != TWO_BYTE:
        return {}
    found: dict[int, bytes] = {}
    at = count = 0
    while at < len(body):
        if body[at] == 0:  # padding
            at += 1
            continue
        if short:
            number, size = body[at] >> 4, (body[at] & 0x0F) + 1
            if number == _STOP:
                break
            at += 1
            if number == 0:  # padding with a length: to be passed over
                at += size
                continue
        else:
            if at + 2 > len(body):
                raise RtpError("RTP extension element without its length")
            number, size = body[at], body[at + 1]
            at += 2
        if at + size > len(body):
            raise RtpError("RTP extension element is longer than the extension")
        count += 1
        if count > MAX_ELEMENTS:
            raise RtpError(f"more than {MAX_ELEMENTS} RTP extension elements in one packet")
        found[number] = body[at : at + size]
        at += size
    return found


def build_extension(elements: Mapping[int, bytes], *, two_byte: bool = False) -> bytes:
    """Return an extension with its head, a whole number of words; b"" for no elements.

    One-byte headers where all fit: identifiers 1 to 14, data of 1 to 16 octets; else, or with
    `two_byte`, two: 1 to 255, data up to 255. Raises RtpError for what fits neither.
    """
    if not elements:
        return b""
    for number, data in elements.items():
        if not 1 <= number <= 255 or len(data) > 255:
            raise RtpError(
                f"RTP extension {number} with {len(data)} octets",
                hint="identifiers from 1 to 255, at most 255 octets",
            )
    short = not two_byte and all(
        number < _STOP and 1 <= len(data) <= 16 for number, data in elements.items()
    )
    body = b"".join(
        (bytes([number << 4 | len(data) - 1]) if short else bytes([number, len(data)])) + data
        for number, data in elements.items()
    )
    body += bytes(-len(body) % 4)
    profile = ONE_BYTE if short else TWO_BYTE
    return profile.to_bytes(2, "big") + (len(body) // 4).to_bytes(2, "big") + body

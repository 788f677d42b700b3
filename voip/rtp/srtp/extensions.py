"""Which octets of a header extension are encrypted (RFC 6904), of those of RFC 8285."""

from __future__ import annotations

from collections.abc import Container

__all__ = ["encryption_mask", "payload_offset"]

_ONE_BYTE = 0xBEDE
_TWO_BYTES, _APP_BITS = 0x1000, 0xFFF0
_END = 15  # an element of this number ends those with headers of one octet


def payload_offset(packet: memoryview, length: int) -> int:
    """Return where the payload of an RTP packet begins; -1 where it has no whole header."""
    if length < 12 or packet[0] >> 6 != 2:
        return -1
    offset = 12 + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if offset + 4 > length:
            return -1
        offset += 4 + 4 * int.from_bytes(packet[offset + 2 : offset + 4], "big")
    return offset if offset <= length else -1


def encryption_mask(profile: int, body: bytes, encrypted: Container[int]) -> bytes:
    """Return 0xFF for each octet of `body` that is encrypted, and 0 for the others.

    profile: what the header extension is "defined by". Elements that go beyond the body end it.
    """
    mask = bytearray(len(body))
    if profile == _ONE_BYTE:
        width = 1
    elif profile & _APP_BITS == _TWO_BYTES:
        width = 2
    else:
        return bytes(mask)  # it has no elements
    at = 0
    while at + width <= len(body):
        number = body[at] >> 4 if width == 1 else body[at]
        if number == 0:  # padding, of one octet in both
            at += 1
            continue
        if width == 1 and number == _END:
            break
        length = (body[at] & 0x0F) + 1 if width == 1 else body[at + 1]
        at += width
        if at + length > len(body):
            break
        if number in encrypted:
            mask[at : at + length] = b"\xff" * length
        at += length
    return bytes(mask)

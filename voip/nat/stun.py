"""STUN messages (RFC 8489): read, written, and proven genuine. Without I/O.

A message is 20 bytes and attributes padded to four; MESSAGE-INTEGRITY (HMAC-SHA1) covers what is
before it, FINGERPRINT (CRC-32) everything before that. Both count the length field as if nothing
followed them.
"""

from __future__ import annotations

import hmac
import ipaddress
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from hashlib import md5
from typing import Final

from voip.types import Address

__all__ = [
    "BINDING",
    "Attribute",
    "Kind",
    "StunMessage",
    "has_fingerprint",
    "has_integrity",
    "long_term_key",
    "xor_address",
]

MAGIC_COOKIE: Final = 0x2112A442
BINDING: Final = 0x001
MAX_ATTRIBUTES: Final = 64
"""A message with more is none of ours."""

_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")
_FINGERPRINT_XOR: Final = 0x5354554E  # section 14.7
_HMAC_BYTES: Final = 20


class Kind(IntEnum):
    """The class of a message (section 5)."""

    REQUEST = 0b00
    INDICATION = 0b01
    SUCCESS = 0b10
    ERROR = 0b11


class Attribute(IntEnum):
    """Types of attributes we read or write (section 18.3)."""

    MAPPED_ADDRESS = 0x0001
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    REALM = 0x0014
    NONCE = 0x0015
    XOR_MAPPED_ADDRESS = 0x0020
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028


@dataclass(frozen=True, slots=True)
class StunMessage:
    """A STUN message. `transaction_id`: 12 bytes; `attributes`: (type, value) in order."""

    kind: Kind
    method: int
    transaction_id: bytes
    attributes: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> StunMessage | None:
        """Read a message; None when it is none, or is cut or padded wrongly.

        A FINGERPRINT that is there must be right. What follows MESSAGE-INTEGRITY is left out, but
        for the FINGERPRINT: nobody has vouched for it (section 14.5).
        """
        header = _header(data)
        if header is None:
            return None
        type_, transaction_id = header
        attributes: list[tuple[int, bytes]] = []
        vouched = True
        for kind, start, length in _walk(data):
            if length < 0 or len(attributes) >= MAX_ATTRIBUTES:
                return None
            if kind == Attribute.FINGERPRINT and not has_fingerprint(data):
                return None
            if vouched or kind == Attribute.FINGERPRINT:
                attributes.append((kind, data[start : start + length]))
            vouched = vouched and kind != Attribute.MESSAGE_INTEGRITY
        class_ = Kind((type_ >> 7 & 0b10) | (type_ >> 4 & 0b01))
        method = (type_ >> 2 & 0xF80) | (type_ >> 1 & 0x70) | (type_ & 0xF)
        return cls(class_, method, transaction_id, tuple(attributes))

    def to_bytes(self, *, key: bytes | None = None, fingerprint: bool = False) -> bytes:
        """Write it; `key` adds MESSAGE-INTEGRITY (section 9.1.1)."""
        method = self.method
        type_ = (method & 0xF80) << 2 | (method & 0x70) << 1 | method & 0xF
        type_ |= (self.kind & 0b10) << 7 | (self.kind & 0b01) << 4
        body = b"".join(_attribute(kind, value) for kind, value in self.attributes)
        if key is not None:
            covered = self._head(type_, len(body) + 4 + _HMAC_BYTES) + body
            digest = hmac.digest(key, covered, "sha1")
            body += _attribute(Attribute.MESSAGE_INTEGRITY, digest)
        if fingerprint:
            covered = self._head(type_, len(body) + 8) + body
            body += _attribute(Attribute.FINGERPRINT, _crc(covered))
        return self._head(type_, len(body)) + body

    def _head(self, type_: int, length: int) -> bytes:
        return _HEADER.pack(type_, length, MAGIC_COOKIE, self.transaction_id)

    def get(self, kind: int) -> bytes | None:
        """Return the first attribute of a type: the others do not count (section 14)."""
        return next((value for found, value in self.attributes if found == kind), None)

    @property
    def mapped_address(self) -> Address | None:
        """The address that XOR-MAPPED-ADDRESS tells, None where it is missing or no address."""
        value = self.get(Attribute.XOR_MAPPED_ADDRESS)
        return None if value is None else _read_address(value, self.transaction_id)

    @property
    def error(self) -> tuple[int, str] | None:
        """Code and reason of an ERROR-CODE (section 14.8)."""
        value = self.get(Attribute.ERROR_CODE)
        if value is None or len(value) < 4:
            return None
        return (value[2] & 7) * 100 + value[3] % 100, value[4:].decode("utf-8", "replace")


def has_integrity(data: bytes, key: bytes) -> bool:
    """Whether the message was made by somebody who knows `key` (a password, short-term)."""
    for kind, start, length in _walk(data):
        if kind == Attribute.MESSAGE_INTEGRITY:
            covered = _counted(data, start - 4, length)
            found = data[start : start + length]
            return hmac.compare_digest(hmac.digest(key, covered, "sha1"), found)
    return False


def has_fingerprint(data: bytes) -> bool:
    """Whether the message ends with the right FINGERPRINT (section 14.7)."""
    for kind, start, length in _walk(data):
        if kind == Attribute.FINGERPRINT:
            is_last = start + length == len(data)
            return is_last and _crc(_counted(data, start - 4, length)) == data[start:]
    return False


def long_term_key(username: str, realm: str, password: str) -> bytes:
    """Return the key of long-term credentials (section 9.2.2); all three are prepared text."""
    return md5(f"{username}:{realm}:{password}".encode(), usedforsecurity=False).digest()


def xor_address(address: Address, transaction_id: bytes) -> bytes:
    """Return the value of XOR-MAPPED-ADDRESS (section 14.2)."""
    packed = ipaddress.ip_address(address.host.partition("%")[0]).packed
    mask = struct.pack("!I", MAGIC_COOKIE) + transaction_id
    mixed = bytes(a ^ b for a, b in zip(packed, mask, strict=False))
    family = 1 if len(packed) == 4 else 2
    return struct.pack("!xBH", family, address.port ^ (MAGIC_COOKIE >> 16)) + mixed


def _read_address(value: bytes, transaction_id: bytes) -> Address | None:
    if len(value) not in (8, 20) or value[1] != (1 if len(value) == 8 else 2):
        return None
    mask = struct.pack("!I", MAGIC_COOKIE) + transaction_id
    packed = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
    port = int.from_bytes(value[2:4]) ^ (MAGIC_COOKIE >> 16)
    return Address(str(ipaddress.ip_address(packed)), port)


def _header(data: bytes) -> tuple[int, bytes] | None:
    """Return type and transaction ID of what is a STUN message by its first 20 bytes."""
    if len(data) < _HEADER.size or len(data) % 4:
        return None
    type_, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if type_ >> 14 or cookie != MAGIC_COOKIE or length != len(data) - _HEADER.size:
        return None
    return type_, transaction_id


def _walk(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (type, where the value begins, its length); a length of -1: it is cut, and the end."""
    at = _HEADER.size
    while at + _ATTRIBUTE.size <= len(data):
        kind, length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if at + length > len(data):
            yield kind, at, -1
            return
        yield kind, at, length
        at += length + -length % 4


def _counted(data: bytes, end: int, length: int) -> bytes:
    """Return `data` up to an attribute, its length field as if that attribute were the last."""
    counted = end + 4 + length - _HEADER.size
    return data[:2] + counted.to_bytes(2) + data[4:end]


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)


def _crc(covered: bytes) -> bytes:
    return (zlib.crc32(covered) ^ _FINGERPRINT_XOR).to_bytes(4)

"""What is done to the octets of a packet, given session keys and an index, by `cryptography`.

Packets lie in memory that is written in place; a transform says how long they are afterwards. The
ciphers and hashes of a key are made once, and set to each packet.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC

from voip.rtp.srtp.context import FORGED
from voip.rtp.srtp.derivation import SessionKeys

__all__ = ["Aead", "CounterMode", "Keystream", "Transform"]

_INDEX_BYTES = 4
_TAG_BYTES = 16
_ENCRYPTED = 1 << 31


class Transform(Protocol):
    """Seals and opens packets with one set of session keys.

    RTP: `start` is where its payload begins. RTCP has its index beside it, and whether it is
    encrypted at all. What cannot be opened is left as it was, and `FORGED`.
    """

    def seal(self, packet: memoryview, start: int, length: int, ssrc: int, index: int) -> int:
        """Encrypt and authenticate an RTP packet; return its length now."""
        ...

    def open(self, packet: memoryview, start: int, length: int, ssrc: int, index: int) -> int:
        """Take that back."""
        ...

    def seal_rtcp(
        self, packet: memoryview, length: int, ssrc: int, index: int, *, encrypted: bool = True
    ) -> int:
        """Protect an RTCP packet; return its length now."""
        ...

    def open_rtcp(self, packet: memoryview, length: int, ssrc: int, word: int) -> int:
        """Take that back; `word`: the index, with the bit that says whether it is encrypted."""
        ...


class Keystream:
    """AES in counter mode (RFC 3711 section 4.1.1; RFC 6188): exclusive or, there and back."""

    __slots__ = ("_cipher", "_salt")

    def __init__(self, keys: SessionKeys) -> None:
        self._salt = int.from_bytes(keys.salt, "big") << 16
        self._cipher = Cipher(algorithms.AES(keys.cipher), modes.CTR(bytes(16))).encryptor()

    def apply(self, octets: memoryview, ssrc: int, index: int) -> None:
        """Encrypt or decrypt in place."""
        cipher = self._cipher
        cipher.reset_nonce((self._salt ^ ssrc << 64 ^ index << 16).to_bytes(16, "big"))
        cipher.update_into(octets, octets)


class CounterMode:
    """AES-CM and HMAC-SHA1 (RFC 3711 section 4)."""

    def __init__(self, keys: SessionKeys, tag_bytes: int) -> None:
        self._apply = Keystream(keys).apply
        self._hash = HMAC(keys.authentication, hashes.SHA1())
        self._tag_bytes = tag_bytes

    def seal(self, packet: memoryview, start: int, length: int, ssrc: int, index: int) -> int:
        """Encrypt and authenticate an RTP packet; return its length now."""
        self._apply(packet[start:length], ssrc, index)
        packet[length : length + 4] = (index >> 16).to_bytes(4, "big")  # hashed, and not sent
        one = self._hash.copy()
        one.update(packet[: length + 4])
        end = length + self._tag_bytes
        packet[length:end] = one.finalize()[: self._tag_bytes]
        return end

    def open(self, packet: memoryview, start: int, length: int, ssrc: int, index: int) -> int:
        """Authenticate and decrypt one."""
        end = length - self._tag_bytes
        if end < start:
            return FORGED
        tag = packet[end:length].tobytes()
        packet[end : end + 4] = (index >> 16).to_bytes(4, "big")
        one = self._hash.copy()
        one.update(packet[: end + 4])
        if not compare_digest(one.finalize()[: self._tag_bytes], tag):
            packet[end:length] = tag
            return FORGED
        self._apply(packet[start:end], ssrc, index)
        return end

    def seal_rtcp(
        self, packet: memoryview, length: int, ssrc: int, index: int, *, encrypted: bool = True
    ) -> int:
        """Protect an RTCP packet (section 3.4); return its length now."""
        if encrypted:
            self._apply(packet[8:length], ssrc, index)
        word = index | (_ENCRYPTED if encrypted else 0)
        end = length + _INDEX_BYTES
        packet[length:end] = word.to_bytes(_INDEX_BYTES, "big")
        packet[end : end + self._tag_bytes] = self._tag(packet[:end])
        return end + self._tag_bytes

    def open_rtcp(self, packet: memoryview, length: int, ssrc: int, word: int) -> int:
        """Take that back."""
        end = length - self._tag_bytes
        tag = bytes(packet[end:length])
        if not compare_digest(self._tag(packet[:end]), tag):
            return FORGED
        end -= _INDEX_BYTES
        if word & _ENCRYPTED:
            self._apply(packet[8:end], ssrc, word & ~_ENCRYPTED)
        return end

    def _tag(self, octets: memoryview) -> bytes:
        one = self._hash.copy()
        one.update(octets)
        return one.finalize()[: self._tag_bytes]


class Aead:
    """AES-GCM (RFC 7714), whose tag belongs to the ciphertext."""

    def __init__(self, keys: SessionKeys) -> None:
        self._salt = int.from_bytes(keys.salt, "big")
        self._cipher = AESGCM(keys.cipher)

    def seal(self, packet: memoryview, start: int, length: int, ssrc: int, index: int) -> int:
        """Encrypt and authenticate an RTP packet; return its length now (section 8)."""
        sealed = self._cipher.encrypt(
            self._nonce(ssrc, index), packet[start:length], packet[:start]
        )
        packet[start : start + len(sealed)] = sealed
        return start + len(sealed)

    def open(self, packet: memoryview, start: int, length: int, ssrc: int, index: int) -> int:
        """Authenticate and decrypt one."""
        opened = self._decrypt(ssrc, index, packet[start:length], packet[:start])
        if opened is None:
            return FORGED
        packet[start : start + len(opened)] = opened
        return start + len(opened)

    def seal_rtcp(
        self, packet: memoryview, length: int, ssrc: int, index: int, *, encrypted: bool = True
    ) -> int:
        """Protect an RTCP packet; return its length now (section 9)."""
        word = (index | (_ENCRYPTED if encrypted else 0)).to_bytes(_INDEX_BYTES, "big")
        clear = 8 if encrypted else length
        sealed = self._cipher.encrypt(
            self._nonce(ssrc, index), packet[clear:length], bytes(packet[:clear]) + word
        )
        end = clear + len(sealed)
        packet[clear:end] = sealed
        packet[end : end + _INDEX_BYTES] = word
        return end + _INDEX_BYTES

    def open_rtcp(self, packet: memoryview, length: int, ssrc: int, word: int) -> int:
        """Take that back."""
        end = length - _INDEX_BYTES
        clear = 8 if word & _ENCRYPTED else end - _TAG_BYTES
        opened = self._decrypt(
            ssrc,
            word & ~_ENCRYPTED,
            packet[clear:end],
            bytes(packet[:clear]) + bytes(packet[end:length]),
        )
        if opened is None:
            return FORGED
        packet[clear : clear + len(opened)] = opened
        return clear + len(opened)

    def _nonce(self, ssrc: int, index: int) -> bytes:
        return (self._salt ^ ssrc << 48 ^ index).to_bytes(12, "big")

    def _decrypt(
        self, ssrc: int, index: int, sealed: memoryview, clear: memoryview | bytes
    ) -> bytes | None:
        if len(sealed) < _TAG_BYTES:
            return None
        try:
            return self._cipher.decrypt(self._nonce(ssrc, index), sealed, clear)
        except InvalidTag:
            return None

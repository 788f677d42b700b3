"""Session keys from master keys (RFC 3711 section 4.3; RFC 6188; RFC 6904 for header extensions).

A key derivation rate is not used: session keys are derived once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from voip.rtp.srtp.keys import SrtpKeys

__all__ = ["SessionKeys", "derive", "session_keys"]

RTP, RTCP, EXTENSIONS = 0x00, 0x03, 0x06
"""The first label of each: of the cipher's key."""
_AUTHENTICATION, _SALT = 1, 2  # further on; extensions are not authenticated by themselves
_AUTHENTICATION_BYTES = 20
_CM_SALT_BYTES = 14


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What packets of one kind are protected by; `authentication` is b"" in AEAD."""

    cipher: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    authentication: bytes = field(repr=False, default=b"")


def derive(key: bytes, salt: bytes, label: int, length: int) -> bytes:
    """Return `length` octets of the pseudo-random function AES-CM (RFC 3711, 4.3.3).

    A salt shorter than 14 octets (RFC 7714: 12) is filled up with zeros at its end.
    """
    start = int.from_bytes(salt.ljust(_CM_SALT_BYTES, b"\0"), "big") ^ label << 48
    counter = (start << 16).to_bytes(16, "big")
    cipher = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    return cipher.update(bytes(length)) + cipher.finalize()


def session_keys(keys: SrtpKeys, label: int) -> SessionKeys:
    """Return the session keys for `RTP`, `RTCP` or header `EXTENSIONS`."""
    suite = keys.transform
    cipher = derive(keys.key, keys.salt, label, suite.key_bytes)
    if label == EXTENSIONS:
        # in counter mode by every suite (RFC 7714 section 8.3), with a salt as long as the
        # suite's (RFC 6904 section 3.1): AEAD's is filled up, as libsrtp does it, too
        salt = derive(keys.key, keys.salt, label + 1, suite.salt_bytes)
        return SessionKeys(cipher, salt.ljust(_CM_SALT_BYTES, b"\0"))
    salt = derive(keys.key, keys.salt, label + _SALT, suite.salt_bytes)
    if suite.aead:
        return SessionKeys(cipher, salt)
    authentication = derive(keys.key, keys.salt, label + _AUTHENTICATION, _AUTHENTICATION_BYTES)
    return SessionKeys(cipher, salt, authentication)

"""Master keys: what two parties must agree on before a packet can be protected (RFC 3711, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from voip.errors import ConfigError
from voip.rtp.srtp.suites import MAX_TAG_BYTES, Suite, suite_of
from voip.types import Random

__all__ = ["MAX_MKI_BYTES", "ROOM_BYTES", "SrtpKeys"]

MAX_MKI_BYTES = 128
"""RFC 4568 section 6.1."""
ROOM_BYTES = MAX_TAG_BYTES + 4 + MAX_MKI_BYTES
"""The most that protection adds to a packet: tag, index of RTCP, and MKI."""


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """The keys of one direction. What it is printed as, hides them.

    suite: a name of `SUITES`. key, salt: the master key and salt, as long as the suite has it. mki:
    names the key in each packet (b"": does not). encrypted_extensions: numbers of header extensions
    that are encrypted (RFC 6904). Raises `ConfigError` for what does not fit.
    """

    suite: str
    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    mki: bytes = b""
    encrypted_extensions: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "suite", (suite := suite_of(self.suite)).name)
        if (len(self.key), len(self.salt)) != (suite.key_bytes, suite.salt_bytes):
            raise ConfigError(
                f"a key of {len(self.key)} and a salt of {len(self.salt)} octets are not those of"
                f" {suite.name}",
                hint=f"{suite.key_bytes} and {suite.salt_bytes} octets",
            )
        if len(self.mki) > MAX_MKI_BYTES:
            raise ConfigError(
                f"an MKI of {len(self.mki)} octets is too long",
                hint=f"at most {MAX_MKI_BYTES} octets",
            )
        if not all(1 <= number <= 255 for number in self.encrypted_extensions):
            raise ConfigError("header extensions have numbers", hint="1 to 255")

    @property
    def transform(self) -> Suite:
        """The suite."""
        return suite_of(self.suite)

    @classmethod
    def generate(cls, suite: str, random: Random, mki: bytes = b"") -> SrtpKeys:
        """Return new keys, of randomness that must be fit for keys (`voip.types.SecureRandom`)."""
        wanted = suite_of(suite)
        key, salt = (
            random.below(1 << 8 * length).to_bytes(length, "big")
            for length in (wanted.key_bytes, wanted.salt_bytes)
        )
        return cls(wanted.name, key, salt, mki)

    @classmethod
    def joined(cls, suite: str, key_and_salt: bytes, mki: bytes = b"") -> SrtpKeys:
        """Return keys from one string of octets, the key first: as SDP has them (RFC 4568, 6.1)."""
        length = suite_of(suite).key_bytes
        return cls(suite, key_and_salt[:length], key_and_salt[length:], mki)

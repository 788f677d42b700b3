"""The crypto suites: lengths and transforms, by the names SDP gives them (RFC 4568, 6188, 7714)."""

from __future__ import annotations

from dataclasses import dataclass

from voip.errors import ConfigError

__all__ = [
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
    "AES_256_CM_HMAC_SHA1_32",
    "AES_256_CM_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AES_CM_128_HMAC_SHA1_80",
    "MAX_TAG_BYTES",
    "SUITES",
    "Suite",
    "suite_of",
]


@dataclass(frozen=True, slots=True)
class Suite:
    """A crypto suite; lengths in octets.

    key, salt: of the master key. tag, rtcp_tag: what authentication adds to a packet of RTP and of
    RTCP, beside the four octets of RTCP's index. aead: encryption authenticates, too (RFC 7714).
    """

    name: str
    key_bytes: int
    salt_bytes: int
    tag_bytes: int
    rtcp_tag_bytes: int
    aead: bool = False

    @property
    def tag_after_mki(self) -> int:
        """How many octets of an RTP packet follow the MKI: in AEAD it comes last."""
        return 0 if self.aead else self.tag_bytes

    @property
    def rtcp_tag_after_mki(self) -> int:
        """How many octets of an RTCP packet follow the MKI."""
        return 0 if self.aead else self.rtcp_tag_bytes


# RTCP is authenticated by 80 bits even where RTP has 32 (RFC 3711 section 5.2, RFC 4568 6.2.2)
AES_CM_128_HMAC_SHA1_80 = Suite("AES_CM_128_HMAC_SHA1_80", 16, 14, 10, 10)
AES_CM_128_HMAC_SHA1_32 = Suite("AES_CM_128_HMAC_SHA1_32", 16, 14, 4, 10)
AES_256_CM_HMAC_SHA1_80 = Suite("AES_256_CM_HMAC_SHA1_80", 32, 14, 10, 10)
AES_256_CM_HMAC_SHA1_32 = Suite("AES_256_CM_HMAC_SHA1_32", 32, 14, 4, 10)
AEAD_AES_128_GCM = Suite("AEAD_AES_128_GCM", 16, 12, 16, 16, aead=True)
AEAD_AES_256_GCM = Suite("AEAD_AES_256_GCM", 32, 12, 16, 16, aead=True)

SUITES = {
    suite.name: suite
    for suite in (
        AES_CM_128_HMAC_SHA1_80,
        AES_CM_128_HMAC_SHA1_32,
        AES_256_CM_HMAC_SHA1_80,
        AES_256_CM_HMAC_SHA1_32,
        AEAD_AES_128_GCM,
        AEAD_AES_256_GCM,
    )
}
"""All that can be used, by name."""

MAX_TAG_BYTES = max(suite.tag_bytes for suite in SUITES.values())


def suite_of(name: str) -> Suite:
    """Return the suite of a name, in any case; `ConfigError` for what is none of `SUITES`."""
    suite = SUITES.get(name.upper())
    if suite is None:
        raise ConfigError(f"no SRTP crypto suite is named {name!r}", hint=", ".join(SUITES))
    return suite

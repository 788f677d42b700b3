"""Who somebody says it is, and what of it is not to be told (RFC 3323, RFC 3325).

What a message says of its sender is a claim. Within a trust domain, where every hop has made sure
of the one before, P-Asserted-Identity is more than that; which hops those are, only the user knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voip.errors import SipError
from voip.sip.grammar import is_token
from voip.sip.headers import Headers, NameAddr
from voip.sip.message import Request, Response
from voip.sip.uri import uri_scheme

__all__ = ["ANONYMOUS", "NO_PRIVACY", "Identity", "Privacy", "asserted", "preferred"]

ANONYMOUS: Final = NameAddr("Anonymous", "sip:anonymous@anonymous.invalid")
"""From of those who are not to be known (RFC 3323 section 4.1.1.3)."""

_MAX_IDENTITIES: Final = 8
"""Values of one header that are looked at; two can count."""
_MAX_PRIVACY: Final = 16
"""Kinds of privacy that are looked at; there are seven."""


@dataclass(frozen=True, slots=True)
class Privacy:
    """What the sender wants kept from others: header, session, user, id, history, none, critical.

    Values are lower case; nothing asked for is an empty set. `none` asks that nobody hides
    anything, `critical` that the request fails rather than be told without privacy.
    """

    values: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Privacy:
        """Read `id;critical` (RFC 3323 section 4.2); SipError (400) when it cannot be read."""
        values = [value.strip(" \t").lower() for value in text.replace(",", ";").split(";")]
        if len(values) > _MAX_PRIVACY or not all(map(is_token, values)):
            raise SipError(f"not a Privacy: {text[:80]!r}", status=400)
        return cls(frozenset(values))

    @classmethod
    def of(cls, headers: Headers) -> Privacy:
        """Read a message's; what cannot be read counts as the most privacy there is."""
        values: frozenset[str] = frozenset()
        for line in headers.get_all("Privacy"):
            try:
                values |= cls.parse(line).values
            except SipError:
                values |= {"id", "header", "session", "user"}
        return cls(values)

    def __str__(self) -> str:
        return ";".join(sorted(self.values))

    def __contains__(self, value: str) -> bool:
        return value in self.values

    @property
    def hides_identity(self) -> bool:
        """Whether who the caller is stays within the trust domain (RFC 3325 section 9.3)."""
        return "none" not in self and bool({"id", "user", "header"} & self.values)


NO_PRIVACY: Final = Privacy()
"""Nothing is asked for."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the sender of a message is said to be.

    `claimed`: From, which anybody may write. `asserted`: P-Asserted-Identity, which a trusted hop
    vouches for, and `preferred`: P-Preferred-Identity, by which a user tells such a hop which of
    several names is meant. `trusted` says whether the message came from within the trust domain;
    unless it did, `asserted` is a claim like any other, and `best` passes over it.
    """

    claimed: NameAddr
    asserted: tuple[NameAddr, ...] = ()
    preferred: tuple[NameAddr, ...] = ()
    privacy: Privacy = NO_PRIVACY
    trusted: bool = False

    @classmethod
    def of(cls, message: Request | Response, *, trusted: bool) -> Identity:
        """Read a message; headers nobody can read are passed over.

        A response's sender claims to be who To names. SipError (400) where that cannot be read.
        """
        headers = message.headers
        return cls(
            message.from_ if isinstance(message, Request) else message.to,
            tuple(asserted(headers)),
            tuple(preferred(headers)),
            Privacy.of(headers),
            trusted,
        )

    @property
    def best(self) -> NameAddr:
        """Who it is as far as can be told: vouched for within the trust domain, else claimed."""
        return self.asserted[0] if self.trusted and self.asserted else self.claimed

    @property
    def proven(self) -> bool:
        """Whether somebody trusted vouches for `best`."""
        return self.trusted and bool(self.asserted)


def asserted(headers: Headers) -> list[NameAddr]:
    """Return the P-Asserted-Identity values: a SIP URI, a tel URI, or one of each."""
    return _identities(headers, "P-Asserted-Identity")


def preferred(headers: Headers) -> list[NameAddr]:
    """Return the P-Preferred-Identity values, likewise."""
    return _identities(headers, "P-Preferred-Identity")


def _identities(headers: Headers, name: str) -> list[NameAddr]:
    """Return the readable values, at most one of each kind (RFC 3325 section 9.1)."""
    found: dict[str, NameAddr] = {}
    for address in headers.readable(name, NameAddr.parse, _MAX_IDENTITIES):
        scheme = uri_scheme(address.uri)
        if scheme in ("sip", "sips", "tel"):
            found.setdefault("tel" if scheme == "tel" else "sip", address)
    return list(found.values())

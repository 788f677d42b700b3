"""Who a phone is: its address of record, its credentials and where it registers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from voip.config import TRANSPORTS
from voip.errors import ConfigError, SipError
from voip.sip.digest import Credentials, CredentialsLookup, CredentialSource
from voip.sip.headers import NameAddr
from voip.sip.limits import MAX_SECONDS
from voip.sip.locating import SECURED, Where
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri, for_people, format_host, uri_scheme

__all__ = ["Account"]

_HAS_SCHEME: Final = re.compile(
    r"(?:sips?|tel|im|pres|mailto|https?|urn):|[A-Z][A-Z0-9+.-]*:(?![0-9]{1,5}(?:[;?]|$))", re.I
)
"""What is before the colon is a scheme, and no host with a port behind it."""


@dataclass(frozen=True, slots=True)
class Account:
    """A SIP account.

    uri: address of record, `sip:alice@pbx.example`; auth_user: name for digest where it is not
    the user of `uri`; proxy: where every request goes first, or several, which are registered by
    at the same time; expires_s: asked for in REGISTER; transport: one of `voip.config.TRANSPORTS`,
    where neither the URI of a request nor `uri` says anything; None: as `NetworkConfig` has it,
    else what the DNS says. `sips:` is TLS. lookup: a function of (realm, server) that returns the
    `Credentials` for it or None, instead of `password`. register: False for one that only calls
    and is called.
    """

    uri: str
    password: str | None = field(default=None, repr=False)
    auth_user: str | None = None
    display_name: str = ""
    proxy: str | Sequence[str] | None = None
    expires_s: int = 300
    transport: str | None = None
    lookup: CredentialsLookup | None = field(default=None, repr=False)
    register: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.expires_s <= MAX_SECONDS:
            raise ConfigError(f"expires_s={self.expires_s} cannot be asked for", hint="0 or more")
        if self.lookup is not None and self.password is not None:
            raise ConfigError("a password and a look-up for it", hint="give one of them")
        for text in (self.auth_user or "", self.display_name, _parse(self.uri).user or ""):
            if not text.isprintable():
                raise ConfigError(f"{text!r} cannot stand in SIP", hint="printable characters")
        if not isinstance(self.proxy, str | None):  # a value, whatever becomes of the list
            object.__setattr__(self, "proxy", tuple(self.proxy))
        for proxy in self.proxies:
            _parse(proxy)

    @property
    def proxies(self) -> tuple[str, ...]:
        """Where every request goes first; the first of them while nobody is registered by one."""
        proxy = self.proxy or ()
        return (proxy,) if isinstance(proxy, str) else tuple(proxy)

    @property
    def aor(self) -> SipUri:
        """The address of record without parameters of transport."""
        return replace(_parse(self.uri), headers=()).without_params("transport")

    @property
    def user(self) -> str | None:
        """User part of the address of record."""
        return self.aor.user

    @property
    def registrar(self) -> SipUri:
        """Request-URI of REGISTER: the domain (RFC 3261 section 10.2)."""
        uri = _parse(self.uri)
        return SipUri(uri.scheme, None, None, uri.host, uri.port)

    def identity(self) -> NameAddr:
        """From and To of what this account sends."""
        return NameAddr(self.display_name, str(self.aor))

    def credentials(self) -> CredentialSource | None:
        """Digest credentials, or who is asked for them; None without a password."""
        if self.lookup is not None:
            return self.lookup
        name = self.auth_user or self.user
        if self.password is None or name is None:
            return None
        return Credentials(name, self.password)

    def dial_uri(self, number: str) -> SipUri:
        """Turn what a person dials into a URI: `600` means 600 at this account's domain.

        So does a tel: URI, said to be a telephone number by `user=phone`.
        """
        if uri_scheme(number) == "tel":
            try:
                return TelUri.parse(number).to_sip(self.registrar)
            except SipError as error:
                raise ConfigError(error.message, hint=error.hint) from error
        if "@" in number or ":" in number or number.startswith("["):
            return _parse(number)
        registrar = self.registrar
        return _parse(f"sip:{number}@{format_host(registrar.host, registrar.port)}")

    def where(self, uri: SipUri, first: SipUri | None = None) -> Where:
        """Say where a request to `uri` goes: to the proxy where there is one, else to `first`."""
        proxies = self.proxies
        hop = _parse(proxies[0]) if proxies else first or uri
        own = _parse(self.uri)
        named = hop.transport or own.transport
        transport = named or self.transport
        if transport is not None and transport not in TRANSPORTS:
            raise ConfigError(
                f"there is no transport {transport!r}", hint=f"{', '.join(TRANSPORTS)}"
            )
        secure = "sips" in (uri.scheme, hop.scheme, own.scheme)
        if secure and named == "udp":
            raise ConfigError(
                f"{for_people(str(uri))} asks for TLS, which UDP has not",
                hint="leave transport=udp out",
            )
        if secure and transport is not None:
            transport = SECURED[transport]
        return Where(hop.host, hop.port, transport, secure)

    def route(self) -> list[str]:
        """Route header values: the proxy, loosely (RFC 3261 section 8.1.2)."""
        return [
            f"<{replace(_parse(proxy), headers=()).with_params(lr=None)}>"
            for proxy in self.proxies[:1]
        ]


def _parse(text: str) -> SipUri:
    """Read an address with or without `sip:` before it: `alice@pbx.example`, `10.0.0.9:5070`."""
    try:
        uri = SipUri.parse(text if _HAS_SCHEME.match(text) else f"sip:{text}")
    except SipError as error:
        raise ConfigError(error.message, hint="such as sip:alice@pbx.example") from error
    if uri.password is not None:
        raise ConfigError(
            f"a password in a URI is sent for everybody to read: {for_people(text)}",
            hint="leave it out, and pass password=",
        )
    return uri

"""SIP and SIPS URIs (RFC 3261 section 19.1): where a request goes, and who somebody is.

Other schemes (tel:, http:, urn:) are carried as text by the messages and never come here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from voip.errors import SipError

__all__ = ["SipUri", "for_people", "format_host", "parse_host_port", "uri_scheme"]

_URI: Final = re.compile(
    r"(?P<scheme>sips?):"
    r"(?:(?P<user>[^@:]++)(?::(?P<password>[^@]*+))?@)?"
    r"(?P<host>\[[^\]@]*+\]|[^\[\]@:;?]++)(?::(?P<port>[0-9]++))?"
    r"(?P<params>;[^?@]*+)?(?:\?(?P<headers>[^@]*+))?",
    re.IGNORECASE,
)
_FORBIDDEN: Final = re.compile(r'[\x00-\x20\x7f<>"]')
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_SECRET: Final = re.compile(r"(sips?:[^:@]*):[^@]*@", re.IGNORECASE)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")

# What may stand unescaped (RFC 3261 section 25.1), beside the letters, digits and _ . - ~
# that `quote` always leaves.
_USER_SAFE: Final = "!*'()&=+$,;?/"
_PASSWORD_SAFE: Final = "!*'()&=+$,"
_PARAM_SAFE: Final = "!*'()[]/:&+$"
_HEADER_SAFE: Final = "!*'()[]/?:+$"

_MUST_BE_IN_BOTH: Final = ("user", "ttl", "method", "maddr", "transport")

MAX_HOST_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class SipUri:
    """A sip: or sips: URI. Its parts are held unescaped; `str()` escapes what the grammar asks.

    `host` is a name or an address literal, IPv6 without brackets. A parameter without `=` has the
    value None in `params`. `password` is written to the wire but never to a repr.
    """

    scheme: str
    user: str | None
    password: str | None = field(repr=False)
    host: str
    port: int | None = None
    params: tuple[tuple[str, str | None], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> SipUri:
        """Read a URI; SipError (416 for another scheme, else 400) when it is none.

        The last ones are remembered: one request names the same few again and again.
        """
        return _usual(text) if len(text) <= _USUAL_CHARS else cls._read(text)

    @classmethod
    def _read(cls, text: str) -> SipUri:
        match = _URI.fullmatch(text)
        if match is None or _FORBIDDEN.search(text) or _BAD_ESCAPE.search(text):
            raise _not_a_uri(text)
        scheme, user, password, host, port, params, headers = match.groups()
        return cls(
            scheme.lower(),
            None if user is None else _unescape(user),
            None if password is None else _unescape(password),
            *parse_host_port(host, port),
            () if params is None else _parse_params(params),
            () if headers is None else _parse_headers(headers),
        )

    def __str__(self) -> str:
        out = [self.scheme, ":"]
        if self.user is not None:
            out.append(_escape(self.user, _USER_SAFE))
            if self.password is not None:
                out += (":", _escape(self.password, _PASSWORD_SAFE))
            out.append("@")
        out.append(format_host(self.host, self.port))
        for name, value in self.params:
            out += (";", _escape(name, _PARAM_SAFE))
            if value is not None:
                out += ("=", _escape(value, _PARAM_SAFE))
        for position, (name, value) in enumerate(self.headers):
            out.append("&" if position else "?")
            out += (_escape(name, _HEADER_SAFE), "=", _escape(value, _HEADER_SAFE))
        return "".join(out)

    def param(self, name: str) -> str | None:
        """Return a parameter's value: "" when it stands without one, None when it is not there."""
        wanted = name.lower()
        for key, value in self.params:
            if key.lower() == wanted:
                return value or ""
        return None

    @property
    def transport(self) -> str | None:
        """The `transport` parameter in lower case."""
        value = self.param("transport")
        return value.lower() if value else None

    @property
    def is_loose_router(self) -> bool:
        """Whether `lr` is there: the proxy leaves the Request-URI alone (section 16.12.1.1)."""
        return self.param("lr") is not None

    def with_params(self, **params: str | None) -> SipUri:
        """Return a copy with these parameters set (None: a parameter without value)."""
        kept = self.without_params(*params).params
        return replace(self, params=(*kept, *params.items()))

    def without_params(self, *names: str) -> SipUri:
        """Return a copy without these parameters."""
        gone = {name.lower() for name in names}
        return replace(self, params=tuple(p for p in self.params if p[0].lower() not in gone))

    def equivalent(self, other: SipUri) -> bool:
        """Whether both name the same resource by the rules of RFC 3261 section 19.1.4."""
        if (self.scheme, self.user, self.password, self.host.lower(), self.port) != (
            other.scheme,
            other.user,
            other.password,
            other.host.lower(),
            other.port,
        ):
            return False
        mine, theirs = _folded(self.params), _folded(other.params)
        if any((name in mine) != (name in theirs) for name in _MUST_BE_IN_BOTH):
            return False
        if any(mine[name] != theirs[name] for name in mine.keys() & theirs.keys()):
            return False
        return sorted((n.lower(), v) for n, v in self.headers) == sorted(
            (n.lower(), v) for n, v in other.headers
        )


_USUAL_CHARS: Final = 128
_usual = lru_cache(maxsize=128)(SipUri._read)


def uri_scheme(text: str) -> str | None:
    """Return the scheme of any URI in lower case, None when there is none."""
    match = _SCHEME.match(text)
    return match[1].lower() if match else None


def parse_host_port(host: str, port: str | None) -> tuple[str, int | None]:
    """Check a host as it stands in SIP (IPv6 in brackets) and a port; brackets fall off.

    SipError (400) when either cannot be one.
    """
    if host.startswith("["):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise SipError(f"not an IPv6 address: {host[:80]!r}", status=400) from None
        if "%" in host:
            raise SipError(f"an IPv6 zone cannot stand in SIP: {host[:80]!r}", status=400)
    elif len(host) > MAX_HOST_CHARS or not _HOST_NAME.fullmatch(host):
        raise SipError(f"not a host: {host[:80]!r}", status=400)
    if port is None:
        return host, None
    if len(port) > 5 or not 0 < int(port) < 65536:
        raise SipError(f"not a port: {port[:80]!r}", status=400)
    return host, int(port)


def format_host(host: str, port: int | None = None) -> str:
    """Write `host[:port]` as SIP wants it: IPv6 in brackets."""
    text = f"[{host}]" if ":" in host else host
    return text if port is None else f"{text}:{port}"


def for_people(text: str) -> str:
    """Return the beginning of a URI or of what contains one, for a log: no password, no headers."""
    return _SECRET.sub(r"\1:...@", text[:512].partition("?")[0])[:80]


def _not_a_uri(text: str) -> SipError:
    """Say what is wrong with `text`, without repeating a password."""
    scheme = uri_scheme(text)
    if scheme is not None and scheme not in ("sip", "sips"):
        return SipError(f"a SIP URI is needed, not {scheme}:", status=416)
    return SipError(
        f"not a SIP URI: {for_people(text)!r}",
        status=400,
        hint="a SIP URI looks like sip:alice@example.com",
    )


def _parse_params(text: str) -> tuple[tuple[str, str | None], ...]:
    params: list[tuple[str, str | None]] = []
    for part in text[1:].split(";"):
        name, equals, value = part.partition("=")
        if not name:
            raise SipError("a URI parameter has no name", status=400)
        params.append((_unescape(name), _unescape(value) if equals else None))
    return tuple(params)


def _parse_headers(text: str) -> tuple[tuple[str, str], ...]:
    headers: list[tuple[str, str]] = []
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not name or not equals:
            raise SipError("a header in a URI has no name or no value", status=400)
        headers.append((_unescape(name), _unescape(value)))
    return tuple(headers)


def _folded(params: tuple[tuple[str, str | None], ...]) -> dict[str, str]:
    """Return the parameters for comparison: case means nothing in them (section 19.1.4)."""
    return {name.lower(): (value or "").lower() for name, value in params}


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode(
        "utf-8", "surrogateescape"
    )


def _escape(text: str, safe: str) -> str:
    return quote(text, safe=safe, errors="surrogateescape")

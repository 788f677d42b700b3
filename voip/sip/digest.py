"""Digest authentication for SIP: RFC 7616 and RFC 8760, back to RFC 2617 and RFC 2069.

The client's side, which answers challenges, and what the server's side (`digest_server.py`) needs
too. It knows no messages: it takes and gives the text of WWW-Authenticate, Authorization,
Authentication-Info and their Proxy twins.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from voip.errors import SipError
from voip.sip.grammar import TOKEN, quote_string, unquote_string
from voip.types import Random

__all__ = [
    "AuthenticationInfo",
    "Challenge",
    "CredentialSource",
    "Credentials",
    "CredentialsLookup",
    "DigestClient",
    "check_algorithm",
    "credentials_for",
    "digest_response",
    "parse_digest",
    "response_auth",
    "unquoted",
]

MAX_CLIENT_NONCES: Final = 64
"""Nonces whose use a client counts; the oldest is forgotten, and then challenged anew."""

_MAX_FORETOLD: Final = 4
"""Servers between us and one destination that may name a nonce beforehand."""

_PARAM: Final = re.compile(
    rf'[ \t,]*+({TOKEN})[ \t]*+=[ \t]*+("(?:[^"\\]|\\.)*+"|[^ \t",]*+)[ \t]*+(?=,|$)', re.DOTALL
)
_HASHES: Final = {
    name: python_name
    for name, python_name in (("sha-256", "sha256"), ("sha-512-256", "sha512_256"), ("md5", "md5"))
    if python_name in hashlib.algorithms_available
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to those who ask. `realm` None: for whoever asks."""

    username: str
    password: str = field(repr=False)
    realm: str | None = None


CredentialsLookup: TypeAlias = Callable[[str, str], Credentials | None]
"""(realm, server) to who we are there, None: nobody. `server`: host of the Request-URI."""
CredentialSource: TypeAlias = Credentials | CredentialsLookup


def credentials_for(source: CredentialSource | None, realm: str, server: str) -> Credentials | None:
    """Return who we are to `realm`, None where we are nobody there."""
    found = source(realm, server) if callable(source) else source
    return found if found is not None and found.realm in (None, realm) else None


@dataclass(frozen=True, slots=True)
class Challenge:
    """A WWW-Authenticate or Proxy-Authenticate of the Digest scheme, as far as we need it.

    `algorithm` is "" where the server named none (MD5 is meant), `qop` what it offers in order.
    """

    realm: str
    nonce: str
    algorithm: str = ""
    qop: tuple[str, ...] = ()
    opaque: str | None = None
    stale: bool = False

    @classmethod
    def parse(cls, text: str) -> Challenge | None:
        """Read a challenge; None for another scheme. SipError (400) when it is malformed."""
        params = parse_digest(text)
        if params is None:
            return None
        if "realm" not in params or "nonce" not in params:
            raise SipError("a challenge without realm or nonce", status=400)
        return cls(
            realm=unquoted(params["realm"]),
            nonce=unquoted(params["nonce"]),
            algorithm=unquote_string(params.get("algorithm", "")),
            qop=tuple(
                q for q in re.split(r"[ \t,]+", unquoted(params.get("qop", "")).lower()) if q
            ),
            opaque=unquoted(params["opaque"]) if "opaque" in params else None,
            stale=unquote_string(params.get("stale", "")).lower() == "true",
        )

    @property
    def answerable(self) -> bool:
        """Whether we know its algorithm and a quality of protection it offers."""
        name, _ = _split_algorithm(self.algorithm)
        return name in _HASHES and (not self.qop or bool({"auth", "auth-int"} & set(self.qop)))

    @property
    def session(self) -> bool:
        """Whether its algorithm is of the -sess kind."""
        return _split_algorithm(self.algorithm)[1]

    def __str__(self) -> str:
        parts = [f'Digest realm="{self.realm}"', f'nonce="{self.nonce}"']
        if self.qop:
            parts.append(f'qop="{",".join(self.qop)}"')
        if self.algorithm:
            parts.append(f"algorithm={self.algorithm}")
        if self.opaque is not None:
            parts.append(f'opaque="{self.opaque}"')
        if self.stale:
            parts.append("stale=true")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class AuthenticationInfo:
    """What a server says of credentials it has accepted (RFC 7616 section 3.5).

    `nextnonce`: what it wants to see next; `rspauth`: the proof that it knows the password too,
    made with `cnonce` and the eight digits of `nonce_count`. None: it does not say.
    """

    nextnonce: str | None = None
    rspauth: str | None = None
    qop: str | None = None
    cnonce: str | None = None
    nonce_count: str | None = None

    @classmethod
    def parse(cls, text: str) -> AuthenticationInfo:
        """Read it; SipError (400) when it is malformed."""
        params = _parse_params(text)

        def value(name: str) -> str | None:
            return unquoted(params[name]) if name in params else None

        return cls(value("nextnonce"), value("rspauth"), value("qop"), value("cnonce"), value("nc"))

    def __str__(self) -> str:
        parts = []
        if self.rspauth is not None:
            parts.append(f'rspauth="{self.rspauth}"')
        if self.cnonce is not None:
            parts.append(f'cnonce="{self.cnonce}"')
        if self.nonce_count is not None:
            parts.append(f"nc={self.nonce_count}")
        if self.qop is not None:
            parts.append(f"qop={self.qop}")
        if self.nextnonce is not None:
            parts.append(f'nextnonce="{self.nextnonce}"')
        return ", ".join(parts)


def digest_response(
    *,
    algorithm: str,
    username: str,
    realm: str,
    password: str,
    method: str,
    uri: str,
    nonce: str,
    qop: str | None = None,
    nonce_count: str = "",
    cnonce: str = "",
    body: bytes = b"",
) -> str:
    """Return the hexadecimal response (RFC 7616 section 3.4.1; without `qop` RFC 2069's).

    `nonce_count` is its eight hexadecimal digits. Without a method it is what `rspauth` has to be
    (section 3.5). SipError for an algorithm nobody knows.
    """
    name, session = _split_algorithm(algorithm)
    digest = _hasher(name)
    secret = digest(_bytes(f"{username}:{realm}:{password}"))
    if session:
        secret = digest(_bytes(f"{secret}:{nonce}:{cnonce}"))
    request = f"{method}:{uri}"
    if qop == "auth-int":
        request = f"{request}:{digest(body)}"
    use = f"{nonce}:{nonce_count}:{cnonce}:{qop}" if qop else nonce
    return digest(_bytes(f"{secret}:{use}:{digest(_bytes(request))}"))


def response_auth(params: Mapping[str, str], password: str, body: bytes) -> str:
    """Return what `rspauth` has to be where credentials of these parameters are accepted.

    `body` is the response's (RFC 7616 section 3.5). SipError for an algorithm nobody knows.
    """
    return digest_response(
        algorithm=unquote_string(params.get("algorithm", "")),
        username=unquote_string(params["username"]),
        realm=unquoted(params["realm"]),
        password=password,
        method="",
        uri=unquoted(params["uri"]),
        nonce=unquoted(params["nonce"]),
        qop=params.get("qop"),
        nonce_count=params.get("nc", ""),
        cnonce=unquoted(params.get("cnonce", "")),
        body=body,
    )


@dataclass(slots=True)
class _NonceUse:
    """How often a client used a nonce, and the client nonce it goes with (RFC 7616, -sess)."""

    cnonce: str
    count: int = 0


class DigestClient:
    """Answers challenges, and counts how often each nonce was used.

    `foretold`: challenges to be answered before they come, by who asks whom; each is taken once.
    """

    def __init__(self) -> None:
        self.foretold: OrderedDict[tuple[str, str], list[tuple[str, Challenge]]] = OrderedDict()
        self._uses: OrderedDict[str, _NonceUse] = OrderedDict()

    def authorize(
        self,
        method: str,
        uri: str,
        body: bytes,
        challenges: list[str],
        credentials: Credentials,
        random: Random,
    ) -> str | None:
        """Return the Authorization value for one of `challenges`, None when we can answer none.

        The topmost that we can answer is it (RFC 8760 section 2.4): the server's order is its
        preference. One of another scheme, with an unknown algorithm or for a realm the
        credentials are not for is passed over.
        """
        for text in challenges:
            challenge = _readable(text)
            if (
                challenge is not None
                and challenge.answerable
                and credentials.realm in (None, challenge.realm)
            ):
                return self._answer(method, uri, body, challenge, credentials, random)
        return None

    def proves(
        self, authorization: str, info: AuthenticationInfo, body: bytes, password: str
    ) -> bool | None:
        """Whether a response shows that its sender knows the password; None: it does not say.

        `authorization` is the value we sent, `body` the response's.
        """
        params = parse_digest(authorization)
        if params is None or info.rspauth is None:
            return None
        qop, count = params.get("qop"), params.get("nc", "")
        cnonce = unquoted(params.get("cnonce", ""))
        said = (info.cnonce or cnonce, info.nonce_count or count, info.qop or qop)
        expected = response_auth(params, password, body)
        return said == (cnonce, count, qop) and info.rspauth.lower() == expected

    def foretell(self, space: tuple[str, str], challenges: list[tuple[str, Challenge]]) -> None:
        """Keep what servers want to see with the next request: (header that answers, challenge)."""
        self.foretold[space] = challenges[:_MAX_FORETOLD]
        if len(self.foretold) > MAX_CLIENT_NONCES:
            self.foretold.popitem(last=False)

    def _answer(
        self,
        method: str,
        uri: str,
        body: bytes,
        challenge: Challenge,
        credentials: Credentials,
        random: Random,
    ) -> str:
        use = self._use(challenge.nonce, random)
        qop = None
        if challenge.qop:
            qop = "auth" if "auth" in challenge.qop else "auth-int"
        count = f"{use.count:08x}"
        response = digest_response(
            algorithm=challenge.algorithm,
            username=credentials.username,
            realm=challenge.realm,
            password=credentials.password,
            method=method,
            uri=uri,
            nonce=challenge.nonce,
            qop=qop,
            nonce_count=count,
            cnonce=use.cnonce,
            body=body,
        )
        parts = [
            f"username={quote_string(credentials.username)}",
            f'realm="{challenge.realm}"',
            f'nonce="{challenge.nonce}"',
            f'uri="{uri}"',
            f'response="{response}"',
        ]
        if challenge.algorithm:
            parts.append(f"algorithm={challenge.algorithm}")
        if qop or _split_algorithm(challenge.algorithm)[1]:
            parts.append(f'cnonce="{use.cnonce}"')
        if qop:
            parts += (f"qop={qop}", f"nc={count}")
        if challenge.opaque is not None:
            parts.append(f'opaque="{challenge.opaque}"')
        return f"Digest {', '.join(parts)}"

    def _use(self, nonce: str, random: Random) -> _NonceUse:
        use = self._uses.get(nonce)
        if use is None:
            use = self._uses[nonce] = _NonceUse(random.token(16))
            if len(self._uses) > MAX_CLIENT_NONCES:
                self._uses.popitem(last=False)
        use.count += 1
        return use


def parse_digest(text: str) -> dict[str, str] | None:
    """Return the parameters as written by lower-case name; None for another scheme.

    SipError (400) when a parameter is malformed or stands twice.
    """
    scheme, _, rest = text.strip(" \t").partition(" ")
    if scheme.lower() != "digest":
        return None
    return _parse_params(rest)


def _parse_params(rest: str) -> dict[str, str]:
    params: dict[str, str] = {}
    position = 0
    rest = rest.rstrip(" \t,")
    while position < len(rest):
        match = _PARAM.match(rest, position)
        if match is None or match[1].lower() in params:
            raise SipError("malformed digest parameters", status=400)
        params[match[1].lower()] = match[2]
        position = match.end()
    return params


def _readable(text: str) -> Challenge | None:
    """Return a challenge of the network's, None for one that cannot be read: it is ignored."""
    try:
        return Challenge.parse(text)
    except SipError:
        return None


def unquoted(text: str) -> str:
    """Take the quotes off and leave escapes alone: what RFC 7616 calls unq()."""
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _split_algorithm(algorithm: str) -> tuple[str, bool]:
    """Return the hash's name in lower case and whether it is the -sess kind."""
    name = algorithm.lower() or "md5"
    return name.removesuffix("-sess"), name.endswith("-sess")


def check_algorithm(algorithm: str) -> None:
    """Raise SipError for an algorithm nobody knows."""
    _hasher(_split_algorithm(algorithm)[0])


def _hasher(name: str) -> Callable[[bytes], str]:
    python_name = _HASHES.get(name)
    if python_name is None:
        raise SipError(f"a digest algorithm nobody knows: {name[:40]}")
    return lambda data: hashlib.new(python_name, data, usedforsecurity=False).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

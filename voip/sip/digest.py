"""Digest authentication for SIP: RFC 7616 and RFC 8760, back to RFC 2617 and RFC 2069.

The client side answers challenges, the server side makes and judges them. Neither knows messages:
they take and give the text of WWW-Authenticate, Authorization and their Proxy twins.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from voip.errors import SipError
from voip.sip.grammar import TOKEN, quote_string, unquote_string
from voip.types import Random

__all__ = [
    "Challenge",
    "Credentials",
    "DigestClient",
    "DigestServer",
    "Judgement",
    "Verdict",
    "digest_response",
]

MAX_CLIENT_NONCES: Final = 64
"""Nonces whose use a client counts; the oldest is forgotten, and then challenged anew."""

MAX_SERVER_NONCES: Final = 4096
"""Used nonces a server remembers by default; what is as old as a forgotten one is stale."""

_REPLAY_WINDOW: Final = 64
"""How far behind the highest nonce count a late request may be."""

_PARAM: Final = re.compile(
    rf'[ \t,]*+({TOKEN})[ \t]*+=[ \t]*+("(?:[^"\\]|\\.)*+"|[^ \t",]*+)[ \t]*+(?=,|$)', re.DOTALL
)
_NONCE_COUNT: Final = re.compile(r"[0-9A-Fa-f]{8}")
_STRONGEST_FIRST: Final = ("sha-256", "sha-512-256", "md5")
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
        params = _parse_digest(text)
        if params is None:
            return None
        if "realm" not in params or "nonce" not in params:
            raise SipError("a challenge without realm or nonce", status=400)
        return cls(
            realm=_unquoted(params["realm"]),
            nonce=_unquoted(params["nonce"]),
            algorithm=unquote_string(params.get("algorithm", "")),
            qop=tuple(
                q for q in re.split(r"[ \t,]+", _unquoted(params.get("qop", "")).lower()) if q
            ),
            opaque=_unquoted(params["opaque"]) if "opaque" in params else None,
            stale=unquote_string(params.get("stale", "")).lower() == "true",
        )

    @property
    def strength(self) -> int:
        """The lower the better; negative when we cannot answer it."""
        name, _ = _split_algorithm(self.algorithm)
        if name not in _HASHES or (self.qop and not {"auth", "auth-int"} & set(self.qop)):
            return -1
        return _STRONGEST_FIRST.index(name)


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

    `nonce_count` is its eight hexadecimal digits. SipError for an algorithm nobody knows.
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


@dataclass(slots=True)
class _NonceUse:
    """How often a client used a nonce, and the client nonce it goes with (RFC 7616, -sess)."""

    cnonce: str
    count: int = 0


class DigestClient:
    """Answers challenges, and counts how often each nonce was used."""

    def __init__(self) -> None:
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

        The strongest algorithm wins, among equals the first; a challenge of another scheme, with
        an unknown algorithm or for a realm the credentials are not for is passed over.
        """
        best: Challenge | None = None
        for text in challenges:
            challenge = _readable(text)
            if challenge is None or challenge.strength < 0:
                continue
            if credentials.realm not in (None, challenge.realm):
                continue
            if best is None or challenge.strength < best.strength:
                best = challenge
        return None if best is None else self._answer(method, uri, body, best, credentials, random)

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


class Verdict(enum.Enum):
    """What a server found out about somebody's credentials."""

    ACCEPTED = "accepted"
    MALFORMED = "the credentials cannot be read"
    OTHER_REALM = "the credentials are for another realm"
    OTHER_URI = "the credentials are for another request"
    STALE = "the nonce is too old or not ours"
    REPLAYED = "the nonce count was used before"
    UNKNOWN_USER = "nobody has that name"
    WRONG_PASSWORD = "the password is wrong"


@dataclass(frozen=True, slots=True)
class Judgement:
    """`username` is set where the verdict is ACCEPTED, and only there."""

    verdict: Verdict
    username: str | None = None


Users: TypeAlias = Mapping[str, str] | Callable[[str], str | None]
"""Name to password; a callable returns None for a name it does not know."""


@dataclass(slots=True)
class _NonceRecord:
    """The highest count a nonce was used with, and which of those below it (bit 0: itself)."""

    highest: int
    used: int
    issued_ms: int


class DigestServer:
    """Challenges those who come and judges what they answer.

    A nonce carries its time and a seal, so that challenging costs no memory; only nonces that
    came back with the right password are remembered, at most `max_nonces` of them.
    """

    def __init__(
        self,
        realm: str,
        users: Users,
        random: Random,
        *,
        algorithms: tuple[str, ...] = ("SHA-256", "MD5"),
        nonce_lifetime_s: float = 300.0,
        max_nonces: int = MAX_SERVER_NONCES,
    ) -> None:
        for algorithm in algorithms:
            _hasher(_split_algorithm(algorithm)[0])
        self._realm = realm
        self._users = users
        self._random = random
        self._algorithms = algorithms
        self._max_nonces = max_nonces
        self._lifetime_ms = int(nonce_lifetime_s * 1000)
        self._key = random.token(64).encode()
        self._records: OrderedDict[str, _NonceRecord] = OrderedDict()
        self._forgotten_ms = -1

    def challenge(self, now: float, *, stale: bool = False) -> list[str]:
        """Return WWW-Authenticate values, one for each algorithm, the preferred one first."""
        nonce = self._new_nonce(now)
        staleness = ", stale=true" if stale else ""
        return [
            f'Digest realm={quote_string(self._realm)}, nonce="{nonce}", qop="auth", '
            f"algorithm={algorithm}{staleness}"
            for algorithm in self._algorithms
        ]

    def verify(
        self, method: str, header_value: str, now: float, *, uri: str | None = None
    ) -> Judgement:
        """Judge an Authorization value. STALE and REPLAYED ask for `challenge(stale=True)`.

        With `uri` the credentials must have been made for that text; without it any is taken,
        because a proxy may have changed the Request-URI (RFC 8760 section 2.6).
        """
        try:
            params = _parse_digest(header_value)
        except SipError:
            return Judgement(Verdict.MALFORMED)
        if params is None or not {"username", "realm", "nonce", "uri", "response"} <= params.keys():
            return Judgement(Verdict.MALFORMED)
        qop = unquote_string(params.get("qop", "")).lower()
        count = unquote_string(params.get("nc", ""))
        algorithm = unquote_string(params.get("algorithm", ""))
        if qop not in ("", "auth") or (qop and not _NONCE_COUNT.fullmatch(count)):
            return Judgement(Verdict.MALFORMED)
        if (algorithm or "MD5").upper() not in (name.upper() for name in self._algorithms):
            return Judgement(Verdict.MALFORMED)
        if unquote_string(params["realm"]) != self._realm:
            return Judgement(Verdict.OTHER_REALM)
        if uri is not None and _unquoted(params["uri"]) != uri:
            return Judgement(Verdict.OTHER_URI)
        nonce = _unquoted(params["nonce"])
        issued_ms = self._issued_ms(nonce)
        if issued_ms is None or not 0 <= now * 1000 - issued_ms < self._lifetime_ms:
            return Judgement(Verdict.STALE)
        username = unquote_string(params["username"])
        password = self._password(username)
        expected = digest_response(
            algorithm=algorithm,
            username=username,
            realm=_unquoted(params["realm"]),
            password=password or "",
            method=method,
            uri=_unquoted(params["uri"]),
            nonce=nonce,
            qop=qop or None,
            nonce_count=count,
            cnonce=_unquoted(params.get("cnonce", "")),
        )
        given = unquote_string(params["response"]).lower()
        right = hmac.compare_digest(_bytes(expected), _bytes(given))
        if password is None:
            return Judgement(Verdict.UNKNOWN_USER)
        if not right:
            return Judgement(Verdict.WRONG_PASSWORD)
        verdict = self._count(nonce, issued_ms, int(count, 16) if qop else 1)
        return Judgement(verdict, username if verdict is Verdict.ACCEPTED else None)

    def _password(self, username: str) -> str | None:
        users = self._users
        return users.get(username) if isinstance(users, Mapping) else users(username)

    def _new_nonce(self, now: float) -> str:
        body = f"{int(now * 1000):x}.{self._random.token(16)}"
        return f"{body}.{self._seal(body)}"

    def _seal(self, body: str) -> str:
        return hmac.new(self._key, _bytes(body), hashlib.sha256).hexdigest()[:32]

    def _issued_ms(self, nonce: str) -> int | None:
        """Return when we made this nonce, None when we did not."""
        body, _, seal = nonce.rpartition(".")
        if not hmac.compare_digest(_bytes(self._seal(body)), _bytes(seal)):
            return None
        return int(body.partition(".")[0], 16)

    def _count(self, nonce: str, issued_ms: int, count: int) -> Verdict:
        """Take a nonce count once (RFC 7616 section 3.4); late ones within the window too."""
        record = self._records.get(nonce)
        if record is None:
            if issued_ms <= self._forgotten_ms:
                return Verdict.STALE
            self._records[nonce] = _NonceRecord(count, 1, issued_ms)
            self._forget()
            return Verdict.ACCEPTED
        ahead = count - record.highest
        if ahead > 0:
            record.used = (record.used << ahead if ahead < _REPLAY_WINDOW else 0) | 1
            record.used &= (1 << _REPLAY_WINDOW) - 1
            record.highest = count
            return Verdict.ACCEPTED
        bit = 1 << min(-ahead, _REPLAY_WINDOW)
        if record.used & bit or -ahead >= _REPLAY_WINDOW:
            return Verdict.REPLAYED
        record.used |= bit
        return Verdict.ACCEPTED

    def _forget(self) -> None:
        """Keep the records bounded: what may have been among the forgotten ones is stale."""
        while len(self._records) > self._max_nonces:
            _, record = self._records.popitem(last=False)
            self._forgotten_ms = max(self._forgotten_ms, record.issued_ms)


def _parse_digest(text: str) -> dict[str, str] | None:
    """Return the parameters as written by lower-case name; None for another scheme.

    SipError (400) when a parameter is malformed or stands twice.
    """
    scheme, _, rest = text.strip(" \t").partition(" ")
    if scheme.lower() != "digest":
        return None
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


def _unquoted(text: str) -> str:
    """Take the quotes off and leave escapes alone: what RFC 7616 calls unq()."""
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text


def _split_algorithm(algorithm: str) -> tuple[str, bool]:
    """Return the hash's name in lower case and whether it is the -sess kind."""
    name = algorithm.lower() or "md5"
    return name.removesuffix("-sess"), name.endswith("-sess")


def _hasher(name: str) -> Callable[[bytes], str]:
    python_name = _HASHES.get(name)
    if python_name is None:
        raise SipError(f"a digest algorithm nobody knows: {name[:40]}")
    return lambda data: hashlib.new(python_name, data, usedforsecurity=False).hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

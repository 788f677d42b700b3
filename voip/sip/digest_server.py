"""The server's side of digest: challenges, and judges what comes back (RFC 7616, RFC 8760)."""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from voip.errors import SipError
from voip.sip.digest import (
    AuthenticationInfo,
    check_algorithm,
    digest_response,
    parse_digest,
    response_auth,
    unquoted,
)
from voip.sip.grammar import quote_string, unquote_string
from voip.types import Random

__all__ = ["DigestServer", "Judgement", "Users", "Verdict"]

MAX_SERVER_NONCES: Final = 4096
"""Used nonces a server remembers by default; what is as old as a forgotten one is stale."""

_REPLAY_WINDOW: Final = 64
"""How far behind the highest nonce count a late request may be."""

_NONCE_COUNT: Final = re.compile(r"[0-9A-Fa-f]{8}")


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

    `algorithms` are offered in this order, the preferred one first; `qop` "auth", "auth-int"
    (which takes the body in) or both.

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
        qop: tuple[str, ...] = ("auth",),
        nonce_lifetime_s: float = 300.0,
        max_nonces: int = MAX_SERVER_NONCES,
    ) -> None:
        for algorithm in algorithms:
            check_algorithm(algorithm)
        self._realm = realm
        self._users = users
        self._random = random
        self._algorithms = algorithms
        self._qop = qop
        self._max_nonces = max_nonces
        self._lifetime_ms = int(nonce_lifetime_s * 1000)
        self._key = random.token(64).encode()
        self._records: OrderedDict[str, _NonceRecord] = OrderedDict()
        self._forgotten_ms = -1

    def challenge(self, now: float, *, stale: bool = False) -> list[str]:
        """Return WWW-Authenticate values, one for each algorithm, the preferred one first."""
        nonce = self._new_nonce(now)
        staleness = ", stale=true" if stale else ""
        qop = ",".join(self._qop)
        return [
            f'Digest realm={quote_string(self._realm)}, nonce="{nonce}", qop="{qop}", '
            f"algorithm={algorithm}{staleness}"
            for algorithm in self._algorithms
        ]

    def verify(
        self,
        method: str,
        header_value: str,
        now: float,
        *,
        uri: str | None = None,
        body: bytes = b"",
    ) -> Judgement:
        """Judge an Authorization value. STALE and REPLAYED ask for `challenge(stale=True)`.

        With `uri` the credentials must have been made for that text; without it any is taken,
        because a proxy may have changed the Request-URI (RFC 8760 section 2.6). `body`: the
        request's, for those who protect it.
        """
        try:
            params = parse_digest(header_value)
        except SipError:
            return Judgement(Verdict.MALFORMED)
        if params is None or not {"username", "realm", "nonce", "uri", "response"} <= params.keys():
            return Judgement(Verdict.MALFORMED)
        qop = unquote_string(params.get("qop", "")).lower()
        count = unquote_string(params.get("nc", ""))
        algorithm = unquote_string(params.get("algorithm", ""))
        if qop not in ("", *self._qop) or (qop and not _NONCE_COUNT.fullmatch(count)):
            return Judgement(Verdict.MALFORMED)
        if (algorithm or "MD5").upper() not in (name.upper() for name in self._algorithms):
            return Judgement(Verdict.MALFORMED)
        if unquote_string(params["realm"]) != self._realm:
            return Judgement(Verdict.OTHER_REALM)
        if uri is not None and unquoted(params["uri"]) != uri:
            return Judgement(Verdict.OTHER_URI)
        nonce = unquoted(params["nonce"])
        issued_ms = self._issued_ms(nonce)
        if issued_ms is None or not 0 <= now * 1000 - issued_ms < self._lifetime_ms:
            return Judgement(Verdict.STALE)
        username = unquote_string(params["username"])
        password = self._password(username)
        expected = digest_response(
            algorithm=algorithm,
            username=username,
            realm=unquoted(params["realm"]),
            password=password or "",
            method=method,
            uri=unquoted(params["uri"]),
            nonce=nonce,
            qop=qop or None,
            nonce_count=count,
            cnonce=unquoted(params.get("cnonce", "")),
            body=body,
        )
        given = unquote_string(params["response"]).lower()
        right = hmac.compare_digest(_encode(expected), _encode(given))
        if password is None:
            return Judgement(Verdict.UNKNOWN_USER)
        if not right:
            return Judgement(Verdict.WRONG_PASSWORD)
        verdict = self._count(nonce, issued_ms, int(count, 16) if qop else 1)
        return Judgement(verdict, username if verdict is Verdict.ACCEPTED else None)

    def info(self, header_value: str, body: bytes, now: float) -> str:
        """Return the Authentication-Info to an Authorization value that was accepted.

        It proves that we know the password, and names the nonce to be used next; `body` is the
        response's. SipError where the value is not one that `verify` accepts.
        """
        params = parse_digest(header_value)
        if params is None or "username" not in params:
            raise SipError("no digest credentials")
        qop = params.get("qop")
        count, cnonce = params.get("nc", ""), unquoted(params.get("cnonce", ""))
        password = self._password(unquote_string(params["username"])) or ""
        proof = response_auth(params, password, body)
        told = (qop, cnonce, count) if qop else (None, None, None)
        return str(AuthenticationInfo(self._new_nonce(now), proof, *told))

    def _password(self, username: str) -> str | None:
        users = self._users
        return users.get(username) if isinstance(users, Mapping) else users(username)

    def _new_nonce(self, now: float) -> str:
        body = f"{int(now * 1000):x}.{self._random.token(16)}"
        return f"{body}.{self._seal(body)}"

    def _seal(self, body: str) -> str:
        return hmac.new(self._key, _encode(body), hashlib.sha256).hexdigest()[:32]

    def _issued_ms(self, nonce: str) -> int | None:
        """Return when we made this nonce, None when we did not."""
        body, _, seal = nonce.rpartition(".")
        if not hmac.compare_digest(_encode(self._seal(body)), _encode(seal)):
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


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

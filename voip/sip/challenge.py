"""What one request of ours has been asked for, and has answered (RFC 3261 section 22).

Every realm gets the credentials once; a second refusal means they are wrong, unless the server
says that only the nonce was too old (`stale`). A 401 and a 407 may both ask for both: a proxy that
forks puts together what it was asked for (section 16.7, step 7).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from voip.errors import SipError
from voip.sip.digest import (
    AuthenticationInfo,
    Challenge,
    Credentials,
    CredentialSource,
    DigestClient,
    credentials_for,
    parse_digest,
    unquoted,
)
from voip.sip.message import Request, Response
from voip.sip.uri import SipUri
from voip.types import Random

if TYPE_CHECKING:
    from voip.sip.events import Cause

__all__ = ["Challenges", "Failure"]

_HEADERS: Final = (
    ("WWW-Authenticate", "Authorization"),
    ("Proxy-Authenticate", "Proxy-Authorization"),
)
"""What asks, and what answers."""
_INFO: Final = {
    "Authorization": "Authentication-Info",
    "Proxy-Authorization": "Proxy-Authentication-Info",
}

_Asked: TypeAlias = tuple[str, str]
"""The header that answers, and the realm."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request of ours came to nothing; see `events.Cause`."""

    status: int
    reason: str
    cause: Cause
    response: Response | None = None


class Challenges:
    """The challenges one request has met; `credentials` None: none can be answered.

    `proven`: whether the final response showed that its sender knows the password too; None
    where it said nothing of that.
    """

    def __init__(
        self, credentials: CredentialSource | None, digest: DigestClient, random: Random, limit: int
    ) -> None:
        self.credentials = credentials
        self.proven: bool | None = None
        self._digest = digest
        self._random = random
        self._left = limit
        self._met: dict[_Asked, list[str]] = {}
        self._foretold: set[_Asked] = set()  # answered before anybody asked

    @property
    def answered(self) -> bool:
        """Whether credentials have been sent at all."""
        return bool(self._met)

    def begin(self, request: Request) -> None:
        """Give a first try the credentials that a server asked for beforehand (`nextnonce`)."""
        if self.credentials is None or not self._digest.foretold:
            return
        for answers, challenge in self._digest.foretold.pop(_space(request), ()):
            asked = answers, challenge.realm
            value = self._authorize(request, [str(challenge)], challenge.realm)
            if value is not None:
                request.headers.add(answers, value)
                self._met[asked] = [str(challenge)]
                self._foretold.add(asked)

    def begin_anew(self) -> None:
        """Take it that another server is asked: it knows nothing of the others' nonces."""
        self._met.clear()
        self._foretold.clear()

    def answer(self, request: Request, response: Response) -> list[tuple[str, str]] | None:
        """Return the credentials for the next try of `request`, those for earlier realms too.

        None when a 401 or 407 cannot be satisfied: no credentials, no challenge we can answer, or
        credentials that have been refused.
        """
        met: dict[_Asked, list[str]] = {}
        for asks, answers in _HEADERS:
            for text in response.headers.get_all(asks):
                challenge = _read(text)
                if challenge is None or not challenge.answerable:
                    continue
                asked = answers, challenge.realm
                if asked in self._met and asked not in self._foretold and not challenge.stale:
                    return None
                met.setdefault(asked, []).append(text)
        if not met or self.credentials is None or not self.count():
            return None
        self._foretold -= met.keys()
        self._met.update(met)
        authorization = self.authorize(request)
        return authorization if met.keys() & self._met.keys() else None

    def count(self) -> bool:
        """Count another try; False when there have been enough."""
        self._left -= 1
        return self._left >= 0

    def authorize(self, request: Request) -> list[tuple[str, str]]:
        """Return the credentials of a request for every realm met so far."""
        authorization: list[tuple[str, str]] = []
        for asked, texts in list(self._met.items()):
            value = self._authorize(request, texts, asked[1])
            if value is not None:
                authorization.append((asked[0], value))
            else:
                del self._met[asked]  # nothing that we can do
        return authorization

    def judge(self, request: Request, response: Response) -> None:
        """Take what a final response says of the credentials of `request` (RFC 7616 section 3.5).

        A nonce for the next request is believed unless the proof beside it is wrong.
        """
        if not self._met:
            return
        following: list[tuple[str, Challenge]] = []
        for answers, header in _INFO.items():
            for text in response.headers.get_all(header):
                for value in request.headers.get_all(answers):
                    following += self._judge(answers, value, text, request, response)
        if following:
            self._digest.foretell(_space(request), following)

    def _judge(
        self, answers: str, value: str, text: str, request: Request, response: Response
    ) -> list[tuple[str, Challenge]]:
        try:
            info = AuthenticationInfo.parse(text)
            params = parse_digest(value) or {}
        except SipError:
            return []
        if info.cnonce is not None and info.cnonce != unquoted(params.get("cnonce", "")):
            return []  # said of other credentials
        realm = unquoted(params.get("realm", ""))
        who = credentials_for(self.credentials, realm, _host(request))
        if who is None:
            return []
        proven = self._digest.proves(value, info, response.body, who.password)
        if proven is not None:
            self.proven = proven and self.proven is not False
        used = next(
            (
                challenge
                for challenge in map(_read, self._met.get((answers, realm), ()))
                if challenge is not None and challenge.answerable
            ),
            None,
        )
        if proven is False or info.nextnonce is None or used is None or used.session:
            return []
        return [(answers, replace(used, nonce=info.nextnonce, stale=False))]

    def _authorize(self, request: Request, texts: list[str], realm: str) -> str | None:
        who: Credentials | None = credentials_for(self.credentials, realm, _host(request))
        if who is None:
            return None
        return self._digest.authorize(
            request.method, request.uri, request.body, texts, who, self._random
        )


def _read(text: str) -> Challenge | None:
    try:
        return Challenge.parse(text)
    except SipError:
        return None


def _space(request: Request) -> tuple[str, str]:
    """Return for whom credentials are kept: who asks whom (section 22.2)."""
    return request.from_.uri, request.to.uri


def _host(request: Request) -> str:
    try:
        return SipUri.parse(request.uri).host
    except SipError:
        return ""

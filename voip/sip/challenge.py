"""What one request of ours has been asked for, and has answered (RFC 3261 section 22).

Every realm gets the credentials once; a second refusal means they are wrong, unless the server
says that only the nonce was too old (`stale`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from voip.errors import SipError
from voip.sip.digest import Challenge, Credentials, DigestClient
from voip.sip.message import Request, Response
from voip.types import Random

if TYPE_CHECKING:
    from voip.sip.events import Cause

__all__ = ["Challenges", "Failure"]

_HEADERS = {
    401: ("WWW-Authenticate", "Authorization"),
    407: ("Proxy-Authenticate", "Proxy-Authorization"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request of ours came to nothing; see `events.Cause`."""

    status: int
    reason: str
    cause: Cause
    response: Response | None = None


class Challenges:
    """The challenges one request has met; `credentials` None: none can be answered."""

    def __init__(
        self, credentials: Credentials | None, digest: DigestClient, random: Random, limit: int
    ) -> None:
        self.credentials = credentials
        self._digest = digest
        self._random = random
        self._left = limit
        self._met: dict[tuple[str, str], list[str]] = {}

    @property
    def answered(self) -> bool:
        """Whether credentials have been sent at all."""
        return bool(self._met)

    def answer(self, request: Request, response: Response) -> list[tuple[str, str]] | None:
        """Return the credentials for the next try of `request`, those for earlier realms too.

        None when a 401 or 407 cannot be satisfied: no credentials, no challenge we can answer, or
        credentials that have been refused.
        """
        asks, answers = _HEADERS[response.status]
        met: dict[tuple[str, str], list[str]] = {}
        for text in response.headers.get_all(asks):
            challenge = _read(text)
            if challenge is not None and challenge.strength >= 0:
                if (answers, challenge.realm) in self._met and not challenge.stale:
                    return None
                met.setdefault((answers, challenge.realm), []).append(text)
        if not met or self.credentials is None or not self.count():
            return None
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
        for key, texts in list(self._met.items()):
            value = self.credentials and self._digest.authorize(
                request.method, request.uri, request.body, texts, self.credentials, self._random
            )
            if value:
                authorization.append((key[0], value))
            else:
                del self._met[key]  # nothing that we can do
        return authorization


def _read(text: str) -> Challenge | None:
    try:
        return Challenge.parse(text)
    except SipError:
        return None

"""Who sent a request, by digest, and what to ask of those who have not shown it (section 22)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from voip.sip.digest_server import DigestServer, Verdict
from voip.sip.message import Request

__all__ = ["Authentication", "Authenticator"]

MAX_CREDENTIALS: Final = 4
"""Authorization lines of one request that are looked at."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """`user`: who it is, None for a stranger, whom `status` and `challenge` answer.

    `credentials`: the header value that showed it.
    """

    user: str | None
    status: int
    challenge: list[tuple[str, str]]
    credentials: str = field(default="", repr=False)


class Authenticator:
    """Asks for digest credentials: as a server (401), or as a `proxy` (407).

    `known(host, now)` is told of sources that showed a password, as `Guard.know` wants to be.
    """

    def __init__(
        self,
        digest: DigestServer,
        *,
        proxy: bool = False,
        known: Callable[[str, float], None] | None = None,
    ) -> None:
        self._digest = digest
        self._known = known
        self._status = 407 if proxy else 401
        self._asks = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
        self._answers = "Proxy-Authorization" if proxy else "Authorization"
        self._info = "Proxy-Authentication-Info" if proxy else "Authentication-Info"

    def authenticate(self, request: Request, now: float) -> Authentication:
        """Return who sent this."""
        stale = False
        for value in request.headers.get_all(self._answers)[:MAX_CREDENTIALS]:
            judgement = self._digest.verify(request.method, value, now, body=request.body)
            if judgement.verdict is Verdict.ACCEPTED:
                if self._known is not None:
                    self._known(request.via.received or request.via.host, now)
                return Authentication(judgement.username, 200, [], value)
            stale |= judgement.verdict in (Verdict.STALE, Verdict.REPLAYED)
        values = self._digest.challenge(now, stale=stale)
        return Authentication(None, self._status, [(self._asks, value) for value in values])

    def info(self, authentication: Authentication, now: float) -> list[tuple[str, str]]:
        """Return the header of a 2xx without body that proves that we know the password too."""
        return [(self._info, self._digest.info(authentication.credentials, b"", now))]

"""A state of ours, published (RFC 3903): made, kept, changed and removed, without I/O.

Fed like `registration.Registration`: events of the agent go to `handle`, `handle_timer` is called
when `next_timer` is due, and `events` is drained after each call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from voip.errors import RequestError, SipError
from voip.sip.agent import SipAgent
from voip.sip.client_request import ClientRequest
from voip.sip.digest import CredentialSource
from voip.sip.events import RequestDone, RequestFailed, SipEvent
from voip.sip.failover import Seek, Way
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr, parse_seconds
from voip.sip.message import Response
from voip.sip.uri import SipUri
from voip.types import Random

__all__ = ["Publication", "PublicationEvent", "PublicationFailed", "Published", "Unpublished"]

RETRY_BASE_S: Final = 30.0
RETRY_MAX_S: Final = 1800.0
_MARGIN_S: Final = 40.0
_MAX_RAISES: Final = 3
_MAX_CONDITION_FAILURES: Final = 3
_PASSING: Final = frozenset((408, 429, 430, 480, 491, 500, 502, 503, 504, 580))


@dataclass(frozen=True, slots=True)
class Published:
    """The compositor holds our state for `expires_s` seconds more, as `etag`."""

    etag: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class Unpublished:
    """We have taken it back; `error` says why it may still be held."""

    error: RequestError | None = None


@dataclass(frozen=True, slots=True)
class PublicationFailed:
    """It is not published; `retry_in_s` None: the refusal is final."""

    error: RequestError
    retry_in_s: float | None


PublicationEvent: TypeAlias = Published | Unpublished | PublicationFailed


class Publication:
    """One state of one package. What was asked last is what comes about, one PUBLISH at a time."""

    def __init__(
        self,
        agent: SipAgent,
        random: Random,
        *,
        target: SipUri | str,
        event: str,
        from_: NameAddr | str,
        flow: Flow,
        expires_s: int = 3600,
        route: Iterable[str] = (),
        credentials: CredentialSource | None = None,
        seek: Seek | None = None,
    ) -> None:
        self._agent = agent
        self._random = random
        self._target = str(target)
        self._event = event
        self._from = from_
        self._flow = flow
        self._wished_s = expires_s
        self._route = tuple(route)
        self._credentials = credentials
        self._seek = seek
        self._body = b""
        self._content_type: str | None = None
        self._etag: str | None = None
        self._changed = False  # the body is to be sent (again)
        self._wanted = False
        self._handle: ClientRequest | None = None
        self._removing = False
        self._wake: float | None = None
        self._failures = 0
        self._raises = 0
        self._misses = 0
        self._events: list[PublicationEvent] = []

    @property
    def etag(self) -> str | None:
        """What the compositor calls our state, None when it holds none."""
        return self._etag

    def publish(self, body: bytes, content_type: str, now: float) -> None:
        """Publish a state, or another one in its place."""
        self._body, self._content_type = body, content_type
        self._wanted = self._changed = True
        self._failures = 0
        self._proceed(now)

    def remove(self, now: float) -> None:
        """Take it back; ends in `Unpublished`."""
        if self._wanted:
            self._wanted = False
            self._proceed(now)

    def handle(self, event: SipEvent, now: float) -> bool:
        """Take an event of the agent; True when it was about our PUBLISH."""
        if not isinstance(event, RequestDone | RequestFailed) or event.handle is not self._handle:
            return False
        self._handle = None
        response = event.response
        status = response.status if isinstance(event, RequestDone) and response else 0
        if self._removing:
            self._removing = False
            self._etag = None
            self._left(None if status and status < 300 else self._error(event))
        elif status and status < 300 and response is not None:
            self._accept(response, now)
        elif status == 412:
            self._on_unknown(event, now)
        elif status == 423 and self._may_ask_longer(response):
            self._changed = True
            self._proceed(now)
        else:
            self._fail(event, response, now)
        return True

    def next_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called."""
        return self._wake

    def handle_timer(self, now: float) -> None:
        """Refresh, or try again, if that is due."""
        if self._wake is not None and now >= self._wake:
            self._send(now)

    def events(self) -> list[PublicationEvent]:
        """Return what has happened, in order, once."""
        events, self._events = self._events, []
        return events

    def _proceed(self, now: float) -> None:
        if self._handle is not None:
            return
        if self._wanted:
            self._send(now)
        elif self._etag is not None:
            self._removing = True
            self._send(now)
        else:
            self._left(None)

    def _send(self, now: float) -> None:
        """Send what is due: initial, modify, refresh or remove (section 4.1, table 1)."""
        self._wake = None
        body = self._body if not self._removing and (self._changed or self._etag is None) else b""
        self._changed = False
        headers = [
            ("Event", self._event),
            ("Expires", "0" if self._removing else str(self._wished_s)),
        ]
        if self._etag is not None:
            headers.append(("SIP-If-Match", self._etag))
        try:
            self._handle = self._agent.request(
                "PUBLISH",
                self._target,
                flow=self._flow,
                from_=self._from,
                to=f"<{self._target}>",
                route=self._route,
                headers=headers,
                body=body,
                content_type=self._content_type if body else None,
                credentials=self._credentials,
                seek=self._seek,
                moved=self._on_moved,
                now=now,
            )
        except SipError as error:  # the agent has no room for another transaction
            self._changed = True
            self._retry(RequestError(error.message, status=503), True, 0, now)

    def _on_moved(self, handle: ClientRequest, way: Way, now: float) -> None:
        """Take it that it goes another way, and so does what comes after it."""
        self._flow = way.flow
        self._route = self._route if way.route is None else way.route

    def _accept(self, response: Response, now: float) -> None:
        etag = response.headers.get("SIP-ETag")
        if not etag:
            error = RequestError("the compositor gives our state no name (SIP-ETag)", status=502)
            self._retry(error, False, 0, now)
            return
        self._etag = etag
        self._failures = self._raises = self._misses = 0
        granted = parse_seconds(response.headers.get("Expires"))
        seconds = self._wished_s if granted is None else min(granted, self._wished_s)
        self._events.append(Published(etag, seconds))
        if not self._wanted or self._changed:
            self._proceed(now)
            return
        latest = max(0.5 * seconds, min(0.9 * seconds, seconds - _MARGIN_S))
        self._wake = now + self._random.uniform(0.5 * seconds, latest)

    def _on_unknown(self, event: RequestDone | RequestFailed, now: float) -> None:
        """412: the compositor has forgotten our state, so it is published anew (section 4.3)."""
        self._etag = None
        self._changed = True
        self._misses += 1
        if self._misses >= _MAX_CONDITION_FAILURES:
            self._fail(event, event.response, now)
        else:
            self._proceed(now)

    def _may_ask_longer(self, response: Response | None) -> bool:
        least = parse_seconds(response.headers.get("Min-Expires")) if response else None
        if least is None or least <= self._wished_s or self._raises >= _MAX_RAISES:
            return False
        self._raises += 1
        self._wished_s = least
        return True

    def _fail(
        self, event: RequestDone | RequestFailed, response: Response | None, now: float
    ) -> None:
        status = response.status if response is not None else 408
        after = parse_seconds(response.headers.get("Retry-After")) if response else None
        self._changed = True
        self._retry(self._error(event), status in _PASSING or status == 412, after or 0, now)

    def _retry(self, error: RequestError, passing: bool, not_before: float, now: float) -> None:
        if not self._wanted:
            self._left(error)
            return
        self._failures += 1
        wait: float | None = None
        if passing:
            longest = min(RETRY_MAX_S, RETRY_BASE_S * 2.0 ** min(self._failures - 1, 16))
            wait = max(self._random.uniform(0.5 * longest, longest), not_before)
            self._wake = now + wait
        self._events.append(PublicationFailed(error, wait))

    def _left(self, error: RequestError | None) -> None:
        self._wake = None
        self._events.append(Unpublished(error))

    def _error(self, event: RequestDone | RequestFailed) -> RequestError:
        if isinstance(event, RequestFailed):
            return RequestError(f"PUBLISH to {self._target}: {event.reason}", status=event.status)
        response = event.response
        return RequestError(
            f"{self._target} refuses the PUBLISH: {response.reason} ({response.status})",
            status=response.status,
        )

"""States that users have published, kept until they expire: the compositor's part of RFC 3903.

One user may publish from several places; what the documents come to is for the event package to
say. Sections are RFC 3903's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from voip.errors import SipError
from voip.sip.event_headers import event_of
from voip.sip.headers import parse_seconds
from voip.sip.message import Request
from voip.sip.server_request import ServerRequest
from voip.sip.timers import Timer, Timers
from voip.types import Random

__all__ = ["Compositor", "CompositorConfig", "Package"]

_TAG_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class CompositorConfig:
    """How long (seconds) and how much.

    Less than `min_expires_s` is refused with 423, more than `max_expires_s` cut;
    `default_expires_s` is for who asks for nothing. `max_documents` in all and `max_of_user` of one
    user: one more is refused with 503. `max_bytes`: a longer document is refused with 413; what
    all of one user come to fits into a datagram.
    """

    min_expires_s: int = 60
    default_expires_s: int = 3600
    max_expires_s: int = 3600
    max_documents: int = 5_000
    max_of_user: int = 8
    max_bytes: int = 4_096


@dataclass(frozen=True, slots=True)
class Package:
    """An event package that is published.

    `check(body)` raises SipError (400) for what is no document of it.
    """

    content_type: str
    check: Callable[[bytes], object]


@dataclass(slots=True)
class _Document:
    body: bytes
    timer: Timer


class Compositor:
    """Takes PUBLISH requests of `packages`; `changed(package, user, now)` is told of other states.

    Who may publish whose state is for the caller to have decided.
    """

    def __init__(
        self,
        packages: Mapping[str, Package],
        timers: Timers,
        random: Random,
        changed: Callable[[str, str, float], None],
        config: CompositorConfig | None = None,
    ) -> None:
        self._packages = packages
        self._timers = timers
        self._random = random
        self._changed = changed
        self._config = config or CompositorConfig()
        self._documents: dict[tuple[str, str], dict[str, _Document]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def documents(self, package: str, user: str) -> list[bytes]:
        """Return what a user has published, the oldest first."""
        return [one.body for one in self._documents.get((package, user), {}).values()]

    def publish(self, publish: ServerRequest, user: str, now: float) -> None:
        """Answer a PUBLISH: make, refresh, change or remove a document (section 6).

        412 for one that is not there (any more), 423 for too short, 489 for another package, 415
        and 413 for what is no document or too long, 400 and 503 as they say.
        """
        try:
            etag, seconds = self._take(publish.request, user, now)
        except SipError as error:
            status = error.status or 400
            publish.reply(status, headers=self._more(publish.request, status), now=now)
            return
        headers = [("SIP-ETag", etag), ("Expires", str(seconds))]
        publish.reply(200, headers=headers, now=now)

    def _take(self, request: Request, user: str, now: float) -> tuple[str, int]:
        """Do it; return the name of the document and the seconds it has."""
        name = event_of(request).package
        package = self._packages.get(name)
        if package is None:
            raise SipError(f"{name} is not published here", status=489)
        seconds = self._seconds(request)
        key = name, user
        known = self._documents.get(key, {})
        before = _match(request)
        if before is not None and before not in known:
            raise SipError("nothing of that name is published", status=412)
        body = self._body(request, package)
        if before is None:
            if body is None:
                raise SipError("nothing to publish", status=400)
            self._check_room(known)
        etag = self._random.token(_TAG_CHARS)
        old = self._remove(key, before) if before is not None else b""
        if seconds:
            timer = self._timers.start(now + seconds, partial(self._expire, key, etag))
            new = old if body is None else body
            self._documents.setdefault(key, {})[etag] = _Document(new, timer)
            self._count += 1
        if body is not None or not seconds:
            self._changed(name, user, now)
        return etag, seconds

    def _seconds(self, request: Request) -> int:
        config = self._config
        asked = parse_seconds(request.headers.get("Expires"))
        seconds = config.default_expires_s if asked is None else asked
        if 0 < seconds < config.min_expires_s:
            raise SipError(f"{seconds} s is too short", status=423)
        return min(seconds, config.max_expires_s)

    def _body(self, request: Request, package: Package) -> bytes | None:
        """Return the document, None where a PUBLISH brings none."""
        if not request.body:
            return None
        if (request.content_type or "").lower() != package.content_type:
            raise SipError(f"{package.content_type} is needed", status=415)
        if len(request.body) > self._config.max_bytes:
            raise SipError(f"more than {self._config.max_bytes} bytes", status=413)
        package.check(request.body)
        return request.body

    def _check_room(self, known: Mapping[str, _Document]) -> None:
        config = self._config
        if len(known) >= config.max_of_user or self._count >= config.max_documents:
            raise SipError("too much is published already", status=503)

    def _more(self, request: Request, status: int) -> list[tuple[str, str]]:
        """Return what a refusal has to say besides its status."""
        match status:
            case 423:
                return [("Min-Expires", str(self._config.min_expires_s))]
            case 489:
                return [("Allow-Events", ", ".join(self._packages))]
            case 415:
                return [("Accept", self._packages[event_of(request).package].content_type)]
            case 503:
                return [("Retry-After", "60")]
        return []

    def _expire(self, key: tuple[str, str], etag: str, now: float) -> None:
        self._remove(key, etag)
        self._changed(*key, now)

    def _remove(self, key: tuple[str, str], etag: str) -> bytes:
        document = self._documents[key].pop(etag)
        document.timer.cancel()
        self._count -= 1
        if not self._documents[key]:
            del self._documents[key]
        return document.body


def _match(request: Request) -> str | None:
    """Return the entity-tag of SIP-If-Match; SipError (400) for more than one (section 6, 3)."""
    values = request.headers.get_all("SIP-If-Match")
    if len(values) > 1:
        raise SipError("more than one SIP-If-Match", status=400)
    return values[0].strip() if values else None

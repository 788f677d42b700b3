"""Session timers: a call that is not refreshed in time is over (RFC 4028).

Sections without another name are RFC 4028's. The headers are made and judged by functions; a
`SessionTimer` is what one dialog remembers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from voip.errors import SipError
from voip.sip.config import AgentConfig
from voip.sip.grammar import find_param, parse_params
from voip.sip.headers import parse_seconds
from voip.sip.message import Request, Response
from voip.sip.reliable import has_option, supports
from voip.sip.timers import Timer, Timers

__all__ = [
    "MIN_INTERVAL_S",
    "OPTION",
    "SessionExpires",
    "SessionTimer",
    "granted",
    "interval_too_small",
    "raised",
    "wanted",
]

OPTION: Final = "timer"
MIN_INTERVAL_S: Final = 90
"""No session may be shorter (section 4)."""

_BEFORE_END_S: Final = 32.0
"""How long before the end of a session it is given up, or a third of it (section 10)."""
_LAST_TRY_S: Final = 5.0
"""A refresh that failed is not tried again later than this before the end."""


@dataclass(frozen=True, slots=True)
class SessionExpires:
    """How long a session lasts without a refresh, in seconds, and whose task that is.

    `refresher`: "uac" or "uas" of the request it is about, None where nobody has said it.
    """

    interval: int
    refresher: str | None = None

    @classmethod
    def of(cls, message: Request | Response) -> SessionExpires | None:
        """Read a message's Session-Expires; None where there is none that can be read."""
        text = message.headers.get("Session-Expires")
        interval = parse_seconds(text)
        if text is None or interval is None:
            return None
        _, semicolon, rest = text.partition(";")
        try:
            refresher = find_param(parse_params(semicolon + rest), "refresher")
        except SipError:
            refresher = None
        known = refresher.lower() if refresher else None
        return cls(interval, known if known in ("uac", "uas") else None)

    def __str__(self) -> str:
        return (
            f"{self.interval};refresher={self.refresher}" if self.refresher else f"{self.interval}"
        )


def wanted(config: AgentConfig) -> list[tuple[str, str]]:
    """Return what our first INVITE asks for (section 7.1)."""
    if config.session_expires is None or OPTION not in config.supported:
        return []
    refresher = {"us": "uac", "them": "uas"}.get(config.refresher or "")
    lines = [("Session-Expires", str(SessionExpires(config.session_expires, refresher)))]
    if config.min_session_expires > MIN_INTERVAL_S:
        lines.append(("Min-SE", str(config.min_session_expires)))
    return lines


def interval_too_small(request: Request, config: AgentConfig) -> bool:
    """Whether a refresh or INVITE asks for less than we allow: 422 (section 9)."""
    if OPTION not in config.supported or not has_option(request, "Supported", OPTION):
        return False
    asked = SessionExpires.of(request)
    return asked is not None and asked.interval < config.min_session_expires


def granted(request: Request, config: AgentConfig) -> SessionExpires | None:
    """Return what our 2xx to `request` says, None: this session does not expire (section 9)."""
    if OPTION not in config.supported:
        return None
    asked, knows = SessionExpires.of(request), supports(request, OPTION)
    least = max(_min_se(request), config.min_session_expires)
    ours = config.session_expires
    if asked is None:
        if ours is None or not knows:
            return None
        refresher = "uac" if config.refresher == "them" else "uas"
        return SessionExpires(max(ours, least), refresher)
    if asked.interval < config.min_session_expires:
        return None  # of a caller that would not understand 422
    interval = asked.interval if ours is None else min(asked.interval, max(ours, least))
    if not knows:
        return SessionExpires(interval, "uas")
    return SessionExpires(
        interval, asked.refresher or ("uas" if config.refresher == "us" else "uac")
    )


def raised(request: Request, response: Response) -> list[tuple[str, str]] | None:
    """Return the headers with which a request that got 422 is tried again (section 7.4).

    None where the response does not ask for more than the request did.
    """
    least = _min_se(response)
    asked = SessionExpires.of(request)
    if asked is None or least <= max(asked.interval, MIN_INTERVAL_S - 1):
        return None
    again = SessionExpires(least, asked.refresher)
    return [("Session-Expires", str(again)), ("Min-SE", str(max(least, _min_se(request))))]


def _min_se(message: Request | Response) -> int:
    return max(parse_seconds(message.headers.get("Min-SE")) or 0, MIN_INTERVAL_S)


def _given_up_before(interval: int) -> float:
    """Return how long before its end a session is over for who waits for a refresh."""
    return min(_BEFORE_END_S, interval / 3)


class SessionTimer:
    """The timer of one dialog; stopped while there is no agreement on one.

    `refresh` is called when it is our turn, `expire` when the session is over: nobody has
    refreshed it.
    """

    def __init__(
        self,
        config: AgentConfig,
        timers: Timers,
        *,
        refresh: Callable[[float], None],
        expire: Callable[[float], None],
    ) -> None:
        self.interval: int | None = None
        self.is_ours = False
        """Whether we refresh."""
        self._config = config
        self._timers = timers
        self._do_refresh = refresh
        self._do_expire = expire
        self._least = 0  # the largest Min-SE heard of in this dialog
        self._expiry: Timer | None = None
        self._refresh: Timer | None = None
        self._asked_at: float | None = None  # when the refresh under way was begun

    def headers(self) -> list[tuple[str, str]]:
        """Return what our re-INVITEs and UPDATEs say (section 7.4)."""
        if self.interval is None:
            return []
        interval = max(self.interval, self._least)
        expires = SessionExpires(interval, "uac" if self.is_ours else "uas")
        lines = [("Session-Expires", str(expires))]
        if self._least:
            lines.append(("Min-SE", str(self._least)))
        return lines

    def on_request(self, request: Request) -> None:
        """Remember the least that a refresh of the peer's may ask for, as ours has to say it."""
        if "Min-SE" in request.headers:
            self._least = max(self._least, _min_se(request))

    def on_granted(self, expires: SessionExpires | None, now: float) -> None:
        """Take it that our 2xx has said so."""
        self._set(expires, ours=expires is not None and expires.refresher == "uas", now=now)

    def on_success(self, request: Request, response: Response, now: float) -> None:
        """Take the 2xx to an INVITE or UPDATE of ours (section 7.2)."""
        self.on_request(request)  # a 422 has raised it
        expires = SessionExpires.of(response) if OPTION in self._config.supported else None
        self._set(expires, ours=expires is not None and expires.refresher != "uas", now=now)

    def on_failure(self, now: float) -> None:
        """Take it that a refresh of ours failed: try again halfway to the end, if that is long.

        The peer's end comes first, if it gives the session up when it may (section 10).
        """
        if self._expiry is None or self.interval is None:
            return
        if not self.is_ours or self._refresh is not None:
            return
        end = self._expiry.at
        for left in (end - _given_up_before(self.interval) - now, end - now):
            if left > 2 * _LAST_TRY_S:
                self._refresh = self._timers.start(now + left / 2, self._on_refresh)
                return

    def stop(self) -> None:
        """The session does not expire (any more)."""
        self.interval = None
        for timer in (self._expiry, self._refresh):
            if timer is not None:
                timer.cancel()
        self._expiry = self._refresh = None

    def end(self) -> None:
        """The dialog is over: stop for good, and let go of whom it has called."""
        self.stop()
        self._do_refresh = self._do_expire = _nobody

    def _set(self, expires: SessionExpires | None, *, ours: bool, now: float) -> None:
        self.stop()
        if expires is None:
            return
        interval = self.interval = max(expires.interval, MIN_INTERVAL_S)
        self.is_ours = ours
        # Who waits for the refresh ends the session a little before its end, who sends it not
        # while that may still be answered (section 10).
        before = 0.0 if ours else _given_up_before(interval)
        self._expiry = self._timers.start(now + interval - before, self._on_expiry)
        if ours:  # the peer counts from the request, whose answer may have come much later
            since = now if self._asked_at is None else self._asked_at
            due = max(now, since + interval / 2)
            self._refresh = self._timers.start(due, self._on_refresh)
        self._asked_at = None

    def _on_refresh(self, now: float) -> None:
        self._refresh = None
        self._asked_at = now if self._asked_at is None else self._asked_at
        self._do_refresh(now)

    def _on_expiry(self, now: float) -> None:
        self._expiry = None
        self.stop()
        self._do_expire(now)


def _nobody(now: float) -> None:
    """Hear of the timer of a dialog that is over."""

"""A re-INVITE of ours: a change to a running session (RFC 3261 section 14.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

from voip.errors import SipError
from voip.sip.challenge import Challenges, Failure
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.events import Cause, ReinviteDone
from voip.sip.headers import Headers, parse_seconds
from voip.sip.invite_attempt import InviteAttempt
from voip.sip.message import REASONS, Request, Response
from voip.sip.timers import Timer
from voip.sip.usage import InviteUsage

__all__ = ["Reinvite", "ReinviteState"]

_MAX_RETRY_AFTER_S: Final = 10
"""What a 500 to a crossing re-INVITE may ask us to wait (section 14.2)."""


class ReinviteState(Enum):
    """How far a re-INVITE has come. WAITING: for another INVITE in the dialog, or after glare."""

    WAITING = "waiting"
    SENT = "sent"
    DONE = "done"


class Reinvite:
    """A change we asked for; the handle of `SipAgent.reinvite`.

    It waits until no other INVITE is under way in the dialog. Where it crosses one of the peer's
    (491), it is sent anew after the random wait of section 14.1.
    """

    def __init__(
        self,
        core: Core,
        usage: InviteUsage,
        *,
        headers: Iterable[tuple[str, str]],
        body: bytes | Callable[[], bytes],
        content_type: str | None,
    ) -> None:
        self.dialog: Dialog = usage.dialog
        self.state = ReinviteState.WAITING
        self.attempts = 0
        self._core = core
        self._usage = usage
        self._headers = list(Headers(headers))  # refused here, or not at all
        self._make_body = body
        self._body = b""
        self._content_type = content_type
        self._attempt: InviteAttempt | None = None
        self._wait: Timer | None = None

    def proceed(self, now: float) -> None:
        """Send it, unless it has to wait: for its random time, or for another INVITE."""
        if self.state is ReinviteState.WAITING and self._wait is None and not self._usage.busy:
            self._send(now)

    def abandon(self, now: float) -> None:
        """Take it that the call is over. What is on its way is still acknowledged."""
        self._done(Failure(487, REASONS[487], Cause.CANCELLED), now)

    def next_cseq(self) -> int:
        """Count our requests in the dialog."""
        return self.dialog.next_cseq()

    def on_progress(self, response: Response, now: float) -> None:
        """Pass over a 1xx: the session goes on as it is."""

    def on_success(self, response: Response, now: float) -> None:
        """Acknowledge the 2xx, take the peer's new target, and be done."""
        invite = self._request
        if self._usage.repeat_ack(invite):
            return
        try:
            self.dialog.refresh_target(response)
        except SipError:
            self._core.counters.malformed += 1  # the old target stays
        over = self.state is ReinviteState.DONE
        self._usage.acknowledge(invite, offered=bool(self._body) or over)
        self._done(response, now)

    def on_failure(self, failure: Failure, now: float) -> None:
        """Try again after glare, or be done; the session stays as it was."""
        if self.state is not ReinviteState.SENT:
            return
        wait = self._wait_after(failure)
        if wait is not None and self.attempts < self._core.config.max_attempts:
            self.state = ReinviteState.WAITING
            self._wait = self._core.timers.start(now + wait, self._on_waited)
            return
        self._done(failure, now)
        self._usage.judge(failure, now)

    def on_over(self, now: float) -> None:
        """Take it that the 2xx is not repeated any more."""
        self._usage.forget_ack(self._request)

    @property
    def _request(self) -> Request:
        if self._attempt is None:
            raise SipError("the re-INVITE has not been sent")
        return self._attempt.request

    def _send(self, now: float) -> None:
        core = self._core
        self._body = self._make_body() if callable(self._make_body) else self._make_body
        request = self.dialog.request(
            "INVITE",
            random=core.random,
            headers=[
                ("Contact", self.dialog.contact),
                *core.request_headers(describe=True),
                *self._headers,
            ],
            body=self._body,
            content_type=self._content_type,
        )
        challenges = Challenges(
            self.dialog.credentials, core.digest, core.random, core.config.max_attempts
        )
        self.state = ReinviteState.SENT
        self.attempts += 1
        self._attempt = InviteAttempt(core, self, request, self.dialog.flow, challenges)
        self._attempt.start(now)

    def _wait_after(self, failure: Failure) -> float | None:
        """Return how long to wait until the next try, None when there is none."""
        if failure.status == 491:
            # In units of 10 ms; the owner of the Call-ID waits longer.
            low, high = (210, 401) if self.dialog.is_caller else (0, 201)
            return (low + self._core.random.below(high - low)) / 100
        if failure.status == 500 and failure.response is not None:
            seconds = parse_seconds(failure.response.headers.get("Retry-After"))
            if seconds is not None and seconds <= _MAX_RETRY_AFTER_S:
                return float(seconds)
        return None

    def _on_waited(self, now: float) -> None:
        self._wait = None
        self.proceed(now)

    def _done(self, outcome: Response | Failure, now: float) -> None:
        if self.state is ReinviteState.DONE:
            return
        self.state = ReinviteState.DONE
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
        self._usage.reinvite = None
        response = outcome.response if isinstance(outcome, Failure) else outcome
        self._core.emit(ReinviteDone(self, self.dialog, outcome.status, outcome.reason, response))

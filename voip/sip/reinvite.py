"""A re-INVITE of ours: a change to a running session (RFC 3261 section 14.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from voip.errors import SipError
from voip.sip.challenge import Challenges, Failure
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.dialog_way import seek_within
from voip.sip.events import Cause, ReinviteDone, ReinviteProgress
from voip.sip.failover import Way
from voip.sip.flow import Peer
from voip.sip.glare import wait_after
from voip.sip.headers import Headers
from voip.sip.invite_attempt import InviteAttempt
from voip.sip.message import REASONS, Request, Response
from voip.sip.multipart import session_description
from voip.sip.reliable import response_number
from voip.sip.timers import Timer
from voip.sip.usage import InviteUsage

__all__ = ["Reinvite", "ReinviteState"]


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
        self._began = float("inf")  # when it was sent for the first time
        self._core = core
        self._usage = usage
        self._headers = list(Headers(headers))  # refused here, or not at all
        self._make_body = body
        self._body = b""
        self._content_type = content_type
        self._attempt: InviteAttempt | None = None
        self._wait: Timer | None = None
        self._tried: set[Peer] = set()

    def proceed(self, now: float) -> None:
        """Send it, unless it has to wait: for its random time, or for another INVITE."""
        usage = self._usage
        busy = usage.busy or (usage.update is not None and usage.update.open)
        if self.state is ReinviteState.WAITING and self._wait is None and not busy:
            self._send(now, self._make_body() if callable(self._make_body) else self._make_body)

    def abandon(self, now: float) -> None:
        """Take it that the call is over. What is on its way is still acknowledged."""
        if self._attempt is not None:
            self._attempt.withdraw()
        self._done(Failure(487, REASONS[487], Cause.CANCELLED), now)

    def on_progress(self, response: Response, now: float) -> None:
        """Acknowledge a reliable 1xx; the session goes on as it is until the 2xx."""
        if self.state is ReinviteState.SENT and response_number(response) is not None:
            acks = self._usage.pracks_for(self._request)
            if acks.take(response, by_hand=False, now=now):
                event = ReinviteProgress(self, self.dialog, response, acks.owed)
                self._core.emit(event)

    def on_success(self, response: Response, now: float) -> None:
        """Acknowledge the 2xx, take the peer's new target, and be done."""
        invite = self._request
        if self._usage.repeat_ack(invite):
            return
        self._core.learn_target(self.dialog, response)
        over = self.state is ReinviteState.DONE
        if not over:
            self._usage.timer.on_success(invite, response, now)
        early = self._usage.early_description(invite)
        self._usage.acknowledge(invite, offered=bool(self._body or early) or over, now=now)
        self._done(response, now, early or session_description(response))

    def on_failure(self, failure: Failure, now: float) -> None:
        """Try again after glare, or be done; the session stays as it was."""
        if self.state is not ReinviteState.SENT:
            return
        tried_for = now - self._began
        wait = wait_after(failure, self.dialog, self._core.random, tried_for=tried_for)
        if wait is not None:
            self.state = ReinviteState.WAITING
            self._wait = self._core.timers.start(now + wait, self._on_waited)
            return
        self._done(failure, now)
        self._usage.judge(failure, now)

    def on_way(self, way: Way, now: float) -> None:
        """Send it anew by another way: nobody answers by this one."""
        if self._attempt is not None:
            self._tried.add(self._attempt.flow.peer)
            self._attempt.leave(_Left(self._usage, self._attempt.request), now)
            self.dialog.flow = way.flow
            self._send(now, self._body)

    def on_over(self, now: float) -> None:
        """Take it that the 2xx is not repeated any more."""
        self._usage.forget_ack(self._request)

    @property
    def _request(self) -> Request:
        if self._attempt is None:
            raise SipError("the re-INVITE has not been sent")
        return self._attempt.request

    def _send(self, now: float, body: bytes) -> None:
        core, self._body = self._core, body
        request = self.dialog.request(
            "INVITE",
            random=core.random,
            headers=[
                ("Contact", self.dialog.contact),
                *core.request_headers(describe=True),
                *self._usage.timer.headers(),
                *self._headers,
            ],
            body=self._body,
            content_type=self._content_type,
        )
        challenges = Challenges(
            self.dialog.credentials, core.digest, core.random, core.config.max_attempts
        )
        self.state = ReinviteState.SENT
        self._began = min(self._began, now)
        self._attempt = InviteAttempt(
            core,
            self,
            request,
            self.dialog.flow,
            challenges,
            core.failover(seek_within(core, self.dialog), self._tried),
            self.dialog,
        )
        self._attempt.start(now)

    def _on_waited(self, now: float) -> None:
        self._wait = None
        self.proceed(now)

    @property
    def open(self) -> bool:
        """Whether its offer is on its way and has no answer yet."""
        sent = self.state is ReinviteState.SENT and bool(self._body)
        return sent and not self._usage.early_description(self._request)

    def _done(self, outcome: Response | Failure, now: float, body: bytes = b"") -> None:
        if self.state is ReinviteState.DONE:
            return
        self.state = ReinviteState.DONE
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
        self._usage.reinvite = None
        if outcome.status >= 300:
            self._usage.on_refresh_failed(outcome.status, now)
        response = outcome.response if isinstance(outcome, Failure) else outcome
        self._core.emit(
            ReinviteDone(self, self.dialog, outcome.status, outcome.reason, response, body)
        )


class _Left:
    """Who has a re-INVITE that was left for another way: a late 2xx is acknowledged, no more."""

    def __init__(self, usage: InviteUsage, invite: Request) -> None:
        self._usage = usage
        self._invite = invite

    def on_progress(self, response: Response, now: float) -> None:
        """Pass over it: it is being cancelled."""

    def on_success(self, response: Response, now: float) -> None:
        """Acknowledge it: the peer waits for that."""
        if not self._usage.repeat_ack(self._invite):
            self._usage.acknowledge(self._invite, offered=True, now=now)

    def on_failure(self, failure: Failure, now: float) -> None:
        """Pass over it: the other one counts."""

    def on_way(self, way: Way, now: float) -> None:
        """Go nowhere else."""

    def on_over(self, now: float) -> None:
        """Take it that the 2xx is not repeated any more."""
        self._usage.forget_ack(self._invite)

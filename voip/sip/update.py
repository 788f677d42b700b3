"""An UPDATE of ours: a change to a session, or its refresh, at once (RFC 3311)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING

from voip.sip.challenge import Challenges, Failure
from voip.sip.client_request import ClientRequest
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.events import Cause, UpdateDone
from voip.sip.glare import wait_after
from voip.sip.headers import Headers
from voip.sip.message import REASONS, Response
from voip.sip.timers import Timer

if TYPE_CHECKING:
    from voip.sip.usage import InviteUsage

__all__ = ["Update", "UpdateState"]


class UpdateState(Enum):
    """How far an UPDATE has come. WAITING: for another offer to be answered, or after glare."""

    WAITING = "waiting"
    SENT = "sent"
    DONE = "done"


class Update:
    """An UPDATE we want; the handle of `SipAgent.update`.

    With a body, an offer, it waits until no other offer is open in the dialog, and is sent anew
    after glare. `silent`: nobody is told how it ended.
    """

    def __init__(
        self,
        core: Core,
        usage: InviteUsage,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | Callable[[], bytes] = b"",
        content_type: str | None = None,
        silent: bool = False,
    ) -> None:
        self.dialog: Dialog = usage.dialog
        self.state = UpdateState.WAITING
        self._began = float("inf")  # when it was sent for the first time
        self._core = core
        self._usage = usage
        self._headers = list(Headers(headers))  # refused here, or not at all
        self._body = body
        self._content_type = content_type
        self._silent = silent
        self._wait: Timer | None = None

    @property
    def offers(self) -> bool:
        """Whether it carries an offer."""
        return bool(self._body)

    @property
    def open(self) -> bool:
        """Whether its offer is on its way and has no answer yet."""
        return self.offers and self.state is UpdateState.SENT

    def proceed(self, now: float) -> None:
        """Send it, unless it has to wait: for its random time, or for another offer's answer."""
        if self.state is UpdateState.WAITING and self._wait is None:
            if self.offers and self._usage.exchange_open:
                return
            self._send(now)

    def abandon(self, now: float) -> None:
        """Take it that the call is over."""
        self._done(Failure(487, REASONS[487], Cause.CANCELLED), now)

    def _send(self, now: float) -> None:
        core, usage = self._core, self._usage
        body = self._body() if callable(self._body) else self._body
        request = self.dialog.request(
            "UPDATE",
            random=core.random,
            headers=[
                ("Contact", self.dialog.contact),
                *core.request_headers(describe=True),
                *usage.timer.headers(),
                *self._headers,
            ],
            body=body,
            content_type=self._content_type if body else None,
        )
        challenges = Challenges(
            self.dialog.credentials, core.digest, core.random, core.config.max_attempts
        )
        self.state = UpdateState.SENT
        self._began = min(self._began, now)
        ClientRequest(core, request, self.dialog.flow, challenges, self._finish, self.dialog).start(
            now
        )

    def _finish(self, handle: ClientRequest, outcome: Response | Failure, now: float) -> None:
        if self.state is not UpdateState.SENT:
            return
        if isinstance(outcome, Response) and outcome.status < 300:
            self._core.learn_target(self.dialog, outcome)
            self._usage.timer.on_success(handle.request, outcome, now)
            self._done(outcome, now)
            self._usage.settle(now)
            return
        failure = _as_failure(outcome)
        tried_for = now - self._began
        wait = wait_after(failure, self.dialog, self._core.random, tried_for=tried_for)
        if wait is not None:
            self.state = UpdateState.WAITING
            self._wait = self._core.timers.start(now + wait, self._on_waited)
            return
        self._done(outcome, now)
        self._usage.judge(outcome, now)
        self._usage.settle(now)

    def _on_waited(self, now: float) -> None:
        self._wait = None
        self.proceed(now)

    def _done(self, outcome: Response | Failure, now: float) -> None:
        if self.state is UpdateState.DONE:
            return
        self.state = UpdateState.DONE
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
        self._usage.update = None
        if outcome.status >= 300:
            self._usage.on_refresh_failed(outcome.status, now, silent=self._silent)
        if self._silent:
            return
        response = outcome.response if isinstance(outcome, Failure) else outcome
        self._core.emit(UpdateDone(self, self.dialog, outcome.status, outcome.reason, response))


def _as_failure(outcome: Response | Failure) -> Failure:
    if isinstance(outcome, Failure):
        return outcome
    return Failure(outcome.status, outcome.reason, Cause.RESPONSE, outcome)

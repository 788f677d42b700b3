"""One INVITE of ours on its way: challenges, Timer C and CANCEL, whoever it is for.

`client_invite` (a new call) and `reinvite` (a change to one) own such an attempt and decide what
its outcome means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from voip.sip.challenge import Challenges, Failure
from voip.sip.compose import cancel, over, renewed
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.dialog_way import by_way_of
from voip.sip.events import Cause
from voip.sip.failover import Failover, Way
from voip.sip.flow import Flow
from voip.sip.message import REASONS, Request, Response
from voip.sip.retry import changed_for_retry, next_cseq
from voip.sip.timers import Timer
from voip.sip.transaction import UNHEEDED, ClientTransaction
from voip.sip.via import new_via

__all__ = ["AttemptOwner", "InviteAttempt"]


class AttemptOwner(Protocol):
    """Whose INVITE it is."""

    def on_progress(self, response: Response, now: float) -> None:
        """Take a 1xx."""
        ...

    def on_success(self, response: Response, now: float) -> None:
        """Take a 2xx: the first one, its repetitions, and those of other forks."""
        ...

    def on_failure(self, failure: Failure, now: float) -> None:
        """Take it that the INVITE came to nothing. Nothing comes after this."""
        ...

    def on_way(self, way: Way, now: float) -> None:
        """Go on by another way: nobody answers by this one. See `leave`."""
        ...

    def on_over(self, now: float) -> None:
        """Take it that no more 2xx come, 64*T1 after the first one. Not called after a failure."""
        ...


class InviteAttempt:
    """An INVITE of ours until its last response. `request` is the latest try.

    `dialog`: the one it was sent in, None where it begins one.
    """

    def __init__(
        self,
        core: Core,
        owner: AttemptOwner,
        request: Request,
        flow: Flow,
        challenges: Challenges,
        failover: Failover[Failure],
        dialog: Dialog | None = None,
    ) -> None:
        self.request = request
        self.flow = flow
        self.cancelled = False
        self._failover = failover
        self._core = core
        self._owner: AttemptOwner = owner
        self._challenges = challenges
        self._dialog = dialog
        self._pending = True  # no final response yet
        self._succeeded = False
        self._cancel_sent = False
        self._expired = False  # cancelled by Timer C
        self._timer: Timer | None = None
        self._progressed = False
        self._transaction: ClientTransaction | None = None

    def start(self, now: float) -> None:
        """Send the INVITE; within a dialog when the way is known."""
        self._challenges.begin(self.request)
        if self._dialog is None:
            self._begin(now)
        else:
            by_way_of(self._core, self._dialog, self._begin, now)

    def _begin(self, now: float) -> None:
        if self.cancelled:  # it is nowhere
            self._fail(Failure(487, REASONS[487], Cause.CANCELLED), now)
            return
        if self._dialog is not None and self._dialog.flow != self.flow:
            self.flow = self._dialog.flow
            self.request = over(self.request, self.flow)
        self._failover.begin(self.flow, self._go_by, now)
        self._send(now)

    def _send(self, now: float) -> None:
        self._progressed = False
        self._transaction = self._core.transactions.request(self.request, self.flow, self, now)

    def cancel(self, now: float) -> None:
        """Give the INVITE up: CANCEL it now, or as soon as a provisional response allows (9.1).

        Once there is a final response this does nothing.
        """
        if self._pending and not self.cancelled:
            self.cancelled = True
            if self._failover.failed:  # it is nowhere
                self._fail(Failure(487, REASONS[487], Cause.CANCELLED), now)
            elif self._progressed:
                self._send_cancel(now)
            self._failover.stop()

    def withdraw(self) -> None:
        """Do not send it any more; nothing happens once it is on its way."""
        self.cancelled = self.cancelled or self._transaction is None

    def leave(self, owner: AttemptOwner | None, now: float) -> None:
        """Give the INVITE up for one that goes another way; `owner` has what still comes of it."""
        self._owner = owner or self._owner
        self.cancel(now)

    def _go_by(self, way: Way, now: float) -> None:
        self._owner.on_way(way, now)

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Sort a response."""
        if transaction is not self._transaction:
            return
        self._failover.hear()
        if response.status < 200:
            self._on_provisional(response, now)
        elif response.status < 300:
            self._settle()
            if not self._succeeded:
                self._challenges.judge(self.request, response)
                self._core.counters.unproven += self._challenges.proven is False
            self._succeeded = True
            self._failover.stop()
            self._owner.on_success(response, now)
        else:
            self._on_refusal(response, now)

    def on_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """Timer B."""
        if transaction is self._transaction:
            failure = Failure(408, "no answer to the INVITE", Cause.TIMEOUT)
            self._fail_over(failure, now)

    def on_transport_error(self, transaction: ClientTransaction, message: str, now: float) -> None:
        """Nothing gets there."""
        if transaction is self._transaction and self._pending:
            self._fail_over(Failure(503, message, Cause.TRANSPORT), now)

    def on_terminated(self, transaction: ClientTransaction, now: float) -> None:
        """Timer M, or the end of a failure."""
        if transaction is self._transaction and self._succeeded:
            owner, self._owner = self._owner, _NOBODY
            owner.on_over(now)

    def _on_provisional(self, response: Response, now: float) -> None:
        self._progressed = True
        if self.cancelled:
            if not self._cancel_sent:
                self._send_cancel(now)
            return
        self._start_timer(now + self._core.config.silence_limit, self._on_timer_c)
        self._owner.on_progress(response, now)

    def _on_refusal(self, response: Response, now: float) -> None:
        status = response.status
        cause = Cause.RESPONSE
        if status in (401, 407):
            answer = None if self.cancelled else self._challenges.answer(self.request, response)
            if answer is not None:
                self._renew(answer, now)
                return
            cause = Cause.AUTHENTICATION
        elif not self.cancelled:
            changed = changed_for_retry(self.request, response, self._dialog, self._challenges)
            if changed is not None:
                self._renew(self._challenges.authorize(self.request), now, changed)
                return
        failure = Failure(status, response.reason or REASONS.get(status, ""), cause, response)
        if status == 503:
            self._fail_over(failure, now)
        else:
            self._fail(failure, now)

    def _renew(
        self,
        authorization: list[tuple[str, str]],
        now: float,
        changed: list[tuple[str, str]] | None = None,
    ) -> None:
        self._settle(pending=True)
        self.request = renewed(
            self.request,
            via=new_via(self.flow, self._core.random),
            cseq=next_cseq(self.request, self._dialog),
            authorization=authorization,
            changed=changed or (),
        )
        self._send(now)

    def _send_cancel(self, now: float) -> None:
        self._cancel_sent = True
        invite = self._transaction  # it may go another way than asked for (18.1.1)
        if invite is not None:
            self._core.transactions.request(cancel(invite.request), invite.flow, UNHEEDED, now)
        # No final response 64*T1 after the CANCEL: the INVITE counts as cancelled (9.1).
        self._start_timer(now + self._core.durations.timeout, self._on_no_final)

    def _on_timer_c(self, now: float) -> None:
        self._timer = None
        self._expired = True
        self.cancel(now)

    def _on_no_final(self, now: float) -> None:
        self._timer = None
        transaction, self._transaction = self._transaction, None
        self._fail(Failure(487, REASONS[487], Cause.CANCELLED), now)
        if transaction is not None:
            transaction.stop(now)

    def _fail_over(self, failure: Failure, now: float) -> None:
        """Go another way, or fail where there is none."""
        self._settle(pending=True)
        self._progressed = False  # nobody is left to be sent a CANCEL
        self._failover.fail(failure, self._fail, now)

    def _fail(self, failure: Failure, now: float) -> None:
        self._settle()
        self._failover.stop()
        if self._expired:
            limit = self._core.config.silence_limit
            failure = Failure(408, f"no news for {limit:g} s", Cause.TIMEOUT, failure.response)
        elif self.cancelled:
            failure = Failure(487, REASONS[487], Cause.CANCELLED, failure.response)
        owner, self._owner = self._owner, _NOBODY
        owner.on_failure(failure, now)

    def _settle(self, pending: bool = False) -> None:
        self._pending = pending
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, at: float, fire: Callable[[float], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._core.timers.start(at, fire)


class _Nobody:
    """Whose INVITE it was: it and its attempt name each other, and one has to let go."""

    def on_progress(self, response: Response, now: float) -> None:
        """Pass over it."""

    def on_success(self, response: Response, now: float) -> None:
        """Pass over it."""

    def on_failure(self, failure: Failure, now: float) -> None:
        """Pass over it."""

    def on_way(self, way: Way, now: float) -> None:
        """Pass over it."""

    def on_over(self, now: float) -> None:
        """Pass over it."""


_NOBODY: Final = _Nobody()

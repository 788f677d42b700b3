"""A request of ours that is not an INVITE (RFC 3261 section 17.1.2): REGISTER, OPTIONS, BYE ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from voip.sip.challenge import Challenges, Failure
from voip.sip.compose import over, renewed
from voip.sip.core import Core
from voip.sip.dialog import Dialog
from voip.sip.dialog_way import by_way_of, seek_within
from voip.sip.events import Cause, RequestDone, RequestFailed
from voip.sip.failover import Failover, Seek, Way
from voip.sip.flow import Flow
from voip.sip.message import REASONS, Request, Response
from voip.sip.retry import changed_for_retry, next_cseq
from voip.sip.transaction import ClientTransaction
from voip.sip.via import new_via

__all__ = ["ClientRequest", "Finish", "report"]

Finish: TypeAlias = "Callable[[ClientRequest, Response | Failure, float], None]"
"""Who is told the outcome, once."""


class ClientRequest:
    """A request of ours on its way; the handle of `SipAgent.request` and `dialog_request`.

    `request` is the latest try: a challenge is answered with a new CSeq number. `dialog` is the
    one it was sent in, None outside of any. `seek` finds other ways for one outside of dialogs,
    those within look for themselves; `moved` is told when another is taken, with it.
    """

    def __init__(
        self,
        core: Core,
        request: Request,
        flow: Flow,
        challenges: Challenges,
        finish: Finish,
        dialog: Dialog | None = None,
        *,
        seek: Seek | None = None,
        moved: Callable[[ClientRequest, Way, float], None] | None = None,
    ) -> None:
        self.request = request
        self.flow = flow
        self.dialog = dialog
        self.done = False
        self._core = core
        self._challenges = challenges
        self._finish = finish
        self._moved = moved
        self._failover: Failover[Response | Failure] = core.failover(
            seek_within(core, dialog) if dialog is not None else seek
        )
        self._transaction: ClientTransaction | None = None

    @property
    def authorized(self) -> bool:
        """Whether credentials have been sent."""
        return self._challenges.answered

    @property
    def proven(self) -> bool | None:
        """Whether the answer proved that its sender knows our password; None: it did not say."""
        return self._challenges.proven

    def start(self, now: float) -> None:
        """Send it; within a dialog when the way is known."""
        self._challenges.begin(self.request)
        if self.dialog is None:
            self._begin(now)
        else:
            by_way_of(self._core, self.dialog, self._begin, now)

    def _begin(self, now: float) -> None:
        if self.done:
            return
        if self.dialog is not None and self.dialog.flow != self.flow:
            self.flow = self.dialog.flow
            self.request = over(self.request, self.flow)
        self._failover.begin(self.flow, self._go_by, now)
        self._send(now)

    def _send(self, now: float) -> None:
        self._transaction = self._core.transactions.request(self.request, self.flow, self, now)

    def hear(self) -> None:
        """Take it that the other side is there: it has said so by a request of its own."""
        self._failover.hear()

    def _go_by(self, way: Way, now: float) -> None:
        """Send it by another way, as a request that nobody has challenged yet."""
        before, self._transaction = self._transaction, None
        if before is not None:
            before.stop(now)
        if self.dialog is not None:
            self.dialog.flow = way.flow
        self.flow = way.flow
        self._challenges.begin_anew()
        self.request = renewed(
            self.request,
            via=new_via(way.flow, self._core.random),
            cseq=next_cseq(self.request, self.dialog),
            changed=[] if way.contact is None else [("Contact", way.contact)],
            route=way.route,
        )
        self._failover.begin(way.flow, self._go_by, now)
        if self._moved is not None:
            self._moved(self, way, now)
        self._send(now)

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """Answer a challenge, or hand over a final response."""
        if transaction is not self._transaction:
            return
        self._failover.hear()
        if response.status < 200:
            return
        if response.status == 503:
            self._failover.fail(response, self._end, now)
            return
        changed = changed_for_retry(self.request, response, self.dialog, self._challenges)
        if changed is not None:
            self._renew(self._challenges.authorize(self.request), now, changed)
            return
        if response.status not in (401, 407):
            self._challenges.judge(self.request, response)
            self._core.counters.unproven += self._challenges.proven is False
            self._end(response, now)
            return
        answer = self._challenges.answer(self.request, response)
        if answer is None:
            reason = response.reason or REASONS[response.status]
            cause = Cause.AUTHENTICATION
            self._end(Failure(response.status, reason, cause, response), now)
            return
        self._renew(answer, now)

    def _renew(
        self,
        authorization: list[tuple[str, str]],
        now: float,
        changed: list[tuple[str, str]] | None = None,
    ) -> None:
        self.request = renewed(
            self.request,
            via=new_via(self.flow, self._core.random),
            cseq=next_cseq(self.request, self.dialog),
            authorization=authorization,
            changed=changed or (),
        )
        self._send(now)

    def give_up(self, now: float) -> None:
        """Wait no longer: it ends as if Timer F had fired, and what still comes is nobody's."""
        transaction, self._transaction = self._transaction, None
        if not self.done:
            if transaction is not None:
                transaction.stop(now)
            self._end(self._silence(), now)

    def on_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """Timer F."""
        if transaction is self._transaction:
            self._failover.fail(self._silence(), self._end, now)

    def _silence(self) -> Failure:
        return Failure(408, f"no answer to the {self.request.method}", Cause.TIMEOUT)

    def on_transport_error(self, transaction: ClientTransaction, message: str, now: float) -> None:
        """Nothing gets there."""
        if transaction is self._transaction:
            self._failover.fail(Failure(503, message, Cause.TRANSPORT), self._end, now)

    def on_terminated(self, transaction: ClientTransaction, now: float) -> None:
        """Nothing is left to do."""

    def _end(self, outcome: Response | Failure, now: float) -> None:
        if not self.done:
            self.done = True
            self._failover.stop()
            self._finish(self, outcome, now)

    def __repr__(self) -> str:
        return f"<ClientRequest {self.request.summary()}>"


def report(core: Core, handle: ClientRequest, outcome: Response | Failure) -> None:
    """Tell the user how a request ended."""
    if isinstance(outcome, Failure):
        core.emit(
            RequestFailed(handle, outcome.status, outcome.reason, outcome.cause, outcome.response)
        )
    else:
        core.emit(RequestDone(handle, outcome))

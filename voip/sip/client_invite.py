"""An INVITE of ours that begins a call, as the caller's core sees it (RFC 3261 section 13.2)."""

from __future__ import annotations

from enum import Enum

from voip.errors import SipError
from voip.sip.challenge import Challenges, Failure
from voip.sip.core import Core
from voip.sip.dialog import Dialog, DialogState
from voip.sip.events import (
    Answered,
    Cause,
    EarlyDialogEnded,
    InviteFailed,
    InviteLeft,
    Provisional,
)
from voip.sip.failover import Failover, Way
from voip.sip.flow import Flow
from voip.sip.invite_attempt import InviteAttempt
from voip.sip.message import REASONS, Request, Response
from voip.sip.reliable import response_number
from voip.sip.usage import InviteUsage

__all__ = ["ClientInvite", "InviteState"]


class InviteState(Enum):
    """How far an INVITE has come."""

    CALLING = "calling"
    PROCEEDING = "proceeding"
    ANSWERED = "answered"
    FAILED = "failed"


class ClientInvite:
    """A call we asked for; the handle of `SipAgent.invite`.

    It may make several early dialogs (forking). The first 2xx answers it; a 2xx of any other fork,
    or one that crosses our CANCEL, is acknowledged and its dialog ended with BYE at once.
    """

    def __init__(
        self,
        core: Core,
        request: Request,
        flow: Flow,
        contact: str,
        challenges: Challenges,
        failover: Failover[Failure],
        *,
        prack_by_hand: bool = False,
    ) -> None:
        self.state = InviteState.CALLING
        self.response: Response | None = None
        self._core = core
        self._contact = contact
        self._challenges = challenges
        self._prack_by_hand = prack_by_hand
        self.offered = bool(request.body)
        self._failover = failover
        self._attempt = InviteAttempt(core, self, request, flow, challenges, failover)
        self._usages: dict[str, InviteUsage] = {}  # by the callee's tag
        self._fault = ""  # of the last response that made no dialog

    @property
    def request(self) -> Request:
        """The INVITE as last sent."""
        return self._attempt.request

    @property
    def flow(self) -> Flow:
        """The way it goes."""
        return self._attempt.flow

    @property
    def cancelled(self) -> bool:
        """Whether it has been given up by us."""
        return self._attempt.cancelled

    @property
    def authorized(self) -> bool:
        """Whether credentials have been sent."""
        return self._challenges.answered

    @property
    def dialogs(self) -> list[Dialog]:
        """Its dialogs, early and confirmed, in the order they came."""
        return [usage.dialog for usage in self._usages.values()]

    def start(self, now: float) -> None:
        """Send it."""
        self._core.dialling.add(self)
        self._attempt.start(now)

    def cancel(self, now: float) -> None:
        """Give it up; nothing happens once it is answered or has failed."""
        self._attempt.cancel(now)

    def on_way(self, way: Way, now: float) -> None:
        """Leave it to the user to call by another way; who answers late is told that it is over."""
        self.state = InviteState.FAILED
        self._core.dialling.discard(self)
        self._forget_early(now)
        self._attempt.leave(None, now)
        self._core.emit(InviteLeft(self, way, frozenset(self._failover.tried)))

    def on_progress(self, response: Response, now: float) -> None:
        """Make or update an early dialog (section 13.2.2.1)."""
        if self.state is InviteState.CALLING:
            self.state = InviteState.PROCEEDING
        self.response = response
        if response.status == 100 or response.to.tag is None:
            self._core.emit(Provisional(self, response, None))
            return
        if response.status == 199 and response.to.tag not in self._usages:
            return
        usage = self._usage(response)
        if usage is None or usage.dialog.state is not DialogState.EARLY:
            return
        reliable, owed = response_number(response) is not None, False
        if reliable:
            acks = usage.pracks_for(self.request)
            if not acks.take(response, by_hand=self._prack_by_hand, now=now):
                return
            owed = acks.owed
        if response.status == 199:
            usage.vanish(now)
            self._core.emit(EarlyDialogEnded(self, usage.dialog, response))
        else:
            self._core.emit(Provisional(self, response, usage.dialog, reliable, owed))

    def on_success(self, response: Response, now: float) -> None:
        """Acknowledge every 2xx, and keep the first one's dialog (section 13.2.2.4)."""
        usage = self._usage(response)
        if usage is None:
            self._send_away(response, now)
            reason = f"an answer that cannot be taken: {self._fault}"
            self.on_failure(Failure(502, reason, Cause.RESPONSE, response), now)
            return
        if usage.repeat_ack(self.request):
            return
        wanted = not (self.cancelled or self.state is InviteState.ANSWERED)
        if usage.dialog.state is DialogState.EARLY and wanted:
            self.state = InviteState.ANSWERED
            self.response = response
            usage.confirm()
            usage.timer.on_success(self.request, response, now)
            answered = bool(usage.early_description(self.request))
            usage.acknowledge(self.request, offered=self.offered or answered, now=now)
            self._core.emit(Answered(self, response, usage.dialog))
            return
        usage.acknowledge(self.request, offered=True, now=now)
        usage.drop(now)
        if self.state is not InviteState.ANSWERED:
            self.on_failure(Failure(487, REASONS[487], Cause.CANCELLED, response), now)

    def on_failure(self, failure: Failure, now: float) -> None:
        """End what early dialogs there are, and tell the user."""
        if self.state in (InviteState.ANSWERED, InviteState.FAILED):
            return
        self.state = InviteState.FAILED
        self._core.dialling.discard(self)
        self.response = failure.response
        self._forget_early(now)
        self._let_go()
        self._core.emit(
            InviteFailed(self, failure.status, failure.reason, failure.cause, failure.response)
        )

    def on_over(self, now: float) -> None:
        """No fork can answer any more: the early dialogs left are over (section 13.2.2.4)."""
        self._forget_early(now)
        for usage in self._usages.values():
            usage.forget_ack(self.request)
        self._let_go()

    def on_early_end(self, now: float) -> None:
        """Take it that a callee has hung up; when none is left that rings, give the call up."""
        ringing = any(dialog.state is DialogState.EARLY for dialog in self.dialogs)
        if self.state is InviteState.PROCEEDING and not ringing:
            self.cancel(now)

    def _send_away(self, response: Response, now: float) -> None:
        """Acknowledge a 2xx that does not say readably where the callee is, and hang up.

        By the way that the INVITE went, to whom it was sent: else the callee would be in a call
        until it gives up after 64*T1. It has no place where there are too many forks already.
        """
        core, invite, tag = self._core, self.request, response.to.tag or ""
        usage = self._usages.get(tag)
        if usage is None:
            if len(self._usages) >= core.config.max_forks:
                return
            dialog = Dialog.unreadable(invite, response, self.flow, self._contact)
            dialog.credentials = self._challenges.credentials
            usage = self._usages[tag] = InviteUsage(core, dialog, self)
        if not usage.repeat_ack(invite):
            usage.acknowledge(invite, offered=True, now=now)
            usage.drop(now)

    def _forget_early(self, now: float) -> None:
        for usage in self._usages.values():
            if usage.dialog.state is DialogState.EARLY:
                usage.vanish(now)

    def _let_go(self) -> None:
        """Leave the dialogs to themselves: what they and the INVITE are to each other is over."""
        for usage in self._usages.values():
            usage.invite = None

    def _usage(self, response: Response) -> InviteUsage | None:
        """Find or begin the dialog a response belongs to; None: unreadable, or too many forks."""
        tag = response.to.tag or ""
        usage = self._usages.get(tag)
        try:
            if usage is not None:
                if usage.dialog.state is DialogState.EARLY:
                    usage.dialog.learn_route(response)
                return usage
            if len(self._usages) >= self._core.config.max_forks:
                self._core.counters.overload += 1
                self._fault = "too many have answered"
                return None
            dialog = Dialog.as_caller(self.request, response, self.flow, self._contact)
        except SipError as error:
            self._core.counters.malformed += 1
            self._fault = error.message
            return None
        dialog.credentials = self._challenges.credentials
        usage = self._usages[tag] = InviteUsage(self._core, dialog, self)
        self._core.dialling.discard(self)
        return usage

    def __repr__(self) -> str:
        return f"<ClientInvite {self.state.value}: {self.request.summary()}>"

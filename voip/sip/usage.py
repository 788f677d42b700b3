"""What a call does with its dialog (an "invite usage", RFC 5057): ACK, re-INVITE, BYE, its end.

Sections without another name are RFC 3261's. The peer's requests come in by `in_dialog`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from voip.errors import CallStateError
from voip.sip.challenge import Challenges, Failure
from voip.sip.client_request import ClientRequest, Finish
from voip.sip.compose import credentials_of, over
from voip.sip.core import Core
from voip.sip.dialog import Dialog, DialogState
from voip.sip.dialog_way import by_way_of
from voip.sip.events import DialogEnded, RefreshDue
from voip.sip.flow import Flow
from voip.sip.headers import Headers
from voip.sip.message import REASONS, Request, Response
from voip.sip.multipart import session_description
from voip.sip.prack import Acknowledgements
from voip.sip.reason import reason_header
from voip.sip.session_timer import SessionTimer
from voip.sip.update import Update

if TYPE_CHECKING:
    from voip.sip.client_invite import ClientInvite
    from voip.sip.reinvite import Reinvite
    from voip.sip.server_invite import ServerInvite
    from voip.sip.server_request import ServerRequest

__all__ = ["InviteUsage"]


class InviteUsage:
    """A dialog in use by a call. It is in `core.usages` until the dialog has ended.

    `invite`: the INVITE of ours that made it; `reinvite`, `update`: our changes to it that are not
    done yet; `served`: requests of the peer's that the user has not replied to.
    """

    def __init__(self, core: Core, dialog: Dialog, invite: ClientInvite | None = None) -> None:
        self.dialog = dialog
        self.invite = invite
        self.reinvite: Reinvite | None = None
        self.update: Update | None = None
        self.timer = SessionTimer(
            core.config, core.timers, refresh=self._on_refresh_due, expire=self._on_expired
        )
        self.served: list[ServerRequest] = []
        self._core = core
        self._announced = False  # the user knows this dialog and is owed its end
        self._acks: dict[int, tuple[bytes, Flow] | None] = {}  # by the INVITE's CSeq number
        self._owed: Request | None = None  # our INVITE without offer, whose ACK the user makes
        self._pracks: Acknowledgements | None = None  # of our last INVITE in this dialog
        self._theirs: dict[int, ServerInvite] = {}  # unanswered or unacknowledged, by CSeq number
        self._bye_waits: list[tuple[str, str]] | None = None
        core.usages[dialog.id] = self

    # Our INVITEs: the ACK to their 2xx (section 13.2.2.4).

    def confirm(self) -> None:
        """Take it that a 2xx has made the dialog and that the user is told so."""
        self.dialog.state = DialogState.CONFIRMED
        self._announced = True

    def acknowledge(self, invite: Request, *, offered: bool, now: float) -> None:
        """Send the ACK to a first 2xx; one that answers the 2xx's offer waits for `ack`."""
        if offered:
            self._send_ack(invite, b"", None, now)
        else:
            self._owed = invite

    def ack(self, body: bytes, content_type: str | None, now: float) -> None:
        """Send the ACK that carries our answer."""
        if self._owed is None:
            raise CallStateError(
                "no ACK is owed", hint="only an INVITE without an offer is acknowledged by hand"
            )
        self._send_ack(self._owed, body, content_type, now)
        self._owed = None
        self.settle(now)

    def repeat_ack(self, invite: Request) -> bool:
        """Acknowledge a repeated 2xx again; False when this is the first one."""
        number = invite.cseq.number
        ack = self._acks.get(number)
        if ack is not None:
            self._core.send(*ack)
        return number in self._acks or self._owed is invite

    def forget_ack(self, invite: Request) -> None:
        """Take it that the 2xx is not repeated any more."""
        self._acks.pop(invite.cseq.number, None)
        if self._owed is invite:
            self._owed = None  # nobody waits for it any more

    def _send_ack(self, invite: Request, body: bytes, content_type: str | None, now: float) -> None:
        ack = self.dialog.request(
            "ACK",
            random=self._core.random,
            cseq=invite.cseq.number,
            headers=[*credentials_of(invite), *self._core.name()],
            body=body,
            content_type=content_type,
        )
        number, before = invite.cseq.number, self.dialog.flow
        self._acks[number] = None  # until its way is known

        def send(now: float) -> None:
            flow = self.dialog.flow
            made = (ack if flow == before else over(ack, flow)).to_bytes(), flow
            if number in self._acks:
                self._acks[number] = made
            self._core.send(*made)

        by_way_of(self._core, self.dialog, send, now)

    # Reliable provisional responses to our INVITEs (RFC 3262).

    def pracks_for(self, invite: Request) -> Acknowledgements:
        """Return what has been acknowledged of the reliable responses to our INVITE."""
        if self._pracks is None or self._pracks.invite is not invite:
            self._pracks = Acknowledgements(self._core, self, invite)
        return self._pracks

    def early_description(self, invite: Request) -> bytes:
        """Return the session description that a reliable response to our INVITE has brought."""
        pracks = self._pracks
        return pracks.description if pracks is not None and pracks.invite is invite else b""

    def prack(self, body: bytes, content_type: str | None, now: float) -> ClientRequest:
        """Send the PRACK that the user owes, with an answer, an offer or nothing."""
        if self._pracks is None:
            raise CallStateError("no PRACK is owed", hint="see Provisional.prack_owed")
        return self._pracks.send(body, content_type, now)

    # Whose offer waits for its answer (RFC 3264 section 4: one at a time).

    @property
    def client_exchange_open(self) -> bool:
        """Whether a request of ours is part of an exchange that is not complete.

        An offer of the peer's is refused with 491 then (RFC 6337 section 4.3: IcU, UcU).
        """
        invite, pracks, update = self.invite, self._pracks, self.update
        early = self.dialog.state is DialogState.EARLY
        unsure = pracks is None or not pracks.answered
        return (
            (early and invite is not None and invite.offered and unsure)
            or (self.reinvite is not None and self.reinvite.open)
            or (update is not None and update.open)
            or (pracks is not None and (pracks.owed or pracks.offering))
            or self._owed is not None
        )

    @property
    def server_exchange_open(self) -> bool:
        """Whether a request of the peer's is: an offer is refused with 500 then (IsU, UsU)."""
        return any(
            theirs.owes_answer or theirs.offered or theirs.description_pending
            for theirs in self._theirs.values()
        ) or any(
            served.waiting
            and served.request.method in ("UPDATE", "PRACK")
            and session_description(served.request)
            for served in self.served
        )

    @property
    def exchange_open(self) -> bool:
        """Whether a new offer of ours has to wait (IU, UU)."""
        pracking = self._pracks is not None and self._pracks.pending
        return self.client_exchange_open or self.server_exchange_open or pracking

    @property
    def agreed_early(self) -> bool:
        """Whether offer and answer have met before the call is answered."""
        if self.invite is not None:
            return self._pracks is not None and self._pracks.answered and not self._pracks.owed
        return any(i.described and not i.description_pending for i in self._theirs.values())

    def is_serving(self, method: str) -> bool:
        """Whether a request of the peer's of this method waits for the user's reply."""
        return any(served.waiting and served.request.method == method for served in self.served)

    # Session timer (RFC 4028).

    def on_refresh_failed(self, status: int, now: float, *, silent: bool = False) -> None:
        """Refresh otherwise, or later, after a change of ours that the peer did not accept."""
        if self.dialog.state is not DialogState.CONFIRMED:
            return
        if silent and (400 <= status < 500 or status == 501) and status not in (408, 481):
            if status in (405, 501):
                self.dialog.allowed -= {"UPDATE"}
            self._core.emit(RefreshDue(self.dialog))  # it may want an offer
        self.timer.on_failure(now)

    def _on_refresh_due(self, now: float) -> None:
        if self.dialog.state is not DialogState.CONFIRMED:
            return
        if self.reinvite is not None or self.update is not None:
            self.timer.on_failure(now)  # a change that is under way refreshes too; see later
        elif "UPDATE" in self.dialog.allowed:
            self.begin_update(Update(self._core, self, silent=True), now)
        else:
            self._core.emit(RefreshDue(self.dialog))
            self.timer.on_failure(now)

    def begin_update(self, update: Update, now: float) -> None:
        """Send an UPDATE, as soon as it may be sent."""
        self.update = update
        update.proceed(now)

    def _on_expired(self, now: float) -> None:
        self.lose("the session was not refreshed in time", 408, now)

    # Their INVITEs.

    def begin(self, invite: ServerInvite) -> None:
        """Take up an INVITE of the peer's."""
        self._theirs[invite.request.cseq.number] = invite

    def finish(self, invite: ServerInvite, now: float) -> None:
        """Take it that an INVITE of the peer's is refused or acknowledged."""
        self._theirs.pop(invite.request.cseq.number, None)
        self.settle_later(now)

    def on_ack(self, request: Request, now: float) -> None:
        """Take an ACK to one of our 2xx; a repeated one changes nothing."""
        invite = self._theirs.get(request.cseq.number)
        if invite is not None:
            invite.on_ack(request, now)

    @property
    def unanswered(self) -> bool:
        """Whether an INVITE of the peer's waits for our final response."""
        return any(invite.waiting for invite in self._theirs.values())

    @property
    def offer_pending(self) -> bool:
        """Whether an offer made in a 2xx, ours or theirs, has no answer yet."""
        return self._owed is not None or any(i.offered for i in self._theirs.values())

    @property
    def busy(self) -> bool:
        """Whether an INVITE in this dialog has not come to its end (section 14.1)."""
        return self._owed is not None or bool(self._theirs)

    def settle(self, now: float) -> None:
        """Do what has waited for the INVITEs of this dialog to come to their end."""
        if self._bye_waits is not None and not self._theirs:
            headers, self._bye_waits = self._bye_waits, None
            self._send_bye(headers, self._on_bye_done, now)
            return
        if self.reinvite is not None:
            self.reinvite.proceed(now)
        if self.update is not None:
            self.update.proceed(now)

    def settle_later(self, now: float) -> None:
        """Do it when the user has read the answer that just came, before the next offer is made."""
        if self.reinvite is not None or self.update is not None:
            self._core.timers.start(now, self.settle)
        else:
            self.settle(now)

    # The end.

    def bye(self, headers: Iterable[tuple[str, str]], now: float) -> None:
        """Hang up (section 15.1.1); nothing happens when that is under way or done.

        A callee that has not seen the ACK yet waits for it, as section 15 demands.
        """
        dialog = self.dialog
        if dialog.state in (DialogState.TERMINATING, DialogState.TERMINATED):
            return
        if dialog.state is DialogState.EARLY and not dialog.is_caller:
            raise CallStateError(
                "a callee cannot hang up before it has answered", hint="refuse the INVITE instead"
            )
        headers = list(Headers(headers))  # refused here, or not at all
        self._announced = True
        dialog.state = DialogState.TERMINATING
        self.timer.stop()
        self._end_invites(now)
        if self._owed is not None:
            self.ack(b"", None, now)  # the call is over, the handshake is not (13.2.2.4)
        if self._theirs and not dialog.is_caller:
            self._bye_waits = headers
        else:
            self._send_bye(headers, self._on_bye_done, now)

    def end(
        self,
        *,
        by_remote: bool,
        reason: str,
        status: int | None = None,
        request: Request | None = None,
        now: float,
    ) -> None:
        """Take it that the dialog is over; tell the user, once, if the user knew of it."""
        if self.dialog.state is DialogState.TERMINATED:
            return
        self.vanish(now)
        if self._announced:
            self._core.emit(DialogEnded(self.dialog, by_remote, reason, status, request))

    def lose(self, reason: str, status: int, now: float) -> None:
        """End a dialog whose peer seems lost; a BYE says so, for the case that it is not."""
        self.end(by_remote=False, reason=reason, status=status, now=now)
        self._send_bye([reason_header(status, reason)], _nobody_waits, now)

    def drop(self, now: float) -> None:
        """End a confirmed dialog that nobody wants: of another fork, or cancelled too late."""
        if self.dialog.state is not DialogState.TERMINATING:
            self.vanish(now)
            self._send_bye([], _nobody_waits, now)

    def vanish(self, now: float) -> None:
        """Forget the dialog without a word to anybody."""
        self.dialog.state = DialogState.TERMINATED
        self._core.usages.pop(self.dialog.id, None)
        self._core.ended.append(self.dialog.id)
        self._bye_waits = None
        self.timer.end()
        self._end_invites(now)
        for invite in self._theirs.values():
            invite.release()
        self._theirs.clear()
        for served in self.served:
            served.give_up(now)
        self.served.clear()

    def judge(self, outcome: Response | Failure, now: float) -> None:
        """End the dialog if a request's outcome says that the peer has none (12.2.1.2).

        By a BYE: the proxies between, and a peer that meant the request alone, learn of it.
        """
        if self.dialog.state is not DialogState.CONFIRMED:
            return
        if outcome.status == 481:
            self.end(by_remote=True, reason=outcome.reason, status=481, now=now)
            self._send_bye([reason_header(481, REASONS[481])], _nobody_waits, now)
        elif outcome.status == 408:
            ours = isinstance(outcome, Failure)
            self.lose(outcome.reason if ours else REASONS[408], 408, now)

    def _end_invites(self, now: float) -> None:
        if self.reinvite is not None:
            self.reinvite.abandon(now)
        if self.update is not None:
            self.update.abandon(now)
        for invite in list(self._theirs.values()):
            if invite.waiting:
                invite.give_up("the call is over", now)

    def _send_bye(self, headers: Iterable[tuple[str, str]], finish: Finish, now: float) -> None:
        core, dialog = self._core, self.dialog
        request = dialog.request(
            "BYE", random=core.random, headers=[*core.request_headers(), *headers]
        )
        challenges = Challenges(
            dialog.credentials, core.digest, core.random, core.config.max_attempts
        )
        ClientRequest(core, request, dialog.flow, challenges, finish, dialog).start(now)

    def _on_bye_done(self, handle: ClientRequest, outcome: Response | Failure, now: float) -> None:
        ended = not isinstance(outcome, Failure) and outcome.status < 300
        reason = "hung up" if ended else outcome.reason
        self.end(by_remote=False, reason=reason, status=outcome.status, now=now)


def _nobody_waits(handle: ClientRequest, outcome: Response | Failure, now: float) -> None:
    """Take the outcome of a BYE that only the peer may need."""

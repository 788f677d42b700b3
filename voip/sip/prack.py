"""PRACK: how reliable provisional responses are acknowledged, by us and to us (RFC 3262)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voip.errors import CallStateError
from voip.sip.challenge import Challenges, Failure
from voip.sip.client_request import ClientRequest, report
from voip.sip.core import Core
from voip.sip.events import PrackReceived
from voip.sip.flow import Flow
from voip.sip.glare import retry_after
from voip.sip.message import Request, Response
from voip.sip.multipart import session_description
from voip.sip.reliable import RAck, response_number
from voip.sip.server_request import ServerRequest

if TYPE_CHECKING:
    from voip.sip.server_invite import ServerInvite
    from voip.sip.usage import InviteUsage

__all__ = ["Acknowledgements", "receive_prack"]


class Acknowledgements:
    """Our PRACKs for one INVITE in one dialog (section 4).

    `answered`: a reliable response has brought a session description, and the exchange that it is
    part of is complete or waits for our PRACK (`owed`).
    """

    def __init__(self, core: Core, usage: InviteUsage, invite: Request) -> None:
        self.invite = invite
        self.description = b""
        self.owed = False
        self._core = core
        self._usage = usage
        self._last: int | None = None
        self._tried: ClientRequest | None = None
        self._refused = False

    @property
    def answered(self) -> bool:
        """Whether a reliable response has brought a session description."""
        return bool(self.description)

    @property
    def offering(self) -> bool:
        """Whether a PRACK of ours carries an offer that has no answer yet."""
        prack = self._tried
        return prack is not None and not prack.done and self._is_offer(prack.request)

    @property
    def pending(self) -> bool:
        """Whether a PRACK of ours has no answer yet."""
        return self.owed or (self._tried is not None and not self._tried.done)

    def take(self, response: Response, *, by_hand: bool, now: float) -> bool:
        """Take a reliable response, and acknowledge it; False: out of order, or a repetition.

        One that brings an offer waits for the user's PRACK, and so does one that brings the
        answer where `by_hand`.
        """
        number = response_number(response)
        if number is None:
            return False
        if self._last is not None and number != self._last + 1:
            if number == self._last and self._refused and not self.owed:
                self._send(b"", None, now)  # it has not helped yet
            return False
        self._last = number
        self._refused = False
        described = session_description(response)
        news = bool(described) and not self.answered
        if news:
            self.description = described
        if news and (by_hand or not self.invite.body):
            self.owed = True
        else:
            self.owed = False
            self._send(b"", None, now)
        return True

    def send(self, body: bytes, content_type: str | None, now: float) -> ClientRequest:
        """Send the PRACK that the user owes; told by `RequestDone` or `RequestFailed`."""
        if not self.owed:
            raise CallStateError("no PRACK is owed", hint="see Provisional.prack_owed")
        self.owed = False
        return self._send(body, content_type, now, told=True)

    def _send(
        self, body: bytes, content_type: str | None, now: float, *, told: bool = False
    ) -> ClientRequest:
        core, dialog, invite = self._core, self._usage.dialog, self.invite
        request = dialog.request(
            "PRACK",
            random=core.random,
            headers=[
                ("RAck", str(RAck(self._last or 0, invite.cseq.number, invite.method))),
                *core.request_headers(),
            ],
            body=body,
            content_type=content_type,
        )

        def finish(handle: ClientRequest, outcome: Response | Failure, now: float) -> None:
            self._refused = outcome.status >= 300
            # An offer that was refused is not the response's fault: it may be acknowledged
            # without one (RFC 6337 section 2.3).
            self.owed = self.owed or (self._refused and self._is_offer(request))
            if told:
                report(core, handle, outcome)
            self._usage.settle(now)

        challenges = Challenges(
            dialog.credentials, core.digest, core.random, core.config.max_attempts
        )
        handle = self._tried = ClientRequest(core, request, dialog.flow, challenges, finish, dialog)
        handle.start(now)
        return handle

    def _is_offer(self, prack: Request) -> bool:
        return bool(prack.body) and bool(self.invite.body)


def receive_prack(
    core: Core, usage: InviteUsage | None, request: Request, flow: Flow, now: float
) -> None:
    """Take a PRACK of the peer's; the INVITE may have its final response already (section 3).

    One that is refused acknowledges nothing: the response is repeated until a PRACK comes that can
    be taken (RFC 6337 section 2.3).
    """
    ack = RAck.parse(request.headers.get("RAck"))
    key = (request.call_id, request.to.tag or "", request.from_.tag or ""), ack.cseq
    invite = core.reliable.get(key) if ack.method == "INVITE" else None
    response = invite.unacknowledged(ack.response) if invite is not None else None
    if invite is None or response is None:
        core.answer_once(request, flow, 481, now=now)
        return
    described = session_description(request)
    owed = bool(response.body) and not invite.offer
    if usage is None or owed or not described:
        core.answer_once(request, flow, 200, now=now)
        if usage is not None and owed:
            core.emit(PrackReceived(invite, usage.dialog, request, None))
        invite.acknowledge(now)
    elif usage.is_serving("PRACK") or usage.is_serving("UPDATE"):
        core.answer_once(request, flow, 500, retry_after(core.random), now=now)
    elif not invite.exchanged:  # a second offer before the answer to the first
        core.answer_once(request, flow, 488, now=now)
    else:
        _take_offer(core, usage, invite, request, flow, now)


def _take_offer(
    core: Core, usage: InviteUsage, invite: ServerInvite, request: Request, flow: Flow, now: float
) -> None:
    """Hand up an offer that follows a complete exchange (section 5)."""

    def replied(response: Response, now: float) -> None:
        if response.status < 300:
            invite.acknowledge(now)
        else:
            invite.resume(now)

    invite.pause()
    received = ServerRequest(core, request, flow, usage.dialog, now, replied=replied)
    usage.served.append(received)
    core.emit(PrackReceived(invite, usage.dialog, request, received))

"""The SIP user agent without I/O: bytes and time in, bytes and events out (RFC 3261).

Whoever has sockets and a clock feeds it and asks, after every call, what to send (`outgoing`),
what has happened (`events`) and when to come back (`next_timer`). Transactions, dialogs, digest,
retransmission, CANCEL and BYE races are its business; what is said and heard is the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from voip.errors import CallStateError, SipError
from voip.sip.challenge import Challenges, Failure
from voip.sip.client_invite import ClientInvite
from voip.sip.client_request import ClientRequest, report
from voip.sip.compose import new_request
from voip.sip.config import AgentConfig, Counters
from voip.sip.core import Core, RefusalsTold, Screen
from voip.sip.dialog import Dialog, DialogId, DialogState
from voip.sip.digest import CredentialSource
from voip.sip.events import SipEvent
from voip.sip.failover import Seek, Sought, Way
from voip.sip.flow import Flow, Peer
from voip.sip.guard import Admission, Guard
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, parse_message
from voip.sip.reinvite import Reinvite
from voip.sip.server_invite import ServerInvite
from voip.sip.server_request import ServerRequest
from voip.sip.session_timer import wanted
from voip.sip.sips import secured
from voip.sip.subscriptions import Subscriptions
from voip.sip.uas import belongs, receive_request, refuse_unreadable
from voip.sip.update import Update
from voip.sip.uri import SipUri
from voip.sip.usage import InviteUsage
from voip.sip.via import new_via
from voip.types import Random

__all__ = ["SipAgent"]

_CALL_ID_CHARS = 32


def _belongs_nowhere(core: Core, request: Request) -> bool:
    return False


class SipAgent:
    """A SIP user agent: caller, callee and everything in between.

    `now` is seconds on a clock that never runs backwards. Actions raise `CallStateError` where
    the call is not in a state for them and `SipError` where what is asked makes no message;
    `receive`, `flow_failed` and `handle_timer` never raise.
    """

    def __init__(self, config: AgentConfig, random: Random) -> None:
        self._core = Core(config, random)
        self.subscriptions = Subscriptions(self._core)

    # What the shell does.

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one datagram, or one message framed by a stream."""
        core = self._core
        admission = core.guard.look(data, flow.remote.host, now)
        if admission is Admission.OVER and not flow.reliable:
            core.flood(flow.remote.host, is_call=data.lstrip(b"\r\n").startswith(b"INVITE "))
            return
        try:
            message = parse_message(data)
        except SipError as error:
            request = error.context.get("request")
            if not isinstance(request, Request):
                core.counters.malformed += 1
            elif not core.holds_back(request, flow, admission, _belongs_nowhere, now):
                refuse_unreadable(core, request, flow, error)
            return
        core.traffic.received.add(message)
        if isinstance(message, Response):
            self._receive_response(message, flow, now)
        elif not core.holds_back(message, flow, admission, belongs, now):
            receive_request(core, message, flow, now)

    def flow_failed(self, flow: Flow, message: str, now: float) -> None:
        """Take it that nothing sent by `flow` arrives: port closed, connection refused or lost.

        Our requests that went this way fail at once with `message` as the reason.
        """
        self._core.transactions.flow_failed(flow, message, now)

    def next_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called, None when nothing is waiting."""
        return self._core.timers.next()

    def handle_timer(self, now: float) -> None:
        """Do everything that is due."""
        self._core.timers.run(now)
        self._core.guard.forget_full(now)

    def outgoing(self) -> list[tuple[bytes, Flow]]:
        """Return the messages to send, in order, once."""
        out, self._core.out = self._core.out, []
        return out

    def events(self) -> list[SipEvent]:
        """Return what has happened, in order, once."""
        events, self._core.events = self._core.events, []
        return events

    # What can be seen.

    @property
    def config(self) -> AgentConfig:
        """What it was told."""
        return self._core.config

    @property
    def counters(self) -> Counters:
        """What was dropped and refused."""
        return self._core.counters

    @property
    def guard(self) -> Guard:
        """What holds floods back."""
        return self._core.guard

    def set_screen(self, screen: Screen) -> None:
        """Have every INVITE that begins a call looked at before anything is kept of it.

        `screen(request, flow, is_known, now)` returns the status and the headers that refuse it, or
        None. `is_known`: it names a call of ours, to take its place (RFC 3891) or to join it (RFC
        3911). What refuses is sent once for each time the INVITE comes (RFC 3261, 26.3.2.4).
        """
        self._core.screen = screen

    def set_refusals(self, refusals: RefusalsTold) -> None:
        """Have calls told of that are refused before the user hears of them."""
        self._core.refusals = refusals

    def set_look_up(self, look_up: Callable[[Dialog, Sought], None]) -> None:
        """Have other ways looked up for requests within dialogs whose next hop is a name."""
        self._core.look_up = look_up

    @property
    def focuses(self) -> set[str]:
        """The users that conferences of ours have in their URIs; to be added to and taken from."""
        return self._core.focuses

    @property
    def transactions(self) -> int:
        """How many transactions are alive."""
        return len(self._core.transactions)

    @property
    def dialogs(self) -> list[Dialog]:
        """The dialogs that have not ended, early ones too."""
        core = self._core
        of_calls = [usage.dialog for usage in core.usages.values()]
        return list(dict.fromkeys((*of_calls, *core.subscriptions.dialogs())))

    @property
    def dialling(self) -> int:
        """How many INVITEs, ours and the peers', have made no dialog yet."""
        return len(self._core.dialling)

    def call_dialog(self, dialog_id: DialogId) -> Dialog | None:
        """Return the dialog of a call by (Call-ID, our tag, the peer's)."""
        usage = self._core.usages.get(dialog_id)
        return None if usage is None else usage.dialog

    @property
    def timers(self) -> int:
        """How many timers run."""
        return len(self._core.timers)

    # Requests of ours outside of dialogs.

    def request(
        self,
        method: str,
        uri: str | SipUri,
        *,
        flow: Flow,
        from_: NameAddr | str,
        to: NameAddr | str,
        call_id: str | None = None,
        cseq: int = 1,
        route: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        credentials: CredentialSource | None = None,
        seek: Seek | None = None,
        moved: Callable[[ClientRequest, Way, float], None] | None = None,
        now: float,
    ) -> ClientRequest:
        """Send REGISTER, OPTIONS, MESSAGE ... ; ends in `RequestDone` or `RequestFailed`.

        A challenge is answered with `credentials` (or what they return, asked for a realm) and the
        next CSeq number: what the handle's `request` has at the end. `seek` finds another way
        where nobody answers by this one, as often as that is so (`Failover`); `moved` is told.
        """
        core = self._core
        core.transactions.check_room()
        request = self._new_request(
            method,
            uri,
            flow,
            from_,
            to,
            call_id=call_id,
            cseq=cseq,
            route=route,
            headers=[*core.request_headers(), *headers],
            body=body,
            content_type=content_type,
        )
        handle = ClientRequest(
            core,
            request,
            flow,
            self._challenges(credentials),
            self._report,
            seek=seek,
            moved=moved,
        )
        handle.start(now)
        return handle

    def invite(
        self,
        uri: str | SipUri,
        *,
        flow: Flow,
        from_: NameAddr | str,
        to: NameAddr | str,
        contact: NameAddr | str,
        call_id: str | None = None,
        cseq: int = 1,
        route: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        credentials: CredentialSource | None = None,
        prack_by_hand: bool = False,
        seek: Seek | None = None,
        tried: Iterable[Peer] = (),
        now: float,
    ) -> ClientInvite:
        """Call somebody; ends in `Answered` or `InviteFailed`, after any `Provisional`.

        Or in `InviteLeft`, where `seek` has found another way: nobody answers by this one, nor
        where the call has been `tried` before.

        `contact`: our Contact value (`<sip:alice@10.0.0.2:5060>`). Without a body the 2xx brings
        the offer, and `ack` has to carry the answer; or a reliable 1xx brings it, and `prack` has
        to. `prack_by_hand`: `prack` is called for reliable responses with an answer too, so that
        it may carry another offer. `call_id`, `cseq` and the tag of `from_` go on from an INVITE
        that was redirected. `credentials` are kept for the dialog.
        """
        core = self._core
        core.transactions.check_room()
        if core.full:
            raise SipError(
                f"{core.config.max_dialogs} calls are up or begun already",
                status=503,
                hint="end some, or raise max_dialogs",
            )
        request = self._new_request(
            "INVITE",
            uri,
            flow,
            from_,
            to,
            call_id=call_id,
            cseq=cseq,
            route=route,
            headers=[
                ("Contact", str(contact)),
                *core.request_headers(describe=True),
                *core.demands(),
                *wanted(core.config),
                *headers,
            ],
            body=body,
            content_type=content_type,
        )
        invite = ClientInvite(
            core,
            request,
            flow,
            str(contact),
            self._challenges(credentials),
            core.failover(seek, tried),
            prack_by_hand=prack_by_hand,
        )
        invite.start(now)
        return invite

    def cancel(self, invite: ClientInvite, *, now: float) -> None:
        """Give a call of ours up; ends in `InviteFailed` with `Cause.CANCELLED`.

        CANCEL waits for a provisional response (section 9.1). A 2xx that crosses it is
        acknowledged and followed by BYE. Once the INVITE is answered or has failed, nothing
        happens.
        """
        invite.cancel(now)

    def ack(
        self, dialog: Dialog, *, body: bytes, content_type: str | None = None, now: float
    ) -> None:
        """Acknowledge the 2xx to an INVITE or re-INVITE that had no offer, with our answer."""
        self._usage(dialog).ack(body, content_type, now)

    def prack(
        self, dialog: Dialog, *, body: bytes = b"", content_type: str | None = None, now: float
    ) -> ClientRequest:
        """Acknowledge a reliable provisional response where `prack_owed` (RFC 3262).

        `body`: the answer to the offer it brought, or another offer where it brought the answer
        (the reply to the PRACK answers it). Ends in `RequestDone` or `RequestFailed`.
        """
        return self._usage(dialog).prack(body, content_type, now)

    # The peer's requests.

    def ring(
        self,
        invite: ServerInvite,
        *,
        contact: NameAddr | str,
        headers: Iterable[tuple[str, str]] = (),
        now: float,
    ) -> None:
        """Answer 180; it is said again every minute."""
        self.respond(invite, 180, contact=contact, headers=headers, now=now)

    def respond(
        self,
        invite: ServerInvite,
        status: int,
        reason: str | None = None,
        *,
        contact: NameAddr | str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        reliable: bool | None = None,
        now: float,
    ) -> None:
        """Answer an INVITE or re-INVITE.

        101-199 makes an early dialog. It is repeated until PRACK comes where it is `reliable`:
        None: where the caller demands it, and with a body where the caller knows it. A 2xx waits
        for that where a session description is on its way. It is repeated until the ACK comes
        (`Acknowledged`); if none comes in 64*T1 the dialog ends (`DialogEnded`). A new call needs
        `contact` in the first of these; a re-INVITE has the dialog's.
        """
        invite.respond(
            status,
            reason,
            contact=None if contact is None else str(contact),
            headers=headers,
            body=body,
            content_type=content_type,
            reliable=reliable,
            now=now,
        )

    def reply(
        self,
        request: ServerRequest,
        status: int,
        reason: str | None = None,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        now: float,
    ) -> None:
        """Answer any other request, finally once."""
        request.reply(
            status, reason, headers=headers, body=body, content_type=content_type, now=now
        )

    # Requests of ours within a dialog.

    def reinvite(
        self,
        dialog: Dialog,
        *,
        body: bytes | Callable[[], bytes] = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        now: float,
    ) -> Reinvite:
        """Change a session; ends in `ReinviteDone`. One at a time in a dialog.

        It waits for other INVITEs of the dialog to end, and is sent anew after glare: a `body`
        that is a function is asked each time, for the session may have changed meanwhile.
        Without a body, `ack` has to follow.
        """
        usage = self._usage(dialog)
        if dialog.state is not DialogState.CONFIRMED:
            raise CallStateError("the call is not answered, or is ending")
        if usage.reinvite is not None:
            raise CallStateError(
                "a re-INVITE is under way", hint="wait for ReinviteDone before the next one"
            )
        self._core.transactions.check_room()
        reinvite = Reinvite(
            self._core, usage, headers=headers, body=body, content_type=content_type
        )
        usage.reinvite = reinvite
        reinvite.proceed(now)
        return reinvite

    def update(
        self,
        dialog: Dialog,
        *,
        body: bytes | Callable[[], bytes] = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        now: float,
    ) -> Update:
        """Change a session at once, before or after the answer (RFC 3311); ends in `UpdateDone`.

        With an offer it waits for other offers to be answered, and is sent anew after glare, as a
        re-INVITE is. Without one it refreshes the session and our Contact.
        """
        usage = self._usage(dialog)
        if dialog.state not in (DialogState.CONFIRMED, DialogState.EARLY):
            raise CallStateError("the call is ending")
        if usage.update is not None:
            raise CallStateError(
                "an UPDATE is under way", hint="wait for UpdateDone before the next one"
            )
        if body and dialog.state is DialogState.EARLY and not usage.agreed_early:
            raise CallStateError(
                "the first offer has no answer that is sure yet",
                hint="a reliable provisional response has to bring it (RFC 3311 section 5.1)",
            )
        self._core.transactions.check_room()
        update = Update(self._core, usage, headers=headers, body=body, content_type=content_type)
        usage.begin_update(update, now)
        return update

    def dialog_request(
        self,
        dialog: Dialog,
        method: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        now: float,
    ) -> ClientRequest:
        """Send INFO, OPTIONS, MESSAGE ... in a dialog; ends in `RequestDone` or `RequestFailed`.

        481, 408 or no answer at all ends the dialog too (section 12.2.1.2).
        """
        usage = self._usage(dialog)
        if dialog.state not in (DialogState.CONFIRMED, DialogState.EARLY):
            raise CallStateError("the call is ending")
        core = self._core
        core.transactions.check_room()
        request = dialog.request(
            method,
            random=core.random,
            headers=[*core.request_headers(), *headers],
            body=body,
            content_type=content_type,
        )

        def finish(handle: ClientRequest, outcome: Response | Failure, now: float) -> None:
            report(core, handle, outcome)
            usage.judge(outcome, now)

        challenges = self._challenges(dialog.credentials)
        handle = ClientRequest(core, request, dialog.flow, challenges, finish, dialog)
        handle.start(now)
        return handle

    def bye(self, dialog: Dialog, *, headers: Iterable[tuple[str, str]] = (), now: float) -> None:
        """Hang up; ends in `DialogEnded`. Hanging up twice, or after the peer, does nothing."""
        usage = self._core.usages.get(dialog.id)
        if usage is not None:
            usage.bye(headers, now)

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        core = self._core
        try:
            _ = response.from_, response.to, response.call_id
            transaction = core.transactions.of_response(response)
            # Ours is the only Via: what has more was meant for somebody else (8.1.3.3).
            if transaction is None or len(response.headers.values("Via")) != 1:
                core.counters.stray_responses += 1
            else:
                if response.status >= 200 and transaction.request.to.tag is None:
                    core.guard.know(flow.remote.host, now)  # whom we have turned to
                transaction.receive(response, now)
        except SipError:
            core.counters.malformed += 1

    def _usage(self, dialog: Dialog) -> InviteUsage:
        usage = self._core.usages.get(dialog.id)
        if usage is None:
            raise CallStateError("the call is over")
        return usage

    def _challenges(self, credentials: CredentialSource | None) -> Challenges:
        core = self._core
        return Challenges(credentials, core.digest, core.random, core.config.max_attempts)

    def _report(self, handle: ClientRequest, outcome: Response | Failure, now: float) -> None:
        report(self._core, handle, outcome)

    def _new_request(
        self,
        method: str,
        uri: str | SipUri,
        flow: Flow,
        from_: NameAddr | str,
        to: NameAddr | str,
        *,
        call_id: str | None,
        cseq: int,
        route: Iterable[str],
        headers: Iterable[tuple[str, str]],
        body: bytes,
        content_type: str | None,
    ) -> Request:
        random = self._core.random
        target = SipUri.parse(uri) if isinstance(uri, str) else uri
        sender = NameAddr.parse(from_) if isinstance(from_, str) else from_
        return new_request(
            method,
            # Headers in a URI are for who makes the request, not for who gets it (19.1.1).
            str(replace(target, headers=())),
            via=new_via(flow, random),
            from_=sender if sender.tag else sender.with_tag(self._core.new_tag()),
            to=NameAddr.parse(to) if isinstance(to, str) else to,
            call_id=call_id or random.token(_CALL_ID_CHARS),
            cseq=cseq,
            route=secured(str(target), route),
            headers=headers,
            body=body,
            content_type=content_type,
        )

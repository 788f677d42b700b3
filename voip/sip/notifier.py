"""A subscription of the peer's, as the notifier sees it (RFC 6665 section 4.2).

Asked for by SUBSCRIBE, or implied by REFER (RFC 3515). One NOTIFY is under way at a time; what
changes meanwhile is told by the next one. Sections without another name are RFC 6665's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from voip.errors import CallStateError
from voip.sip.challenge import Challenges, Failure
from voip.sip.client_request import ClientRequest
from voip.sip.core import Core
from voip.sip.dialog import Dialog, DialogState
from voip.sip.event_headers import EventType, SubscriptionState, SubscriptionStatus, event_of
from voip.sip.events import NotifierEnded
from voip.sip.flow import Flow
from voip.sip.headers import parse_seconds
from voip.sip.message import Request, Response
from voip.sip.server_request import ServerRequest
from voip.sip.timers import Timer

__all__ = ["Body", "Notifier"]

Body: TypeAlias = bytes | Callable[[], bytes]
"""A state's document; a function is asked for it whenever it is told."""

REFER_EXPIRES_S: Final = 300
"""How long the subscription implied by a REFER lasts, unless it is refreshed."""
_MAX_RETRY_AFTER_S: Final = 600


class Notifier:
    """A peer's subscription; accept or refuse it at once (4.2.1.1), then `notify`.

    `request` is the SUBSCRIBE or REFER. It ends in one `NotifierEnded` if it has been accepted.
    """

    def __init__(
        self, core: Core, request: Request, flow: Flow, dialog: Dialog | None, now: float
    ) -> None:
        self.request = request
        self.dialog = dialog
        self.event = event_of(request) if request.method == "SUBSCRIBE" else _refer_event(request)
        self.status = SubscriptionStatus.NOTIFY_WAIT
        self.expires_at: float | None = None
        self.owes_all = True
        """Whether the next NOTIFY must tell all of the state: it answers a SUBSCRIBE, or the one
        before it was not taken."""
        self._core = core
        self._shares_dialog = dialog is not None
        self._server = ServerRequest(core, request, flow, dialog, now)
        self._body: Body = b""
        self._content_type: str | None = None
        self._reason: str | None = None
        self._retry_after_s: int | None = None
        self._handle: ClientRequest | None = None
        self._untold = False
        self._wait: Timer | None = None
        self._expiry: Timer | None = None

    @property
    def flow(self) -> Flow:
        """How the request came."""
        return self._server.flow

    @property
    def wished_s(self) -> int:
        """How long the subscriber wants it: 0 asks for the state once."""
        if self.request.method == "REFER":
            return REFER_EXPIRES_S
        wished = parse_seconds(self.request.headers.get("Expires"))
        return self._core.config.subscription_s if wished is None else wished

    @property
    def is_over(self) -> bool:
        """Whether there is nobody to notify."""
        return self.status is SubscriptionStatus.TERMINATED

    def matches(self, event: EventType) -> bool:
        """Whether a SUBSCRIBE to that event refreshes this one."""
        if self.request.method == "REFER" and event.id is None:
            return event.package == "refer"
        return event == self.event

    def accepts(self, content_type: str) -> bool:
        """Whether it takes documents of a type; who says nothing takes the usual one."""
        values = self.request.headers.values("Accept")
        ranges = {value.partition(";")[0].strip().lower() for value in values}
        wide = {"*/*", f"{content_type.partition('/')[0]}/*"}
        return not ranges or content_type in ranges or bool(wide & ranges)

    # What its user does.

    def accept(
        self,
        *,
        contact: str,
        body: Body = b"",
        content_type: str | None = None,
        pending: bool = False,
        status: int | None = None,
        headers: Iterable[tuple[str, str]] = (),
        now: float,
    ) -> None:
        """Answer 200 (202 to a REFER), and tell the state at once (4.2.1.2)."""
        seconds = min(self.wished_s, self._core.config.subscription_s)
        self._answer(status, contact, seconds, headers, now)
        self.dialog = self.dialog or self._new_dialog(contact)
        self._core.subscriptions.add_theirs(self.dialog, self)
        self._body, self._content_type = body, content_type
        self.status = SubscriptionStatus.PENDING if pending else SubscriptionStatus.ACTIVE
        self._last(seconds, now)

    def accept_once(self, *, contact: str, now: float) -> None:
        """Answer 202 to a REFER that wants no subscription (RFC 4488 section 4)."""
        self._answer(None, contact, 0, [("Refer-Sub", "false")], now)
        self.status = SubscriptionStatus.TERMINATED

    def reject(
        self,
        status: int,
        reason: str | None = None,
        *,
        headers: Iterable[tuple[str, str]] = (),
        now: float,
    ) -> None:
        """Refuse it."""
        self._server.reply(status, reason, headers=headers, now=now)
        self.status = SubscriptionStatus.TERMINATED

    def notify(
        self, body: Body, content_type: str | None = None, *, pending: bool = False, now: float
    ) -> None:
        """Tell a new state; nothing when the subscription is over."""
        if self.is_over:
            return
        self._body, self._content_type = body, content_type or self._content_type
        self.status = SubscriptionStatus.PENDING if pending else SubscriptionStatus.ACTIVE
        self._tell(now)

    def terminate(
        self,
        reason: str,
        body: Body | None = None,
        *,
        retry_after_s: int | None = None,
        now: float,
    ) -> None:
        """End it: the last NOTIFY says why, and the state if `body` is given (4.1.3)."""
        if self.is_over:
            return
        if body is not None:
            self._body = body
        self._reason, self._retry_after_s = reason, retry_after_s
        self._over(reason)
        self._tell(now)

    # The peer's later SUBSCRIBEs.

    def on_subscribe(self, request: Request, flow: Flow, now: float) -> None:
        """Refresh it, or end it (4.2.1.4). SipError where the request cannot be read."""
        core = self._core
        wished = parse_seconds(request.headers.get("Expires"))
        seconds = min(self._default_s if wished is None else wished, core.config.subscription_s)
        if self.dialog is None or self.is_over:
            core.answer_once(request, flow, 481, now=now)
            return
        self.dialog.refresh_target(request, flow)
        lines = [("Expires", str(seconds)), ("Contact", self.dialog.contact)]
        core.answer_once(request, flow, 200, lines, now=now)
        self._last(seconds, now)

    @property
    def _default_s(self) -> int:
        if self.request.method == "REFER":
            return REFER_EXPIRES_S
        return self._core.config.subscription_s

    # Inside.

    def _answer(
        self,
        status: int | None,
        contact: str,
        seconds: int,
        headers: Iterable[tuple[str, str]],
        now: float,
    ) -> None:
        if not self._server.waiting:
            raise CallStateError(f"nobody waits for an answer to the {self.request.method}")
        lines = [("Contact", contact), *headers]
        if self.request.method == "SUBSCRIBE":
            lines.append(("Expires", str(seconds)))
        default = 202 if self.request.method == "REFER" else 200
        self._server.reply(status or default, headers=lines, now=now)

    def _new_dialog(self, contact: str) -> Dialog:
        dialog = Dialog.as_callee(self.request, self._server.tag, self._server.flow, contact)
        dialog.state = DialogState.CONFIRMED
        return dialog

    def _last(self, seconds: int, now: float) -> None:
        """Let it go on for `seconds` and tell the state; 0 ends it."""
        self.owes_all = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self.expires_at = now + seconds
        if seconds == 0:
            self.terminate("timeout", now=now)
            return
        self._expiry = self._core.timers.start(self.expires_at, self._on_expired)
        self._tell(now)

    def _on_expired(self, now: float) -> None:
        self._expiry = None
        self.terminate("timeout", now=now)

    def _tell(self, now: float) -> None:
        if self._handle is not None or self._wait is not None:
            self._untold = True
            return
        dialog, core = self.dialog, self._core
        if dialog is None:
            return
        self._untold = False
        body = self._body() if callable(self._body) else self._body
        self.owes_all = False
        request = dialog.request(
            "NOTIFY",
            random=core.random,
            headers=[
                ("Contact", dialog.contact),
                *core.request_headers(),
                ("Event", str(self.event)),
                ("Subscription-State", str(self._state(now))),
            ],
            body=body,
            content_type=self._content_type if body else None,
        )
        challenges = Challenges(
            dialog.credentials, core.digest, core.random, core.config.max_attempts
        )
        self._handle = ClientRequest(core, request, dialog.flow, challenges, self._on_told, dialog)
        self._handle.start(now)

    def _state(self, now: float) -> SubscriptionState:
        if self.is_over:
            return SubscriptionState("terminated", None, self._reason, self._retry_after_s)
        left = max(0, round((self.expires_at or now) - now))
        return SubscriptionState(self.status.value, left)

    def _on_told(self, handle: ClientRequest, outcome: Response | Failure, now: float) -> None:
        self._handle = None
        if isinstance(outcome, Response) and outcome.status < 300 and handle.dialog is not None:
            self._core.learn_target(handle.dialog, outcome)
        if outcome.status >= 300 and not self.is_over:
            response = outcome.response if isinstance(outcome, Failure) else outcome
            wait = parse_seconds(response.headers.get("Retry-After")) if response else None
            if wait is None or wait > _MAX_RETRY_AFTER_S:
                self._over(outcome.reason)
                return
            self._untold = self.owes_all = True
            self._wait = self._core.timers.start(now + wait, self._on_waited)
        elif self._untold:
            self._tell(now)

    def _on_waited(self, now: float) -> None:
        self._wait = None
        self._tell(now)

    def _over(self, reason: str) -> None:
        self.status = SubscriptionStatus.TERMINATED
        for timer in (self._expiry, self._wait):
            if timer is not None:
                timer.cancel()
        self._expiry = self._wait = None
        if self.dialog is not None:
            self._core.subscriptions.remove_theirs(self.dialog, self)
            if not self._shares_dialog:
                self.dialog.state = DialogState.TERMINATED
        self._core.emit(NotifierEnded(self, reason))

    def __repr__(self) -> str:
        return f"<Notifier of {self.event} to {self.request.from_.uri}: {self.status.value}>"


def _refer_event(request: Request) -> EventType:
    """Return the event a REFER implies; its CSeq tells it from others (RFC 3515 section 2.4.6)."""
    return EventType("refer", str(request.cseq.number))

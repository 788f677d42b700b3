"""A subscription of ours (RFC 6665 section 4.1): asked for, confirmed by NOTIFY, kept, given up.

Begun by SUBSCRIBE, or by REFER, which implies one to the "refer" event (RFC 3515). The NOTIFY makes
the dialog, not the 2xx, and may come before it. Sections without another name are RFC 6665's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from voip.errors import SipError
from voip.sip.challenge import Challenges, Failure
from voip.sip.check import check_contact
from voip.sip.client_request import ClientRequest
from voip.sip.compose import new_request
from voip.sip.core import Core
from voip.sip.dialog import Dialog, DialogState
from voip.sip.digest import CredentialSource
from voip.sip.event_headers import (
    EventType,
    SubscriptionState,
    SubscriptionStatus,
    event_of,
    state_of,
)
from voip.sip.events import Notified, SubscriptionEnded, SubscriptionForked, SubscriptionLost
from voip.sip.failover import Seek, Way
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr, parse_seconds
from voip.sip.message import Request, Response
from voip.sip.sips import secured
from voip.sip.timers import Timer
from voip.sip.via import new_via

__all__ = ["Subscription", "Wanted"]

RETRY_BASE_S: Final = 30.0
RETRY_MAX_S: Final = 1800.0
"""Waiting before a subscription is asked for anew doubles from the base up to the maximum."""
STEADY_S: Final = 60.0
"""One that lasted this long was no failure, whatever ended it."""

_MARGIN_S: Final = 40.0
"""A refresh begins this long before expiry if it can: a SUBSCRIBE may take 64*T1 to fail."""
_CALL_ID_CHARS: Final = 32
_MAX_INTERVAL_RAISES: Final = 3

_DESTROYING: Final = frozenset((404, 405, 410, 416, *range(480, 486), 489, 501, 604))
"""Refusals of a refresh that end the subscription (4.1.2.2)."""
_PASSING: Final = frozenset((408, 429, 430, 480, 481, 491, 500, 502, 503, 504, 580))
"""Refusals that may be otherwise a little later."""
_FINAL_REASONS: Final = frozenset(("rejected", "noresource", "invariant"))
_AT_ONCE: Final = frozenset(("deactivated", "timeout", "giveup"))
_RETRY_AFTER_MEANS_NOTHING: Final = frozenset(("deactivated", "timeout"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for, of whom, and how it gets there.

    `method` is SUBSCRIBE, or REFER with Refer-To among its `headers`. `accept`: media types a
    NOTIFY's body may have. `expires_s` 0 asks for the state once.
    """

    uri: str
    flow: Flow
    from_: NameAddr
    to: NameAddr
    contact: str
    event: EventType
    accept: tuple[str, ...]
    expires_s: int = 3600
    method: str = "SUBSCRIBE"
    route: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    content_type: str | None = None
    credentials: CredentialSource | None = field(default=None, repr=False)
    seek: Seek | None = field(default=None, repr=False)


class Subscription:
    """A subscription we asked for; the handle of `Subscriptions.subscribe` and `refer`.

    Every NOTIFY is answered here and told as `Notified`; the end is one `SubscriptionEnded`. With
    `keep` what may be had again is asked for again (`SubscriptionLost` says when). With `forks`
    each notifier that a forking proxy reaches becomes a subscription of its own
    (`SubscriptionForked`); without, the first one is the only one (4.1.4).
    """

    def __init__(
        self,
        core: Core,
        wanted: Wanted,
        dialog: Dialog | None = None,
        *,
        keep: bool = False,
        forks: bool = False,
    ) -> None:
        self.wanted = wanted
        self.event = wanted.event
        self.dialog = dialog
        self.status = SubscriptionStatus.NOTIFY_WAIT
        self.expires_at: float | None = None
        self._core = core
        self._shares_dialog = dialog is not None
        self._keep = keep
        self._forks = forks
        self._key = ("", "")
        self._wished_s = wanted.expires_s
        self._asked_s = wanted.expires_s
        self._handle: ClientRequest | None = None
        self._first_cseq = 0
        self._leaving = False
        self._raises = 0
        self._failures = 0
        self._began_at = 0.0
        self._silence: Timer | None = None  # Timer N
        self._refresh: Timer | None = None
        self._expiry: Timer | None = None

    # What its user does.

    def start(self, now: float) -> None:
        """Ask for it."""
        self.status = SubscriptionStatus.NOTIFY_WAIT
        self._began_at = now
        self._raises = 0
        request = self._first_request()
        self._key = request.call_id, request.from_.tag or ""
        self._core.subscriptions.add_ours(self._key, self)
        self._send(request, self._wished_s, now)

    def refresh(self, now: float) -> None:
        """Ask for its state, and for more time; nothing while a SUBSCRIBE is under way."""
        if self.dialog is not None and self._handle is None and self._is_there:
            self._send(self._later_request(self._wished_s), self._wished_s, now)

    def unsubscribe(self, now: float) -> None:
        """Give it up; ends in `SubscriptionEnded`, after the last NOTIFY or Timer N."""
        if self._leaving or self.status is SubscriptionStatus.TERMINATED:
            return
        self._leaving = True
        if self.status is SubscriptionStatus.WAITING:
            self._over("unsubscribed", None, None, now)
        elif self.dialog is not None and self._handle is None:
            self._leave(now)

    # What is seen of it.

    @property
    def authorized(self) -> bool:
        """Whether credentials have been sent."""
        return self._handle is not None and self._handle.authorized

    @property
    def _is_there(self) -> bool:
        return self.status not in (SubscriptionStatus.WAITING, SubscriptionStatus.TERMINATED)

    def matches(self, event: EventType) -> bool:
        """Whether a NOTIFY of that event is meant; a REFER's id is its CSeq (RFC 3515 2.4.6)."""
        if self.wanted.method == "REFER":
            return event.package == "refer" and event.id in (None, str(self._cseq_of_first))
        return event == self.event

    def expects(self, tag: str | None) -> bool:
        """Whether a NOTIFY from that tag is in our dialog, or may make it."""
        return self.dialog is None or self.dialog.remote.tag == tag

    @property
    def _cseq_of_first(self) -> int:
        if self._first_cseq or self._handle is None:
            return self._first_cseq
        return self._handle.request.cseq.number

    # NOTIFY.

    def on_notify(self, request: Request, flow: Flow, now: float) -> Subscription | None:
        """Take a NOTIFY that `matches`, in order in our dialog, or one that makes it.

        Returns whose it was: a new subscription where it came from another fork, None where
        nobody wants that fork. SipError where it cannot be read.
        """
        state = state_of(request)
        if self._handle is not None:
            self._handle.hear()
        if self.dialog is None:
            self._enter(request, flow)
        elif not self.expects(request.from_.tag):
            if not self._forks:
                return None
            return self._fork(request, flow, state, now)
        else:
            self.dialog.refresh_target(request, flow)
        self._take(request, flow, state, now)
        return self

    def _enter(self, request: Request, flow: Flow) -> None:
        """Begin the dialog (4.4.1): its route is the NOTIFY's, which has to name its sender."""
        check_contact(request)
        dialog = Dialog.as_callee(request, request.to.tag or "", flow, self.wanted.contact)
        dialog.is_caller = True
        dialog.local_cseq = self._cseq_of_first
        dialog.state = DialogState.CONFIRMED
        dialog.credentials = self.wanted.credentials
        self.dialog = dialog

    def _fork(
        self, request: Request, flow: Flow, state: SubscriptionState, now: float
    ) -> Subscription:
        fork = Subscription(self._core, self.wanted)
        fork._key, fork._began_at = self._key, now
        fork._first_cseq = self._cseq_of_first
        fork._enter(request, flow)
        self._core.subscriptions.add_ours(self._key, fork)
        self._core.emit(SubscriptionForked(self, fork))
        fork._take(request, flow, state, now)
        return fork

    def _take(self, request: Request, flow: Flow, state: SubscriptionState, now: float) -> None:
        core = self._core
        if request.body and request.content_type not in self.wanted.accept:
            accept = ("Accept", ", ".join(self.wanted.accept))
            core.answer_once(request, flow, 415, [accept], now=now)
            if state.terminated:  # that can be read
                self._on_terminated(state, now)
            return
        core.answer_once(request, flow, 200, now=now)
        self.event = event_of(request)
        core.emit(Notified(self, request, state))
        if state.terminated:
            self._on_terminated(state, now)
            return
        if self._leaving and self._asked_s == 0:
            return  # it has crossed our last SUBSCRIBE; Timer N goes on
        self._silence = _stop(self._silence)
        active = state.value != "pending"
        self.status = SubscriptionStatus.ACTIVE if active else SubscriptionStatus.PENDING
        if state.expires_s is not None:
            self._lasts(state.expires_s, now)
        elif self.expires_at is None and self._handle is None:
            self._lasts(self._asked_s, now)
        if self._leaving and self._handle is None and self._asked_s > 0:
            self._leave(now)

    def _on_terminated(self, state: SubscriptionState, now: float) -> None:
        """Try again as the reason allows (4.1.3)."""
        reason = state.reason or "terminated"
        wait: float | None = None
        if reason not in _FINAL_REASONS and self._wished_s > 0:
            after = None if reason in _RETRY_AFTER_MEANS_NOTHING else state.retry_after_s
            wait = float(after) if after is not None else self._patience(reason in _AT_ONCE, now)
        self._over(reason, None, wait, now)

    def _on_silence(self, now: float) -> None:
        """Timer N: nobody says how it stands, so there is none."""
        self._silence = None
        self._over("no NOTIFY came", 408, self._patience(False, now), now)

    # SUBSCRIBE and REFER.

    def _first_request(self) -> Request:
        wanted, core = self.wanted, self._core
        headers = self._headers(wanted.method, wanted.expires_s)
        if self.dialog is not None:
            return self.dialog.request(
                wanted.method,
                random=core.random,
                headers=headers,
                body=wanted.body,
                content_type=wanted.content_type,
            )
        return new_request(
            wanted.method,
            wanted.uri,
            via=new_via(wanted.flow, core.random),
            from_=wanted.from_.with_tag(core.new_tag()),
            to=wanted.to,
            call_id=core.random.token(_CALL_ID_CHARS),
            cseq=1,
            route=secured(wanted.uri, wanted.route),
            headers=headers,
            body=wanted.body,
            content_type=wanted.content_type,
        )

    def _later_request(self, expires_s: int) -> Request:
        if self.dialog is None:
            raise SipError("the subscription has no dialog yet")
        headers = self._headers("SUBSCRIBE", expires_s)
        return self.dialog.request("SUBSCRIBE", random=self._core.random, headers=headers)

    def _headers(self, method: str, expires_s: int) -> list[tuple[str, str]]:
        contact = self.dialog.contact if self.dialog is not None else self.wanted.contact
        lines = [("Contact", contact), *self._core.request_headers()]
        if method == "SUBSCRIBE":
            lines += [
                ("Event", str(self.event)),
                ("Expires", str(expires_s)),
                ("Accept", ", ".join(self.wanted.accept)),
            ]
        if method == self.wanted.method:
            lines += self.wanted.headers
        return lines

    def _send(self, request: Request, expires_s: int, now: float) -> None:
        core = self._core
        self._refresh = _stop(self._refresh)
        self._asked_s = expires_s
        challenges = Challenges(
            self.wanted.credentials, core.digest, core.random, core.config.max_attempts
        )
        flow = self.dialog.flow if self.dialog is not None else self.wanted.flow
        handle = ClientRequest(
            core,
            request,
            flow,
            challenges,
            self._on_outcome,
            self.dialog,
            seek=self.wanted.seek,
            moved=self._on_moved,
        )
        self._handle = handle
        handle.start(now)
        if self._handle is handle and request.method == "SUBSCRIBE":
            self._wait_for_notify(now)

    def _on_moved(self, handle: ClientRequest, way: Way, now: float) -> None:
        """Take it that the request goes another way: so does what is sent after it."""
        if handle is not self._handle:
            return
        if handle.dialog is None:
            wanted = self.wanted
            route = wanted.route if way.route is None else way.route
            contact = way.contact or wanted.contact
            self.wanted = replace(wanted, flow=way.flow, route=route, contact=contact)
        if handle.request.method == "SUBSCRIBE":
            self._wait_for_notify(now)

    def _wait_for_notify(self, now: float) -> None:
        self._silence = _stop(self._silence)
        limit = now + self._core.durations.timeout
        self._silence = self._core.timers.start(limit, self._on_silence)

    def _leave(self, now: float) -> None:
        self._send(self._later_request(0), 0, now)

    def _on_outcome(self, handle: ClientRequest, outcome: Response | Failure, now: float) -> None:
        if handle is not self._handle:
            return  # of a subscription that is over
        if handle.request.method == self.wanted.method and not self._first_cseq:
            self._first_cseq = handle.request.cseq.number
        self._handle = None
        if not self._is_there:
            return
        response = outcome.response if isinstance(outcome, Failure) else outcome
        if not isinstance(outcome, Failure) and outcome.status < 300:
            self._on_success(outcome, handle.request, now)
        elif self._is_only_unknown(handle.request, outcome.status):
            self._silence = _stop(self._silence)
        elif self.status is SubscriptionStatus.NOTIFY_WAIT or outcome.status in _DESTROYING:
            self._on_refused(outcome, response, now)
        elif outcome.status == 423 and self._may_ask_longer(response):
            self._send(self._later_request(self._wished_s), self._wished_s, now)
        elif self._leaving:
            self._over("unsubscribed", None, None, now)
        else:
            self._go_on_until_expiry(now)

    def _is_only_unknown(self, request: Request, status: int) -> bool:
        """Whether a SUBSCRIBE in the place of a REFER is not understood: what REFER got holds."""
        refreshes = self.wanted.method == "REFER" and request.method == "SUBSCRIBE"
        return refreshes and status in (405, 489, 501) and not self._leaving

    def _on_success(self, response: Response, request: Request, now: float) -> None:
        if self.dialog is not None and request.to.tag is not None:
            self._core.learn_target(self.dialog, response)
        if request.method == "REFER":
            refer_sub = (response.headers.get("Refer-Sub") or "true").strip().lower()
            if refer_sub.partition(";")[0].strip() == "false":  # RFC 4488
                self._over("no subscription", response.status, None, now)
            elif self.status is SubscriptionStatus.NOTIFY_WAIT:
                self._wait_for_notify(now)
            return
        if response.status == 204:
            self._silence = _stop(self._silence)
        granted = parse_seconds(response.headers.get("Expires"))
        if granted is None or granted > self._asked_s:
            granted = self._asked_s
        if self._asked_s > 0 and granted > 0:  # nothing granted: its NOTIFY is on its way
            self._lasts(granted, now)
        if self._leaving and self.dialog is not None and self._asked_s > 0:
            self._leave(now)

    def _on_refused(
        self, outcome: Response | Failure, response: Response | None, now: float
    ) -> None:
        """Ask for more time (423), ask again later, or be done."""
        initial = self.status is SubscriptionStatus.NOTIFY_WAIT
        if initial and outcome.status == 423 and self._may_ask_longer(response):
            self._forget()
            self.start_again(now)
            return
        wait: float | None = None
        if outcome.status in _PASSING and self._wished_s > 0:
            after = parse_seconds(response.headers.get("Retry-After")) if response else None
            wait = max(self._patience(outcome.status == 481 and not initial, now), after or 0)
        self._over(outcome.reason, outcome.status, wait, now)

    def start_again(self, now: float) -> None:
        """Ask for it anew: another Call-ID, another tag (4.1.2.2)."""
        if not self._shares_dialog:
            self.dialog = None
        self.event = self.wanted.event
        self.expires_at = None
        self._first_cseq = 0
        raises, began = self._raises, self._began_at
        self.start(now)
        if raises:
            self._raises, self._began_at = raises, began

    def _may_ask_longer(self, response: Response | None) -> bool:
        least = parse_seconds(response.headers.get("Min-Expires")) if response else None
        if least is None or least <= self._wished_s or self._raises >= _MAX_INTERVAL_RAISES:
            return False
        self._raises += 1
        self._wished_s = least
        self.wanted = replace(self.wanted, expires_s=least)
        return True

    # Time.

    def _lasts(self, seconds: int, now: float) -> None:
        """Take it that it lasts `seconds` from now; refresh it before that."""
        core = self._core
        self._stop_clock()
        self.expires_at = now + seconds
        self._expiry = core.timers.start(self.expires_at, self._on_expired)
        if self._wished_s > 0 and self._may_be_refreshed:
            latest = max(0.5 * seconds, min(0.9 * seconds, seconds - _MARGIN_S))
            at = now + core.random.uniform(0.5 * seconds, latest)
            self._refresh = core.timers.start(at, self.refresh)

    @property
    def _may_be_refreshed(self) -> bool:
        """Whether to ask for more time: who takes a REFER may say that it knows no SUBSCRIBE."""
        allowed = frozenset() if self.dialog is None else self.dialog.allowed
        return self.wanted.method != "REFER" or not allowed or "SUBSCRIBE" in allowed

    def _go_on_until_expiry(self, now: float) -> None:
        """Try once more half-way to the end: a refresh that fails ends nothing (4.1.2.2)."""
        self._silence = _stop(self._silence)
        self._refresh = _stop(self._refresh)
        left = (self.expires_at or now) - now
        if left > 1:
            self._refresh = self._core.timers.start(now + left / 2, self.refresh)

    def _on_expired(self, now: float) -> None:
        self._expiry = None
        wait = self._patience(True, now) if self._wished_s > 0 else None
        self._over("expired", None, wait, now)

    def _patience(self, at_once: bool, now: float) -> float:
        """Return how long to wait before it is asked for anew; at once only after a steady one."""
        if now - self._began_at >= STEADY_S:
            self._failures = 0
        self._failures += 1
        if at_once and self._failures == 1:
            return 0.0
        longest = min(RETRY_MAX_S, RETRY_BASE_S * 2.0 ** min(self._failures - 1, 16))
        return self._core.random.uniform(0.5 * longest, longest)

    # The end.

    def _over(self, reason: str, status: int | None, wait: float | None, now: float) -> None:
        if not self._is_there and self.status is not SubscriptionStatus.WAITING:
            return
        self._forget()
        if self._keep and not self._leaving and wait is not None:
            self.status = SubscriptionStatus.WAITING
            self._refresh = self._core.timers.start(now + wait, self.start_again)
            self._core.emit(SubscriptionLost(self, reason, status, wait))
            return
        self.status = SubscriptionStatus.TERMINATED
        self._core.emit(SubscriptionEnded(self, reason, status))

    def _forget(self) -> None:
        self._stop_clock()
        self._silence = _stop(self._silence)
        self._core.subscriptions.remove_ours(self._key, self)
        self._handle = None
        if self.dialog is not None and not self._shares_dialog:
            self.dialog.state = DialogState.TERMINATED

    def _stop_clock(self) -> None:
        self._refresh = _stop(self._refresh)
        self._expiry = _stop(self._expiry)

    def __repr__(self) -> str:
        return f"<Subscription to {self.event} of {self.wanted.uri}: {self.status.value}>"


def _stop(timer: Timer | None) -> Timer | None:
    """Stop it, and return what is left of it: nothing."""
    if timer is not None:
        timer.cancel()
    return None

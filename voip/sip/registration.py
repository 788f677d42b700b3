"""One account's binding at its registrar, without I/O (RFC 3261 section 10.2).

Registers, renews before the binding expires, tries again after failures that may pass, and removes
the binding in the end. Time comes in, requests leave by the agent, what happened is told as events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, TypeAlias

from voip.errors import AuthenticationError, RegistrationError, SipError, UnreachableError
from voip.sip.agent import SipAgent
from voip.sip.client_request import ClientRequest
from voip.sip.digest import CredentialSource
from voip.sip.events import Cause, RequestDone, RequestFailed, SipEvent
from voip.sip.failover import Seek, Sought, Way
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr, parse_seconds
from voip.sip.message import Response
from voip.sip.terms import Terms
from voip.sip.uri import SipUri, format_host
from voip.types import Random

__all__ = [
    "Registered",
    "Registration",
    "RegistrationEvent",
    "RegistrationFailed",
    "RegistrationState",
    "Unregistered",
]

RETRY_BASE_S: Final = 30.0
RETRY_BASE_WHILE_REACHED_S: Final = 90.0
"""The base where another flow still reaches us."""
RETRY_MAX_S: Final = 1800.0
"""Waiting after failures doubles from twice the base up to the maximum (RFC 5626 section 4.5)."""

MAX_RETRY_AFTER_S: Final = 3600.0
"""A registrar's Retry-After is obeyed up to here."""

_MARGIN_S: Final = 40.0
"""A renewal begins this long before expiry if it can: a REGISTER may take 64*T1 = 32 s to fail."""

_FIRST_HOP_LACKS_OUTBOUND: Final = 439

_MAX_INTERVAL_RAISES: Final = 3
"""Times in a row that a registrar may ask for a longer interval (423)."""

_PASSING: Final = frozenset((408, 429, 430, 480, 491, 500, 502, 503, 504, 580))
"""Refusals that may be otherwise a little later; all others are final."""


_HINTS: Final = {
    403: "the registrar knows the account or the address, and does not want it",
    404: "is the user part of the address right?",
    423: "ask for a longer interval with expires_s=",
}


class RegistrationState(Enum):
    """Where the binding stands."""

    UNREGISTERED = "unregistered"
    REGISTERING = "registering"
    """Asked for, not there yet (or not any more)."""
    REGISTERED = "registered"
    """There; a renewal may be under way."""
    FAILED = "failed"
    """Refused, or nobody answered; `next_timer` says whether it is tried again."""
    UNREGISTERING = "unregistering"


@dataclass(frozen=True, slots=True)
class Registered:
    """The registrar knows us for `expires_s` seconds more. `renewed`: it did before."""

    expires_s: float
    renewed: bool
    terms: Terms = field(default_factory=Terms)


@dataclass(frozen=True, slots=True)
class Unregistered:
    """We have given the binding up; `error` says why the registrar may still hold it."""

    error: RegistrationError | None = None


@dataclass(frozen=True, slots=True)
class RegistrationFailed:
    """The registrar refused or did not answer; `retry_in_s` None: the refusal is final."""

    error: RegistrationError
    retry_in_s: float | None


RegistrationEvent: TypeAlias = Registered | Unregistered | RegistrationFailed


class Registration:
    """Keeps one contact of one address of record registered by way of an agent.

    The user passes every event of the agent to `handle`, calls `handle_timer` when `next_timer` is
    due, and drains `events` after each call. `start` and `stop` may be called in any state: what
    was asked last is what comes about, one REGISTER at a time.

    `instance`: the URN of this phone, for a GRUU (RFC 5627) and, with `reg_id`, for one flow of
    several (RFC 5626). `retry_base_s` may be set at any time. `seek`: as of `SipAgent.request`.
    """

    def __init__(
        self,
        agent: SipAgent,
        random: Random,
        *,
        registrar: SipUri | str,
        address: NameAddr | str,
        contact: NameAddr | str,
        flow: Flow,
        credentials: CredentialSource | None = None,
        expires_s: int = 300,
        route: Iterable[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        instance: str | None = None,
        reg_id: int | None = None,
        seek: Seek | None = None,
    ) -> None:
        self.retry_base_s = RETRY_BASE_S
        self._instance = instance
        self._reg_id = reg_id
        self._seek = seek
        self._agent = agent
        self._random = random
        self._registrar = SipUri.parse(registrar) if isinstance(registrar, str) else registrar
        self._address = NameAddr.parse(address) if isinstance(address, str) else address
        self._contact = NameAddr.parse(contact) if isinstance(contact, str) else contact
        self._contact_uri = self._contact.sip_uri
        self._outdated = False
        self._flow = flow
        self._credentials = credentials
        uri = self._address.sip_uri
        host = format_host(uri.host, uri.port)
        self._who = host if uri.user is None else f"{uri.user}@{host}"
        self._wished_s = expires_s
        self._route = tuple(route)
        self._headers = tuple(headers)
        self._call_id = random.token(32)
        self._cseq = 1
        self._state = RegistrationState.UNREGISTERED
        self._wanted = False
        self._handle: ClientRequest | None = None
        self._wake: float | None = None
        self._bound_until: float | None = None
        self._failures = 0
        self._raises = 0
        self._events: list[RegistrationEvent] = []

    @property
    def state(self) -> RegistrationState:
        """Where the binding stands."""
        return self._state

    @property
    def flow(self) -> Flow:
        """The way REGISTER goes."""
        return self._flow

    @property
    def wanted(self) -> bool:
        """Whether it is to be kept, be it there or not."""
        return self._wanted

    def start(self, now: float) -> None:
        """Register, or renew at once what is registered; nothing while that is under way."""
        self._wanted = True
        self._failures = 0
        if self._handle is None:
            self._register(now)

    def stop(self, now: float) -> None:
        """Remove the binding, if there is one, and try no more; ends in `Unregistered`.

        Before `start`, and after another `stop`, it does nothing.
        """
        if not self._wanted:
            return
        self._wanted = False
        if self._handle is None:
            self._leave(None, now)

    def rebind(self, contact: NameAddr | str, flow: Flow, now: float) -> None:
        """Use another contact and another way from now on: a new connection, a new address."""
        self._contact = NameAddr.parse(contact) if isinstance(contact, str) else contact
        self._contact_uri = self._contact.sip_uri
        self._flow = flow
        if self._handle is not None:
            self._outdated = True
        elif self._wanted:
            self._register(now)

    def _look_elsewhere(self, sought: Sought) -> None:
        """Look for another way, by which our contact is what it is besides an address too."""

        def found(way: Way, now: float) -> bool:
            contact = NameAddr.parse(way.contact) if way.contact is not None else self._contact
            if not sought.found(replace(way, contact=str(self._named(contact))), now):
                return False
            self._flow, self._contact, self._contact_uri = way.flow, contact, contact.sip_uri
            return True

        if self._seek is not None:
            self._seek(replace(sought, found=found))

    def handle(self, event: SipEvent, now: float) -> bool:
        """Take an event of the agent; True when it was about our REGISTER."""
        if not isinstance(event, RequestDone | RequestFailed) or event.handle is not self._handle:
            return False
        self._handle = None
        self._cseq = event.handle.request.cseq.number + 1
        if isinstance(event, RequestDone) and event.handle.proven is False:
            error = AuthenticationError(
                f"{self._registrar.host} answered for {self._who} without knowing the password",
                hint="is it the registrar that was meant?",
            )
            self._fail(error, now, passing=True)
        elif isinstance(event, RequestDone):
            self._judge(event.response, now)
        else:
            self._fail(self._failure(event), now, passing=event.cause is not Cause.AUTHENTICATION)
        if self._outdated and self._wanted and self._handle is None:
            self._register(now)
        return True

    def next_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called: for a renewal or another try."""
        return self._wake

    def handle_timer(self, now: float) -> None:
        """Renew or try again if that is due."""
        if self._wake is not None and now >= self._wake:
            self._register(now)

    def events(self) -> list[RegistrationEvent]:
        """Return what has happened, in order, once."""
        events, self._events = self._events, []
        return events

    def _register(self, now: float) -> None:
        if self._state is not RegistrationState.REGISTERED:
            self._state = RegistrationState.REGISTERING
        self._raises = 0
        self._send(self._wished_s, now)

    def _send(self, expires_s: int, now: float) -> None:
        self._wake = None
        self._outdated = False
        try:
            self._handle = self._agent.request(
                "REGISTER",
                self._registrar,
                flow=self._flow,
                from_=self._address,
                to=self._address,
                call_id=self._call_id,
                cseq=self._cseq,
                route=self._route,
                headers=[
                    ("Contact", str(self._named(self._contact))),
                    ("Expires", str(expires_s)),
                    ("Supported", self._supported()),
                    *self._headers,
                ],
                credentials=self._credentials,
                seek=None if self._seek is None else self._look_elsewhere,
                now=now,
            )
        except SipError as error:  # the agent has no room for another transaction
            failure = RegistrationError(error.message, hint=error.hint, status=error.status)
            self._fail(failure, now, passing=error.status == 503)

    def _named(self, contact: NameAddr) -> NameAddr:
        """Return a contact of ours with what it is besides an address."""
        more: list[tuple[str, str | None]] = []
        if self._instance is not None:
            if self._reg_id is not None:
                more.append(("reg-id", str(self._reg_id)))
            more.append(("+sip.instance", f'"<{self._instance}>"'))
        return NameAddr(contact.display, contact.uri, (*contact.params, *more))

    def _supported(self) -> str:
        """Return what we know of registering; who knows GRUUs says so (RFC 5627 section 4.1)."""
        flows = self._instance is not None and self._reg_id is not None
        return "path, outbound, gruu" if flows else "path, gruu"

    def _judge(self, response: Response, now: float) -> None:
        """Take the registrar's final word."""
        if self._state is RegistrationState.UNREGISTERING:
            refusal = None if response.status < 300 else self._refusal(response)
            self._leave(refusal, now)
        elif response.status == 423 and self._wanted and self._may_ask_longer(response):
            self._send(self._wished_s, now)
        elif response.status == _FIRST_HOP_LACKS_OUTBOUND and self._reg_id is not None:
            self._reg_id = None
            self._send(self._wished_s, now)
        elif response.status >= 300:
            self._fail(
                self._refusal(response),
                now,
                passing=response.status in _PASSING,
                not_before_s=parse_seconds(response.headers.get("Retry-After")) or 0,
            )
        else:
            mine = self._my_contact(response)
            terms = Terms.of(response, self._flow, mine)
            self._accept(self._granted(response, mine), terms, now)

    def _accept(self, granted_s: int, terms: Terms, now: float) -> None:
        if granted_s == 0 and self._wished_s > 0:
            error = RegistrationError(
                f"{self._registrar.host} registered {self._who} for no time at all"
            )
            self._fail(error, now, passing=True)
            return
        renewed = self._state is RegistrationState.REGISTERED
        self._failures = 0
        self._bound_until = now + granted_s
        self._state = RegistrationState.REGISTERED
        self._events.append(Registered(float(granted_s), renewed, terms))
        if not self._wanted:
            self._leave(None, now)
        elif granted_s > 0:
            latest = max(0.5 * granted_s, min(0.9 * granted_s, granted_s - _MARGIN_S))
            self._wake = now + self._random.uniform(0.5 * granted_s, latest)

    def _leave(self, error: RegistrationError | None, now: float) -> None:
        """Go on giving the binding up: remove it if it is there, else say that it is over."""
        self._wake = None
        bound = self._bound_until is not None and self._bound_until > now
        self._bound_until = None
        if bound and self._state is not RegistrationState.UNREGISTERING:
            self._state = RegistrationState.UNREGISTERING
            self._send(0, now)
            return
        self._state = RegistrationState.UNREGISTERED
        self._events.append(Unregistered(error))
        if self._wanted:  # `start` was called meanwhile
            self._register(now)

    def _fail(
        self, error: RegistrationError, now: float, *, passing: bool, not_before_s: float = 0.0
    ) -> None:
        """Give up, or wait: between half and all of base * 2^failures (RFC 5626 section 4.5)."""
        if not self._wanted or self._state is RegistrationState.UNREGISTERING:
            self._leave(error, now)
            return
        self._state = RegistrationState.FAILED
        self._failures += 1
        retry_in_s: float | None = None
        if passing:
            longest = min(RETRY_MAX_S, self.retry_base_s * 2.0 ** min(self._failures, 16))
            retry_in_s = self._random.uniform(0.5 * longest, longest)
            retry_in_s = max(retry_in_s, min(not_before_s, MAX_RETRY_AFTER_S))
            self._wake = now + retry_in_s
        self._events.append(RegistrationFailed(error, retry_in_s))

    def _may_ask_longer(self, response: Response) -> bool:
        """Raise the wished interval to what a 423 asks for (section 10.2.8), if it makes sense."""
        least = parse_seconds(response.headers.get("Min-Expires"))
        if least is None or least <= self._wished_s or self._raises >= _MAX_INTERVAL_RAISES:
            return False
        self._raises += 1
        self._wished_s = least
        return True

    def _granted(self, response: Response, mine: NameAddr | None) -> int:
        """Return the seconds granted to our contact (section 10.2.4).

        Where it has none of its own comes the Expires header, then what we asked for.
        """
        granted = None if mine is None else parse_seconds(mine.param("expires"))
        if granted is None:
            granted = parse_seconds(response.headers.get("Expires"))
        return self._wished_s if granted is None else granted

    def _my_contact(self, response: Response) -> NameAddr | None:
        """Find our contact in the registrar's list: by its URI, by instance and flow.

        Where a registrar or a NAT has rewritten it beyond recognition, the only contact there is
        is ours.
        """
        contacts = _readable_contacts(response)
        mine = [contact for contact in contacts if self._is_mine(contact)]
        with_time = [contact for contact in mine if contact.param("expires") is not None]
        if with_time or mine:
            return (with_time or mine)[0]
        return contacts[0] if len(contacts) == 1 else None

    def _is_mine(self, contact: NameAddr) -> bool:
        instance = contact.param("+sip.instance")
        if self._instance is not None and instance is not None:
            return (instance, contact.param("reg-id")) == (
                f"<{self._instance}>",
                None if self._reg_id is None else str(self._reg_id),
            )
        try:
            return contact.sip_uri.equivalent(self._contact_uri)
        except SipError:
            return False

    def _refusal(self, response: Response) -> RegistrationError:
        reason = response.reason or "refused"
        return RegistrationError(
            f"{self._registrar.host} does not register {self._who}: {reason} ({response.status})",
            status=response.status,
            hint=_HINTS.get(response.status, ""),
        )

    def _failure(self, event: RequestFailed) -> RegistrationError:
        if event.cause is Cause.TIMEOUT:
            return RegistrationError(
                f"{self._registrar.host} does not answer the REGISTER of {self._who}",
                status=event.status,
            )
        if event.cause is not Cause.AUTHENTICATION:
            hint = "check the address and the transport"
            return UnreachableError(event.reason, hint=hint, status=event.status)
        if self._credentials is None:
            return AuthenticationError(
                f"{event.status} but no password was given for {self._who}",
                status=event.status,
                hint="pass password=, --password-file or VOIP_PASSWORD",
            )
        if event.handle.authorized:
            return AuthenticationError(
                f"{event.status} twice: wrong password for {self._who}", status=event.status
            )
        return AuthenticationError(
            f"{event.status} with no challenge that can be answered for {self._who}",
            status=event.status,
            hint="digest with MD5, SHA-256 or SHA-512-256 can be answered",
        )


def _readable_contacts(response: Response) -> list[NameAddr]:
    """Return the contacts of a registrar's list, those nobody can read left out."""
    contacts = []
    try:
        values = response.headers.values("Contact")
    except SipError:
        return []
    for value in values:
        try:
            contacts.append(NameAddr.parse(value))
        except SipError:
            continue
    return contacts

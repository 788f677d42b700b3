"""What a proxy asks for each request it might forward: who may, and where to (RFC 3261 16.5)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol, TypeAlias

from voip.errors import SipError
from voip.sip.authenticator import Authentication, Authenticator
from voip.sip.event_headers import event_of
from voip.sip.event_server import EventServer
from voip.sip.flow import Flow
from voip.sip.gruu import Gruus
from voip.sip.identity import Privacy
from voip.sip.location import Binding, Location, by_preference
from voip.sip.message import Request
from voip.sip.notifier import Notifier
from voip.sip.registrar import Registrar
from voip.sip.server_request import ServerRequest
from voip.sip.sips import is_sips, not_allowed
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri, uri_scheme

__all__ = [
    "FLOW_FAILED",
    "Decision",
    "Forward",
    "Groups",
    "Incoming",
    "LocationPolicy",
    "Policy",
    "Refuse",
    "Serve",
    "Target",
]


FLOW_FAILED: Final = 430
_NOTICED: Final = ("INVITE", "ACK", "MESSAGE")
"""Methods by which strangers reach a person. All others could ask silently who is there."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request to be decided on. `uri`: its Request-URI; `ours`: whether that is of our domain.

    `from_ours`: whether From is. `in_dialog`: it belongs to a call that was routed through here
    before; `by_flow`: its Route names the flow that it goes on by. `path_flow`: that of a Path of
    ours by which it has come; `path`: what to add to a REGISTER, so that others come by its flow.
    """

    request: Request
    flow: Flow
    uri: SipUri | TelUri
    ours: bool
    from_ours: bool
    in_dialog: bool
    by_flow: bool = False
    path_flow: Flow | None = None
    path: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """One place to send a request to: Request-URI, Route before it, the flow if it is known.

    `spares`: other ways to the same phone, for where this one has failed (408, 430: RFC 5626
    section 7); None where it is others' to know them. `lost`: the status that stands for an answer
    where nothing gets there: 503 (RFC 3261 section 16.9), 430 where it is one flow of a phone.
    """

    uri: str
    route: tuple[str, ...] = ()
    flow: Flow | None = None
    spares: tuple[Target, ...] | None = None
    lost: int = 503
    secure: bool = False
    """It is sent there by TLS only, though it is a sip: URI (RFC 5630 section 5.3)."""


Groups: TypeAlias = tuple[tuple[Target, ...], ...]
"""Targets: the groups one after the other, those of a group at once."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Send it on.

    `drop`: header lines that stay here, the value None: all of that name; `add`: lines to add.
    """

    groups: Groups
    drop: tuple[tuple[str, str | None], ...] = ()
    add: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer it."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Serve:
    """It is for the proxy itself: `Policy.serve` gets it, to be replied to.

    A SUBSCRIBE is given to `subscribe(notifier, now)`, unless it is of a subscription that there is
    or to an event that is not served; None refuses new ones.
    """

    subscribe: Callable[[Notifier, float], None] | None = None


Decision: TypeAlias = Forward | Refuse | Serve


class Policy(Protocol):
    """Decides for a `ProxyAgent`."""

    def decide(self, incoming: Incoming, now: float) -> Decision:
        """Say what becomes of a request; SipError refuses it with its status."""
        ...

    def serve(self, request: ServerRequest, now: float) -> None:
        """Answer a request that is for the proxy itself."""
        ...

    def lose(self, flow: Flow) -> None:
        """Take it that nothing sent by a flow arrives: a connection is gone, a port closed."""
        ...


class LocationPolicy:
    """Forwards to registered `users`, and for them to anywhere.

    Who calls in a name of our domain has to show the password (407), whether there is such a user
    or not, so that nobody learns which there are; it stays here, and who showed it is
    vouched for by P-Asserted-Identity unless it asks for privacy; what others claim by that is
    taken out (RFC 3325). Strangers may call users, and nobody else by us. REGISTER for our domain
    goes to `registrar`. `services` says where what is no user's number is sent, `gruus` which
    phone a GRUU names, in calls too (RFC 5627 section 6).

    hides_users: to strangers all users who cannot be called are alike, be they there or not (480),
    and what nobody would notice, such as OPTIONS, is answered so for everybody. Hosts (IP
    literals) of `known_hosts` are no strangers in this. Without an authenticator nobody can show
    who they are, and everybody is told.
    """

    def __init__(
        self,
        users: Collection[str],
        location: Location,
        authenticator: Authenticator | None,
        registrar: Registrar | None = None,
        services: Callable[[str], Target | None] | None = None,
        *,
        gruus: Gruus | None = None,
        hides_users: bool = True,
        known_hosts: Collection[str] = (),
    ) -> None:
        self.events: EventServer | None = None
        """Tells who watches users; without it SUBSCRIBE and PUBLISH go to their phones."""
        self._gruus = gruus
        self._hides_users = hides_users and authenticator is not None
        self._known_hosts = frozenset(known_hosts)
        self._users = users
        self._location = location
        self._authenticator = authenticator
        self._registrar = registrar
        self._services = services

    def decide(self, incoming: Incoming, now: float) -> Decision:
        """Say what becomes of a request."""
        request, uri = incoming.request, incoming.uri
        decision: Decision
        as_it_is = Forward(((Target(request.uri),),))
        gruu = self._gruu(incoming)
        if incoming.in_dialog:
            in_call = Forward(((Target(request.uri, spares=()),),))
            return in_call if gruu is None else self._in_call(incoming, gruu, now)
        user = uri.user if isinstance(uri, SipUri) else uri.digits
        if incoming.ours and request.method == "REGISTER":
            return Serve() if self._registrar is not None else Refuse(405)
        if incoming.ours and user is None:
            if request.method == "SUBSCRIBE" and self.events is not None:
                return Serve()  # to a contact of ours: one that refreshes a subscription
            return Serve() if request.method == "OPTIONS" else Refuse(404)
        sender, found = self._sender(incoming, now)
        if found is not None and found.user is None:
            return Refuse(found.status, found.challenge)
        if incoming.ours and "Route" not in request.headers:
            decision = self._to_user(user or "", now) if gruu is None else self._to_phone(gruu, now)
            decision = _as_asked(decision, request.uri)
            is_stranger = sender is None and incoming.flow.remote.host not in self._known_hosts
            is_told = request.method in _NOTICED and not isinstance(decision, Refuse)
            if self._hides_users and is_stranger and not is_told:
                return Refuse(480)
            if sender is not None and (served := self._event(request, sender, user or "")):
                return served
        else:  # to others, or by others: for those we know
            decision = as_it_is if sender is not None else Refuse(403)
        if isinstance(decision, Forward):
            drop, add = _trusted_headers(request, sender, found)
            return replace(decision, drop=drop, add=add)
        return decision

    def serve(self, request: ServerRequest, now: float) -> None:
        """Register, take what is published, or say that we are here."""
        if request.request.method == "PUBLISH" and self.events is not None:
            user = SipUri.parse(request.request.uri).user
            self.events.publish(request, user or "", now)
        elif request.request.method == "REGISTER" and self._registrar is not None:
            self._registrar.register(request, now)
        else:
            request.reply(200, now=now)

    def lose(self, flow: Flow) -> None:
        """Forget who was reached by that flow only."""
        self._location.lose(flow)

    def redirect(self, uri: SipUri, ours: bool, now: float) -> Groups:
        """Say where a contact of a 3xx leads: to where the user is, if it is one of `ours`."""
        if not ours:
            return ((Target(str(uri)),),)
        decision = _as_asked(self._to_user(uri.user or "", now), str(uri))
        return decision.groups if isinstance(decision, Forward) else ()

    def _sender(self, incoming: Incoming, now: float) -> tuple[str | None, Authentication | None]:
        """Return which user sent this, None for a stranger, and what showed it or has to."""
        request = incoming.request
        if not incoming.from_ours:
            return None, None
        claimed = request.from_.sip_uri.user
        if self._authenticator is None:
            return (claimed if claimed in self._users else None), None
        found = self._authenticator.authenticate(request, now)
        if found.user is not None and found.user != claimed:
            raise SipError(f"{found.user} may not call as {claimed}", status=403)
        return found.user, found

    def _event(self, request: Request, sender: str, user: str) -> Decision | None:
        """Say what becomes of an event of a user's that is told here; None: it is none of ours."""
        events = self.events
        if events is None or user not in self._users or uri_scheme(request.uri) == "tel":
            return None
        if request.method not in ("SUBSCRIBE", "PUBLISH"):
            return None
        package = event_of(request).package
        if package not in events.config.packages:
            return None
        if request.method == "SUBSCRIBE":
            return Serve(partial(events.subscribe, watcher=sender, user=user))
        return Serve() if sender == user else Refuse(403)

    def _gruu(self, incoming: Incoming) -> SipUri | None:
        """Return the Request-URI if it is a GRUU of ours."""
        uri = incoming.uri
        if self._gruus is None or not incoming.ours or not isinstance(uri, SipUri):
            return None
        return None if uri.param("gr") is None else uri

    def _in_call(self, incoming: Incoming, gruu: SipUri, now: float) -> Decision:
        """Send what is of a call to the phone that a GRUU names, by the flow where that is known.

        Its Path is left out where the call has a route of its own (RFC 5627 section 6.1).
        """
        request, decision = incoming.request, self._to_phone(gruu, now)
        decision = _as_asked(decision, request.uri)
        if isinstance(decision, Forward) and "Route" in request.headers:
            return Forward(tuple((_straight(group[0]),) for group in decision.groups))
        if isinstance(decision, Refuse) and incoming.by_flow:
            return Forward(((Target(request.uri, spares=()),),))
        return decision

    def _to_phone(self, gruu: SipUri, now: float) -> Decision:
        """Send to the newest place of one phone, and nowhere else."""
        if self._gruus is None or (gruu.param("gr") and gruu.user not in self._users):
            return Refuse(404)
        try:
            there = self._gruus.bindings(gruu, self._location, now)
        except SipError as error:
            return Refuse(error.status or 404)
        return Forward(((_target(there[-1], there),),))

    def _to_user(self, user: str, now: float) -> Decision:
        if user not in self._users:
            service = self._services(user) if self._services is not None else None
            return Refuse(404) if service is None else Forward(((service,),))
        there = self._location.bindings(user, now)
        groups = by_preference(there)
        if not groups:
            return Refuse(480)
        return Forward(tuple(tuple(_target(one, there) for one in group) for group in groups))


def _as_asked(decision: Decision, uri: str) -> Decision:
    """Send to where as much is secure as `uri` asks for, and neither less nor more.

    What has registered by sip: is not called by sips:, and what has registered by sips: is called
    by sip:, if by TLS, where that was asked for (RFC 5630 section 5.3).
    """
    if not isinstance(decision, Forward):
        return decision
    groups = [_schemed(group, secure=is_sips(uri)) for group in decision.groups]
    groups = [group for group in groups if group]
    return replace(decision, groups=tuple(groups)) if groups else Refuse(*not_allowed())


def _schemed(targets: Iterable[Target], *, secure: bool) -> tuple[Target, ...]:
    found: list[Target] = []
    for target in targets:
        spares = None if target.spares is None else _schemed(target.spares, secure=secure)
        if is_sips(target.uri) == secure:
            found.append(replace(target, spares=spares))
        elif not secure:
            uri = f"sip{target.uri[4:]}"
            found.append(replace(target, uri=uri, spares=spares, secure=True))
    return tuple(found)


def _straight(target: Target) -> Target:
    """Return a target without the Path of its registration."""
    spares = tuple(replace(spare, route=()) for spare in target.spares or ())
    return replace(target, route=(), spares=spares)


def _target(binding: Binding, there: Sequence[Binding]) -> Target:
    """Return where a binding leads, and where else its phone is, the newest first."""
    if binding.instance is None:
        return Target(str(binding.uri), binding.path, binding.flow, ())
    spares = tuple(
        Target(str(other.uri), other.path, other.flow, lost=FLOW_FAILED)
        for other in reversed(there)
        if other is not binding
        if other.instance == binding.instance and other.sip_uri is not None
    )
    return Target(str(binding.uri), binding.path, binding.flow, spares, FLOW_FAILED)


def _trusted_headers(
    request: Request, sender: str | None, found: Authentication | None
) -> tuple[tuple[tuple[str, str | None], ...], tuple[tuple[str, str], ...]]:
    """Return what leaves and what is added so that others may believe who calls."""
    drop: list[tuple[str, str | None]] = [
        ("P-Asserted-Identity", None),
        ("P-Preferred-Identity", None),
    ]
    if found is not None:
        drop.append(("Proxy-Authorization", found.credentials))
    add: list[tuple[str, str]] = []
    if sender is not None and not Privacy.of(request.headers).hides_identity:
        add.append(("P-Asserted-Identity", f"<{request.from_.uri}>"))
    return tuple(drop), tuple(add)

"""A stateful SIP proxy without I/O: bytes and time in, bytes out (RFC 3261 section 16).

It has the shape of `agent.SipAgent`, so that whatever runs one runs the other. Where a request
goes is its policy's to say (`proxy_policy.py`), how it leaves is in `proxy_way.py`, what becomes of
one under way in `forking.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2s
from typing import Final

from voip.errors import SipError
from voip.sip.check import told_reason, validate
from voip.sip.config import AgentConfig, Counters
from voip.sip.core import Core
from voip.sip.event_requests import receive_event_request
from voip.sip.events import NotifierEnded, SubscribeReceived
from voip.sip.flow import Flow
from voip.sip.flow_token import FlowTokens
from voip.sip.forking import Forking
from voip.sip.guard import Admission
from voip.sip.headers import NameAddr
from voip.sip.message import Request, Response, parse_message
from voip.sip.notifier import Notifier
from voip.sip.proxy_policy import (
    FLOW_FAILED,
    Forward,
    Groups,
    Incoming,
    Policy,
    Refuse,
    Serve,
    Target,
)
from voip.sip.proxy_way import (
    DIALOG,
    MAX_BREADTH,
    MAX_FORWARDS,
    OUTBOUND,
    FlowNeeded,
    ProxyWay,
    own_path,
)
from voip.sip.recursion import Recursion
from voip.sip.server_request import ServerRequest
from voip.sip.sips import comes_insecurely, is_sips, not_allowed
from voip.sip.tel import TelUri
from voip.sip.uri import SipUri, uri_scheme
from voip.sip.via import (
    Via,
    default_port,
    mark_source,
    way_back,
)
from voip.types import Address, Random

__all__ = ["ProxyAgent", "ProxyConfig"]

_MAX_LOCALS: Final = 64
_MAX_OWN_ROUTES: Final = 2
_LOOP_CHARS: Final = 8


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """`domains`: hosts whose users are ours, beside the proxy's own addresses.

    `record_route`: stay in the way of calls; `keep_flows`: go back to a caller by the connection,
    or through the NAT, that it came by; `is_edge`: to all whose first hop we are.
    `max_redirects`: places that one request is sent on to by 3xx; 0: the 3xx goes back to the
    caller. `timer_c` (seconds): how long a call may ring without a word. `failover_s` (seconds): a
    server that says nothing is left for another one that its name leads to; None: when the
    transaction times out. The rest as in `AgentConfig`.
    """

    domains: frozenset[str] = frozenset()
    record_route: bool = True
    keep_flows: bool = True
    is_edge: bool = False
    max_redirects: int = 0
    timer_c: float = 185.0
    failover_s: float | None = 4.0
    name: str = ""
    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    max_client_transactions: int = 10_000
    max_server_transactions: int = 20_000
    stranger_rate: float | None = None
    known_hosts: tuple[str, ...] = ()
    events: tuple[str, ...] = ()


class ProxyAgent:
    """A proxy. `receive`, `flow_failed` and `handle_timer` never raise.

    A request of a call that was not routed through here is the policy's to allow; a response is
    forwarded only where a request went (RFC 6026 section 7.3). `redirect(uri, ours, now)` says
    where a contact of a 3xx leads, `ours`: whether that is of our domain.
    """

    def __init__(
        self,
        config: ProxyConfig,
        policy: Policy,
        random: Random,
        *,
        redirect: Callable[[SipUri, bool, float], Groups] | None = None,
    ) -> None:
        self.config = config
        self.ended: Callable[[Notifier], None] = lambda notifier: None
        """Told of subscriptions (see `Serve`) that are over."""
        self._redirect = redirect
        self.core = Core(
            AgentConfig(
                user_agent=config.name,
                t1=config.t1,
                t2=config.t2,
                t4=config.t4,
                max_client_transactions=config.max_client_transactions,
                max_server_transactions=config.max_server_transactions,
                stranger_rate=config.stranger_rate,
                known_hosts=config.known_hosts,
                events=config.events,
                failover_s=config.failover_s,
            ),
            random,
        )
        self._policy = policy
        self.tokens = FlowTokens(random)
        self._key = random.token(32).encode()
        self._domains = frozenset(host.lower() for host in config.domains)
        self._locals: dict[Address, None] = {}
        self._events: list[FlowNeeded] = []

    # What the shell does.

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one datagram, or one message framed by a stream."""
        core = self.core
        admission = core.guard.look(data, flow.remote.host, now)
        if admission is Admission.OVER and not flow.reliable:
            core.flood(flow.remote.host, is_call=data.lstrip(b"\r\n").startswith(b"INVITE "))
            return
        self.learn(flow.local)
        try:
            message = parse_message(data)
        except SipError as error:
            request = error.context.get("request")
            if not isinstance(request, Request):
                core.counters.malformed += 1
            elif not core.holds_back(request, flow, admission, self._belongs, now):
                self._refuse_unreadable(request, flow, error)
            return
        core.traffic.received.add(message)
        if isinstance(message, Response):
            self._receive_response(message, now)
            return
        if core.holds_back(message, flow, admission, self._belongs, now):
            return
        try:
            mark_source(message, flow.remote)
            self._receive_request(message, flow, now)
        except SipError as error:
            self._refuse_unreadable(message, flow, error)

    def flow_failed(self, flow: Flow, message: str, now: float) -> None:
        """Take it that nothing sent by `flow` arrives."""
        self._policy.lose(flow)
        self.core.transactions.flow_failed(flow, message, now)

    def next_timer(self) -> float | None:
        """Return when `handle_timer` wants to be called, None when nothing is waiting."""
        return self.core.timers.next()

    def handle_timer(self, now: float) -> None:
        """Do everything that is due."""
        self.core.timers.run(now)
        self.core.guard.forget_full(now)

    def outgoing(self) -> list[tuple[bytes, Flow]]:
        """Return the messages to send, in order, once."""
        out, self.core.out = self.core.out, []
        return out

    def events(self) -> list[FlowNeeded]:
        """Return which ways are needed, once."""
        self._hear()
        events, self._events = self._events, []
        return events

    @property
    def counters(self) -> Counters:
        """What was dropped and refused."""
        return self.core.counters

    @property
    def transactions(self) -> int:
        """How many transactions are alive."""
        return len(self.core.transactions)

    @property
    def timers(self) -> int:
        """How many timers run."""
        return len(self.core.timers)

    # Requests.

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        core = self.core
        known = core.transactions.of_request(request)
        if known is not None:
            if request.method == "ACK":
                known.receive_ack(request, now)
            else:
                known.repeated(now)
            return
        validate(request)
        if request.method == "CANCEL":
            self._receive_cancel(request, flow, now)
            return
        refusal = self._check(request, flow)
        if refusal is not None:
            if request.method != "ACK":
                core.answer(request, flow, refusal.status, refusal.headers)
            return
        loop = self._loop_part(request)
        if self._has_looped(request, loop):
            self._refuse(request, flow, 482)
            return
        self.forward(request, flow, loop, now)

    def forward(self, request: Request, flow: Flow, loop: str, now: float) -> None:
        """Follow or drop what is ours of the Route, ask the policy, and do what it says."""
        breadth = _breadth(request)
        in_dialog, token_flow, path_flow = self._take_route(request, flow)
        uri = _target_uri(request)
        incoming = Incoming(
            request,
            flow,
            uri,
            self._is_ours(uri),
            self._is_from_ours(request),
            in_dialog,
            token_flow is not None,
            path_flow,
            own_path(self.tokens, request, flow),
        )
        decision = self._policy.decide(incoming, now)
        if token_flow is not None and isinstance(decision, Forward):
            decision = self._by_flow(decision, request.uri, token_flow)
        if request.method == "ACK":
            if isinstance(decision, Forward) and any(decision.groups):
                self._forward_ack(request, flow, decision, loop, now)
            else:
                self.core.counters.stray_acks += 1
        elif isinstance(decision, Refuse):
            self.core.answer(request, flow, decision.status, decision.headers)
        elif self.core.transactions.full:
            self.core.counters.overload += 1
            self.core.answer(request, flow, 503, [("Retry-After", "5")])
        elif isinstance(decision, Serve) and request.method == "SUBSCRIBE":
            self._serve_subscribe(request, flow, decision, now)
        elif isinstance(decision, Serve):
            self._policy.serve(ServerRequest(self.core, request, flow, None, now), now)
        elif breadth < 1:
            self._refuse(request, flow, 440)
        else:
            way = ProxyWay(self, decision, loop, in_dialog=in_dialog)
            self._fork(request, flow, way, decision, breadth, now)

    def _by_flow(self, decision: Forward, uri: str, flow: Flow) -> Forward:
        """Have what goes on as it is go by the flow that its Route names.

        Where that has failed an edge says so (RFC 5626 section 5.3.1).
        """
        match decision.groups:
            case ((Target(uri=to, route=(), flow=None) as target,),) if to == uri:
                lost = FLOW_FAILED if self.config.is_edge else target.lost
                return replace(decision, groups=((replace(target, flow=flow, lost=lost),),))
        return decision

    def _serve_subscribe(self, request: Request, flow: Flow, decision: Serve, now: float) -> None:
        """Take a SUBSCRIBE as its notifier."""
        receive_event_request(self.core, request, flow, now)
        for event in self.core.events:
            if not isinstance(event, SubscribeReceived):
                continue
            try:
                if decision.subscribe is None:
                    raise SipError("nobody is watched here", status=404)
                decision.subscribe(event.notifier, now)
            except SipError as error:
                event.notifier.reject(error.status or 400, now=now)
        self._hear()

    def _hear(self) -> None:
        """Take what has happened to subscriptions, the only thing that a proxy's core tells."""
        events, self.core.events = self.core.events, []
        for event in events:
            if isinstance(event, NotifierEnded):
                self.ended(event.notifier)

    def need(self, way: FlowNeeded) -> None:
        """Ask the shell for a way."""
        self._events.append(way)

    def _fork(
        self,
        request: Request,
        flow: Flow,
        way: ProxyWay,
        decision: Forward,
        breadth: int,
        now: float,
    ) -> None:
        groups = tuple(group for group in decision.groups if group)
        if not groups:
            self._refuse(request, flow, 480)
            return
        recursion = self._recursion(request, groups)
        forking = Forking(way, request, flow, groups, breadth, self.config.timer_c, recursion)
        transaction = self.core.transactions.accept(request, way_back(request, flow), forking, now)
        forking.start(transaction, now)

    def _recursion(self, request: Request, groups: Groups) -> Recursion | None:
        redirect, limit = self._redirect, self.config.max_redirects
        if redirect is None or limit < 1 or request.to.tag is not None:
            return None

        def follow(uri: SipUri, now: float) -> Groups:
            if (uri.scheme == "sips") != is_sips(request.uri):
                return ()  # the caller has to say whether it may be less, or more (RFC 5630, 5.3)
            return redirect(uri, self._is_ours(uri), now)

        return Recursion(follow, limit, request.uri, groups)

    def _forward_ack(
        self, request: Request, flow: Flow, decision: Forward, loop: str, now: float
    ) -> None:
        """Send an ACK to a 2xx on; nothing comes back, so nothing is kept (section 16.11)."""

        def sent(copy: Request, way: Flow, now: float) -> None:
            self.core.send(copy.to_bytes(), way)

        def failed(message: str, now: float) -> None:
            self.core.counters.stray_acks += 1

        target = next(group for group in decision.groups if group)[0]
        ProxyWay(self, decision, loop).send(request, flow, target, MAX_BREADTH, sent, failed, now)

    def _receive_cancel(self, request: Request, flow: Flow, now: float) -> None:
        """Answer a CANCEL, and cancel what was forwarded (section 16.10).

        One that matches nothing is answered 481: no INVITE is ever forwarded without a trace.
        """
        found = self.core.transactions.to_cancel(request)
        self.core.answer(request, flow, 200 if found is not None else 481)
        if found is not None and isinstance(found.user, Forking):
            found.user.cancel(now)

    def _check(self, request: Request, flow: Flow) -> Refuse | None:
        """Validate as section 16.3 says; and what was to be secure and was not goes no further."""
        if request.max_forwards == 0:
            return Refuse(483)
        required = [tag for tag in request.headers.values("Proxy-Require") if tag]
        if required:
            return Refuse(420, [("Unsupported", ", ".join(required))])
        if uri_scheme(request.uri) not in ("sip", "sips", "tel"):
            return Refuse(416)
        if comes_insecurely(request, flow):
            return Refuse(*not_allowed())
        return None

    def _take_route(self, request: Request, flow: Flow) -> tuple[bool, Flow | None, Flow | None]:
        """Take our own values off the Route (section 16.4).

        Return whether one of them is of this call, the flow that it names, if that leads on, and
        the flow that a Path of ours names. SipError (403) for a Path that we have not written.
        """
        routes = [NameAddr.parse(value) for value in request.headers.values("Route")]
        if not routes:
            return False, None, None
        if uri_scheme(request.uri) in ("sip", "sips"):
            here = SipUri.parse(request.uri)
            if here.is_loose_router and self._is_me(here) and here.param(DIALOG) is not None:
                # A strict router has put us into the Request-URI, and that to the end.
                request.uri = routes[-1].uri
                routes = [NameAddr("", str(here)), *routes[:-1]]
        in_dialog, ahead, by_path = False, None, None
        while routes and self._is_me(routes[0].sip_uri):
            mine = routes.pop(0).sip_uri
            token = mine.param(DIALOG)
            in_dialog |= token is not None and self.tokens.is_of_call(token, request.call_id)
            ahead = by_path = None
            if mine.user and mine.param(OUTBOUND) is not None:
                by_path = self.tokens.flow(mine.user, path=True)
                if by_path is None:
                    raise SipError("a Path that was not written here", status=403)
            elif mine.user:
                ahead = self.tokens.flow(mine.user)
        if routes:
            request.headers.set("Route", ", ".join(map(str, routes)))
            ahead = by_path = None
        else:
            request.headers.remove("Route")
        leads_on = in_dialog and ahead is not None and ahead != flow
        return in_dialog, ahead if leads_on else None, by_path

    def _belongs(self, core: Core, request: Request) -> bool:
        """Whether a request is of a transaction, or of a call that was routed through here."""
        try:
            if core.transactions.of_request(request) is not None:
                return True
            if request.method == "CANCEL":
                return core.transactions.to_cancel(request) is not None
            for value in request.headers.values("Route")[:_MAX_OWN_ROUTES]:
                token = NameAddr.parse(value).sip_uri.param(DIALOG)
                if token is not None and self.tokens.is_of_call(token, request.call_id):
                    return True
        except SipError:
            pass
        return False

    # Loops (RFC 5393 section 4.2).

    def _loop_part(self, request: Request) -> str:
        """Return what stays the same when a request comes back as it was."""
        parts = [request.uri, request.call_id, request.from_.tag or "", request.to.tag or ""]
        parts += [str(request.cseq.number), *request.headers.get_all("Route")]
        parts += request.headers.get_all("Proxy-Authorization")
        data = "\n".join(parts).encode("utf-8", "surrogateescape")
        return blake2s(data, key=self._key, digest_size=_LOOP_CHARS // 2).hexdigest()

    def _has_looped(self, request: Request, loop: str) -> bool:
        suffix = f".{loop}"
        for value in request.headers.values("Via")[:MAX_FORWARDS]:
            if not value.partition("branch=")[2].partition(";")[0].endswith(suffix):
                continue
            via = Via.parse(value)
            if Address(via.host, via.port or default_port(via.transport.lower())) in self._locals:
                return True
        return False

    # Whose an address is.

    def learn(self, local: Address) -> None:
        """Take it that this is an address of the proxy's."""
        if local not in self._locals and len(self._locals) < _MAX_LOCALS:
            self._locals[local] = None

    def _is_me(self, uri: SipUri) -> bool:
        usual = default_port("tls" if uri.scheme == "sips" else uri.transport or "udp")
        return Address(uri.host, uri.port or usual) in self._locals or (
            uri.host.lower() in self._domains and uri.port in (None, usual)
        )

    def _is_ours(self, uri: SipUri | TelUri) -> bool:
        return isinstance(uri, TelUri) or uri.host.lower() in self._domains or self._is_me(uri)

    def _is_from_ours(self, request: Request) -> bool:
        uri = request.from_.uri
        return uri_scheme(uri) in ("sip", "sips") and self._is_ours(SipUri.parse(uri))

    # Answers of our own.

    def _refuse(self, request: Request, flow: Flow, status: int, reason: str | None = None) -> None:
        if request.method != "ACK":
            self.core.answer(request, flow, status, reason=reason)

    def _refuse_unreadable(self, request: Request, flow: Flow, error: SipError) -> None:
        self.core.counters.malformed += 1
        if error.status is not None:
            with suppress(SipError):  # no way back, or nothing that can be written
                self._refuse(request, flow, error.status, told_reason(error))

    def _receive_response(self, response: Response, now: float) -> None:
        core = self.core
        try:
            transaction = core.transactions.of_response(response)
            if transaction is None:
                core.counters.stray_responses += 1
            else:
                transaction.receive(response, now)
        except SipError:
            core.counters.malformed += 1


def _target_uri(request: Request) -> SipUri | TelUri:
    if uri_scheme(request.uri) == "tel":
        return TelUri.parse(request.uri)
    return SipUri.parse(request.uri)


def _breadth(request: Request) -> int:
    """Return Max-Breadth, 60 where there is none or more (RFC 5393 section 5.3.3)."""
    text = (request.headers.get("Max-Breadth") or "").strip(" \t")
    if not text or not (text.isascii() and text.isdigit()):
        return MAX_BREADTH
    return min(MAX_BREADTH, int(text[:5]))

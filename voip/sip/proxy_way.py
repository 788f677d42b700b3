"""How a request leaves a proxy: the next hop, and the copy for it (RFC 3261 section 16.6)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from voip.errors import SipError
from voip.ip import literal, version_of
from voip.sip.failover import Sought
from voip.sip.flow import Flow, Peer
from voip.sip.flow_token import FlowTokens
from voip.sip.headers import Headers, NameAddr
from voip.sip.locating import transport_of
from voip.sip.message import Request
from voip.sip.proxy_policy import Forward, Target
from voip.sip.sips import is_sips, top_is_sips
from voip.sip.uri import SipUri
from voip.sip.via import DEFAULT_PORT, is_behind_nat, new_via
from voip.types import Address

if TYPE_CHECKING:
    from voip.sip.proxy import ProxyAgent

__all__ = [
    "DIALOG",
    "MAX_BREADTH",
    "MAX_FORWARDS",
    "OUTBOUND",
    "FlowNeeded",
    "ProxyWay",
    "own_path",
]

MAX_FORWARDS: Final = 70
MAX_BREADTH: Final = 60
DIALOG: Final = "d"
"""The Record-Route parameter by which a call is known again."""
OUTBOUND: Final = "ob"
"""Says that a flow is kept, in a Path, or is to be kept, in a Contact (RFC 5626)."""


@dataclass(frozen=True, slots=True)
class FlowNeeded:
    """A request waits for the way to `host`: a name to be looked up, a connection to be opened.

    `port` and `transport` are None where the name decides (RFC 3263). `without`: where it has been
    in vain; `left`: the way it is to leave.

    Call `found(flow, now)`, or `lost(why, now)`, and flush.
    """

    host: str
    port: int | None
    transport: str | None
    found: Callable[[Flow, float], None]
    lost: Callable[[str, float], None]
    without: frozenset[Peer] = frozenset()
    left: Flow | None = None


class ProxyWay:
    """How one request leaves a proxy (section 16.6).

    `in_dialog`: it is of a call or a subscription that was routed through here before.
    """

    def __init__(
        self, proxy: ProxyAgent, decision: Forward, loop: str, *, in_dialog: bool = False
    ) -> None:
        self.core = proxy.core
        self._in_dialog = in_dialog
        self._decision = decision
        self._proxy = proxy
        self._loop = loop

    def send(
        self,
        request: Request,
        came_by: Flow,
        target: Target,
        breadth: int,
        sent: Callable[[Request, Flow, float], None],
        failed: Callable[[str, float], None],
        now: float,
        *,
        sought: Sought | None = None,
    ) -> None:
        """Find the flow to `target`, then call `sent` with the request for it; or `failed`.

        `sought`: another flow than it has gone by.
        """
        secure = target.secure or is_sips(target.uri)

        def found(flow: Flow, now: float) -> None:
            self._proxy.learn(flow.local)
            try:
                if secure and not flow.secure:
                    raise SipError("sips: asks for TLS")
                copy = self._copy(request, came_by, target, flow, breadth)
            except SipError as error:
                failed(error.message, now)
            else:
                sent(copy, flow, now)

        if target.flow is not None:
            if sought is None:
                found(target.flow, now)
            else:
                failed("it is reached by one flow only", now)
            return
        try:
            hop = self._next_hop(request, target)
        except SipError as error:
            failed(error.message, now)
            return
        if sought is not None and literal(hop.host):
            failed(f"{hop.host} is one address", now)
            return
        transport = transport_of(hop, secure=secure)
        plain = transport in (None, "udp") and came_by.transport == "udp"
        if plain and literal(hop.host) and version_of(hop.host) == version_of(came_by.remote.host):
            found(came_by.to(Address(hop.host, hop.port or DEFAULT_PORT)), now)
        else:
            tried, left = (sought.tried, sought.left) if sought else (frozenset[Peer](), None)
            self._proxy.need(FlowNeeded(hop.host, hop.port, transport, found, failed, tried, left))

    def acknowledge(self, request: Request, came_by: Flow, now: float) -> None:
        """Send the ACK to a 2xx on."""
        with suppress(SipError):
            self._proxy.forward(request, came_by, self._loop, now)

    def _next_hop(self, request: Request, target: Target) -> SipUri:
        route = [*target.route, *request.headers.values("Route")]
        return NameAddr.parse(route[0]).sip_uri if route else SipUri.parse(target.uri)

    def _copy(
        self, request: Request, came_by: Flow, target: Target, flow: Flow, breadth: int
    ) -> Request:
        """Return the request as it goes to `target`: Request-URI, Route, Record-Route, Via."""
        headers = self._headers(request)
        left = request.max_forwards
        headers.set("Max-Forwards", str(MAX_FORWARDS if left is None else left - 1))
        headers.set("Max-Breadth", str(breadth))
        uri, route = target.uri, [*target.route, *headers.values("Route")]
        if route and not NameAddr.parse(route[0]).sip_uri.is_loose_router:
            uri, route = NameAddr.parse(route[0]).uri, [*route[1:], f"<{uri}>"]
        if route:
            headers.set("Route", ", ".join(route))
        # a NOTIFY says by what way a subscription goes on (RFC 6665 section 4.3)
        begins = request.to.tag is None or (self._in_dialog and request.method == "NOTIFY")
        if self._proxy.config.record_route and begins:
            secure = is_sips(uri) or top_is_sips(route)
            for value in self._record_route(request, came_by, target, flow, secure=secure):
                headers.prepend("Record-Route", value)
        via = new_via(flow, self.core.random)
        headers.prepend("Via", str(via.with_params(branch=f"{via.branch}.{self._loop}")))
        return Request(request.method, uri, headers, request.body)

    def _headers(self, request: Request) -> Headers:
        """Return the headers without those that stay here, and with those that are added."""
        drop, add = self._decision.drop, self._decision.add
        if not drop and not add:
            return request.headers.copy()
        gone = {(name.lower(), value) for name, value in drop}
        kept = (
            (name, value)
            for name, value in request.headers
            if not {(name.lower(), value), (name.lower(), None)} & gone
        )
        return Headers([*kept, *add])

    def _record_route(
        self, request: Request, came_by: Flow, target: Target, flow: Flow, *, secure: bool
    ) -> list[str]:
        """Return what to put in front, the last one topmost: ours on either side.

        `secure`: by sips: URIs, where that can be. One value where both sides are alike; two where
        they are not (RFC 5658), or where a side is reached by its flow only.
        """
        tokens = self._proxy.tokens
        first_hop = len(request.headers.values("Via")) == 1
        config = self._proxy.config
        kept = config.keep_flows and (
            (first_hop and (config.is_edge or came_by.reliable or _wants_its_flow(request)))
            or is_behind_nat(request)
        )
        back = came_by if kept else None
        ahead = target.flow
        sides = [(came_by, back), (flow, ahead)]
        if back is ahead is None and (came_by.transport, came_by.local) == (
            flow.transport,
            flow.local,
        ):
            sides = sides[:1]
        call = tokens.of_call(request.call_id)
        return [
            f"<{_own_uri(side, tokens.of_flow(only) if only is not None else None, call, secure)}>"
            for side, only in sides
        ]


def own_path(tokens: FlowTokens, request: Request, flow: Flow) -> str:
    """Return the Path value of a first hop for a REGISTER, by which a phone's flow is found again.

    Empty for other requests, and where others were before us: the flow is not ours to keep.
    """
    if request.method != "REGISTER" or len(request.headers.values("Via")) != 1:
        return ""
    user = tokens.of_flow(flow, path=True)
    uri = _here(flow, user, secure=is_sips(request.uri))
    return f"<{replace(uri, params=(*uri.params, ('lr', None), (OUTBOUND, None)))}>"


def _wants_its_flow(request: Request) -> bool:
    """Whether a phone wants to be reached by its flow in the call that it begins."""
    try:
        return any(one.sip_uri.param(OUTBOUND) is not None for one in request.contacts)
    except SipError:
        return False


def _here(flow: Flow, user: str | None, *, secure: bool) -> SipUri:
    scheme = "sips" if secure and flow.secure else "sip"
    uri = SipUri(scheme, user, None, flow.local.host, flow.local.port)
    if flow.transport == "udp" or (scheme == "sips" and flow.transport == "tls"):
        return uri
    return uri.with_params(transport=flow.transport)


def _own_uri(flow: Flow, user: str | None, call: str, secure: bool) -> SipUri:
    uri = _here(flow, user, secure=secure)
    return replace(uri, params=(*uri.params, ("lr", None), (DIALOG, call)))

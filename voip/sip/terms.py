"""What a registrar's 200 says beside the time it grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from voip.errors import SipError
from voip.sip.flow import Flow
from voip.sip.headers import NameAddr, parse_seconds
from voip.sip.message import Response
from voip.sip.uri import SipUri

__all__ = ["Terms"]

MAX_ROUTES: Final = 32


@dataclass(frozen=True, slots=True)
class Terms:
    """How we are registered.

    outbound: the flow is what reaches us, and the first hop answers keep-alives on it, every
    `flow_timer_s` seconds at least (RFC 5626). behind_nat: the registrar sees another address than
    our Via says (RFC 3581). service_route: what requests of ours go through (RFC 3608). pub_gruu,
    temp_gruu: URIs that reach this very phone from everywhere (RFC 5627).
    """

    outbound: bool = False
    flow_timer_s: int | None = None
    behind_nat: bool = False
    service_route: tuple[str, ...] = ()
    pub_gruu: str | None = None
    temp_gruu: str | None = None

    @classmethod
    def of(cls, response: Response, flow: Flow, contact: NameAddr | None = None) -> Terms:
        """Read them; what cannot be read was not said. `contact`: ours, as the registrar has it."""
        required = _values(response, "Require")
        outbound = "outbound" in (tag.strip().lower() for tag in required)
        return cls(
            outbound or _first_hop_keeps_alive(response),
            parse_seconds(response.headers.get("Flow-Timer")) or None,
            _behind_nat(response, flow),
            _service_route(response),
            _gruu(contact, "pub-gruu"),
            _gruu(contact, "temp-gruu"),
        )


def _first_hop_keeps_alive(response: Response) -> bool:
    """Whether our edge proxy supports RFC 5626: it marks its URI with `ob` (section 8)."""
    path = _values(response, "Path")
    try:
        return bool(path) and NameAddr.parse(path[-1]).sip_uri.param("ob") is not None
    except SipError:
        return False


def _behind_nat(response: Response, flow: Flow) -> bool:
    try:
        via = response.via
    except SipError:
        return False
    host, port = via.received or flow.local.host, via.rport or flow.local.port
    return not flow.reliable and (host, port) != tuple(flow.local)


def _service_route(response: Response) -> tuple[str, ...]:
    """Return a route of loose routers, none where one of them cannot be read."""
    route = _values(response, "Service-Route")
    try:
        if all(NameAddr.parse(value).sip_uri.is_loose_router for value in route):
            return tuple(route)
    except SipError:
        pass
    return ()


def _gruu(contact: NameAddr | None, name: str) -> str | None:
    text = None if contact is None else contact.param(name)
    try:
        return text if text and SipUri.parse(text).param("gr") is not None else None
    except SipError:
        return None


def _values(response: Response, name: str) -> list[str]:
    try:
        return response.headers.values(name)[:MAX_ROUTES]
    except SipError:
        return []

"""Where a request came from, and the way back (RFC 3261 section 18.2, RFC 3581)."""

from __future__ import annotations

import ipaddress
from typing import Final

from voip.sip.flow import Flow
from voip.sip.grammar import split_list
from voip.sip.headers import Via
from voip.sip.message import Request
from voip.types import Address, Random

__all__ = [
    "BRANCH_COOKIE",
    "DEFAULT_PORT",
    "default_port",
    "is_behind_nat",
    "mark_source",
    "new_via",
    "over",
    "way_back",
]

BRANCH_COOKIE: Final = "z9hG4bK"
"""What the branches of RFC 3261 begin with."""

DEFAULT_PORT: Final = 5060

_BRANCH_CHARS: Final = 20
_PORTS: Final = {"tls": 5061, "ws": 80, "wss": 443}


def default_port(transport: str) -> int:
    """Return the port of a transport where none is named (RFC 3261 section 19.1.2, RFC 7118)."""
    return _PORTS.get(transport, DEFAULT_PORT)


def new_via(flow: Flow, random: Random) -> Via:
    """Return the Via of a new transaction: a branch nobody can guess, `rport` on UDP."""
    branch = ("branch", BRANCH_COOKIE + random.token(_BRANCH_CHARS))
    params = (branch,) if flow.reliable else (branch, ("rport", None))
    return Via(flow.transport.upper(), *flow.sent_by, params)


def over(request: Request, flow: Flow) -> Request:
    """Return our request as it goes by another flow: in the same transaction."""
    branch = ("branch", request.via.branch)
    params = (branch,) if flow.reliable else (branch, ("rport", None))
    via = Via(flow.transport.upper(), *flow.sent_by, params)
    headers = request.headers.copy()
    headers.set("Via", str(via))
    return Request(request.method, request.uri, headers, request.body)


def mark_source(request: Request, source: Address) -> None:
    """Write into the top Via where the request really came from, whatever it says of that.

    Raises SipError (400) when there is no Via to be read.
    """
    via = request.via
    if via.wants_rport:
        via = via.with_params(received=source.host, rport=str(source.port))
    elif via.host != source.host or via.received is not None:
        via = via.with_params(received=source.host)
    else:
        return
    hops = split_list(request.headers.get("Via") or "")  # others may stand in the same line
    hops[0] = str(via)
    request.headers.replace("Via", ", ".join(hops))


def way_back(request: Request, flow: Flow) -> Flow:
    """Return where the responses to a request go that came by `flow`.

    Over a connection: back through it. Over UDP: to the source address, at the source port when
    `rport` asks for it and else at the port the Via names. `maddr` is not followed: it would let
    a stranger aim our responses at somebody else.
    """
    if flow.reliable:
        return flow
    via = request.via
    port = flow.remote.port if via.wants_rport else via.port or DEFAULT_PORT
    return flow.to(Address(flow.remote.host, port))


def is_behind_nat(request: Request) -> bool:
    """Whether the only Via shows that the sender does not know its own address."""
    if len(request.headers.values("Via")) != 1:
        return False
    via = request.via
    if via.wants_rport:
        return (via.received, via.rport) != (via.host, via.port or DEFAULT_PORT)
    return via.received is not None and _is_address(via.host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

"""Via: where a request came from, and the way back (RFC 3261 section 18.2, RFC 3581)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from voip.errors import SipError
from voip.ip import literal
from voip.sip.flow import Flow
from voip.sip.grammar import (
    TOKEN,
    Params,
    find_param,
    format_params,
    parse_params,
    split_list,
)
from voip.sip.uri import format_host, parse_host_port
from voip.types import Address, Random

if TYPE_CHECKING:
    from voip.sip.message import Request

__all__ = [
    "BRANCH_COOKIE",
    "DEFAULT_PORT",
    "Via",
    "default_port",
    "is_behind_nat",
    "is_of_rfc_3261",
    "mark_source",
    "new_via",
    "via_of",
    "way_back",
]

BRANCH_COOKIE: Final = "z9hG4bK"
"""What the branches of RFC 3261 begin with."""

DEFAULT_PORT: Final = 5060

_BRANCH_CHARS: Final = 20
_PORTS: Final = {"tls": 5061, "ws": 80, "wss": 443}


_VIA: Final = re.compile(
    r"[ \t]*+(?P<name>[^/ \t]++)[ \t]*+/[ \t]*+(?P<version>[^/ \t]++)[ \t]*+/"
    rf"[ \t]*+(?P<transport>{TOKEN})[ \t]++"
    r"(?P<host>\[[^\]]*+\]|[^\[\]:;, \t]++)[ \t]*+(?::[ \t]*+(?P<port>[0-9]++)[ \t]*+)?"
    r"(?P<params>;.*+)?",
    re.DOTALL,
)
_USUAL: Final = re.compile(
    r"SIP/2\.0/(UDP|TCP|TLS|WSS?) ([A-Za-z0-9][A-Za-z0-9._-]{0,253}+(?<!-))"
    r"(?::([1-9][0-9]{0,3}+|[1-5][0-9]{4}))?"
)
"""What precedes the parameters, as it nearly always comes; what does not is looked at closely."""
_LONGEST: Final = 300
"""Characters of it that are remembered."""


@lru_cache(maxsize=128)
def _sent_by(text: str) -> tuple[str, str, int | None] | None:
    """Read what is before the parameters: transport, host and port; None for an unusual form.

    All that one neighbour sends has the same; the last ones are remembered.
    """
    usual = _USUAL.fullmatch(text)
    if usual is None:
        return None
    transport, host, port = usual.groups()
    return transport, host, int(port) if port else None


class Via(NamedTuple):
    """One hop of a request's way (RFC 3261 section 20.42).

    `transport` in upper case; `protocol` is another than SIP/2.0 only in what `check` refuses.
    """

    transport: str
    host: str
    port: int | None = None
    params: Params = ()
    protocol: str = "SIP/2.0"

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read a single Via value; SipError (400) otherwise."""
        head, semicolon, params = text.partition(";")
        sent_by = _sent_by(head) if len(head) < _LONGEST else None
        if sent_by is None:
            return cls._parse_any(text)
        transport, host, port = sent_by
        hop = parse_params(";" + params) if semicolon else ()
        return tuple.__new__(cls, (transport, host, port, hop, "SIP/2.0"))

    @classmethod
    def first(cls, text: str) -> Via:
        """Read the first of the values that one line has."""
        return cls.parse(split_list(text)[0] if "," in text else text)

    @classmethod
    def _parse_any(cls, text: str) -> Via:
        match = _VIA.fullmatch(text)
        if match is None:
            raise SipError(f"not a Via: {text[:80]!r}", status=400)
        name, version, transport, host, port, params = match.groups()
        hop = (*parse_host_port(host, port), parse_params(params) if params else ())
        if version == "2.0" and name == "SIP":
            return cls(transport.upper(), *hop)
        return cls(transport.upper(), *hop, f"{name.upper()}/{version}")

    def __str__(self) -> str:
        sent_by = format_host(self.host, self.port)
        return f"{self.protocol}/{self.transport} {sent_by}{format_params(self.params)}"

    def param(self, name: str) -> str | None:
        """Return a parameter's value unquoted: "" without one, None when it is not there."""
        return find_param(self.params, name)

    @property
    def branch(self) -> str | None:
        """The transaction's name; RFC 3261's begin with z9hG4bK."""
        return find_param(self.params, "branch")

    @property
    def received(self) -> str | None:
        """Where the request came from by its source address, if that is not `host`."""
        return find_param(self.params, "received")

    @property
    def rport(self) -> int | None:
        """The source port a server has filled in (RFC 3581); None while it is only asked for."""
        value = find_param(self.params, "rport")
        if not value or len(value) > 5 or not (value.isascii() and value.isdigit()):
            return None
        return int(value)

    @property
    def wants_rport(self) -> bool:
        """Whether `rport` is there, filled in or not."""
        return find_param(self.params, "rport") is not None

    def with_params(self, **params: str | None) -> Via:
        """Return a copy with these parameters set, each in its old place if it had one."""
        left = dict(params)
        kept = tuple(
            (name, left.pop(name.lower())) if name.lower() in left else (name, value)
            for name, value in self.params
        )
        return self._replace(params=(*kept, *left.items()))


def default_port(transport: str) -> int:
    """Return the port of a transport where none is named (RFC 3261 section 19.1.2, RFC 7118)."""
    return _PORTS.get(transport, DEFAULT_PORT)


def new_via(flow: Flow, random: Random) -> Via:
    """Return the Via of a new transaction: a branch nobody can guess."""
    return via_of(flow, BRANCH_COOKIE + random.token(_BRANCH_CHARS))


def via_of(flow: Flow, branch: str | None) -> Via:
    """Return the Via of a transaction that goes by `flow`.

    `rport` on UDP; `alias` where the connection may be used for requests to us (RFC 5923).
    """
    params: Params = (("branch", branch),)
    if not flow.reliable:
        params = (*params, ("rport", None))
    elif flow.reuse:
        params = (*params, ("alias", None))
    return Via(flow.transport.upper(), *flow.sent_by, params)


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
    request.replace_via(via)


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


def is_of_rfc_3261(via: Via) -> bool:
    """Whether the branch names one transaction, as that of RFC 2543 did not (section 17.2.3)."""
    branch = via.branch
    return branch is not None and branch.startswith(BRANCH_COOKIE) and branch != BRANCH_COOKIE


def is_behind_nat(request: Request) -> bool:
    """Whether the only Via shows that the sender does not know its own address."""
    if len(request.headers.values("Via")) != 1:
        return False
    via = request.via
    if via.wants_rport:
        return (via.received, via.rport) != (via.host, via.port or DEFAULT_PORT)
    return via.received is not None and literal(via.host) is not None

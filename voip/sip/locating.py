"""Where a SIP URI leads: transports, addresses and their order (RFC 3263, RFC 2782, RFC 7118).

Names are looked up by whoever has a network; what follows from the records is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from voip.errors import TransportError
from voip.ip import literal
from voip.sip.uri import SipUri
from voip.sip.via import default_port
from voip.types import Address, Random

__all__ = [
    "SECURED",
    "Hop",
    "Names",
    "Naptr",
    "Srv",
    "Where",
    "hops",
    "preferred",
    "transport_of",
    "weighted",
]

MAX_RECORDS: Final = 64
"""Records of one answer that are looked at."""

_SERVICES: Final = {
    "SIP+D2U": "udp",
    "SIP+D2T": "tcp",
    "SIPS+D2T": "tls",
    "SIP+D2W": "ws",
    "SIPS+D2W": "wss",
}
_PREFIXES: Final = {
    "udp": "_sip._udp",
    "tcp": "_sip._tcp",
    "tls": "_sips._tcp",
    "ws": "_sip._ws",
    "wss": "_sips._ws",
}
_WITHOUT_NAPTR: Final = ("udp", "tcp", "tls")
"""Transports whose SRV records are asked for where there is no NAPTR, the first found is taken."""


SECURED: Final = {"udp": None, "tcp": "tls", "tls": "tls", "ws": "wss", "wss": "wss"}
"""What sips: makes of a transport; of UDP, which was a mere default, nothing is left."""


def transport_of(uri: SipUri, *, secure: bool = False) -> str | None:
    """Return the transport that a URI asks for, None where it leaves that open.

    Of a sips: URI, or where it is to be `secure`, `transport=tcp` is TLS over TCP (RFC 3261
    section 26.2.2).
    """
    named = uri.transport
    if uri.scheme != "sips" and not secure:
        return named
    return (SECURED.get(named, named) if named is not None else None) or "tls"


@dataclass(frozen=True, slots=True)
class Srv:
    """An SRV record (RFC 2782). `target` "." says that there is no such service."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Naptr:
    """A NAPTR record (RFC 3403)."""

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Where:
    """What a URI says of where it leads. `transport`, `port` None: it says nothing of it.

    `secure`: a sips: URI, for which only TLS will do.
    """

    host: str
    port: int | None = None
    transport: str | None = None
    secure: bool = False


@dataclass(frozen=True, slots=True)
class Hop:
    """A place to try. `domain` is whose certificate TLS must show: the one that was asked for."""

    transport: str
    address: Address
    domain: str


class Names(Protocol):
    """Looks names up. What is not there, or cannot be asked for, is an empty list."""

    async def naptr(self, name: str) -> Sequence[Naptr]:
        """Return the NAPTR records of a name."""
        ...

    async def srv(self, name: str) -> Sequence[Srv]:
        """Return the SRV records of a name."""
        ...

    async def addresses(self, name: str) -> Sequence[str]:
        """Return the IP addresses of a name, best first; raises `TransportError` for none."""
        ...


async def hops(where: Where, names: Names, random: Random) -> list[Hop]:
    """Return the places where a URI leads, in the order to try them (RFC 3263 section 4).

    Raises `TransportError` where there is none.
    """
    bare = literal(where.host)
    if bare is not None:
        transport = where.transport or _plain(where)
        return [Hop(transport, Address(bare, where.port or default_port(transport)), bare)]
    if where.port is not None:
        return await _at(where.transport or _plain(where), where.host, where.port, where, names)
    transport, records = await _services(where, names)
    if not records:
        return await _at(transport, where.host, default_port(transport), where, names)
    found: list[Hop] = []
    failure: TransportError | None = None
    for record in weighted(records, random):
        try:
            found += await _at(transport, record.target, record.port, where, names)
        except TransportError as error:
            failure = error
    if failure is not None and not found:
        raise failure
    return found


async def _at(transport: str, host: str, port: int, where: Where, names: Names) -> list[Hop]:
    """Return the addresses of a host (section 4.2)."""
    found = (await names.addresses(host))[:MAX_RECORDS]
    return [Hop(transport, Address(address, port), where.host) for address in found]


async def _services(where: Where, names: Names) -> tuple[str, Sequence[Srv]]:
    """Choose the transport, and find who offers it (section 4.1, beginning of 4.2)."""
    if where.transport is not None:
        return where.transport, await _offered(f"{_PREFIXES[where.transport]}.{where.host}", names)
    for transport, name in preferred(await names.naptr(where.host), secure=where.secure):
        records = await _offered(name, names)
        if records:
            return transport, records
    for transport in ("tls",) if where.secure else _WITHOUT_NAPTR:
        records = await _offered(f"{_PREFIXES[transport]}.{where.host}", names)
        if records:
            return transport, records
    return _plain(where), ()


async def _offered(name: str, names: Names) -> list[Srv]:
    records = (await names.srv(name))[:MAX_RECORDS]
    return [record for record in records if record.target not in ("", ".") and record.port]


def preferred(records: Iterable[Naptr], *, secure: bool) -> list[tuple[str, str]]:
    """Return (transport, name of its SRV records) of the services we know, the best first.

    Of `secure` only those of SIPS.
    """
    found = []
    for record in list(records)[:MAX_RECORDS]:
        service = record.service.upper()
        transport = _SERVICES.get(service)
        if transport is None or record.flags.lower() != "s" or record.regexp:
            continue
        if not secure or service.startswith("SIPS"):
            found.append((record.order, record.preference, transport, record.replacement))
    found.sort(key=lambda one: one[:2])
    return [(transport, name.removesuffix(".")) for _, _, transport, name in found]


def weighted(records: Iterable[Srv], random: Random) -> list[Srv]:
    """Return SRV records in the order to try them: by priority, then drawn by weight (RFC 2782).

    Those of weight 0 come first in the draw, so that they are seldom taken before another.
    """
    ordered: list[Srv] = []
    by_priority: dict[int, list[Srv]] = {}
    for record in records:
        by_priority.setdefault(record.priority, []).append(record)
    for priority in sorted(by_priority):
        left = sorted(by_priority[priority], key=lambda record: record.weight > 0)
        while left:
            drawn = random.below(sum(record.weight for record in left) + 1)
            position, running = 0, left[0].weight
            while running < drawn:
                position += 1
                running += left[position].weight
            ordered.append(left.pop(position))
    return ordered


def _plain(where: Where) -> str:
    return "tls" if where.secure else "udp"

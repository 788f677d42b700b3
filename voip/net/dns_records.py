"""NAPTR, SRV and address records from the DNS, remembered as long as they say they hold."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from voip.errors import ConfigError, TransportError
from voip.sip.locating import Naptr, Srv
from voip.types import Address

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

__all__ = ["DnsRecords", "parse_server"]

PATIENCE_S: Final = 3.0
"""How long one question may take: a name without SRV records is the usual case."""
SILENCE_S: Final = 60.0
"""How long servers that did not answer are not asked again."""
MAX_REMEMBERED: Final = 1000
_NOT_IN_DNS: Final = ("localhost", "local", "invalid")
"""Domains that have no records by RFC 6761 and 6762."""


class DnsRecords:
    """What the DNS says. `servers`: to be asked instead of those of /etc/resolv.conf."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self.servers = [parse_server(server) for server in servers]
        self._resolver: Resolver | None = None
        self._silent_until = 0.0

    async def naptr(self, name: str) -> list[Naptr]:
        """Return the NAPTR records of a name; none where nobody answers."""
        return [
            Naptr(
                record.order,
                record.preference,
                _text(record.flags),
                _text(record.service),
                _text(record.regexp),
                record.replacement.to_text(omit_final_dot=True),
            )
            for record in await self._ask(name, "NAPTR")
        ]

    async def srv(self, name: str) -> list[Srv]:
        """Return the SRV records of a name; none where nobody answers."""
        return [
            Srv(
                record.priority,
                record.weight,
                record.port,
                record.target.to_text(omit_final_dot=True),
            )
            for record in await self._ask(name, "SRV")
        ]

    async def addresses(self, name: str) -> list[str]:
        """Return the addresses of a name, IPv4 first; raises `TransportError` for none."""
        found = [record.address for kind in ("A", "AAAA") for record in await self._ask(name, kind)]
        if not found:
            raise TransportError(
                f"the name {name!r} has no address", hint="check its spelling and your DNS"
            )
        return found

    async def _ask(self, name: str, kind: str) -> Sequence[Any]:
        """Return the records, which dnspython remembers as long as their TTL allows."""
        import asyncio

        import dns.exception
        import dns.resolver

        labels = name.rstrip(".").split(".")
        if len(labels) < 2 or labels[-1].lower() in _NOT_IN_DNS:
            return ()
        now = asyncio.get_running_loop().time()
        if now < self._silent_until:
            return ()
        try:
            resolver = self._resolver = self._resolver or self._make()
            return list(await resolver.resolve(name, kind, search=False, lifetime=PATIENCE_S))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except (dns.resolver.LifetimeTimeout, dns.resolver.NoResolverConfiguration):
            self._silent_until = now + SILENCE_S
            return ()
        except (dns.exception.DNSException, OSError, UnicodeError):
            return ()

    def _make(self) -> Resolver:
        from dns.asyncresolver import Resolver
        from dns.nameserver import Do53Nameserver
        from dns.resolver import LRUCache

        resolver = Resolver(configure=not self.servers)
        if self.servers:
            resolver.nameservers = [Do53Nameserver(*server) for server in self.servers]
        resolver.cache = LRUCache(MAX_REMEMBERED)
        return resolver


def parse_server(text: str) -> Address:
    """Read `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, port = text.split(":")
    try:
        return Address(str(ipaddress.ip_address(host)), int(port))
    except ValueError:
        raise ConfigError(
            f"{text!r} is no DNS server", hint="an IP address, with a port or without"
        ) from None


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace")

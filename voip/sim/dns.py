"""The name service of a simulated world."""

from __future__ import annotations

from voip.errors import ConfigError
from voip.ip import literal
from voip.sip.locating import Naptr, Srv

__all__ = ["SimDns"]


class SimDns:
    """Addresses by name, the same for all hosts. Names are compared without case.

    `localhost` is there from the beginning. A change holds at once: nobody remembers answers.
    """

    def __init__(self) -> None:
        self._naptr: dict[str, list[Naptr]] = {}
        self._srv: dict[str, list[Srv]] = {}
        self._addresses: dict[str, list[str]] = {"localhost": ["127.0.0.1", "::1"]}

    def add(self, name: str, *addresses: str) -> None:
        """Give a name further A and AAAA records, the best first."""
        for address in addresses:
            if literal(address) is None:
                raise ConfigError(f"{address!r} is no address for {name}")
        known = self._addresses.setdefault(_key(name), [])
        known += [address for address in addresses if address not in known]

    def add_srv(
        self, name: str, target: str, port: int, *, priority: int = 0, weight: int = 0
    ) -> None:
        """Give a name (`_sip._udp.pbx.example`) another SRV record (RFC 2782)."""
        self._srv.setdefault(_key(name), []).append(Srv(priority, weight, port, target))

    def add_naptr(
        self, name: str, service: str, replacement: str, *, order: int = 0, preference: int = 0
    ) -> None:
        """Give a name another NAPTR record that leads to SRV records (RFC 3263 section 4.1)."""
        record = Naptr(order, preference, "s", service, "", replacement)
        self._naptr.setdefault(_key(name), []).append(record)

    def remove(self, name: str) -> None:
        """Forget all records of a name."""
        for records in (self._addresses, self._srv, self._naptr):
            records.pop(_key(name), None)

    def srv(self, name: str) -> list[Srv]:
        """Return the SRV records of a name."""
        return list(self._srv.get(_key(name), ()))

    def naptr(self, name: str) -> list[Naptr]:
        """Return the NAPTR records of a name."""
        return list(self._naptr.get(_key(name), ()))

    def addresses(self, name: str) -> list[str]:
        """Return the addresses of a name, the best first; [] where it has none."""
        return list(self._addresses.get(_key(name), ()))


def _key(name: str) -> str:
    return name.lower().rstrip(".")

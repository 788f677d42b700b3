"""The name service of a simulated world."""

from __future__ import annotations

from voip.errors import ConfigError
from voip.ip import literal

__all__ = ["SimDns"]


class SimDns:
    """Addresses by name, the same for all hosts. Names are compared without case.

    `localhost` is there from the beginning.
    """

    def __init__(self) -> None:
        self._addresses: dict[str, list[str]] = {"localhost": ["127.0.0.1", "::1"]}

    def add(self, name: str, *addresses: str) -> None:
        """Give a name further A and AAAA records, the best first."""
        for address in addresses:
            if literal(address) is None:
                raise ConfigError(f"{address!r} is no address for {name}")
        known = self._addresses.setdefault(_key(name), [])
        known += [address for address in addresses if address not in known]

    def remove(self, name: str) -> None:
        """Forget a name."""
        self._addresses.pop(_key(name), None)

    def addresses(self, name: str) -> list[str]:
        """Return the addresses of a name, the best first; [] where it has none."""
        return list(self._addresses.get(_key(name), ()))


def _key(name: str) -> str:
    return name.lower().rstrip(".")

"""The ports of one simulated host, for one protocol."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

from voip.ip import is_wildcard, version_of
from voip.types import Address, Random

__all__ = ["Ports"]

FIRST_PORT, PORTS = 32768, 28232
"""Where ports are taken from that nobody asked for, as Linux does."""

Owner = TypeVar("Owner")


class Ports(Generic[Owner]):
    """Who has which address and port. `changed(address)` hears of every change."""

    def __init__(self, random: Random, changed: Callable[[Address], None] | None = None) -> None:
        self._owners: dict[Address, Owner] = {}
        self._taken: Counter[tuple[int, int]] = Counter()
        self._changed = changed
        self._next = random.below(PORTS)

    def bind(self, address: Address, owner: Owner) -> Address:
        """Give `address` to `owner`, any free port where it is 0; OSError where it is taken."""
        if not address.port:
            address = Address(address.host, self.free(address.host))
        elif not self.is_free(address):
            raise OSError(errno.EADDRINUSE, f"{address} is in use")
        self._owners[address] = owner
        self._taken[_port(address)] += 1
        if self._changed is not None:
            self._changed(address)
        return address

    def unbind(self, address: Address) -> None:
        """Let go of an address; one that nobody has does no harm."""
        if self._owners.pop(address, None) is None:
            return
        self._taken[_port(address)] -= 1
        if self._changed is not None:
            self._changed(address)

    def find(self, destination: Address) -> Owner | None:
        """Return who gets what is sent to `destination`."""
        owner = self._owners.get(destination)
        if owner is None:
            wildcard = "::" if version_of(destination.host) == 6 else "0.0.0.0"
            owner = self._owners.get(Address(wildcard, destination.port))
        return owner

    def is_free(self, address: Address) -> bool:
        """Whether nobody has that address, nor the same port of all addresses."""
        if self.find(address) is not None:
            return False
        return not (is_wildcard(address.host) and self._taken[_port(address)])

    def free(self, host: str) -> int:
        """Return a port that nobody has; OSError where there is none."""
        for _ in range(PORTS):
            port = FIRST_PORT + self._next
            self._next = (self._next + 1) % PORTS
            if self.is_free(Address(host, port)):
                return port
        raise OSError(errno.EADDRINUSE, f"no port of {host} is free")


def _port(address: Address) -> tuple[int, int]:
    return version_of(address.host), address.port

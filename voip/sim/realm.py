"""A part of the network in which addresses are unique: the public one, or what is behind a NAT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voip.errors import ConfigError

if TYPE_CHECKING:
    from voip.sim.host import Host
    from voip.sim.nat import Nat

__all__ = ["Realm"]


class Realm:
    """Hosts and NATs by address. `nat`: what leads out of it, None for the public network."""

    def __init__(self, nat: Nat | None = None) -> None:
        self.nat = nat
        self.members: dict[str, Host | Nat] = {}

    def join(self, address: str, member: Host | Nat) -> None:
        """Give `address` to a host or NAT; raises `ConfigError` where it is taken."""
        if address in self.members:
            raise ConfigError(f"{address} is taken by {self.members[address]!r}")
        self.members[address] = member

    def outwards(self) -> list[Realm]:
        """Return this realm and those it lies in, up to the public one."""
        realms = [self]
        while (nat := realms[-1].nat) is not None:
            realms.append(nat.realm)
        return realms

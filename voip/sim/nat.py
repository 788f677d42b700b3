"""Network address translators: what they map, and whom they let in.

The four types of RFC 3489 section 5, which RFC 4787 takes apart into mapping and filtering:

    full cone            one port for all peers           lets everybody in
    address-restricted   one port for all peers           lets in hosts that were sent to
    port-restricted      one port for all peers           lets in addresses that were sent to
    symmetric            a port for every peer's address  lets in the address it is for
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from voip.sim.realm import Realm
from voip.types import Address, Random

__all__ = ["Nat", "NatType", "Protocol"]

Protocol = Literal["udp", "tcp"]

UDP_TIMEOUT_S: Final = 120.0
"""The least that RFC 4787 section 4.3 allows (REQ-5)."""
TCP_TIMEOUT_S: Final = 7440.0
"""Two hours and four minutes (RFC 5382 REQ-5)."""
FIRST_PORT: Final = 1024


class NatType(Enum):
    """How a NAT maps and filters."""

    FULL_CONE = "full cone"
    ADDRESS_RESTRICTED = "address-restricted"
    PORT_RESTRICTED = "port-restricted"
    SYMMETRIC = "symmetric"


@dataclass(slots=True)
class _Mapping:
    """An inner address and its port outside; `sent_to`: when each peer was last sent to."""

    key: tuple[object, ...]
    inner: Address
    port: int
    used: float
    sent_to: dict[Address | str, float] = field(default_factory=dict)


class Nat:
    """One NAT: hosts behind it are in `inside`, it has `address` in `outside`.

    `udp_timeout_s`: a mapping, and the leave to come in, are forgotten that long after the last
    packet from inside; packets from outside keep nothing alive (RFC 4787 REQ-6). `hairpin`: whether
    hosts behind it reach each other by the outer address. Outer ports are taken one after the
    other from a random one on: they tell nothing of the inner ones.
    """

    def __init__(
        self,
        address: str,
        kind: NatType,
        outside: Realm,
        random: Random,
        *,
        udp_timeout_s: float = UDP_TIMEOUT_S,
        hairpin: bool = False,
    ) -> None:
        self.address = address
        self.kind = kind
        self.hairpin = hairpin
        self.realm = outside
        self.inside = Realm(self)
        self._timeout_s = {"udp": udp_timeout_s, "tcp": TCP_TIMEOUT_S}
        self._by_key: dict[tuple[object, ...], _Mapping] = {}
        self._by_port: dict[tuple[str, int], _Mapping] = {}
        self._next = FIRST_PORT + random.below(65536 - FIRST_PORT)

    def __repr__(self) -> str:
        return f"<Nat {self.address}, {self.kind.value}>"

    def outbound(
        self, protocol: Protocol, inner: Address, peer: Address, now: float
    ) -> Address | None:
        """Let a packet out; return the address outside sees, None where no port is left."""
        symmetric = self.kind is NatType.SYMMETRIC
        key = (protocol, inner, peer) if symmetric else (protocol, inner)
        mapping = self._by_key.get(key)
        if mapping is not None and now - mapping.used > self._timeout_s[protocol]:
            self._forget(protocol, mapping)
            mapping = None
        if mapping is None:
            mapping = self._map(protocol, key, inner, now)
            if mapping is None:
                return None
        mapping.used = now
        mapping.sent_to[self._peer(peer)] = now
        return Address(self.address, mapping.port)

    def inbound(
        self, protocol: Protocol, peer: Address, outer: Address, now: float
    ) -> Address | None:
        """Let a packet in that came to `outer`; return the inner address, None where it may not."""
        mapping = self._by_port.get((protocol, outer.port))
        if mapping is None or now - mapping.used > self._timeout_s[protocol]:
            return None
        if self.kind is not NatType.FULL_CONE:
            sent = mapping.sent_to.get(self._peer(peer))
            if sent is None or now - sent > self._timeout_s[protocol]:
                return None
        return mapping.inner

    def restart(self) -> None:
        """Forget every mapping, as a NAT does that was switched off and on."""
        self._by_key.clear()
        self._by_port.clear()

    def _peer(self, peer: Address) -> Address | str:
        return peer.host if self.kind is NatType.ADDRESS_RESTRICTED else peer

    def _map(
        self, protocol: Protocol, key: tuple[object, ...], inner: Address, now: float
    ) -> _Mapping | None:
        for _ in range(65536 - FIRST_PORT):
            port = self._next
            self._next = port + 1 if port < 65535 else FIRST_PORT
            there = self._by_port.get((protocol, port))
            if there is not None and now - there.used > self._timeout_s[protocol]:
                self._forget(protocol, there)
                there = None
            if there is None:
                mapping = _Mapping(key, inner, port, now)
                self._by_key[key] = self._by_port[protocol, port] = mapping
                return mapping
        return None

    def _forget(self, protocol: Protocol, mapping: _Mapping) -> None:
        self._by_key.pop(mapping.key, None)
        self._by_port.pop((protocol, mapping.port), None)

"""The simulated network: who is where, how a packet gets there, and what becomes of it.

Time is the world's. Every path between two hosts has random numbers of its own, so that a run
repeats to the bit, and what happened is counted, so that a test can hold figures against the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np

from voip.errors import SimulationError
from voip.ip import is_loopback
from voip.sim.host import Host
from voip.sim.nat import Nat
from voip.sim.nat import Protocol as Transport
from voip.sim.path import Link, LinkCounts, Path
from voip.sim.randomness import Randomness
from voip.sim.realm import Realm
from voip.types import Address

if TYPE_CHECKING:
    from voip.sim.stream import SimStream

__all__ = ["Network", "Scheduler", "Tap", "Way"]

Tap: TypeAlias = Callable[[Transport, float, Address, Address, bytes], None]
"""Sees what arrives: (udp or tcp, arrival, source, destination, payload), when that is decided."""

FLOWS: Final = 16
"""Pairs of addresses whose order is remembered before those that have arrived are forgotten: what
is sent later comes after them anyway."""
NEVER: Final = float("-inf")


class Scheduler(Protocol):
    """The clock of a world."""

    def world_time(self) -> float:
        """Return the time."""
        ...

    def at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> object:
        """Call back at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """How packets leave a host: seen from where (`source`), into which realm, over what."""

    realm: Realm
    source: Address
    link: Link | None
    """None: they stay on the host, where nothing happens to them."""


Fly: TypeAlias = Callable[[Way, Address, bytes, float], bool]
"""Takes a packet that arrives then, and says whether it did: (way, destination, data, arrival)."""


class Network:
    """All hosts and NATs of a world, and the paths between them."""

    def __init__(self, clock: Scheduler, randomness: Randomness, path: Path | None = None) -> None:
        self.clock = clock
        self.public = Realm()
        self.taps: list[Tap] = []
        self._counts: dict[Address, LinkCounts] = {}
        self._settle: list[Callable[[], None]] = []
        self._randomness = randomness
        self._default = path or Path()
        self._links: dict[tuple[Host, Host | Nat], Link] = {}
        self._latest: dict[tuple[Address, Address], float] = {}
        self._many_flows = FLOWS
        self._streams: dict[SimStream, None] = {}

    # ------------------------------------------------------------ paths

    def set_path(self, source: Host, destination: Host | Nat, path: Path) -> None:
        """Set what happens to packets from `source` to `destination`, from now on."""
        self.link(source, destination).path = path

    def link(self, source: Host, destination: Host | Nat) -> Link:
        """Return the path of packets from a host to what it sees of another: the NAT before it."""
        node = self._as_seen(source, destination)
        link = self._links.get((source, node))
        if link is None:
            random = self._randomness.numbers("path", repr(source), repr(node))
            link = self._links[source, node] = Link(self._default, random)
        return link

    def cut(self, source: Host, destination: Host | Nat, until: float) -> None:
        """Lose everything from `source` to `destination` until a time of the world."""
        self.link(source, destination).cut_until = until

    def _as_seen(self, source: Host, destination: Host | Nat) -> Host | Nat:
        realms = source.realm.outwards()
        node = destination
        while node.realm not in realms:
            if node.realm.nat is None:
                raise SimulationError(f"{destination!r} is in another world than {source!r}")
            node = node.realm.nat
        return node

    def way(self, host: Host, protocol: Transport, source: Address, peer: Address) -> Way | None:
        """Return how a packet from `source` leaves `host` for `peer`, None: there is no way.

        The NATs on the way take note of it.
        """
        if peer.host in host.addresses or is_loopback(peer.host):
            return Way(host.own, source, None)
        now, realm, crossed = self.clock.world_time(), host.realm, None
        while peer.host not in realm.members:
            crossed = realm.nat
            if crossed is None:
                return None
            seen = crossed.outbound(protocol, source, peer, now)
            if seen is None:
                return None
            source, realm = seen, crossed.realm
        node = realm.members[peer.host]
        if node is crossed and not crossed.hairpin:
            return None
        return Way(realm, source, self.link(host, node))

    def arrive(
        self, protocol: Transport, realm: Realm, source: Address, destination: Address
    ) -> tuple[Host, Address] | None:
        """Return whom a packet gets to, through NATs that let it in, and at which address."""
        now = self.clock.world_time()
        while True:
            node = realm.members.get(destination.host)
            if node is None or isinstance(node, Host):
                return None if node is None else (node, destination)
            inner = node.inbound(protocol, source, destination, now)
            if inner is None:
                return None
            realm, destination = node.inside, inner

    # ------------------------------------------------------------ streams

    def keep_stream(self, stream: SimStream) -> None:
        """Remember one side of a connection."""
        self._streams[stream] = None

    def forget_stream(self, stream: SimStream) -> None:
        """Forget a side that is over."""
        self._streams.pop(stream, None)

    def reset(self, one: Host, other: Host | None = None) -> int:
        """Break the streams between two hosts, or all of one; return how many there were."""
        broken = 0
        for stream in list(self._streams):
            ends = stream.hosts() if stream in self._streams else ()
            if one in ends and (other is None or (other in ends and other is not one)):
                stream.break_both()
                broken += 1
        return broken

    def close_streams(self) -> None:
        """End all streams without a word, as the end of a process does."""
        for stream in list(self._streams):
            stream.close_both()

    # ------------------------------------------------------------ datagrams

    def send(
        self,
        host: Host,
        source: Address,
        destination: Address,
        data: bytes,
        fly: Fly | None = None,
    ) -> None:
        """Let a datagram go, or get lost; `fly` may take charge of what is under way."""
        now = self.clock.world_time()
        counts = self._counts.setdefault(source, LinkCounts())
        counts.sent += 1
        way = self.way(host, "udp", source, destination)
        if way is None:
            counts.lost += 1
            self.clock.at(now, self._refuse, host, source, destination, False)
            return
        for arrival in self._fate(way, (source, destination), len(data), counts):
            for tap in self.taps:
                tap("udp", arrival, way.source, destination, data)
            if fly is None or not fly(way, destination, data, arrival):
                self.clock.at(arrival, self._deliver, host, source, way, destination, data)

    def _fate(
        self, way: Way, flow: tuple[Address, Address], length: int, counts: LinkCounts
    ) -> list[float]:
        """Return when the copies of a datagram arrive."""
        now = self.clock.world_time()
        if way.link is None:
            return [now]
        arrivals: list[float] = []
        for carried in way.link.carry(now, np.array([length], np.int32)):
            arrival = float(carried.arrival[0])
            if carried.held is not None and carried.held[0]:
                counts.held_back += 1
            else:
                arrival = max(arrival, self._latest.get(flow, NEVER))
                self._remember(flow, arrival, now)
            arrivals.append(arrival)
        counts.lost += not arrivals
        counts.duplicated += len(arrivals) == 2
        return arrivals

    def counts_of(self, source: Address) -> LinkCounts:
        """Return what really happened to the datagrams that an address sent."""
        for settle in self._settle:
            settle()
        return self._counts.get(source, LinkCounts())

    def forget_counts(self) -> None:
        """Count anew from now on: of every address that ever sent something is remembered."""
        for settle in self._settle:
            settle()
        self._counts.clear()

    def senders(self) -> list[Address]:
        """Return every address that has sent a datagram."""
        for settle in self._settle:
            settle()
        return list(self._counts)

    def on_counts(self, settle: Callable[[], None]) -> None:
        """Call `settle` before counts are read: it adds what it has counted itself."""
        self._settle.append(settle)

    def add_counts(
        self, source: Address, sent: int, lost: int, held_back: int, duplicated: int
    ) -> None:
        """Add to the counts of an address."""
        counts = self._counts.setdefault(source, LinkCounts())
        counts.sent += sent
        counts.lost += lost
        counts.held_back += held_back
        counts.duplicated += duplicated

    def _remember(self, flow: tuple[Address, Address], arrival: float, now: float) -> None:
        if len(self._latest) >= self._many_flows and flow not in self._latest:
            self._latest = {key: at for key, at in self._latest.items() if at > now}
            self._many_flows = max(FLOWS, 2 * len(self._latest))
        self._latest[flow] = arrival

    def _deliver(
        self, host: Host, sender: Address, way: Way, destination: Address, data: bytes
    ) -> None:
        found = self.arrive("udp", way.realm, way.source, destination)
        if found is None:
            return
        there, inner = found
        receiver = there.udp.find(inner)
        if receiver is not None:
            receiver.receive(data, way.source, self.clock.world_time())
            return
        back = 0.0 if way.link is None else way.link.path.delay_s
        when = self.clock.world_time() + back
        self.clock.at(when, self._refuse, host, sender, destination, True)

    @staticmethod
    def _refuse(host: Host, sender: Address, destination: Address, there: bool) -> None:
        """Tell a sender, as ICMP does, that nobody listens, or that there is no such host."""
        receiver = host.udp.find(sender)
        if receiver is not None:
            receiver.refused(destination, there)

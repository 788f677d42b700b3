"""Media packets that are under way, in arrays: those that are due are taken out all at once."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from voip.media.columns import some
from voip.media.io import SLOT_BYTES
from voip.sim.host import DatagramReceiver, Host
from voip.sim.network import Network
from voip.sim.realm import Realm
from voip.types import Address

__all__ = ["Flight", "MediaPort"]

Indices = npt.NDArray[np.intp]

_NOBODY: Final = -1
_NAT: Final = -2  # who gets it is known when it arrives
OTHER: Final = -3
"""A port of a program, and of no engine."""
_FREE: Final = float("inf")


class MediaPort:
    """A port of a stream: what comes from programs flies the last bit with all the others."""

    def __init__(self, flight: Flight, engine: int, row: int, rtcp: bool, place: int) -> None:
        self.engine = engine
        self.row = row
        self.rtcp = rtcp
        self._flight = flight
        self._place = place

    def receive(self, data: bytes, source: Address, arrival: float) -> None:
        """Take a datagram that some program sent."""
        if len(data) <= SLOT_BYTES:
            packet = np.frombuffer(data, np.uint8)[np.newaxis]
            length = np.array([len(data)], np.int32)
            seen = np.array([self._flight.seen(source)])
            self._flight.add(np.array([arrival]), seen, np.array([self._place]), packet, length)

    def refused(self, destination: Address, there: bool) -> None:
        """Nobody listens: a stream goes on sending, as over real sockets."""


class Flight:
    """The packets, and the addresses they come from and go to, by number.

    A destination is an address in a realm; who has it is looked up when a packet arrives.
    """

    def __init__(self, network: Network, capacity: int = 256) -> None:
        self._network = network
        self._seen: dict[Address, int] = {}
        self.addresses: list[Address] = []
        """By the number of a source."""
        self._places: dict[tuple[Realm, Address], int] = {}
        self._place_of: list[tuple[Realm, Address]] = []
        self.owner: npt.NDArray[np.int32] = np.zeros(64, np.int32)
        self.row: npt.NDArray[np.int32] = np.zeros(64, np.int32)
        self.rtcp: npt.NDArray[np.bool_] = np.zeros(64, np.bool_)
        self.arrival: npt.NDArray[np.float64] = np.full(capacity, _FREE)
        self.source: npt.NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.length: npt.NDArray[np.int32] = np.zeros(capacity, np.int32)
        self.data: npt.NDArray[np.uint8] = np.zeros((capacity, SLOT_BYTES), np.uint8)
        self._place: npt.NDArray[np.int32] = np.zeros(capacity, np.int32)
        self._serial: npt.NDArray[np.int64] = np.zeros(capacity, np.int64)
        self._free: Indices = np.arange(capacity)[::-1].copy()
        self._count_free = capacity
        self._sent = 0

    # ------------------------------------------------------------ addresses

    def seen(self, source: Address) -> int:
        """Return the number of an address that packets come from."""
        number = self._seen.get(source)
        if number is None:
            number = self._seen[source] = len(self.addresses)
            self.addresses.append(source)
        return number

    def place(self, realm: Realm, address: Address) -> int:
        """Return the number of an address that packets go to."""
        place = self._places.get((realm, address))
        if place is None:
            place = self._places[realm, address] = len(self._place_of)
            self._place_of.append((realm, address))
            if place == self.owner.size:
                self.owner = np.concatenate((self.owner, np.zeros_like(self.owner)))
                self.row = np.concatenate((self.row, np.zeros_like(self.row)))
                self.rtcp = np.concatenate((self.rtcp, np.zeros_like(self.rtcp)))
            self._look_up(place)
        return place

    def changed(self, host: Host, address: Address) -> None:
        """Look up anew who has an address of `host` (a wildcard: all of them)."""
        hosts = (address.host,) if address.host in host.own.members else tuple(host.own.members)
        for realm in (host.realm, host.own):
            for name in hosts:
                place = self._places.get((realm, Address(name, address.port)))
                if place is not None:
                    self._look_up(place)

    def _look_up(self, place: int) -> None:
        realm, address = self._place_of[place]
        node = realm.members.get(address.host)
        if node is None:
            self.owner[place] = _NOBODY
        elif isinstance(node, Host):
            receiver = node.udp.find(address)
            if isinstance(receiver, MediaPort):
                self.owner[place] = receiver.engine
                self.row[place], self.rtcp[place] = receiver.row, receiver.rtcp
            else:
                self.owner[place] = _NOBODY if receiver is None else OTHER
        else:
            self.owner[place] = _NAT

    # ------------------------------------------------------------ packets

    def add(
        self,
        arrival: npt.NDArray[np.float64],
        source: npt.NDArray[np.signedinteger],
        place: npt.NDArray[np.signedinteger],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> None:
        """Let k packets fly: `packets` uint8 (k, width), all else (k,)."""
        count = arrival.size
        while self._count_free < count:
            self._grow()
        slots = self._free[self._count_free - count : self._count_free]
        self._count_free -= count
        self.arrival[slots] = arrival
        self.source[slots] = source
        self._place[slots] = place
        self.length[slots] = lengths
        self.data[slots, : packets.shape[1]] = packets
        self._serial[slots] = np.arange(self._sent, self._sent + count)
        self._sent += count

    def due(self, engine: int, now: float) -> Indices:
        """Return the slots of what has arrived for an engine by `now`, in order of arrival.

        What arrived for nobody, and for programs, is dealt with on the way.
        """
        due = np.flatnonzero(self.arrival <= now)
        if not due.size:
            return due
        owner = self.owner[self._place[due]]
        ownerless = owner < 0
        if some(ownerless):
            self._settle(due[ownerless])
            due = due[self.arrival[due] <= now]
            owner = self.owner[self._place[due]]
        mine: Indices = due[owner == engine]
        if mine.size > 1:
            mine = mine[np.lexsort((self._serial[mine], self.arrival[mine]))]
        return mine

    def rows(self, slots: Indices) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Return the rows that packets are for, and which of them came to the RTCP port."""
        place = self._place[slots]
        return self.row[place], self.rtcp[place]

    def release(self, slots: Indices) -> None:
        """Forget packets that were taken."""
        self.arrival[slots] = _FREE
        self._free[self._count_free : self._count_free + slots.size] = slots
        self._count_free += slots.size

    def _settle(self, slots: Indices) -> None:
        """Let packets through NATs, hand them to programs, or drop them."""
        for slot in slots.tolist():
            realm, address = self._place_of[self._place[slot]]
            source = self.addresses[self.source[slot]]
            found = self._network.arrive("udp", realm, source, address)
            receiver: DatagramReceiver | None = None
            if found is not None:
                host, inner = found
                receiver = host.udp.find(inner)
            if isinstance(receiver, MediaPort):
                self._place[slot] = self.place(host.realm, inner)
                continue
            if receiver is not None:
                data = self.data[slot, : self.length[slot]].tobytes()
                receiver.receive(data, source, float(self.arrival[slot]))
            self.release(np.array([slot]))

    def _grow(self) -> None:
        size = self.arrival.size
        self.arrival = np.concatenate((self.arrival, np.full(size, _FREE)))
        self.source = np.concatenate((self.source, np.zeros_like(self.source)))
        self.length = np.concatenate((self.length, np.zeros_like(self.length)))
        self.data = np.concatenate((self.data, np.zeros_like(self.data)))
        self._place = np.concatenate((self._place, np.zeros_like(self._place)))
        self._serial = np.concatenate((self._serial, np.zeros_like(self._serial)))
        free = np.zeros(2 * size, np.intp)
        free[: self._count_free] = self._free[: self._count_free]
        free[self._count_free : self._count_free + size] = np.arange(size, 2 * size)
        self._free = free
        self._count_free += size

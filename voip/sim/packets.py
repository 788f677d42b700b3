"""Media of simulated hosts, as an engine sees it: `PacketIO` over the simulated network.

All that is sent in one tick over one path is decided on at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from voip.errors import TransportError
from voip.media.columns import distinct, every, some
from voip.media.io import PacketBatch, PacketTap
from voip.sim.clock import HostClock
from voip.sim.flight import OTHER, Flight, MediaPort
from voip.sim.host import Host
from voip.sim.network import NEVER, Network, Way
from voip.sim.path import Link
from voip.types import Address

__all__ = ["Mouth", "SimPacketIO"]

_MOST = (32, 4)
"""RTP and RTCP packets for a row and call of `receive`, as `PacketIO` has it."""
_NO_LINK = -1
_SENT, _ARRIVED, _HELD_BACK, _DUPLICATED = range(4)


@dataclass(slots=True)
class Mouth:
    """Where the streams of one phone are bound: a host, and a choice of RTP ports."""

    host: Host
    ports: tuple[int, int] = (10000, 19999)
    tap: PacketTap | None = None
    next_pair: int = 0

    def pair(self, address: str) -> Address:
        """Return the RTP address of the next free pair of ports."""
        first, last = self.ports
        first += first & 1
        pairs = (last - first + 1) // 2
        for _ in range(pairs):
            rtp = Address(address, first + 2 * (self.next_pair % pairs))
            self.next_pair += 1
            if self.host.udp.is_free(rtp) and self.host.udp.is_free(_rtcp(rtp)):
                return rtp
        raise TransportError(
            f"no free pair of RTP ports in {first}-{last} on {address}",
            hint="widen the range of RTP ports, or end some calls",
        )


@dataclass(slots=True)
class _Row:
    """One stream: two ports and their peers."""

    mouth: Mouth
    local: tuple[Address, Address]
    peer: list[Address | None] = field(default_factory=lambda: [None, None])


class SimPacketIO:
    """`voip.media.io.PacketIO` for the hosts whose clocks run alike.

    `open` takes an address of a host that `add_host` told of, or a name that `add_mouth` returned.
    """

    kernel_timestamps = True

    def __init__(
        self, network: Network, flight: Flight, engine: int = 0, clock: HostClock | None = None
    ) -> None:
        self._network = network
        self._flight = flight
        self._engine = engine
        self._clock = clock
        self._mouths: dict[str, tuple[Mouth, str]] = {}
        self._rows: dict[int, _Row] = {}
        self._links: list[Link] = []
        self._link_numbers: dict[Link, int] = {}
        self._expected: npt.NDArray[np.int64] = np.full((0, 2), -1)  # (rows, RTP and RTCP)
        self._source: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._place: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._link: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._slow: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)  # decided on one by one
        self._latest: npt.NDArray[np.float64] = np.zeros(0)
        self._tally: npt.NDArray[np.int64] = np.zeros((0, 4), np.int64)
        self._tapped = False
        network.on_counts(self._settle_counts)

    # ------------------------------------------------------------ rows

    def add_mouth(self, mouth: Mouth, address: str) -> str:
        """Return a name for `address` of a mouth, for `open`."""
        name = f"{address} {len(self._mouths)}"
        self._mouths[name] = (mouth, address)
        self._tapped |= mouth.tap is not None
        return name

    def add_host(self, host: Host) -> None:
        """Let `open` know the addresses of a host."""
        mouth = Mouth(host)
        for address in host.addresses:
            self._mouths[address] = (mouth, address)

    def forget_mouth(self, name: str) -> None:
        """Bind nothing more there."""
        self._mouths.pop(name, None)

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        """Bind the next free pair of ports."""
        self.close(row)
        if host not in self._mouths:
            raise TransportError(f"{host} is the address of no simulated host")
        mouth, address = self._mouths[host]
        rtp = mouth.pair(address)
        local = (rtp, _rtcp(rtp))
        self._make_room(row)
        for rtcp, end in enumerate(local):
            place = self._flight.place(mouth.host.realm_of(end.host), end)
            port = MediaPort(self._flight, self._engine, row, bool(rtcp), place)
            mouth.host.udp.bind(end, port)
        self._rows[row] = _Row(mouth, local)
        self._expected[row] = -1
        self._latest[row] = NEVER
        return local

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        """Set whom the row sends to and expects."""
        self._rows[row].peer = [rtp, rtcp]
        for i, peer in enumerate((rtp, rtcp)):
            self._expected[row, i] = -1 if peer is None else self._flight.seen(peer)
        self._slow[row] = True
        if rtp is not None:
            self._find_way(row, rtp)

    def close(self, row: int) -> None:
        """Release the row's ports; what is on its way to them is lost."""
        if row in self._rows:
            self._settle_counts()
            gone = self._rows.pop(row)
            for end in gone.local:
                gone.mouth.host.udp.unbind(end)

    def _find_way(self, row: int, peer: Address) -> None:
        """Note the way RTP takes, where it is always the same: without a NAT."""
        one = self._rows[row]
        host, local = one.mouth.host, one.local[0]
        if peer.host not in host.own.members and peer.host not in host.realm.members:
            return
        way = self._network.way(host, "udp", local, peer)
        if way is None:
            return
        self._slow[row] = False
        self._source[row] = self._flight.seen(way.source)
        self._place[row] = self._flight.place(way.realm, peer)
        self._link[row] = _NO_LINK if way.link is None else self._number(way.link)

    def _number(self, link: Link) -> int:
        number = self._link_numbers.setdefault(link, len(self._links))
        if number == len(self._links):
            self._links.append(link)
        return number

    def _make_room(self, row: int) -> None:
        missing = row + 1 - self._slow.size
        if missing <= 0:
            return
        missing += row + 8
        self._expected = np.concatenate((self._expected, np.full((missing, 2), -1)))
        self._tally = np.concatenate((self._tally, np.zeros((missing, 4), np.int64)))
        for name in ("_source", "_place", "_link", "_slow", "_latest"):
            column = getattr(self, name)
            setattr(self, name, np.concatenate((column, np.zeros(missing, column.dtype))))

    # ------------------------------------------------------------ receiving

    def receive(self, batch: PacketBatch, now: float) -> int:
        """Hand over what has arrived, in order of arrival."""
        batch.strangers.clear()
        batch.count = 0
        flight = self._flight
        slots = flight.due(self._engine, self._network.clock.world_time())
        if not slots.size:
            return 0
        rows, rtcp = flight.rows(slots)
        few = _at_most(rows, rtcp)
        if few is not None:
            slots, rows, rtcp = slots[few], rows[few], rtcp[few]
        if slots.size > batch.capacity:
            slots, rows, rtcp = (
                slots[: batch.capacity],
                rows[: batch.capacity],
                rtcp[: batch.capacity],
            )
        count = batch.count = int(slots.size)
        lengths = flight.length[slots]
        width = int(lengths.max())
        batch.data[:count, :width] = flight.data[slots, :width]
        batch.slots[:count] = np.arange(count)
        batch.lengths[:count] = lengths
        batch.rows[:count] = rows
        batch.rtcp[:count] = rtcp
        arrival = flight.arrival[slots]
        if self._clock is not None and self._clock.drift_ppm:
            arrival = np.array([self._clock.local(at) for at in arrival.tolist()])
        batch.arrival[:count] = arrival
        batch.source[:count] = -1
        source = flight.source[slots]
        strange = source != self._expected[rows, rtcp.astype(np.intp)]
        if some(strange):
            for i in np.flatnonzero(strange).tolist():
                batch.source[i] = len(batch.strangers)
                batch.strangers.append(flight.addresses[source[i]])
        if self._tapped:
            self._tap_received(batch, source)
        flight.release(slots)
        return count

    def _tap_received(self, batch: PacketBatch, source: npt.NDArray[np.int32]) -> None:
        for i in range(batch.count):
            row = int(batch.rows[i])
            one = self._rows[row]
            if one.mouth.tap is not None:
                local, remote = one.local[int(batch.rtcp[i])], self._flight.addresses[source[i]]
                one.mouth.tap(False, row, local, remote, batch.packet(i), float(batch.arrival[i]))

    # ------------------------------------------------------------ sending

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        """Send `packets[row, :length]` for each of `rows`."""
        sent = int(rows.size)
        slow = self._slow[rows] | (self._flight.owner[self._place[rows]] == OTHER)
        if some(slow):
            for row, length in zip(rows[slow].tolist(), lengths[slow].tolist(), strict=True):
                sent -= not self.send_one(row, packets[row, :length].tobytes(), rtcp=False)
            rows, lengths = rows[~slow], lengths[~slow]
        for link in distinct(self._link[rows]):
            here = self._link[rows] == link
            if every(here):
                self._over(link, rows, packets, lengths)
            else:
                self._over(link, rows[here], packets, lengths[here])
        if self._tapped:
            self._tap_sent(rows, packets, lengths)
        return sent

    def _over(
        self,
        link: int,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> None:
        """Send over one path."""
        now, width = self._network.clock.world_time(), int(lengths.max())
        if link == _NO_LINK:
            self._tally[rows, _SENT] += 1
            self._tally[rows, _ARRIVED] += 1
            self._fly(np.full(rows.size, now), rows, packets, lengths, width)
            return
        self._tally[rows, _SENT] += 1
        waves = self._links[link].carry(now, lengths)
        for carried, what in zip(waves, (_ARRIVED, _DUPLICATED), strict=False):
            there, arrival, held = rows[carried.which], carried.arrival, carried.held
            self._tally[there, what] += 1
            latest = self._latest[there]
            if held is None:
                np.maximum(arrival, latest, out=arrival)
                self._latest[there] = arrival
            else:
                np.maximum(arrival, latest, out=arrival, where=~held)
                self._latest[there] = np.where(held, latest, arrival)
                self._tally[there[held], _HELD_BACK] += 1
            self._fly(arrival, there, packets, lengths[carried.which], width)

    def _fly(
        self,
        arrival: npt.NDArray[np.float64],
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
        width: int,
    ) -> None:
        flight = self._flight
        flight.add(arrival, self._source[rows], self._place[rows], packets[rows, :width], lengths)
        if self._network.taps:
            for row, at, length in zip(
                rows.tolist(), arrival.tolist(), lengths.tolist(), strict=True
            ):
                peer = self._rows[row].peer[0]
                if peer is not None:
                    source = flight.addresses[self._source[row]]
                    for tap in self._network.taps:
                        tap("udp", at, source, peer, packets[row, :length].tobytes())

    def _tap_sent(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> None:
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            if self._rows[row].mouth.tap is not None:
                self._tap_one(row, packets[row, :length].tobytes(), rtcp=False)

    def _tap_one(self, row: int, packet: bytes, *, rtcp: bool) -> None:
        one = self._rows[row]
        peer = one.peer[rtcp]
        if one.mouth.tap is not None and peer is not None:
            now = self._network.clock.world_time()
            at = now if self._clock is None else self._clock.local(now)
            one.mouth.tap(True, row, one.local[rtcp], peer, memoryview(packet), at)

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        """Send one packet to the row's peer: for what is rare, and for rows behind a NAT."""
        one = self._rows[row]
        peer = one.peer[rtcp]
        if peer is None:
            return False
        self._network.send(one.mouth.host, one.local[rtcp], peer, packet, self._fly_one)
        self._tap_one(row, packet, rtcp=rtcp)
        return True

    def _fly_one(self, way: Way, peer: Address, packet: bytes, arrival: float) -> bool:
        """Let one packet fly with the others, unless it goes to a program."""
        flight = self._flight
        place = flight.place(way.realm, peer)
        if flight.owner[place] == OTHER:
            return False
        flight.add(
            np.array([arrival]),
            np.array([flight.seen(way.source)]),
            np.array([place]),
            np.frombuffer(packet, np.uint8)[np.newaxis],
            np.array([len(packet)], np.int32),
        )
        return True

    def _settle_counts(self) -> None:
        """Add what was counted by row to the network's counts, which are by address."""
        for row, one in self._rows.items():
            sent, arrived, held_back, duplicated = self._tally[row].tolist()
            if sent:
                counts = (sent, sent - arrived, held_back, duplicated)
                self._network.add_counts(one.local[0], *counts)
                self._tally[row] = 0


def _rtcp(rtp: Address) -> Address:
    return Address(rtp.host, rtp.port + 1)


def _at_most(
    rows: npt.NDArray[np.int32], rtcp: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_] | None:
    """Return which packets to take so that no row gets too many; None: all."""
    if rows.size <= min(_MOST):
        return None
    key = 2 * rows.astype(np.intp) + rtcp
    counts = np.bincount(key)
    if counts[::2].max() <= _MOST[0] and (counts.size < 2 or counts[1::2].max() <= _MOST[1]):
        return None
    order = np.argsort(key, kind="stable")
    ranked = key[order]
    first = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    start = np.maximum.accumulate(np.where(first, np.arange(key.size), 0))
    rank = np.empty(key.size, np.intp)
    rank[order] = np.arange(key.size) - start
    return rank < np.where(rtcp, _MOST[1], _MOST[0])

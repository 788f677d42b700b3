"""A network in virtual time that carries media packets: loss, delay, jitter and reordering, seeded.

Implements what `voip.media` asks of a network. Every packet's fate is drawn from one `Random`, so
a run repeats to the bit, and is counted, so that a test can hold a stream's figures against the
truth.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from voip.errors import TransportError
from voip.media.io import SLOT_BYTES, PacketBatch
from voip.types import Address, Random

__all__ = ["DeliveryTap", "NetworkTruth", "Path", "SimNetwork", "SimPacketIO"]

_MAX_READS = (32, 4)
"""RTP and RTCP packets for a row and call of `receive`, as `PacketIO` has it."""

DeliveryTap: TypeAlias = Callable[[float, Address, Address, bytes], None]
"""Sees every packet that somebody gets: (arrival, source, destination, packet)."""


@dataclass(frozen=True, slots=True)
class Path:
    """What happens to packets on their way. Probabilities in [0, 1], times in seconds.

    jitter_s: delay is drawn evenly from [delay_s, delay_s + jitter_s), keeping the order unless
    `reorder` says that a packet is held back by `reorder_s` more and overtaken.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.03
    duplicate: float = 0.0


@dataclass(slots=True)
class NetworkTruth:
    """What really happened to the packets sent from one address."""

    sent: int = 0
    lost: int = 0
    held_back: int = 0
    duplicated: int = 0


class SimNetwork:
    """Hosts, and the paths between them. Time is whatever its users pass in."""

    def __init__(self, random: Random, path: Path | None = None) -> None:
        self._random = random
        self._default = path or Path()
        self._paths: dict[tuple[str, str], Path] = {}
        self._inboxes: dict[Address, Callable[[float, Address, bytes], None]] = {}
        self._latest: dict[tuple[Address, Address], float] = {}
        self.truth: dict[Address, NetworkTruth] = {}
        self.tap: DeliveryTap | None = None

    def set_path(self, source: str, destination: str, path: Path) -> None:
        """Set what happens between two hosts, one way."""
        self._paths[source, destination] = path

    def bind(self, address: Address, inbox: Callable[[float, Address, bytes], None]) -> None:
        """Deliver what is sent to `address` to `inbox(arrival, source, packet)`."""
        if address in self._inboxes:
            raise TransportError(f"{address} is in use")
        self._inboxes[address] = inbox

    def unbind(self, address: Address) -> None:
        """Deliver nothing more to `address`."""
        self._inboxes.pop(address, None)

    def send(self, source: Address, destination: Address, packet: bytes, now: float) -> None:
        """Let one packet go, or get lost."""
        truth = self.truth.setdefault(source, NetworkTruth())
        truth.sent += 1
        path = self._paths.get((source.host, destination.host), self._default)
        if path.loss and self._random.uniform(0.0, 1.0) < path.loss:
            truth.lost += 1
            return
        copies = 1
        if path.duplicate and self._random.uniform(0.0, 1.0) < path.duplicate:
            truth.duplicated += 1
            copies = 2
        for _ in range(copies):
            arrival = now + path.delay_s
            if path.jitter_s:
                arrival += self._random.uniform(0.0, path.jitter_s)
            if path.reorder and self._random.uniform(0.0, 1.0) < path.reorder:
                truth.held_back += 1
                arrival += path.reorder_s
            else:
                arrival = max(arrival, self._latest.get((source, destination), 0.0))
                self._latest[source, destination] = arrival
            inbox = self._inboxes.get(destination)
            if inbox is None:
                continue
            inbox(arrival, source, packet)
            if self.tap is not None:
                self.tap(arrival, source, destination, packet)


class SimPacketIO:
    """A host of the simulated network, as the engine sees it (`voip.media.io.PacketIO`)."""

    kernel_timestamps = True

    def __init__(self, network: SimNetwork, first_port: int = 10000) -> None:
        self._network = network
        self._next_port = first_port
        self._now = 0.0
        self._local: dict[int, tuple[Address, Address]] = {}
        self._peer: dict[int, tuple[Address | None, Address | None]] = {}
        self._inbox: list[tuple[float, int, int, bool, Address, Address, bytes]] = []
        self._arrived = 0

    def open(self, row: int, host: str) -> tuple[Address, Address]:
        """Bind the next two ports of `host`."""
        rtp, rtcp = Address(host, self._next_port), Address(host, self._next_port + 1)
        self._next_port += 2
        for address, is_rtcp in ((rtp, False), (rtcp, True)):
            self._network.bind(address, self._inbox_of(row, is_rtcp, address))
        self._local[row] = (rtp, rtcp)
        self._peer[row] = (None, None)
        return rtp, rtcp

    def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None:
        """Set whom the row sends to and expects."""
        self._peer[row] = (rtp, rtcp)

    def close(self, row: int) -> None:
        """Release the row's ports; what is on its way to them is lost."""
        for address in self._local.pop(row, ()):
            self._network.unbind(address)
        self._peer.pop(row, None)

    def receive(self, batch: PacketBatch, now: float) -> int:
        """Hand over what has arrived by `now`, in order of arrival."""
        self._now = now
        batch.strangers.clear()
        count = 0
        reads: dict[tuple[int, bool], int] = {}
        waiting = []
        while self._inbox and self._inbox[0][0] <= now and count < batch.capacity:
            item = heapq.heappop(self._inbox)
            arrival, _, row, rtcp, destination, source, packet = item
            if destination not in self._local.get(row, ()) or len(packet) > SLOT_BYTES:
                continue
            reads[row, rtcp] = reads.get((row, rtcp), 0) + 1
            if reads[row, rtcp] > _MAX_READS[rtcp]:
                waiting.append(item)
                continue
            batch.data[count, : len(packet)] = np.frombuffer(packet, np.uint8)
            batch.lengths[count] = len(packet)
            batch.rows[count] = row
            batch.arrival[count] = arrival
            batch.rtcp[count] = rtcp
            batch.source[count] = -1
            if source != self._peer[row][rtcp]:
                batch.source[count] = len(batch.strangers)
                batch.strangers.append(source)
            count += 1
        for item in waiting:
            heapq.heappush(self._inbox, item)
        batch.count = count
        return count

    def send(
        self,
        rows: npt.NDArray[np.int32],
        packets: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int32],
    ) -> int:
        """Send `packets[row, :length]` for each of `rows`."""
        sent = 0
        for row, length in zip(rows.tolist(), lengths.tolist(), strict=True):
            sent += self._send(row, packets[row, :length].tobytes(), rtcp=False)
        return sent

    def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        """Send one packet to the row's peer."""
        return self._send(row, packet, rtcp=rtcp)

    def _send(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
        destination = self._peer[row][rtcp]
        if destination is None:
            return False
        self._network.send(self._local[row][rtcp], destination, packet, self._now)
        return True

    def _inbox_of(
        self, row: int, rtcp: bool, address: Address
    ) -> Callable[[float, Address, bytes], None]:
        def deliver(arrival: float, source: Address, packet: bytes) -> None:
            self._arrived += 1
            heapq.heappush(
                self._inbox, (arrival, self._arrived, row, rtcp, address, source, packet)
            )

        return deliver

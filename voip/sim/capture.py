"""A capture file of a whole world: everything that arrives, in order of arrival."""

from __future__ import annotations

from pathlib import Path

from voip.errors import ConfigError
from voip.pcap import PcapWriter
from voip.sim.nat import Protocol
from voip.types import Address

__all__ = ["WorldCapture"]

_WRITTEN_AT_ONCE = 4096


class WorldCapture:
    """Writes what the network says will arrive, once that time has come.

    Addresses are those of the path between two hosts: outside a NAT. What is lost is not in it.
    `wall_offset_s`: what to add to the world's time for the time of day.
    """

    def __init__(self, path: Path, wall_offset_s: float) -> None:
        self._wall_offset_s = wall_offset_s
        self._coming: list[tuple[float, int, Protocol, Address, Address, bytes]] = []
        self._taken = 0
        self._due = _WRITTEN_AT_ONCE
        try:
            self._pcap = PcapWriter(path)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error

    def add(
        self, protocol: Protocol, arrival: float, source: Address, to: Address, data: bytes
    ) -> None:
        """Take a packet that will arrive."""
        self._taken += 1
        self._coming.append((arrival, self._taken, protocol, source, to, data))

    def write(self, until: float) -> None:
        """Write what has arrived before `until`, world seconds, if that is worth the while."""
        if len(self._coming) >= self._due:
            self._write(until)
            self._due = len(self._coming) + _WRITTEN_AT_ONCE

    def close(self) -> None:
        """Write the rest and close the file."""
        self._write(float("inf"))
        self._pcap.close()

    def _write(self, until: float) -> None:
        self._coming.sort()
        written = 0
        for arrival, _, protocol, source, to, data in self._coming:
            if arrival >= until:
                break
            written += 1
            record = self._pcap.udp if protocol == "udp" else self._pcap.tcp
            record(arrival + self._wall_offset_s, source, to, data)
            if not written % _WRITTEN_AT_ONCE:
                self._pcap.flush()
        del self._coming[:written]
        self._pcap.flush()

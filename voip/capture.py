"""A capture of everything a phone sends and receives."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from voip.errors import ConfigError
from voip.pcap import PcapWriter
from voip.sip.flow import Flow
from voip.types import Address, Clock

__all__ = ["Capture"]

log = logging.getLogger(__name__)


class Capture:
    """A capture file, written by the thread that serves files.

    A disk that is full ends the capture, which is logged once, and not the calls.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._broken = False
        try:
            self._pcap = PcapWriter(path)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}") from error

    def on_sip(self, sent: bool, flow: Flow, data: bytes) -> None:
        """Take a SIP message."""
        ends = (flow.local, flow.remote) if sent else (flow.remote, flow.local)
        write = self._pcap.udp if flow.transport == "udp" else self._pcap.tcp
        write(self._clock.wall(), *ends, data)

    def on_media(
        self, sent: bool, row: int, local: Address, remote: Address, packet: memoryview, at: float
    ) -> None:
        """Take an RTP or RTCP packet; `at`: monotonic. Called by the engine's thread."""
        ends = (local, remote) if sent else (remote, local)
        wall_s = self._clock.wall() - (self._clock.monotonic() - at)
        self._pcap.udp(wall_s, *ends, packet)

    def service(self, now: float) -> None:
        """Write what was captured."""
        if not self._broken:
            self._try(self._pcap.flush)

    def close(self) -> None:
        """Write the rest and close the file."""
        self._try(self._pcap.close)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self._broken:
                log.error("the capture %s is incomplete: %s", self._path, error.strerror)
            self._broken = True

"""The machine a program runs on, as a phone sees it: sockets, threads, clocks, randomness."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from voip.config import DSCP_CS3, DSCP_EF, MediaConfig
from voip.media.io import PacketTap
from voip.net.clock import SystemClock
from voip.net.engines import media_plane
from voip.net.io_thread import IoThread
from voip.net.sip_network import KernelNetwork
from voip.platform import MediaPlane, OffersPlatform, Platform
from voip.types import Clock, Random, SecureRandom

__all__ = ["KernelPlatform", "running_platform"]


class KernelPlatform:
    """`voip.platform.Platform` on this machine: an engine, and a thread for it, to each phone."""

    def __init__(self) -> None:
        self.clock: Clock = SystemClock()

    def random(self) -> Random:
        """Return the operating system's generator."""
        return SecureRandom()

    def sip_network(
        self, dns_servers: Sequence[str] = (), *, dscp: int = DSCP_CS3
    ) -> KernelNetwork:
        """Return this machine's sockets."""
        return KernelNetwork(dns_servers, dscp=dscp)

    def media(
        self,
        random: Random,
        ports: tuple[int, int],
        tap: PacketTap | None,
        config: MediaConfig | None = None,
        *,
        dscp: int = DSCP_EF,
    ) -> MediaPlane:
        """Return an engine of the phone's own, or several behind one driver."""
        return media_plane(config or MediaConfig(), random, ports, tap, dscp)

    def files(self) -> IoThread:
        """Return a thread that serves files."""
        return IoThread()


def running_platform() -> Platform:
    """Return what the running event loop stands on: this machine, unless the loop says so."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return KernelPlatform()
    return loop.voip_platform() if isinstance(loop, OffersPlatform) else KernelPlatform()

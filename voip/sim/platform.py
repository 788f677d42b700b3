"""A simulated host, as a phone sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from voip.config import DSCP_CS3, DSCP_EF, MediaConfig
from voip.media.io import PacketTap
from voip.platform import MediaPlane
from voip.sim.dns import SimDns
from voip.sim.files import SimFiles
from voip.sim.host import Host
from voip.sim.media import MediaPlanes
from voip.sim.sip_network import SimSipNetwork
from voip.types import Clock, Random

if TYPE_CHECKING:
    from voip.sim.loop import SimLoop

__all__ = ["SimPlatform"]


class _HostTime:
    """`voip.types.Clock` of a host."""

    def __init__(self, loop: SimLoop, host: Host) -> None:
        self._loop = loop
        self._host = host

    def monotonic(self) -> float:
        """Return what the host's clock shows."""
        return self._host.clock.local(self._loop.world_time())

    def wall(self) -> float:
        """Return the host's time of day."""
        return self._host.clock.wall(self._loop.world_time())


class SimPlatform:
    """`voip.platform.Platform` of one host: everything it draws comes from the world's seed."""

    def __init__(self, loop: SimLoop, host: Host, dns: SimDns, media: MediaPlanes) -> None:
        self.clock: Clock = _HostTime(loop, host)
        self._loop = loop
        self._host = host
        self._dns = dns
        self._media = media

    def random(self) -> Random:
        """Return numbers of this host, other ones for each phone."""
        return self._host.random("phone")

    def sip_network(
        self, dns_servers: Sequence[str] = (), *, dscp: int = DSCP_CS3
    ) -> SimSipNetwork:
        """Return the host's ports; whoever is asked for a name knows `world.dns`.

        There are no routers that would look at `dscp`.
        """
        return SimSipNetwork(self._loop, self._host, self._dns)

    def media(
        self,
        random: Random,
        ports: tuple[int, int],
        tap: PacketTap | None,
        config: MediaConfig | None = None,
        *,
        dscp: int = DSCP_EF,
    ) -> MediaPlane:
        """Return the engine that this host shares with all whose clocks run alike."""
        return self._media.phone(self._host, random, ports, tap)

    def files(self) -> SimFiles:
        """Return what serves files in place."""
        return SimFiles()

"""The ground a phone stands on: `voip.net` has this machine, `voip.sim` a simulated host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from voip.config import DSCP_CS3, DSCP_EF, MediaConfig
from voip.media.driver import EngineDriver
from voip.media.files import FileServer
from voip.media.io import PacketTap
from voip.media.rings import RingArena
from voip.sip.endpoint.network import SipNetwork
from voip.types import Clock, Random

__all__ = ["MediaPlane", "OffersPlatform", "Platform"]


@dataclass(frozen=True, slots=True)
class MediaPlane:
    """A media engine, as one phone sees it; closing `driver` lets go of it.

    `streams`: numbers that no stream of the engine has yet.
    """

    driver: EngineDriver
    arena: RingArena
    streams: Iterator[int]


class Platform(Protocol):
    """What a phone needs of the outside. Everything it returns is the phone's own."""

    @property
    def clock(self) -> Clock:
        """The clocks: a monotonic one, that of the running loop, and the time of day."""
        ...

    def random(self) -> Random:
        """Return where a phone's tags, keys and numbers come from."""
        ...

    def sip_network(self, dns_servers: Sequence[str] = (), *, dscp: int = DSCP_CS3) -> SipNetwork:
        """Return ports, connections and names for SIP; `dns_servers`: whom to ask for names.

        `dscp`: what packets are marked with.
        """
        ...

    def media(
        self,
        random: Random,
        ports: tuple[int, int],
        tap: PacketTap | None,
        config: MediaConfig | None = None,
        *,
        dscp: int = DSCP_EF,
    ) -> MediaPlane:
        """Return a media engine whose streams have RTP ports from `ports` on.

        `tap` sees their packets, which are marked with `dscp`. `config`: where it is to run, if
        there is a choice.
        """
        ...

    def files(self) -> FileServer:
        """Return what serves sound files."""
        ...


@runtime_checkable
class OffersPlatform(Protocol):
    """An event loop in which phones stand on something else than this machine."""

    def voip_platform(self) -> Platform:
        """Return what a phone made here and now stands on."""
        ...

"""A world of simulated hosts: made, wired, and run in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from os import PathLike
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar

from voip.errors import ConfigError, SimulationError
from voip.ip import literal
from voip.sim.capture import WorldCapture
from voip.sim.clock import HostClock
from voip.sim.context import CURRENT_HOST
from voip.sim.dns import SimDns
from voip.sim.host import Host
from voip.sim.loop import EPOCH, SimLoop
from voip.sim.media import MediaPlanes
from voip.sim.nat import UDP_TIMEOUT_S, Nat, NatType
from voip.sim.network import Network
from voip.sim.path import Path
from voip.sim.platform import SimPlatform
from voip.sim.randomness import Randomness
from voip.types import Address

__all__ = ["DEFAULT_START", "World"]

DEFAULT_START: Final = 1_700_000_000.0
"""The time of day at which a world begins: 2023-11-14 22:13:20 UTC."""
DAY_S: Final = 86_400.0

T = TypeVar("T")


class World:
    """Hosts and the network between them: `world = World(seed=1)`, then `world.run(main())`.

    Everything that is random is drawn from `seed`: what a world does, it does again, to the bit.
    `start`: the time of day at its beginning, seconds since 1970. `path`: how all paths behave
    that `link` says nothing about. A world runs once.
    """

    def __init__(
        self, seed: int = 0, *, start: float = DEFAULT_START, path: Path | None = None
    ) -> None:
        self.dns = SimDns()
        self.randomness = Randomness(seed)
        self._wall_offset_s = start - EPOCH
        self._loop = SimLoop(self)
        self.network = Network(self._loop, self.randomness, path)
        self.media = MediaPlanes(self._loop, self.network, self.randomness)
        self._names: set[str] = set()
        self._capture: WorldCapture | None = None
        self._ran = False

    # ------------------------------------------------------------ building it

    def host(
        self,
        *addresses: str,
        name: str | None = None,
        behind: Nat | None = None,
        drift_ppm: float = 0.0,
    ) -> Host:
        """Add a machine with these addresses, in the public network or behind a NAT.

        `name` is for messages and for the random numbers it draws: the first address unless given.
        Its clock runs `drift_ppm` millionths fast.
        """
        found = tuple(_checked(address) for address in addresses)
        if not found:
            raise ConfigError("a host needs an address", hint='world.host("10.0.0.1")')
        if not abs(drift_ppm) <= 10_000:
            raise ConfigError(f"no clock drifts by {drift_ppm} ppm", hint="up to 10000")
        clock = HostClock(EPOCH, self._wall_offset_s, drift_ppm)
        realm = self.network.public if behind is None else behind.inside
        host = Host(self._name(name or found[0], behind), found, realm, clock, self.randomness)
        platform = SimPlatform(self._loop, host, self.dns, self.media)
        host.provide(lambda: platform)
        host.on_udp_change(self.media.on_udp_change)
        return host

    def nat(
        self,
        address: str,
        kind: NatType = NatType.PORT_RESTRICTED,
        *,
        behind: Nat | None = None,
        udp_timeout_s: float = UDP_TIMEOUT_S,
        hairpin: bool = False,
    ) -> Nat:
        """Add a NAT with an address in the public network, or behind another NAT."""
        address = _checked(address)
        outside = self.network.public if behind is None else behind.inside
        random = self.randomness.stream("nat", self._name(address, behind))
        nat = Nat(address, kind, outside, random, udp_timeout_s=udp_timeout_s, hairpin=hairpin)
        outside.join(address, nat)
        return nat

    def link(self, one: Host, other: Host, path: Path, back: Path | None = None) -> None:
        """Set how packets fare from `one` to `other`, and back: the same unless `back` is given.

        May be called at any time; what is under way stays so. Between hosts behind NATs it is the
        path to the NAT: hosts behind one NAT share it.
        """
        self.network.set_path(one, other, path)
        self.network.set_path(other, one, back or path)

    def cut(self, one: Host, other: Host, seconds: float = float("inf")) -> None:
        """Let nothing through between two hosts, for so long or until `restore`."""
        until = self.time() + seconds
        self.network.cut(one, other, until)
        self.network.cut(other, one, until)

    def restore(self, one: Host, other: Host) -> None:
        """End a cut."""
        self.cut(one, other, 0.0)

    def reset(self, one: Host, other: Host | None = None) -> int:
        """Break the streams (TCP) between two hosts, or all of one; return how many there were."""
        return self.network.reset(one, other)

    def capture(self, path: str | PathLike[str]) -> None:
        """Write everything that arrives anywhere to a pcap file, which is whole after `run`.

        Credentials are masked in it, as in any capture of this package.
        """
        if self._capture is not None or self._ran:
            raise ConfigError("a world is captured once, from its beginning")
        self._capture = WorldCapture(FilePath(path), self._wall_offset_s)
        self.network.taps.append(self._captured)

    # ------------------------------------------------------------ running it

    def time(self) -> float:
        """Return the world's time, seconds: what a clock without drift shows as `loop.time()`."""
        return self._loop.world_time()

    @property
    def elapsed(self) -> float:
        """Seconds since the world began."""
        return self.time() - EPOCH

    def run(
        self, main: Coroutine[Any, Any, T], *, on: Host | None = None, limit_s: float = DAY_S
    ) -> T:
        """Run a program to its end, on a host if one is given; return what it returns.

        What it has left behind is cancelled then. Raises `SimulationError` where everybody waits
        and nothing will ever happen, or the world has become `limit_s` old.
        """
        if self._ran:
            main.close()
            raise SimulationError("a world runs once", hint="make another one")
        self._ran = True
        self._loop.limit = EPOCH + limit_s
        token = CURRENT_HOST.set(on)
        try:
            task = self._loop.create_task(main, name="main")
        finally:
            CURRENT_HOST.reset(token)
        try:
            return self._loop.run_until_complete(task)
        finally:
            self._end()

    def _end(self) -> None:
        """Close streams, cancel what is left, and close the loop and the capture."""
        loop = self._loop
        loop.limit = float("inf")
        try:
            self.network.close_streams()
            loop.run_until_complete(_breathe())
            left = sorted(asyncio.all_tasks(loop), key=hash)
            for task in left:
                task.cancel()
            if left:
                with suppress(SimulationError):  # one that waits in spite of that
                    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            self.media.close()
            loop.close()
            if self._capture is not None:
                self._capture.close()

    # ------------------------------------------------------------ within

    def _captured(
        self, protocol: Any, arrival: float, source: Address, to: Address, data: bytes
    ) -> None:
        if self._capture is not None:
            self._capture.add(protocol, arrival, source, to, data)
            self._capture.write(self.time())

    def _name(self, name: str, behind: Nat | None) -> str:
        whole = name if behind is None else f"{name} behind {behind.address}"
        if whole in self._names:
            raise ConfigError(f"there are two hosts {whole}", hint="name=")
        self._names.add(whole)
        return whole


async def _breathe() -> None:
    """Let everybody hear of what has just happened."""
    for _ in range(8):
        await asyncio.sleep(0)


def _checked(address: str) -> str:
    bare = literal(address)
    if bare is None:
        raise ConfigError(f"{address!r} is no IP address", hint="world.dns has the names")
    return bare

"""A simulated machine: addresses, a clock, ports, and the code that runs on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from voip.errors import SimulationError
from voip.ip import is_loopback, version_of
from voip.sim.clock import HostClock
from voip.sim.context import CURRENT_HOST
from voip.sim.ports import Ports
from voip.sim.randomness import Randomness
from voip.sim.realm import Realm
from voip.types import Address, SeededRandom

if TYPE_CHECKING:
    from voip.platform import Platform
    from voip.sim.connections import SimServer

__all__ = ["DatagramReceiver", "Host"]

LOOPBACKS = ("127.0.0.1", "::1")

T = TypeVar("T")


class DatagramReceiver(Protocol):
    """Who has a UDP port."""

    def receive(self, data: bytes, source: Address, arrival: float) -> None:
        """Take a datagram that arrived at `arrival`, world seconds: now."""
        ...

    def refused(self, destination: Address, there: bool) -> None:
        """Learn that nobody listens at `destination`; not `there`: that there is no such host."""
        ...


class Host:
    """One machine; made by `World.host`.

    Code runs on it by `run` and `create_task`; whatever that starts (tasks, timers, callbacks) runs
    on it too. Its clock may go wrong (`drift_ppm`), and with it `loop.time()` and the time of day
    as code on this host sees them. IPv4 and IPv6 addresses may be mixed.
    """

    def __init__(
        self,
        name: str,
        addresses: tuple[str, ...],
        realm: Realm,
        clock: HostClock,
        randomness: Randomness,
    ) -> None:
        self.name = name
        self.addresses = addresses
        self.realm = realm
        self.clock = clock
        self.own = Realm()
        """What only this host sees: itself, also by its loopback addresses."""
        self._randomness = randomness
        self._changed: list[Callable[[Host, Address], None]] = []
        self._purposes: dict[str, int] = {}
        self._platform: Callable[[], Platform] | None = None
        self.udp: Ports[DatagramReceiver] = Ports(self.random("udp ports"), self._udp_changed)
        self.tcp: Ports[SimServer] = Ports(self.random("tcp ports"))
        for address in (*LOOPBACKS, *addresses):
            self.own.join(address, self)
        for address in addresses:
            realm.join(address, self)

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    # ------------------------------------------------------------ code on it

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, which runs on this host."""
        return await self.create_task(work)

    def create_task(
        self, work: Coroutine[Any, Any, T], *, name: str | None = None
    ) -> asyncio.Task[T]:
        """Start a task on this host."""
        context = copy_context()
        context.run(CURRENT_HOST.set, self)
        return asyncio.get_running_loop().create_task(work, name=name, context=context)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Let the `with` block, and what it starts, run on this host."""
        token = CURRENT_HOST.set(self)
        try:
            yield
        finally:
            CURRENT_HOST.reset(token)

    # ------------------------------------------------------------ what it has

    def random(self, purpose: str) -> SeededRandom:
        """Return random numbers of its own for a purpose; asked again, it returns other ones."""
        number = self._purposes.get(purpose, 0)
        self._purposes[purpose] = number + 1
        return self._randomness.stream("host", self.name, purpose, str(number))

    @property
    def platform(self) -> Platform:
        """What a `Softphone` on this host stands on."""
        if self._platform is None:
            raise SimulationError(f"{self!r} has no media", hint="make it by World.host")
        return self._platform()

    def provide(self, platform: Callable[[], Platform]) -> None:
        """Say what a phone on this host stands on."""
        self._platform = platform

    def address_toward(self, peer: str) -> str:
        """Return the address it sends from to an IP literal; raises `SimulationError` for none."""
        if is_loopback(peer) or peer in self.addresses:
            return peer
        for address in self.addresses:
            if version_of(address) == version_of(peer):
                return address
        raise SimulationError(f"{self!r} has no IPv{version_of(peer)} address")

    def realm_of(self, address: str) -> Realm:
        """Return where an address of its own means this host."""
        return self.own if is_loopback(address) else self.realm

    def on_udp_change(self, changed: Callable[[Host, Address], None]) -> None:
        """Call back when a UDP port is bound or let go."""
        self._changed.append(changed)

    def _udp_changed(self, address: Address) -> None:
        for changed in self._changed:
            changed(self, address)

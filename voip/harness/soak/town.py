"""Eight phones and a proxy that is their registrar, on hosts that crash and links that are cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from voip.call import Call
from voip.config import CallConfig, MediaConfig, NetworkConfig
from voip.errors import VoipError
from voip.harness.soak.plan import PHONES
from voip.phone import Softphone
from voip.proxy import SipProxy
from voip.sim import Host, Path, World
from voip.types import Address

__all__ = ["Line", "Town"]

PATH: Final = Path(delay_s=0.02, jitter_s=0.02, loss=0.05)
SESSIONS_S: Final = (90, 120, 180, 300)
"""How long a session lasts unrefreshed, as the phones ask for it."""
REGISTRATION_S: Final = 3600
PROXY: Final = "10.0.0.1"
AGAIN_S: Final = 5.0


class Line:
    """A host and the phone that is on it now. `number`: 0, 1, ...; `last_trouble`: world's time."""

    def __init__(self, number: int, host: Host) -> None:
        self.number = number
        self.host = host
        self.phone: Softphone | None = None
        self.is_down = False
        self.last_trouble = float("-inf")

    @property
    def user(self) -> str:
        """Who it is."""
        return f"u{self.number}"


class Town:
    """The world, its lines and its proxy. `ring` takes every call that comes in."""

    def __init__(self, seed: int, ring: Callable[[Line], Callable[[Call], object]]) -> None:
        self.world = World(seed, path=PATH)
        self._ring = ring
        self._proxy_host = self.world.host(PROXY)
        random = self.world.randomness.stream("drift")
        self.lines = [
            Line(n, self.world.host(f"10.0.1.{n + 1}", drift_ppm=random.uniform(-200, 200)))
            for n in range(PHONES)
        ]
        self.proxy: SipProxy
        self.crashes = 0
        self.cuts = 0

    async def open(self) -> None:
        """Start the proxy, and all phones, which register."""
        users = {line.user: f"secret of {line.user}" for line in self.lines}
        with self._proxy_host.here():
            self.proxy = SipProxy(users, PROXY, 5060)
            await self.proxy.__aenter__()
        for line in self.lines:
            await line.host.run(self._start(line))

    async def close(self) -> None:
        """Close everything."""
        for line in self.lines:
            if line.phone is not None:
                await line.phone.close()
        await self.proxy.__aexit__()

    async def _start(self, line: Line) -> None:
        while True:
            phone = Softphone(
                f"sip:{line.user}@{PROXY}",
                password=f"secret of {line.user}",
                expires_s=REGISTRATION_S,
                network=NetworkConfig(bind_host=line.host.address, bind_port=5060),
                media=MediaConfig(elsewhere=Address(line.host.address, 40000)),
                calling=CallConfig(
                    session_expires_s=SESSIONS_S[line.number % len(SESSIONS_S)],
                    session_timer="off" if line.number == PHONES - 1 else "supported",
                ),
                info_packages=("soak",),
            )
            phone.on_incoming(self._ring(line))
            phone.on_message(lambda message: None)
            phone.on_watch(lambda request: True)
            try:
                await phone.start()
            except VoipError:
                await asyncio.sleep(AGAIN_S)
            else:
                line.phone = phone
                return

    async def crash(self, line: Line, seconds: float) -> None:
        """Let a host vanish without a word, and start again after a while."""
        phone = line.phone
        if line.is_down or phone is None:
            return
        self.crashes += 1
        line.is_down = True
        line.phone = None
        self._cut(line, float("inf"))
        closing = line.host.create_task(phone.close())
        await asyncio.sleep(0)
        closing.cancel()  # it waits for nobody then
        await asyncio.wait([closing])
        await asyncio.sleep(seconds)
        self._cut(line, 0.0)
        await line.host.run(self._start(line))
        line.is_down = False
        line.last_trouble = self.world.time()

    async def cut(self, line: Line, seconds: float) -> None:
        """Let nothing through to a host, and nothing from it, for a while."""
        if line.is_down:
            return
        self.cuts += 1
        self._cut(line, seconds)
        await asyncio.sleep(seconds)
        line.last_trouble = self.world.time()

    def _cut(self, line: Line, seconds: float) -> None:
        line.last_trouble = self.world.time()
        for host in (self._proxy_host, *(other.host for other in self.lines)):
            if host is not line.host:
                self.world.cut(line.host, host, seconds)

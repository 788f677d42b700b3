"""A host, and two servers of one domain of which the first is to be preferred."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.sim import Host, Path, World
from voip.types import Address

OFFICE = "office.example"
T1_64 = 32.0


class Scene:
    """Alice's host, and two servers of office.example of which the first is to be preferred."""

    def __init__(self) -> None:
        self.world = World(3, path=Path(delay_s=0.02))
        self.alice = self.world.host("10.0.0.1")
        self.first, self.second = self.world.host("10.0.0.8"), self.world.host("10.0.0.9")
        for priority, host in enumerate((self.first, self.second), 1):
            self.world.dns.add(f"{priority}.{OFFICE}", host.address)
            self.world.dns.add_srv(
                f"_sip._udp.{OFFICE}", f"{priority}.{OFFICE}", 5060, priority=priority
            )

    def run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.world.run(self.alice.run(main()))

    def phone(self, host: Host, register: bool = False, **network: Any) -> Softphone:
        return Softphone(
            f"sip:{'alice' if host is self.alice else 'bob'}@{OFFICE}",
            password="wonderland",
            register=register,
            network=NetworkConfig(bind_host=host.address, bind_port=5060, **network),
            media=MediaConfig(elsewhere=Address(host.address, 40000)),
        )

    async def answering(self, host: Host) -> tuple[Softphone, list[Call]]:
        calls: list[Call] = []
        with host.here():
            bob = self.phone(host)

            @bob.on_incoming
            async def taken(call: Call) -> None:
                calls.append(call)
                await call.answer()
                await call.wait_ended()

            await bob.start()
        return bob, calls


def now() -> float:
    return asyncio.get_running_loop().time()

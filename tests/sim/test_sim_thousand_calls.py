"""A thousand calls in one process, and nothing that grows with them (row H01).

Sound goes elsewhere here, so that a thousand calls take seconds; sockets, threads and the rows of a
real engine are counted in `unit/phone/test_phone_cleanup.py`.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.events import CallState
from voip.harness.soak.census import left_in_phone, living, rss_mb
from voip.sim import Host, Path, World
from voip.types import Address

CALLS = 1000
BATCH = 100
AT_ONCE = 20
SETTLED = 400
"""Calls after which what is kept for speed (caches, memory of the interpreter) is there."""
QUIET_S = 40.0
"""After so long the last transaction of a call is forgotten (64*T1, RFC 3261 section 17)."""
RSS_KB_A_CALL = 1.5
"""What a call may leave at most, by the slope of the resident memory: a call takes some 60 kB."""
OBJECTS = 100
"""By how many the objects that Python knows of may differ, all in all."""
CLEANUP_S = 1.0


@dataclass(frozen=True)
class Census:
    """What is there between batches."""

    calls: int
    alive: int
    tasks: int
    timers: int
    objects: int
    rss_kb: float


def signalling(host: Host, name: str) -> Softphone:
    return Softphone(
        f"sip:{name}@{host.address}",
        register=False,
        network=NetworkConfig(bind_host=host.address, bind_port=5060, stranger_rate=None),
        media=MediaConfig(elsewhere=Address(host.address, 40000)),
    )


async def answer(call: Call) -> None:
    await call.ring()
    await call.answer()
    await call.wait_ended()


class Thousand:
    """Alice and Bob, and the calls between them, which are known by weak references alone."""

    def __init__(self, world: World, alice: Softphone, bob: Softphone) -> None:
        self.world = world
        self.alice = alice
        self.bob = bob
        self.made = self.taken = 0
        self.alive: weakref.WeakSet[Call] = weakref.WeakSet()
        self.census: list[Census] = []
        bob.on_incoming(self._take)

    async def _take(self, call: Call) -> None:
        self.taken += 1
        self.alive.add(call)
        await answer(call)

    async def _call(self, number: int) -> None:
        call = await self.alice.dial("sip:bob@10.0.0.2")
        self.made += 1
        self.alive.add(call)
        if number % 10 == 0:
            await call.hold()
            await call.resume()
        if number % 3 == 0:
            await call.hangup({"X-Number": str(number)})
        else:
            async with call:
                await asyncio.sleep(0.5)

    async def batch(self, first: int) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                await self._call(number)

        await asyncio.gather(*(one(number) for number in range(first, first + BATCH)))
        await asyncio.sleep(QUIET_S)
        self.world._loop.drop_done_tasks()
        gc.collect()
        self.census.append(
            Census(
                self.made,
                len(self.alive),
                len(asyncio.all_tasks()),
                sum(not timer.cancelled() for timer in self.world._loop._scheduled),
                len(gc.get_objects()),
                1000 * rss_mb(),
            )
        )


@pytest.mark.long
def test_nothing_grows_with_a_thousand_calls() -> None:
    world = World(8, path=Path(delay_s=0.01))
    hosts = [world.host("10.0.0.1"), world.host("10.0.0.2")]

    async def main() -> Thousand:
        with hosts[1].here():
            bob = signalling(hosts[1], "bob")
            await bob.start()
        with hosts[0].here():
            alice = signalling(hosts[0], "alice")
            await alice.start()
        thousand = Thousand(world, alice, bob)
        for first in range(0, CALLS, BATCH):
            await hosts[0].run(thousand.batch(first))
        for phone in (alice, bob):
            assert left_in_phone(phone) == {}
            await phone.close()
        return thousand

    thousand = world.run(main())
    assert [host.udp._owners or host.tcp._owners for host in hosts] == [{}, {}]
    assert thousand.made == thousand.taken == CALLS
    assert {one.alive for one in thousand.census} == {0}
    assert living() == {}
    settled = [one for one in thousand.census if one.calls >= SETTLED]
    assert {one.tasks for one in thousand.census} == {thousand.census[0].tasks}
    assert {one.timers for one in settled} == {settled[0].timers}
    objects = [one.objects for one in settled]
    slope_kb = np.polyfit([one.calls for one in settled], [one.rss_kb for one in settled], 1)[0]
    print(f"objects {objects}; {slope_kb:.2f} kB of resident memory a call")
    assert max(objects) - min(objects) <= OBJECTS
    assert slope_kb <= RSS_KB_A_CALL


def test_a_hundred_calls_are_cleaned_up_in_less_than_a_second() -> None:
    """With every other side there, closing takes as long as its BYE and the answer do."""
    world = World(8, path=Path(delay_s=0.05))
    hosts = [world.host("10.0.0.1"), world.host("10.0.0.2")]

    async def main() -> None:
        with hosts[1].here():
            bob = signalling(hosts[1], "bob")
            bob.on_incoming(answer)
            await bob.start()
        await hosts[0].run(talk(bob))
        await bob.close()

    async def talk(bob: Softphone) -> None:
        alice = signalling(hosts[0], "alice")
        await alice.start()
        calls = await asyncio.gather(*(alice.dial("sip:bob@10.0.0.2") for _ in range(100)))
        begun = world.elapsed
        await alice.close()
        took = world.elapsed - begun
        print(f"closed in {took:.3f} s")
        assert 0.09 <= took < CLEANUP_S
        assert {call.state for call in calls} == {CallState.ENDED}
        assert (alice.calls, len(alice._tasks), alice._stack.sessions) == ([], 0, {})
        await asyncio.sleep(CLEANUP_S)
        assert bob.calls == []

    world.run(main())

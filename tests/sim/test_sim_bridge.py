"""A back-to-back user agent between simulated phones: what becomes of a call that one moves."""

from __future__ import annotations

import asyncio

import pytest
from flow_scene import lossy

from voip import Softphone
from voip.b2bua import HeaderList, connect
from voip.call import Call
from voip.config import NetworkConfig
from voip.events import CallState, EndedBy
from voip.sim import Path, World

pytestmark = pytest.mark.rfc("5589", "6")


class Town:
    """Alice, who calls the bridge, which calls Bob; Carol answers, too."""

    def __init__(self, loss: float) -> None:
        self.world = World(3, path=Path(delay_s=0.02, loss=loss))
        self.hosts = {
            name: self.world.host(f"10.0.0.{number}")
            for number, name in enumerate(("alice", "bob", "carol", "bridge"), 1)
        }
        self.taken: dict[str, asyncio.Queue[Call]] = {}
        self.done: list[str] = []

    def uri(self, name: str) -> str:
        return f"sip:{name}@{self.hosts[name].address}"

    async def start(self, name: str) -> Softphone:
        """A phone that answers whatever comes; the bridge connects it with Bob."""
        host = self.hosts[name]
        with host.here():
            phone = Softphone(network=NetworkConfig(bind_host=host.address, bind_port=5060))
            calls = self.taken[name] = asyncio.Queue()

            async def dial(uri: str, headers: HeaderList) -> Call:
                return await phone.dial(uri, wait="started", headers=headers)

            @phone.on_incoming
            async def take(call: Call) -> None:
                if name == "bridge":
                    await connect(call, [self.uri("bob")], dial)
                    self.done.append(name)
                    return
                await call.answer()
                calls.put_nowait(call)
                await call.wait_ended()

            await phone.start()
        return phone


async def one_hears(speaker: Call, listener: Call, digit: str) -> None:
    """A key that is pressed at one end is heard at the other."""
    heard, _ = await asyncio.gather(listener.collect(1, timeout=10), speaker.send_dtmf(digit))
    assert heard == digit


@lossy
def test_a_callee_whose_place_is_taken_gives_way_to_who_took_it(loss: float) -> None:
    town = Town(loss)

    async def main() -> None:
        alice, bob, carol, bridge = [await town.start(name) for name in town.hosts]
        call = await alice.dial(town.uri("bridge"), timeout=60)
        bobs = await town.taken["bob"].get()
        await one_hears(call, bobs, "1")
        carols = await carol.dial(bobs.place, timeout=60)
        await bobs.wait_ended()
        await asyncio.sleep(15)
        assert call.state is carols.state is CallState.ACTIVE
        await one_hears(call, carols, "2")
        await one_hears(carols, call, "3")
        await call.hangup()
        assert (await carols.wait_ended()).by is EndedBy.REMOTE
        await asyncio.sleep(40)
        assert bridge.calls == []
        for phone in (alice, bob, carol, bridge):
            await phone.close()

    town.world.run(town.hosts["alice"].run(main()))


@pytest.mark.parametrize("mover", ["callee", "caller"])
@lossy
def test_a_call_that_is_transferred_at_one_side_goes_on_with_the_other(
    loss: float, mover: str
) -> None:
    town = Town(loss)

    async def main() -> None:
        alice, bob, carol, bridge = [await town.start(name) for name in town.hosts]
        call = await alice.dial(town.uri("bridge"), timeout=60)
        theirs = await town.taken["bob"].get()
        await one_hears(call, theirs, "1")
        await one_hears(theirs, call, "2")
        moves, stays = (theirs, call) if mover == "callee" else (call, theirs)
        await moves.transfer(town.uri("carol"))
        carols = await town.taken["carol"].get()
        await asyncio.sleep(15)
        assert moves.state is CallState.ENDED
        assert stays.state is carols.state is CallState.ACTIVE
        assert len(bridge.calls) == 2
        await one_hears(stays, carols, "3")
        await one_hears(carols, stays, "4")
        await carols.hangup()
        assert (await stays.wait_ended()).by is EndedBy.REMOTE
        await asyncio.sleep(40)
        assert bridge.calls == []
        assert town.done == ["bridge"]
        for phone in (alice, bob, carol, bridge):
            await phone.close()

    town.world.run(town.hosts["alice"].run(main()))

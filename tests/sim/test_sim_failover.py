"""Servers that say nothing are left for others (RFC 3263 section 4.3), in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from voip import Softphone
from voip.call import Call
from voip.cli.call import _converse, _Plan
from voip.config import MediaConfig, NetworkConfig
from voip.errors import NoAnswerError, RegistrationError, RequestError
from voip.events import CallState, MessageReceived, Registered
from voip.proxy import SipProxy
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


def test_F133_a_call_is_up_by_the_second_server_when_the_first_says_nothing() -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)

    async def main() -> None:
        bob, calls = await scene.answering(scene.second)
        async with scene.phone(scene.alice) as alice:
            began = now()
            call = await alice.dial(f"sip:bob@{OFFICE}")
            assert 4.0 < now() - began < 5.0
            assert call.state is CallState.ACTIVE
            await asyncio.sleep(1.0)
            assert alice.calls == [call]
            await call.hangup()
            began = now()
            async with await alice.dial(f"sip:bob@{OFFICE}"):
                assert now() - began < 1.0  # the silent one is left alone for a while
            assert len(calls) == 2
            assert alice._agent.dialogs == []
        await bob.close()

    scene.run(main)


def test_F133_the_command_calls_by_the_second_server_too() -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)

    async def main() -> None:
        bob, calls = await scene.answering(scene.second)
        plan = _Plan(f"sip:bob@{OFFICE}", 30.0, None, None, "", 0.0, quiet=True)
        async with scene.phone(scene.alice) as alice:
            report = await _converse(alice, plan, asyncio.Event())
        assert report["answered"] and len(calls) == 1
        await bob.close()

    scene.run(main)


def test_F133_what_the_silent_server_says_late_ends_there() -> None:
    scene = Scene()
    network = scene.world.network

    async def main() -> None:
        late, answered_late = await scene.answering(scene.first)
        bob, calls = await scene.answering(scene.second)
        # it hears all, and is not heard until the other has taken the call
        network.cut(scene.first, scene.alice, scene.world.time() + 10.0)
        async with scene.phone(scene.alice) as alice:
            call = await alice.dial(f"sip:bob@{OFFICE}")
            assert [one.ended for one in answered_late] == [None]
            await asyncio.sleep(12.0)
            end = answered_late[0].ended
            assert end is not None and end.by.value == "remote"  # the BYE after our ACK
            assert late.calls == []
            assert call.state is CallState.ACTIVE and len(calls) == 1
            await call.hangup()
        await bob.close()
        await late.close()

    scene.run(main)


def test_F133_a_server_that_has_said_anything_is_waited_for() -> None:
    scene = Scene()

    async def main() -> None:
        slow: list[Call] = []
        with scene.first.here():
            bob = scene.phone(scene.first)

            @bob.on_incoming
            async def thinks(call: Call) -> None:
                slow.append(call)  # 100 goes by itself, and nothing else
                await asyncio.sleep(15.0)
                await call.answer()
                await call.wait_ended()

            await bob.start()
        other, calls = await scene.answering(scene.second)
        async with scene.phone(scene.alice) as alice:
            began = now()
            async with await alice.dial(f"sip:bob@{OFFICE}"):
                assert now() - began > 15.0
        assert (len(slow), len(calls)) == (1, 0)
        await other.close()
        await bob.close()

    scene.run(main)


def test_F133_without_another_server_a_silent_one_has_its_time() -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)

    async def main() -> None:
        async with scene.phone(scene.alice) as alice:
            began = now()
            with pytest.raises(NoAnswerError, match="no answer in 20 s"):
                await alice.dial(f"sip:bob@{scene.first.address}", timeout=20)
            assert now() - began >= 20.0

    scene.run(main)


def test_F133_the_limit_of_a_call_holds_for_all_servers_together() -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)
    scene.world.cut(scene.alice, scene.second)

    async def main() -> None:
        async with scene.phone(scene.alice) as alice:
            began = now()
            with pytest.raises(NoAnswerError, match="no answer in 10 s"):
                await alice.dial(f"sip:bob@{OFFICE}", timeout=10)
            assert 10.0 <= now() - began < 11.0
            assert alice.calls == []

    scene.run(main)


@pytest.mark.parametrize("failover_s", [4.0, None])
def test_F133_registering_leaves_a_silent_server(failover_s: float | None) -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)

    async def main() -> None:
        with scene.second.here():
            proxy = SipProxy({"alice": "wonderland"}, scene.second.address, 5060, domains=[OFFICE])
            await proxy.__aenter__()
        began = now()
        async with scene.phone(scene.alice, True, failover_s=failover_s) as alice:
            took = now() - began
            assert took < 5.0 if failover_s else took >= T1_64
            assert list(alice._events) == [Registered(300.0)]
            assert proxy.location.bindings("alice", proxy.now())
            await asyncio.sleep(300.0)
            assert alice.registered
        await proxy.__aexit__()

    scene.run(main)


def test_F133_registering_without_another_server_waits_for_the_silent_one() -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)
    scene.world.cut(scene.alice, scene.second)

    async def main() -> None:
        began = now()
        with pytest.raises(RegistrationError):
            await scene.phone(scene.alice, True).start()
        assert now() - began >= 4.0 + T1_64  # the second one is the last

    scene.run(main)


def test_F133_a_text_goes_by_the_second_server_when_the_first_says_nothing() -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)

    async def main() -> None:
        bob, _ = await scene.answering(scene.second)
        async with scene.phone(scene.alice) as alice:
            began = now()
            await alice.message(f"sip:bob@{OFFICE}", "hello")
            assert now() - began < 5.0
            texts = [one.text for one in bob._events if isinstance(one, MessageReceived)]
            assert texts == ["hello"]
            await bob.close()
            scene.world.cut(scene.alice, scene.second)
            with pytest.raises(RequestError) as caught:
                await alice.message(f"sip:bob@{OFFICE}", "hello")
            assert caught.value.status == 408
            assert alice._agent.transactions == 0

    scene.run(main)

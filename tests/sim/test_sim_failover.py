"""Servers that say nothing are left for others (RFC 3263 section 4.3), in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from failover_scene import OFFICE, T1_64, Scene, now

from voip import Softphone
from voip.call import Call
from voip.cli.call import _converse, _Plan
from voip.config import MediaConfig, NetworkConfig
from voip.desk import TransferRequest, WatchRequest
from voip.errors import (
    CallError,
    NoAnswerError,
    RegistrationError,
    RequestError,
    SubscriptionError,
)
from voip.events import CallState, MessageReceived, Registered
from voip.proxy import SipProxy
from voip.sim import Host
from voip.sip.server_request import ServerRequest
from voip.types import Address


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
            await asyncio.sleep(2 * T1_64)
            assert alice._agent.dialogs == []
            assert alice._agent.dialling == 0  # the one that was left is forgotten
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


def test_F133_a_call_that_was_only_begun_leaves_a_silent_server_too() -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)

    async def main() -> None:
        bob, calls = await scene.answering(scene.second)
        async with scene.phone(scene.alice) as alice:
            began = now()
            call = await alice.dial(f"sip:bob@{OFFICE}", wait="started")
            assert now() - began < 0.1
            await call.wait_answered()
            assert 4.0 < now() - began < 5.0
            assert alice.calls == [call] and len(calls) == 1
            await call.hangup()
            given_up = await alice.dial("sip:bob@1.office.example", wait="started")
            await given_up.hangup()
            await asyncio.sleep(6.0)
            assert len(calls) == 1  # nobody is called any more who was given up
        await bob.close()

    scene.run(main)


def test_F133_a_call_goes_on_by_the_other_version_of_ip_with_sound_of_that_version() -> None:
    scene = Scene()
    alice = scene.world.host("10.0.0.2", "2001:db8::2")
    six = scene.world.host("2001:db8::8")
    scene.world.dns.add("1.both.example", "2001:db8::8")
    for priority, name in enumerate(("1.both.example", f"2.{OFFICE}"), 1):
        scene.world.dns.add_srv("_sip._udp.both.example", name, 5060, priority=priority)
    scene.world.cut(alice, six)
    offers: list[bytes] = []

    async def main() -> None:
        bob, calls = await scene.answering(scene.second)
        phone = Softphone("sip:alice@both.example", register=False, trace=None)
        async with phone:
            call = await phone.dial("sip:bob@both.example")
            request = call._session.invite_request
            assert request is not None
            offers.append(request.body)
            assert calls[0].remote.endswith("@both.example")
            await call.hangup()
        await bob.close()

    scene.world.run(alice.run(main()))
    assert b"IN IP4 10.0.0.2" in offers[0] and b"IP6" not in offers[0]


async def deputy(scene: Scene, host: Host, taken: list[str]) -> Softphone:
    """Answer at `host` for everything that is asked of Bob, and note it."""

    def publish(request: ServerRequest) -> None:
        asked = request.request.headers
        taken.append(f"PUBLISH {'' if asked.get('SIP-If-Match') is None else 'again'}".strip())
        known = asked.get("SIP-If-Match") in (None, f"held-at-{host.address}")
        headers = [("SIP-ETag", f"held-at-{host.address}"), ("Expires", "300")]
        request.reply(200 if known else 412, headers=headers if known else [], now=now())

    with host.here():
        bob = Softphone(
            f"sip:bob@{OFFICE}",
            register=False,
            network=NetworkConfig(bind_host=host.address, bind_port=5060),
            media=MediaConfig(elsewhere=Address(host.address, 40000)),
            requests={"PUBLISH": publish},
        )

        @bob.on_watch
        def watched(request: WatchRequest) -> bool:
            taken.append(f"SUBSCRIBE {request.event}")
            return True

        @bob.on_transfer
        def referred(request: TransferRequest) -> bool:
            taken.append("REFER")
            return False

        await bob.start()
    return bob


def test_F133_a_watch_leaves_a_silent_server_at_first_and_when_it_is_lost() -> None:
    scene = Scene()
    world, alice_host = scene.world, scene.alice
    world.cut(alice_host, scene.first)
    there: list[str] = []
    here: list[str] = []

    async def main() -> None:
        second = await deputy(scene, scene.second, there)
        first = await deputy(scene, scene.first, here)
        async with scene.phone(alice_host) as alice:
            began = now()
            watch = await alice.watch(f"sip:bob@{OFFICE}", "dialog", expires_s=300)
            assert 4.0 < now() - began < 5.0
            assert (there, here) == (["SUBSCRIBE dialog"], [])
            await asyncio.sleep(0.1)
            assert watch.state == "active"
            world.restore(alice_host, scene.first)
            world.cut(alice_host, scene.second)
            await asyncio.sleep(400.0)  # its refresh fails, it is asked for anew
            assert here == ["SUBSCRIBE dialog"]
            assert watch.state == "active"
            await watch.close()
            await asyncio.sleep(40.0)
            assert len(alice._agent.subscriptions) == 0
            assert (alice._agent.transactions, alice._agent.timers) == (0, 0)
        await first.close()
        await second.close()

    scene.run(main)


def test_F133_a_state_is_published_at_the_second_server_and_anew_at_the_first() -> None:
    scene = Scene()
    world = scene.world
    world.cut(scene.alice, scene.first)
    there: list[str] = []
    here: list[str] = []

    async def main() -> None:
        second = await deputy(scene, scene.second, there)
        first = await deputy(scene, scene.first, here)
        async with scene.phone(scene.alice) as alice:
            began = now()
            state = await alice.publish(
                "presence", b"in", "text/plain", target=f"sip:bob@{OFFICE}", expires_s=300
            )
            assert 4.0 < now() - began < 5.0
            assert (there, here) == (["PUBLISH"], [])
            world.restore(scene.alice, scene.first)
            world.cut(scene.alice, scene.second)
            began = now()
            await state.update(b"out", "text/plain")
            assert 4.0 < now() - began < 5.0
            assert here == ["PUBLISH again", "PUBLISH"]  # it knows nothing of it: 412
            await state.close()
        await first.close()
        await second.close()

    scene.run(main)


def test_F133_a_refer_outside_of_calls_reaches_the_second_server() -> None:
    scene = Scene()
    scene.world.cut(scene.alice, scene.first)
    there: list[str] = []

    async def main() -> None:
        bob = await deputy(scene, scene.second, there)
        async with scene.phone(scene.alice) as alice:
            began = now()
            with pytest.raises(CallError, match="603"):
                await alice.refer(f"sip:bob@{OFFICE}", "sip:carol@10.0.0.7")
            assert 4.0 < now() - began < 5.0
            assert there == ["REFER"]
        await bob.close()

    scene.run(main)


def test_F133_all_that_is_said_by_a_line_fails_in_the_end_where_nobody_answers() -> None:
    scene = Scene()
    for host in (scene.first, scene.second):
        scene.world.cut(scene.alice, host)

    async def main() -> None:
        async with scene.phone(scene.alice) as alice:
            whom = f"sip:bob@{OFFICE}"
            for asking, error in (
                (alice.watch(whom, "dialog"), SubscriptionError),
                (alice.publish("presence", b"in", "text/plain", target=whom), RequestError),
                (alice.refer(whom, "sip:carol@10.0.0.7"), CallError),
            ):
                began = now()
                with pytest.raises(error) as caught:
                    await asking
                assert caught.value.status == 408
                assert 4.0 + T1_64 <= now() - began < 4.1 + T1_64
            await asyncio.sleep(T1_64)
            assert alice._agent.transactions == 0

    scene.run(main)

"""The calls of RFC 3665 and of RFC 3261 section 24 between phones and proxies of ours.

In a world that loses nothing or a fifth of what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from callers import until
from flow_scene import PASSWORDS, SERVER, Scene, in_all_weathers
from test_sim_flows_offers import Peer, audio, described, sends_to

from voip.answering import Answering
from voip.b2bua import HeaderList, connect
from voip.call import Call
from voip.config import CallConfig, MediaConfig
from voip.errors import CallError
from voip.events import EndedBy, Redirected
from voip.proxy import SipProxy
from voip.sip.message import Request, Response
from voip.sip.uri import SipUri
from voip.types import Address

BILOXI = "10.0.0.8"
"""Where Bob's proxy is; the scene's own is Alice's."""


@asynccontextmanager
async def biloxi(scene: Scene, **settings: Any) -> AsyncIterator[SipProxy]:
    """Bob's proxy."""
    with scene.world.host(BILOXI).here():
        proxy = SipProxy(PASSWORDS, BILOXI, 5060, **settings)
        await proxy.__aenter__()
    yield proxy
    await proxy.__aexit__()


def way(call: Call) -> list[str]:
    """By which hosts what is said in a call goes."""
    dialog = call._session.dialog
    assert dialog is not None
    return [SipUri.parse(route.strip("<>")).host for route in dialog.route_set]


def asked(scene: Scene, address: str) -> Request:
    """The INVITE that has come to an address."""
    return next(
        message for message in scene.arrived[address]
        if isinstance(message, Request) and message.method == "INVITE"
    )  # fmt: skip


def ring(calls: asyncio.Queue[Call]) -> Any:
    """Ring, then answer, and stay in the call."""

    async def taken(call: Call) -> None:
        await call.ring()
        await asyncio.sleep(2)
        await call.answer()
        calls.put_nowait(call)
        await call.wait_ended()

    return taken


@in_all_weathers
def test_F006_a_call_is_set_up_and_ended(loss: float, seed: int) -> None:
    """Section 3.1: no proxy is in between, and the callee hangs up."""
    scene = Scene(loss, seed)

    async def main() -> None:
        calls: asyncio.Queue[Call] = asyncio.Queue()
        bob = await scene.taking("bob", ring(calls), register=False)
        async with scene.phone("alice", scene.alice, register=False) as alice:
            mine, theirs = await scene.up(alice, f"sip:bob@{scene.bob.address}:5060", calls)
            assert way(mine) == way(theirs) == []
            assert sends_to(mine) == Address(scene.bob.address, 40000)
            assert sends_to(theirs) == Address(scene.alice.address, 40000)
            await theirs.hangup()
            assert (await mine.wait_ended()).by is EndedBy.REMOTE
            await scene.settled(alice, bob)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F007_F084_two_phones_register_and_call_through_the_proxies_of_both(
    loss: float, seed: int
) -> None:
    """Section 3.2: both proxies stay in the way of what follows."""
    scene = Scene(loss, seed)

    async def main() -> None:
        async with biloxi(scene) as theirs_proxy:
            calls: asyncio.Queue[Call] = asyncio.Queue()
            bob = await scene.taking("bob", ring(calls), domain=BILOXI)
            async with scene.phone("alice", scene.alice, proxy=f"sip:{SERVER};lr") as alice:
                assert len(scene.contacts("alice")) == 1
                assert len(theirs_proxy.location.bindings("bob", theirs_proxy.now())) == 1
                mine, theirs = await scene.up(alice, f"sip:bob@{BILOXI}", calls)
                assert way(mine) == [SERVER, BILOXI]
                assert way(theirs) == [BILOXI, SERVER]
                await theirs.hangup()
                assert (await mine.wait_ended()).by is EndedBy.REMOTE
                assert 200 in scene.statuses("BYE")
                await scene.settled(alice, bob)
            await bob.close()

    scene.run(main)


@in_all_weathers
def test_F008_both_proxies_ask_who_calls(loss: float, seed: int) -> None:
    """Section 3.3: Alice is known to Bob's proxy, too, by the same name and password."""
    scene = Scene(loss, seed, realm="atlanta")

    async def main() -> None:
        async with biloxi(scene, realm="biloxi", domains=(SERVER,)):
            bob, calls = await scene.answering(domain=BILOXI)
            async with scene.phone("alice", scene.alice, proxy=f"sip:{SERVER};lr") as alice:
                mine, _ = await scene.up(alice, f"sip:bob@{BILOXI}", calls)
                asks = [
                    message.headers.get("Proxy-Authenticate") or ""
                    for message in scene.arrived[scene.alice.address]
                    if isinstance(message, Response) and message.status == 407
                ]
                realms = dict.fromkeys(
                    ask.partition('realm="')[2].partition('"')[0] for ask in asks
                )
                assert list(realms) == ["atlanta", "biloxi"]
                assert asked(scene, scene.bob.address).cseq.number >= 3
                assert asked(scene, scene.bob.address).headers.get("Proxy-Authorization") is None
                await mine.hangup()
                await scene.settled(alice, bob)
            await bob.close()

    scene.run(main)


@in_all_weathers
def test_F009_where_a_proxy_says_nothing_the_other_one_is_taken(loss: float, seed: int) -> None:
    """Section 3.4: the domain has two, and the first of them has failed."""
    scene = Scene(loss, seed, domains=("atlanta.example",))
    world = scene.world
    world.dns.add("one.example", "10.0.0.99")
    world.dns.add("two.example", SERVER)
    for priority, name in enumerate(("one.example", "two.example"), 1):
        world.dns.add_srv("_sip._udp.atlanta.example", name, 5060, priority=priority)
    world.cut(scene.alice, world.host("10.0.0.99"))

    async def main() -> None:
        bob, calls = await scene.answering()
        phone = scene.phone("alice", scene.alice, domain="atlanta.example", register=False)
        async with phone as alice:
            mine, theirs = await scene.up(alice, "sip:bob@atlanta.example", calls)
            assert way(mine) == way(theirs) == [SERVER]
            await mine.hangup()
            assert (await theirs.wait_ended()).by is EndedBy.REMOTE
            await scene.settled(alice, bob)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F010_a_call_through_a_gateway_that_has_the_sound_go_through_it(
    loss: float, seed: int
) -> None:
    """Section 3.5: neither learns the other's address, and each hears the other.

    The gateway of ours is a back-to-back user agent; the section's is a proxy that writes into
    descriptions.
    """
    scene = Scene(loss, seed)
    sound = MediaConfig()

    async def main() -> None:
        host = scene.world.host("10.0.0.7")
        with host.here():
            gateway = scene.phone(
                "gateway", host, media=sound, calling=CallConfig(strangers="accept")
            )

            async def dial(uri: str, headers: HeaderList) -> Call:
                return await gateway.dial(uri, wait="started", headers=headers)

            @gateway.on_incoming
            async def through(call: Call) -> None:
                await connect(call, [f"sip:bob@{SERVER}"], dial)

        bob, calls = await scene.answering(media=sound)
        await host.run(gateway.start())
        async with scene.phone("alice", scene.alice, media=sound) as alice:
            mine, theirs = await scene.up(alice, f"sip:bob@{host.address}:5060", calls)
            for call in (mine, theirs):
                there = sends_to(call)
                assert there is not None
                assert there.host == host.address
            for speaker, listener in ((mine, theirs), (theirs, mine)):
                heard, _ = await asyncio.gather(
                    listener.collect(1, timeout=10), speaker.send_dtmf("5")
                )
                assert heard == "5"
            await mine.hangup()
            assert (await theirs.wait_ended()).by is EndedBy.REMOTE
            await until(lambda: gateway.calls == [])
            await scene.settled(alice, bob)
        await gateway.close()
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F011_redirected_then_by_a_proxy_with_the_description_in_the_ack(
    loss: float, seed: int
) -> None:
    """Section 3.6: Bob's phone sends the caller on to Carol."""
    scene = Scene(loss, seed)

    async def main() -> None:
        elsewhere = Answering(forward_always=f"sip:carol@{SERVER}")
        bob, _ = await scene.answering(answering=elsewhere)
        carol, calls = await scene.answering("carol")
        async with scene.phone("alice", scene.alice) as alice:
            mine, theirs = await scene.up(alice, "bob", calls, late_offer=True)
            assert Redirected(f"sip:carol@{SERVER}") in mine._events
            assert 302 in scene.statuses("INVITE")
            assert not asked(scene, scene.carol.address).body
            acks = [
                message for message in scene.arrived[scene.carol.address]
                if isinstance(message, Request) and message.method == "ACK"
            ]  # fmt: skip
            assert b"m=audio" in acks[0].body
            assert sends_to(mine) == Address(scene.carol.address, 40000)
            assert sends_to(theirs) == Address(scene.alice.address, 40000)
            await mine.hangup()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


@in_all_weathers
def test_F012_a_party_that_moves_is_heard_and_asked_where_it_has_moved(
    loss: float, seed: int
) -> None:
    """Section 3.7: another Contact, and another address for sound."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, calls = await scene.answering()
        async with Peer(scene) as peer:
            await peer.offer(described(1, audio(49170)))
            call = await calls.get()
            assert sends_to(call) == Address("10.0.0.1", 49170)
            assert peer.dialog is not None
            peer.dialog.contact = "<sip:alice@10.0.0.77:5070>"
            await peer.offer(described(2, audio(49172), host="10.0.0.77"))
            assert sends_to(call) == Address("10.0.0.77", 49172)
            dialog = call._session.dialog
            assert dialog is not None
            assert dialog.remote_target == "sip:alice@10.0.0.77:5070"
            peer.hang_up()
            await call.wait_ended()
            await scene.settled(bob)
        await bob.close()

    scene.run(main)


@pytest.mark.parametrize("status", [480, 486], ids=["unavailable", "busy"])
@in_all_weathers
def test_F014_F016_the_callee_refuses(loss: float, seed: int, status: int) -> None:
    """Sections 3.9 and 3.11, through a proxy."""
    scene = Scene(loss, seed)

    async def main() -> None:
        async def refuse(call: Call) -> None:
            await call.ring()
            await asyncio.sleep(2)
            await call.reject(status)

        bob = await scene.taking("bob", refuse)
        async with scene.phone("alice", scene.alice) as alice:
            with pytest.raises(CallError) as refused:
                await alice.dial("bob", timeout=80)
            assert refused.value.status == status
            assert alice.calls == bob.calls == []
            await scene.settled(alice, bob)
        await bob.close()

    scene.run(main)

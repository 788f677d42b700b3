"""What our proxy tells of its users, in virtual time: RFC 3903, 3856, 3680, 3842."""

from __future__ import annotations

import asyncio

import pytest
from flow_scene import AOR, SERVER, Scene, in_all_weathers

from voip import Softphone
from voip.errors import RequestError, SubscriptionError
from voip.sip.compositor import CompositorConfig
from voip.sip.event_server import EventConfig
from voip.sip.packages.message_summary import MessageCount, MessageSummary
from voip.sip.packages.presence import CONTENT_TYPE, Presence, PresenceTuple
from voip.watching import Watch

INSTANCE = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"


def scene_of(loss: float, seed: int, **events: object) -> Scene:
    return Scene(loss, seed, events=EventConfig(**events))  # type: ignore[arg-type]


def pidf(note: str, *, reachable: bool = True, name: str = "t1") -> bytes:
    return Presence(AOR, (PresenceTuple(name, reachable, note=note),)).to_bytes()


async def up(scene: Scene, name: str, **more: object) -> Softphone:
    host = {"alice": scene.alice, "bob": scene.bob, "carol": scene.carol}[name]
    with host.here():
        phone = scene.phone(name, host, **more)
        await phone.start()
    return phone


def said(watch: Watch) -> list[str]:
    """The notes that a watcher was told last, in order."""
    assert watch.latest is not None
    return [one.note or ("open" if one.open else "closed") for one in watch.latest.value.tuples]


async def until(watch: Watch, notes: list[str]) -> None:
    async with asyncio.timeout(120):
        while said(watch) != notes:
            await asyncio.sleep(0.1)


@in_all_weathers
def test_F103_F105_what_a_user_publishes_is_told_to_who_watches(loss: float, seed: int) -> None:
    """Made, changed, refreshed for hours, and taken back."""
    scene = scene_of(loss, seed)

    async def main() -> None:
        alice, bob = await up(scene, "alice"), await up(scene, "bob")
        watch = await bob.watch("alice", "presence")
        assert watch.latest.value.entity == AOR
        assert said(watch) == ["closed"]  # nobody has said anything yet
        state = await alice.publish("presence", pidf("here"), CONTENT_TYPE)
        await until(watch, ["here"])
        await state.update(pidf("at lunch", reachable=False), CONTENT_TYPE)
        await until(watch, ["at lunch"])
        assert not watch.latest.value.open
        await asyncio.sleep(4 * 3600)
        assert (said(watch), watch.state) == (["at lunch"], "active")
        assert scene.proxy.events.publications == 1
        await state.close()
        await until(watch, ["closed"])
        await watch.close()
        assert scene.proxy.events.watchers == scene.proxy.events.publications == 0
        await scene.settled(alice, bob)
        await alice.close()
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F103_several_places_of_a_user_make_one_document(loss: float, seed: int) -> None:
    """Both have called their tuple `t1`. One of them dies without a word, and expires."""
    scene = scene_of(loss, seed)
    mobile = scene.world.host("10.0.0.6")

    async def main() -> None:
        desk, bob = await up(scene, "alice"), await up(scene, "bob")
        with mobile.here():
            pocket = scene.phone("alice", mobile)
            await pocket.start()
        watch = await bob.watch("alice", "presence")
        state = await desk.publish("presence", pidf("desk"), CONTENT_TYPE)
        await pocket.publish("presence", pidf("pocket"), CONTENT_TYPE, expires_s=600)
        await until(watch, ["desk", "pocket"])
        assert watch.latest.value.tuples[0].id != watch.latest.value.tuples[1].id
        scene.world.cut(mobile, scene.server)
        await asyncio.sleep(700)
        assert said(watch) == ["desk"]
        await state.close()
        await until(watch, ["closed"])
        await watch.close()
        await desk.close()
        await bob.close()
        await pocket.close()

    scene.run(main)


@in_all_weathers
def test_F105_nobody_publishes_for_another(loss: float, seed: int) -> None:
    scene = scene_of(loss, seed)

    async def main() -> None:
        bob = await up(scene, "bob")
        with pytest.raises(RequestError) as refused:
            await bob.publish("presence", pidf("mine"), CONTENT_TYPE, target="alice")
        assert refused.value.status == 403
        with pytest.raises(RequestError) as unknown:
            await bob.publish("presence", pidf("mine"), CONTENT_TYPE, target="nobody")
        assert unknown.value.status == 404
        assert scene.proxy.events.publications == 0
        await scene.settled(bob)
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F103_who_may_watch_is_said_by_the_server(loss: float, seed: int) -> None:
    """Bob may, Carol may not, and a stranger does not learn whether there is an Alice."""
    scene = scene_of(loss, seed, may_watch=lambda watcher, user, package: watcher == "bob")

    async def main() -> None:
        bob, carol = await up(scene, "bob"), await up(scene, "carol")
        watch = await bob.watch("alice", "presence")
        with pytest.raises(SubscriptionError) as refused:
            await carol.watch("alice", "presence")
        assert refused.value.status == 403
        with scene.alice.here():
            stranger = Softphone("sip:mallory@elsewhere.example", register=False)
            await stranger.start()
        for name in ("alice", "nobody"):
            with pytest.raises(SubscriptionError) as hidden:
                await stranger.watch(f"sip:{name}@{SERVER}", "presence")
            assert hidden.value.status == 480
        await watch.close()
        assert scene.proxy.events.watchers == 0
        await scene.settled(bob, carol)
        for phone in (bob, carol, stranger):
            await phone.close()

    scene.run(main)


@in_all_weathers
def test_F105_a_server_that_has_forgotten_is_told_anew(loss: float, seed: int) -> None:
    """Its documents last ten minutes; ours is refreshed in time, or published again (412)."""
    publications = CompositorConfig(max_expires_s=600)
    scene = scene_of(loss, seed, publications=publications)

    async def main() -> None:
        alice, bob = await up(scene, "alice"), await up(scene, "bob")
        watch = await bob.watch("alice", "presence")
        state = await alice.publish("presence", pidf("here"), CONTENT_TYPE)
        await until(watch, ["here"])
        scene.world.cut(scene.alice, scene.server, 900)
        await asyncio.sleep(890)
        assert said(watch) == ["closed"]
        await asyncio.sleep(3000)
        assert said(watch) == ["here"]
        await state.close()
        await watch.close()
        await alice.close()
        await bob.close()

    scene.run(main)


@in_all_weathers
def test_F104_a_user_watches_where_the_user_is_registered(loss: float, seed: int) -> None:
    """By the reg package: phones that come, go and vanish, with the names they have (RFC 5628)."""
    scene = scene_of(loss, seed)
    mobile = scene.world.host("10.0.0.6")

    async def main() -> None:
        desk = await up(scene, "alice", outbound=True, instance=INSTANCE, expires_s=120)
        watch = await desk.watch(None, "reg")
        table = watch.latest.value.registrations[0]
        assert (table.aor, table.state) == (AOR, "active")
        assert [one.pub_gruu for one in table.contacts] == [desk.gruu]
        with mobile.here():
            pocket = scene.phone("alice", mobile, expires_s=120)
            await pocket.start()
        await asyncio.sleep(60)
        assert len(watch.latest.value.registrations[0].contacts) == 2
        scene.world.cut(mobile, scene.server)
        await asyncio.sleep(180)
        (contact,) = watch.latest.value.registrations[0].contacts
        assert contact.pub_gruu == desk.gruu
        bob = await up(scene, "bob")
        with pytest.raises(SubscriptionError) as refused:
            await bob.watch("alice", "reg")
        assert refused.value.status == 403
        await watch.close()
        for phone in (desk, bob, pocket):
            await phone.close()

    scene.run(main)


@in_all_weathers
def test_F102_mail_is_told_to_whom_it_is_for(loss: float, seed: int) -> None:
    scene = scene_of(loss, seed)

    async def main() -> None:
        alice = await up(scene, "alice")
        watch = await alice.watch(None, "message-summary")
        assert (watch.latest.value.waiting, watch.latest.value.account) == (False, AOR)
        two = MessageSummary(True, counts=(MessageCount("voice-message", 2, 8),))
        scene.proxy.set_mail("alice", two)
        async with asyncio.timeout(120):
            while not watch.latest.value.waiting:
                await asyncio.sleep(0.1)
        assert watch.latest.value.of() == MessageCount("voice-message", 2, 8)
        await watch.close()
        await scene.settled(alice)
        await alice.close()

    scene.run(main)


@in_all_weathers
def test_F104_a_server_that_closes_says_goodbye(loss: float, seed: int) -> None:
    scene = scene_of(loss, seed)

    async def main() -> None:
        bob = await up(scene, "bob")
        watch = await bob.watch("alice", "presence")
        scene.proxy.events.close(scene.proxy.now())
        scene.proxy._transport.flush()
        await asyncio.sleep(30)
        assert scene.proxy.events.watchers in (0, 1)  # it has been asked for again
        async with asyncio.timeout(120):
            while watch.state != "active":
                await asyncio.sleep(1)
        await watch.close()
        assert scene.proxy.events.watchers == 0
        await bob.close()

    scene.run(main)

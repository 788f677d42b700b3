"""Calls that become part of others (RFC 3911): who may, who may not, and who hears whom then."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from conference_scene import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    SOUND,
    Three,
    as_focus,
    assert_each_hears_the_others,
    in_a_conference,
    is_focus,
    matrix,
    sent,
    until,
)
from flow_scene import SERVER, Scene, in_all_weathers

from voip import CallError, Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.desk import JoinRequest
from voip.events import CallEnded, CallState, Joined
from voip.sip.message import Response


@in_all_weathers
def test_F027_F101_a_third_party_joins_a_call_that_it_watches(loss: float, seed: int) -> None:
    """Carol sees Bob's dialog, sends him a Join (F5), hears a focus ring (F6); Bob makes Alice's
    call a conference (F7) and answers her (F10).
    """
    scene = Scene(loss, seed)
    asked: list[JoinRequest] = []

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        bob.on_watch(lambda request: True)

        @bob.on_join
        async def may(request: JoinRequest) -> bool:
            asked.append(request)
            await asyncio.sleep(0.1)
            return request.new.remote == f"sip:carol@{SERVER}"

        carol, _ = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            with scene.carol.here():
                carols = await joined(scene, carol, first)
            conference = first.conference
            assert alices.is_focus and carols.is_focus
            third = conference.parties[1]
            assert third.remote == f"sip:carol@{SERVER}"
            voices = [(alices, ALICE), (conference, BOB), (carols, CAROL)]
            assert_each_hears_the_others(await matrix(voices), loss)

            assert asked[0].parties == (first,)
            assert not asked[0].is_own  # nobody vouches for her
            events = [event for event in first._events if isinstance(event, Joined)]
            assert third in [event.call for event in events]
            rings = [
                one
                for one in scene.arrived["10.0.0.3"]
                if isinstance(one, Response) and one.status in (180, 200) and one.contacts
                and one.cseq.method == "INVITE"
            ]  # fmt: skip
            assert all(is_focus(one) for one in rings)
            assert as_focus(scene)[:3] == ["180", "re-INVITE", "200"]  # F6, F7, F10
            await carols.hangup()
            await alices.hangup()
            await until(lambda: not bob.calls)
            assert conference.parties == []
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


async def joined(scene: Scene, carol: Softphone, first: Call) -> Call:
    """Watch Bob, and become part of the call that he is in.

    Where too much is lost (no ACK in 32 s) it comes to nothing, and is done again.
    """
    for _ in range(5 if scene.loss else 1):
        with suppress(CallError, TimeoutError):
            async with await carol.watch("bob", "dialog") as watch:
                await until(lambda: [one for one in watch.dialogs if one.state == "confirmed"])
                (dialog,) = [one for one in watch.dialogs if one.state == "confirmed"]
            call = await carol.join(dialog, target="bob", timeout=80)
            async with asyncio.timeout(60):
                while call.ended is None:
                    if first.conference is not None and len(first.conference.parties) == 2:
                        return call
                    await asyncio.sleep(0.05)
    raise AssertionError("Bob's call cannot be joined")


# ---------------------------------------------------------------- who may join (RFC 3911)


def join_of(call: Call) -> str:
    """The Join that names a call to the one whose it is."""
    dialog = call._session.dialog
    assert dialog is not None
    return f"{dialog.call_id};to-tag={dialog.local.tag};from-tag={dialog.remote.tag}"


async def refused(phone: Softphone, *joins: str, **more: str) -> int:
    headers = [("Join", join) for join in joins]
    with pytest.raises(CallError) as failure:
        await phone.dial("bob", headers=[*headers, *more.items()])
    assert failure.value.status is not None
    return failure.value.status


def test_F101_who_is_nobody_we_know_of_does_not_join_and_the_call_goes_on() -> None:
    async def main(three: Three) -> None:
        conference, carol = three.conference, three.carol
        await conference.remove(three.second)
        await three.second.hangup()
        named = join_of(three.first)
        with three.scene.carol.here():
            assert await refused(carol, named) == 403  # nobody was asked, and nobody vouches
            assert await refused(carol, "unknown;to-tag=a;from-tag=b") == 481
            assert await refused(carol, "no join at all") == 400
            assert await refused(carol, named, named) == 400
            assert await refused(carol, named, Replaces=named) == 400
            three.bob.on_join(lambda request: False)
            assert await refused(carol, named) == 403
            three.bob.on_join(lambda request: 1 / 0)
            assert await refused(carol, named) == 403
            three.bob.on_join(lambda request: True)
            conference_before = three.first.conference
            await three.alices.hangup()
            await three.first.wait_ended()
            assert await refused(carol, named) == 603
        assert conference_before is conference
        assert three.first.ended is not None and isinstance(three.first.ended, CallEnded)

    in_a_conference(main)


def test_F101_a_join_that_comes_to_nothing_leaves_the_call_as_it_was() -> None:
    """The joiner gives up while Bob is asked, or has no codec in common: 488, no conference."""
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=MediaConfig(codecs=("pcma",)))
        answer = asyncio.Event()

        @bob.on_join
        async def may(request: JoinRequest) -> bool:
            await answer.wait()
            return True

        carol, _ = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            with scene.carol.here():
                waiting = await carol.dial("bob", wait="started", headers={"Join": join_of(first)})
                await asyncio.sleep(1)
                await waiting.cancel()
                await waiting.wait_ended()
            answer.set()
            await asyncio.sleep(5)
            host = scene.world.host("10.0.0.7")
            with host.here():
                only_ulaw = scene.phone("gateway", host, media=MediaConfig(codecs=("pcmu",)))
                await only_ulaw.start()
                assert await refused(only_ulaw, join_of(first)) == 488
                await only_ulaw.close()
            assert first.conference is None
            assert not alices.is_focus
            assert len(sent(scene, "10.0.0.1", "INVITE")) == 0
            await alices.hangup()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


def test_F101_the_user_s_other_phone_joins_unasked_where_a_trusted_host_vouches_for_it() -> None:
    scene = Scene(0.0)

    async def main() -> None:
        network = NetworkConfig(bind_host="10.0.0.2", bind_port=5060, trusted=(SERVER,))
        bob, to_bob = await scene.answering(media=SOUND, network=network)
        other_host = scene.world.host("10.0.0.6")
        with other_host.here():
            other = scene.phone("bob", other_host, media=SOUND, register=False)
            await other.start()
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            with other_host.here():  # the proxy has seen Bob's password, and says so
                own = await other.dial("bob", headers={"Join": join_of(first)})
            assert own.is_focus and alices.is_focus
            await until(lambda: len(first.conference.parties) == 2)
            claims = {"P-Asserted-Identity": f"<sip:bob@{SERVER}>"}  # which it takes away
            with pytest.raises(CallError) as failure:
                await alice.dial("bob", headers={"Join": join_of(first), **claims})
            assert failure.value.status == 403
            await own.hangup()
            await alices.hangup()
            await scene.settled(alice, bob, other)
        await bob.close()
        await other.close()

    scene.run(main)


def test_F101_two_join_a_call_at_the_same_time_and_all_are_in_one_conference() -> None:
    """One of them gives up while it rings: that is no reason to end what the other is in."""
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        asked = asyncio.Event()

        @bob.on_join
        async def may(request: JoinRequest) -> bool:
            await asked.wait()
            return True

        carol, _ = await scene.answering("carol", media=SOUND)
        host = scene.world.host("10.0.0.6")
        with host.here():
            dave = scene.phone("gateway", host, media=SOUND)
            await dave.start()
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            headers = {"Join": join_of(first)}
            listeners = len(bob._stack.driver._listeners)
            with scene.carol.here():
                carols = await carol.dial("bob", wait="started", headers=headers)
            with host.here():
                daves = await dave.dial("bob", wait="started", headers=headers)
            third = await alice.dial("bob", wait="started", headers=headers)
            await asyncio.sleep(1)
            asked.set()
            await asyncio.sleep(0.05)
            await third.cancel()
            await carols.wait_answered()
            await daves.wait_answered()
            await until(lambda: first.conference and len(first.conference.parties) == 3)
            voices = [(first.conference, BOB), (alices, ALICE), (carols, CAROL), (daves, DAVE)]
            assert_each_hears_the_others(await matrix(voices))
            assert len(sent(scene, "10.0.0.1", "INVITE")) == 1  # one re-INVITE, not three
            await first.conference.close()
            await scene.settled(alice, bob, carol, dave)
            assert len(bob._stack.driver._listeners) == listeners
        await dave.close()
        await bob.close()
        await carol.close()

    scene.run(main)


def test_F101_a_call_that_still_rings_is_joined_once_it_is_answered() -> None:
    """Join has no limit to answered calls (RFC 3911 section 4)."""
    scene = Scene(0.0)

    async def main() -> None:
        async def slowly(call: Call) -> None:
            await call.ring()
            await asyncio.sleep(10)
            await call.answer()
            await call.wait_ended()

        alice = await scene.taking("alice", slowly, media=SOUND)
        carol, _ = await scene.answering("carol", media=SOUND)
        bob, _ = await scene.answering(media=SOUND)
        bob.on_join(lambda request: True)
        with scene.bob.here():
            call = await bob.dial("alice", wait="ringing")
        dialog = call._session.current_dialog
        assert dialog is not None
        named = f"{dialog.call_id};to-tag={dialog.local.tag};from-tag={dialog.remote.tag}"
        with scene.carol.here():
            carols = await carol.dial("bob", headers={"Join": named})
        assert call.state is CallState.ACTIVE
        (alices,) = alice.calls
        conference = call.conference
        voices = [(alices, ALICE), (conference, BOB), (carols, CAROL)]
        await until(lambda: len(conference.parties) == 2)
        assert_each_hears_the_others(await matrix(voices))
        await conference.close()
        await scene.settled(alice, bob, carol)
        for phone in (alice, bob, carol):
            await phone.close()

    scene.run(main)


def test_a_conference_is_known_by_its_address_and_nobody_else_gets_in() -> None:
    """OPTIONS tells that it is one (RFC 4579 section 4.3); who calls it is asked about."""

    async def main(three: Three) -> None:
        carol, address = three.carol, f"sip:{three.conference.user}@10.0.0.2:5060"
        with three.scene.carol.here():
            options = await carol.options(address)
            assert options.is_focus and "join" in options.supported
            assert not (await carol.options("sip:bob@10.0.0.2:5060")).is_focus
            with pytest.raises(CallError) as failure:
                await carol.dial(address)
            assert failure.value.status == 403
            three.bob.on_join(lambda request: len(request.parties) == 2)
            # a Join that names nothing does not matter at a conference (RFC 3911 section 4)
            call = await carol.dial(address, headers={"Join": "gone;to-tag=a;from-tag=b"})
            assert call.is_focus
            await until(lambda: len(three.conference.parties) == 3)
            await call.hangup()
            await three.conference.close()
            with pytest.raises(CallError) as failure:
                await carol.dial(address)
            assert failure.value.status == 404

    in_a_conference(main)

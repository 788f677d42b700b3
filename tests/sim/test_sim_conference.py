"""Calls of three and more: who hears whom, by which messages, and what becomes of it.

Sound goes through engines, signalling through a proxy; in bad weather a fifth of both is lost.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial
from pathlib import Path

import pytest
from conference_scene import (
    ALICE,
    BOB,
    CAROL,
    DAVE,
    QUIET_DB,
    RATE,
    SOUND,
    Mouth,
    Three,
    as_focus,
    assert_each_hears_the_others,
    call_until_up,
    heard,
    in_a_conference,
    is_focus,
    level_db,
    matrix,
    sent,
    tone,
    until,
)
from flow_scene import Scene, in_all_weathers

from voip import CallError, CallStateError, ConfigError, MediaError, Softphone
from voip.call import Call
from voip.events import CallState, Transferred
from voip.harness.audio import Sound
from voip.sim import Host
from voip.sip.server_invite import ServerInvite

# ---------------------------------------------------------------- the flows of RFC 5359


@in_all_weathers
def test_F026_a_third_party_is_added_to_a_call_and_all_hear_each_other(
    loss: float, seed: int
) -> None:
    """Bob re-INVITEs Alice as a focus (F5), calls Carol with the same Contact (F8), and mixes."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, to_carol = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            assert not alices.is_focus
            with scene.bob.here():
                conference = await bob.conference(first)
            assert alices.is_focus
            second = await call_until_up(scene, bob, conference, "carol")
            carols = await asyncio.wait_for(to_carol.get(), 40)
            assert carols.is_focus
            voices = [(alices, ALICE), (conference, BOB), (carols, CAROL)]
            assert_each_hears_the_others(await matrix(voices), loss)

            (reinvite,) = [one for one in sent(scene, "10.0.0.1", "INVITE") if is_focus(one)]
            uri = reinvite.contacts[0].sip_uri
            invited = {one.contacts[0].sip_uri for one in sent(scene, "10.0.0.3", "INVITE")}
            assert invited == {uri}  # one conference, one URI
            assert uri.user == conference.user
            assert conference.parties == [first, second]
            assert as_focus(scene)[:2] == ["re-INVITE", "INVITE"]  # F5, F8

            await carols.hangup()  # the third leaves, the two stay
            await second.wait_ended()
            assert conference.parties == [first]
            pair = [(alices, ALICE), (conference, BOB)]
            assert_each_hears_the_others(await matrix(pair), loss)
            await conference.close()
            await alices.wait_ended()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


# ---------------------------------------------------------------- in good weather


def test_F026_who_heard_whom() -> None:
    """All three ways to be in it: called, calling, and holding it; nobody hears itself."""

    async def main(three: Three) -> None:
        levels = await matrix(three.voices)
        assert_each_hears_the_others(levels)
        assert max(levels[n][n] for n in range(3)) < QUIET_DB

    in_a_conference(main)


def test_one_is_muted_another_deaf_and_one_louder() -> None:
    async def main(three: Three) -> None:
        conference = three.conference
        await conference.mute(three.first)
        await conference.deafen(three.second)
        levels = await matrix(three.voices)
        assert levels[1][0] < QUIET_DB  # Bob does not hear Alice
        assert all(level < QUIET_DB for level in levels[2])  # Carol hears nobody
        assert abs(levels[0][1]) < 0.5 and abs(levels[0][2]) < 0.5  # Alice hears both
        await conference.unmute(three.first)
        await conference.undeafen(three.second)
        await conference.set_gain(three.first, -12)
        levels = await matrix(three.voices)
        assert levels[1][0] == pytest.approx(-12, abs=0.5)
        assert levels[2][0] == pytest.approx(-12, abs=0.5)
        assert abs(levels[0][2]) < 0.5
        for bad in (20.1, float("nan")):
            with pytest.raises(ConfigError, match="cannot be had"):
                await conference.set_gain(three.first, bad)

    in_a_conference(main)


def test_who_is_on_hold_hears_nothing_and_their_music_is_not_heard() -> None:
    """Alice holds Bob and plays music to him; then Bob holds Alice. The others go on meanwhile."""

    async def main(three: Three) -> None:
        rest = [(three.conference, BOB), (three.carols, CAROL)]
        await three.alices.hold()
        await until(lambda: three.first.state is CallState.HELD)
        async with Mouth(three.alices, ALICE):  # music on hold
            levels = await matrix(rest)
            assert_each_hears_the_others(levels)
            sounds = await asyncio.gather(heard(three.carols), heard(three.conference))
            assert all(level_db(sound, ALICE) < QUIET_DB for sound in sounds)
            private = await heard(three.first)  # it does come, and is nobody's but this call's
            assert abs(level_db(private, ALICE)) < 0.5
        await three.alices.resume()
        await until(lambda: three.first.state is CallState.ACTIVE)
        assert_each_hears_the_others(await matrix(three.voices))

        await three.first.hold()
        await until(lambda: three.alices.state is CallState.HELD)
        async with Mouth(three.alices, ALICE), Mouth(three.first, DAVE):
            assert_each_hears_the_others(await matrix(rest))
            async with Mouth(three.carols, CAROL), Mouth(three.conference, BOB):
                await asyncio.sleep(0.5)
                sound = await heard(three.alices)
            assert abs(level_db(sound, DAVE)) < 0.5  # Bob's music for her alone
            assert all(level_db(sound, hertz) < QUIET_DB for hertz in (BOB, CAROL))
        await three.first.resume()
        assert_each_hears_the_others(await matrix(three.voices))

    in_a_conference(main)


def test_a_call_on_hold_is_taken_off_it_when_it_is_added() -> None:
    """The usual way: hold the first, call the second, then bring them together."""
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, to_carol = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            first = await alice.dial("bob")
            bobs = await to_bob.get()
            await first.hold()
            second = await alice.dial("carol")
            carols = await to_carol.get()
            async with await alice.conference(first, second) as conference:
                assert bobs.state is CallState.ACTIVE
                voices = [(conference, ALICE), (bobs, BOB), (carols, CAROL)]
                assert_each_hears_the_others(await matrix(voices))
                # one re-INVITE says both, that it is a conference and that the hold is over
                assert len(sent(scene, "10.0.0.2", "INVITE")) == 3
            assert first.ended is not None and second.ended is not None
            assert not conference.is_open
            with pytest.raises(CallStateError, match="over"):
                await conference.add("bob")
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


def test_who_is_removed_goes_on_alone_and_knows_it() -> None:
    async def main(three: Three) -> None:
        await three.conference.remove(three.second)
        assert not three.carols.is_focus
        assert three.alices.is_focus
        assert three.second.conference is None
        apart = [(three.alices, ALICE), (three.conference, BOB)]
        async with Mouth(three.carols, CAROL), Mouth(three.second, DAVE):
            assert_each_hears_the_others(await matrix(apart))
            sounds = await asyncio.gather(heard(three.conference), heard(three.carols))
        assert level_db(sounds[0], CAROL) < QUIET_DB
        assert abs(level_db(sounds[1], DAVE)) < 0.5
        assert level_db(sounds[1], ALICE) < QUIET_DB
        await three.conference.add(three.second)
        assert three.carols.is_focus
        assert_each_hears_the_others(await matrix(three.voices))
        await three.conference.dissolve()
        assert three.first.state is three.second.state is CallState.ACTIVE
        assert not three.alices.is_focus
        await three.first.hangup()
        await three.second.hangup()

    in_a_conference(main)


def test_calls_that_go_on_keep_nothing_of_conferences_that_are_over() -> None:
    async def main(three: Three) -> None:
        await three.conference.dissolve()
        over = []
        for _ in range(3):
            with three.scene.bob.here():
                conference = await three.bob.conference(three.first, three.second)
            assert conference.parties == [three.first, three.second]
            await conference.dissolve()
            over.append(weakref.ref(conference))
            del conference
        await asyncio.sleep(1)
        gc.collect()
        assert [one() for one in over] == [None] * 3
        assert three.first.state is three.second.state is CallState.ACTIVE
        await three.first.hangup()
        await three.second.hangup()

    in_a_conference(main)


def test_a_recording_has_what_all_parties_say(tmp_path: Path) -> None:
    path = tmp_path / "all.wav"

    async def main(three: Three) -> None:
        async with (
            Mouth(three.alices, ALICE),
            Mouth(three.carols, CAROL),
            three.conference.record(path),
        ):
            await three.conference.play(tone(BOB, 2))
        recorded = Sound.read(path).samples[RATE // 2 :]
        assert abs(level_db(recorded, ALICE)) < 0.5
        assert abs(level_db(recorded, CAROL)) < 0.5
        assert level_db(recorded, BOB) < QUIET_DB

    in_a_conference(main)


def test_sound_of_the_conference_ends_with_its_last_party_and_begins_with_the_next() -> None:
    async def main(three: Three) -> None:
        conference = three.conference
        playing = asyncio.ensure_future(conference.play(tone(BOB, 60)))
        reading = asyncio.ensure_future(heard(conference, 60))
        await asyncio.sleep(1)
        await three.alices.hangup()
        await three.carols.hangup()
        await playing
        assert 0 < len(await reading) < 5 * RATE
        with pytest.raises(CallStateError, match="nobody"):
            await conference.play(tone(BOB, 1))
        again = await conference.add("alice")
        theirs = await three.to_alice.get()
        assert_each_hears_the_others(await matrix([(conference, BOB), (theirs, ALICE)]))
        assert conference.parties == [again]

    in_a_conference(main)


def test_who_is_removed_while_on_hold_stays_on_hold() -> None:
    async def main(three: Three) -> None:
        await three.first.hold()
        await three.conference.remove(three.first)
        assert three.first.state is three.alices.state is CallState.HELD
        await three.first.hangup()

    in_a_conference(main)


def test_what_cannot_be_in_a_conference_is_not() -> None:
    async def main(three: Three) -> None:
        with pytest.raises(CallStateError, match="is in a conference"):
            await three.bob.conference(three.first)
        assert three.conference.parties == [three.first, three.second]
        with pytest.raises(CallStateError, match="of this phone"):
            await three.conference.add(three.alices)
        with pytest.raises(CallStateError, match="not in the conference"):
            await three.conference.mute(three.alices)
        ringing = await three.bob.dial("alice", wait="started")
        with pytest.raises(CallStateError, match="wait for its answer"):
            await three.conference.add(ringing)
        await ringing.hangup()

    in_a_conference(main)


def test_a_phone_without_sound_holds_none_and_does_not_say_that_it_can() -> None:
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering()
        async with scene.phone("alice", scene.alice) as alice:
            mine, _ = await scene.up(alice, "bob", to_bob)
            with pytest.raises(MediaError, match="carries no sound"):
                await alice.conference(mine)
            assert "join" not in (await alice.options("bob")).supported
            await mine.hangup()
        await bob.close()

    scene.run(main)


def test_two_conferences_of_one_phone_hear_nothing_of_each_other() -> None:
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, _ = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            ups = [await scene.up(phone, "bob", to_bob) for phone in (alice, carol, alice, carol)]
            theirs, ours = zip(*ups, strict=True)
            conferences = [await bob.conference(*ours[:2]), await bob.conference(*ours[2:])]
            assert conferences[0].user != conferences[1].user
            one = [(theirs[0], ALICE), (theirs[1], CAROL), (conferences[0], BOB)]
            other = [(theirs[2], 500), (theirs[3], 1300), (conferences[1], DAVE)]
            levels = await matrix(one + other)
            for at, row in enumerate(levels):
                for of, level in enumerate(row):
                    together = at // 3 == of // 3 and at != of
                    assert abs(level) < 0.5 if together else level < QUIET_DB, levels
            for conference in conferences:
                await conference.close()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


def test_who_does_not_hear_of_conferences_takes_part_all_the_same() -> None:
    """A phone that refuses every re-INVITE: it can be added, but not taken off hold."""
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, to_carol = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            first, bobs = await scene.up(alice, "bob", to_bob)
            second, carols = await scene.up(alice, "carol", to_carol)
            await second.hold()
            for phone, call in ((bob, bobs), (carol, carols)):
                refuse = partial(_refuse_change, phone)
                call._session.on_reinvite = refuse  # type: ignore[method-assign]
            with pytest.raises(CallError) as failure:
                await alice.conference(first, second)
            assert failure.value.status == 488
            assert first.conference is second.conference is None
            assert first._session.focus is second._session.focus is None  # no parties of it
            assert (first.state, second.state) == (CallState.ACTIVE, CallState.HELD)
            async with await alice.conference(first) as conference:
                assert not bobs.is_focus
                pair = [(bobs, BOB), (conference, ALICE)]
                assert_each_hears_the_others(await matrix(pair))
            await second.hangup()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


def _refuse_change(phone: Softphone, invite: ServerInvite) -> None:
    invite.respond(488, now=phone._transport.now())
    phone._transport.flush()


def test_a_phone_that_is_closed_leaves_nothing_of_its_conference(tmp_path: Path) -> None:
    scene = Scene(0.0)
    path = tmp_path / "all.wav"

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            conference = await bob.conference(first)
            await conference.record(path).start()
            async with Mouth(alices, ALICE):
                playing = asyncio.ensure_future(conference.play(tone(BOB, 60)))
                await asyncio.sleep(3)
                await bob.close()
            await playing
            assert alices.ended is not None
            assert conference.parties == []
            await conference.close()
            with pytest.raises(CallStateError, match="over"):
                await conference.play(tone(BOB, 1))
            assert abs(level_db(Sound.read(path).samples, ALICE)) < 0.5

    scene.run(main)


# ---------------------------------------------------------------- handing over


@in_all_weathers
def test_F026_the_host_leaves_and_the_two_go_on_with_each_other(loss: float, seed: int) -> None:
    """By an attended transfer: one calls the other with Replaces (RFC 3891)."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, to_carol = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            second, carols = await scene.up(bob, "carol", to_carol)
            with scene.bob.here():
                conference = await bob.conference(first, second)
                await conference.hand_over(timeout=120)
            assert first.ended is not None and second.ended is not None
            await until(lambda: len(alice.calls) == len(carol.calls) == 1 and not bob.calls)
            (one,), (other,) = alice.calls, carol.calls
            assert not one.is_focus and not other.is_focus
            await until(lambda: one.state is other.state is CallState.ACTIVE)
            assert_each_hears_the_others(await matrix([(one, ALICE), (other, CAROL)]), loss)
            await one.hangup()
            await other.wait_ended()
            assert alices.ended is not None and carols.ended is not None
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


def test_F026_a_conference_is_handed_over_to_another_that_goes_on_without_its_host() -> None:
    """Bob calls Dave's conference by its address and sends Alice and Carol there (RFC 4579)."""

    async def main(three: Three) -> None:
        scene = three.scene
        host: Host = scene.world.host("10.0.0.6")
        with host.here():
            dave = scene.phone("gateway", host, media=SOUND)
            dave.on_join(lambda request: True)
            await dave.start()
            theirs = await dave.conference()
        address = f"sip:{theirs.user}@10.0.0.6:5060"
        to_dave = await three.bob.dial(address)
        assert to_dave.is_focus
        await three.conference.hand_over(to_dave)
        await until(lambda: len(theirs.parties) == 3)
        assert three.bob.calls == [to_dave]
        assert not three.conference.is_open
        (alices,), (carols,) = three.alice.calls, three.carol.calls
        voices = [(alices, ALICE), (to_dave, BOB), (carols, CAROL), (theirs, DAVE)]
        assert_each_hears_the_others(await matrix(voices))
        await to_dave.hangup()
        await until(lambda: len(theirs.parties) == 2)
        assert_each_hears_the_others(await matrix([(alices, ALICE), (carols, CAROL)]))
        await host.run(theirs.close())
        await scene.settled(dave)
        await dave.close()

    in_a_conference(main)


def test_who_cannot_be_handed_over_stays() -> None:
    async def main(three: Three) -> None:
        with pytest.raises(CallError) as failure:
            await three.conference.hand_over("nobody-at-all")
        assert failure.value.status == 404
        assert three.conference.parties == [three.first, three.second]
        assert_each_hears_the_others(await matrix(three.voices))
        await three.second.hangup()
        with pytest.raises(CallStateError, match="1 parties cannot be connected"):
            await three.conference.hand_over()

    in_a_conference(main)


@pytest.mark.long
def test_a_party_that_transfers_its_call_is_succeeded_in_the_conference() -> None:
    """Carol sends Bob on to Dave: Dave is called, and takes her part."""

    async def main(three: Three) -> None:
        scene = three.scene
        host: Host = scene.world.host("10.0.0.6")
        dave, to_dave = await scene.answering("gateway", host, media=SOUND)
        await three.conference.mute(three.second)
        await three.carols.transfer("gateway")
        daves = await to_dave.get()
        await until(lambda: daves.is_focus and three.second.ended is not None)
        voices = [(three.alices, ALICE), (three.conference, BOB), (daves, DAVE)]
        (new,) = [call for call in three.conference.parties if call is not three.first]
        (event,) = [one for one in three.second._events if isinstance(one, Transferred)]
        assert event.call is new
        levels = await matrix(voices)
        assert levels[0][2] < QUIET_DB  # and is as muted as she was
        await three.conference.unmute(new)
        assert_each_hears_the_others(await matrix(voices))
        await daves.hangup()
        await scene.settled(dave)
        await dave.close()

    in_a_conference(main)


@pytest.mark.long
def test_a_party_that_leaves_before_the_target_of_its_transfer_answers_is_succeeded() -> None:
    """RFC 5589 section 6: the transferor may hang up once its REFER is accepted."""

    async def main(three: Three) -> None:
        scene = three.scene
        answer = asyncio.Event()

        async def take(call: Call) -> None:
            await call.ring()
            await answer.wait()
            await call.answer()
            await call.wait_ended()

        dave = await scene.taking("gateway", take, scene.world.host("10.0.0.6"), media=SOUND)
        transfer = asyncio.ensure_future(three.carols.transfer("gateway"))
        await until(lambda: dave.calls and dave.calls[0].state is CallState.RINGING)
        await three.carols.hangup()
        await until(lambda: three.conference.parties == [three.first])
        answer.set()
        await transfer
        (daves,) = dave.calls
        await until(lambda: daves.is_focus and len(three.conference.parties) == 2)
        voices = [(three.alices, ALICE), (three.conference, BOB), (daves, DAVE)]
        assert_each_hears_the_others(await matrix(voices))
        await daves.hangup()
        await scene.settled(dave)
        await dave.close()

    in_a_conference(main)


@pytest.mark.long
def test_who_takes_a_party_s_place_by_replaces_takes_its_part() -> None:
    """Carol, consulting Dave, leaves her part to him (RFC 3891)."""

    async def main(three: Three) -> None:
        scene = three.scene
        host: Host = scene.world.host("10.0.0.6")
        dave, to_dave = await scene.answering("gateway", host, media=SOUND)
        with scene.carol.here():
            consulting = await three.carol.dial("gateway")
            daves = await to_dave.get()
            await consulting.transfer(three.carols)  # Dave calls Bob in her place
        await until(lambda: daves.ended is not None and len(dave.calls) == 1)
        (daves,) = dave.calls
        await until(lambda: daves.is_focus and len(three.conference.parties) == 2)
        assert three.second.ended is not None
        voices = [(three.alices, ALICE), (three.conference, BOB), (daves, DAVE)]
        assert_each_hears_the_others(await matrix(voices))
        await daves.hangup()
        await scene.settled(dave)
        await dave.close()

    in_a_conference(main)


def test_three_in_a_conference_do_without_more_than_one_exchange_each() -> None:
    """As many re-INVITEs as calls that were there before: one, and none for who is called to it."""

    async def main(three: Three) -> None:
        for host in ("10.0.0.1", "10.0.0.3"):
            assert len(sent(three.scene, host, "INVITE")) == 1
        await three.conference.add("carol")
        assert len(sent(three.scene, "10.0.0.3", "INVITE")) == 2

    in_a_conference(main)

"""What a conference owes those who take part: who is in it, and what they may ask of it.

RFC 4575 (the event package) and RFC 4579 (REFER to a focus).
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from conference_scene import (
    SOUND,
    Three,
    assert_each_hears_the_others,
    in_a_conference,
    matrix,
    sent,
    until,
)
from flow_scene import SERVER, Scene, in_all_weathers

from voip import Answering, CallError, SubscriptionError, roster
from voip.desk import ModerationRequest
from voip.session.transfer import follow
from voip.sip.packages.conference_info import ConferenceInfo
from voip.watching import Watch


def told(watch: Watch) -> dict[str, str | None]:
    """Who takes part, and how, as a watcher knows it."""
    return {user.entity: user.endpoints[0].status for user in watch.users}


def infos(watch: Watch) -> list[ConferenceInfo]:
    return [one.value for one in watch._log if one.value is not None]


def aor(name: str) -> str:
    return f"sip:{name}@{SERVER}"


EVERYBODY = {aor(name): "connected" for name in ("alice", "bob", "carol")}


@pytest.mark.rfc("4575", "3")
def test_a_party_is_told_who_takes_part_and_what_changes() -> None:
    async def main(three: Three) -> None:
        watch = await three.alice.watch(three.alices, "conference")
        assert told(watch) == EVERYBODY
        (first,) = infos(watch)
        assert (first.state, first.version, first.user_count) == ("full", 1, 3)
        assert first.entity.startswith(f"sip:{three.conference.user}@10.0.0.2")
        joined = {user.entity: user.endpoints[0].joined for user in watch.users}
        assert joined == {
            aor("alice"): "dialed-in", aor("bob"): "focus-owner", aor("carol"): "dialed-in",
        }  # fmt: skip

        await three.conference.mute(three.second)
        await until(lambda: told(watch)[aor("carol")] == "muted-via-focus")
        (carol,) = infos(watch)[-1].users or ()
        assert carol.endpoints[0].media[0].status == "recvonly"
        await three.conference.unmute(three.second)
        await three.second.hold()
        await until(lambda: told(watch)[aor("carol")] == "on-hold")
        await three.second.resume()
        await until(lambda: told(watch)[aor("carol")] == "connected")
        await three.carols.hangup()
        await until(lambda: aor("carol") not in told(watch))
        versions = [one.version for one in infos(watch)]
        assert versions == list(range(1, len(versions) + 1))
        assert {one.state for one in infos(watch)[1:]} == {"partial"}

        await three.conference.close()
        await until(lambda: watch.state == "terminated")
        assert infos(watch)[-1].state == "deleted"
        assert watch.users == []

    in_a_conference(main)


@pytest.mark.rfc("4575", "3")
@in_all_weathers
def test_a_watcher_knows_in_the_end_who_is_there_whatever_is_lost(loss: float, seed: int) -> None:
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, _ = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            with scene.bob.here():
                conference = await bob.conference(first)
            watch = await alice.watch(alices, "conference")
            _, second = await scene.up(carol, "bob", to_bob)
            await conference.add(second)
            await until(lambda: told(watch) == EVERYBODY)
            await conference.mute(second)
            await until(lambda: told(watch)[aor("carol")] == "muted-via-focus")
            await second.hangup()
            await until(lambda: set(told(watch)) == {aor("alice"), aor("bob")})
            await conference.close()
            await until(lambda: watch.state == "terminated", 120)
            await scene.settled(alice, bob, carol)
            assert alice._stack.watchers == bob._stack.watchers == {}
        await bob.close()
        await carol.close()

    scene.run(main)


@pytest.mark.rfc("4575", "3.9")
def test_changes_are_told_at_most_every_five_seconds() -> None:
    """RFC 4575 section 3.9: what is over before it could be told is not told at all."""

    async def main(three: Three) -> None:
        loop = asyncio.get_running_loop()
        watch = await three.alice.watch(three.alices, "conference")
        times: list[float] = []

        async def listen() -> None:
            async for _ in watch.notifications():
                times.append(loop.time())

        listening = asyncio.ensure_future(listen())
        for _ in range(40):
            await three.conference.mute(three.second)
            await asyncio.sleep(0.2)
            await three.conference.unmute(three.second)
            await asyncio.sleep(0.2)
        await asyncio.sleep(20)
        assert told(watch) == EVERYBODY
        gaps = [later - sooner for sooner, later in pairwise(times[1:])]
        assert 2 <= len(gaps) <= 5
        assert min(gaps) > 4.9
        await watch.close()
        await listening

    in_a_conference(main)


@pytest.mark.rfc("4575", "3.5")
def test_whoever_leaves_is_told_no_more_and_strangers_nothing() -> None:
    async def main(three: Three) -> None:
        scene, conference = three.scene, three.conference
        watch = await three.carol.watch(three.carols, "conference")
        address = conference.uri
        await three.conference.remove(three.second)  # her call goes on, by itself
        await until(lambda: watch.state == "terminated")
        assert watch.latest is not None
        assert (watch.latest.state, watch.latest.body) == ("terminated", b"")
        for target in (three.carols, address):
            with pytest.raises(SubscriptionError) as failure:
                await three.carol.watch(target, "conference")
            assert failure.value.status in (403, 404)

        asked = []

        @three.bob.on_watch
        def may_watch(request: object) -> bool:
            asked.append(request)
            return len(asked) > 1

        refused = await three.carol.watch(address, "conference")  # pending at first
        await until(lambda: refused.state == "terminated")
        assert refused.users == []
        watch = await three.carol.watch(address, "conference")
        await until(lambda: len(watch.users) == 2)
        assert [one.event for one in asked] == ["conference", "conference"]  # type: ignore[attr-defined]
        with pytest.raises(SubscriptionError) as failure:
            await three.carol.watch("sip:conf-nobody@10.0.0.2", "conference")
        assert failure.value.status == 404
        with scene.bob.here():
            await conference.add(three.second)
        await until(lambda: told(watch) == EVERYBODY)
        await watch.close()

    in_a_conference(main)


def test_a_phone_that_mixes_nothing_tells_of_no_conferences() -> None:
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering()
        async with scene.phone("alice", scene.alice) as alice:
            mine, _ = await scene.up(alice, "bob", to_bob)
            with pytest.raises(SubscriptionError) as failure:
                await alice.watch(mine, "conference")
            assert failure.value.status == 489
            await mine.hangup()
        await bob.close()

    scene.run(main)


def test_who_hides_has_a_name_of_its_own_in_the_list() -> None:
    async def main(three: Three) -> None:
        hidden = [await three.carol.dial("bob", anonymous=True) for _ in range(2)]
        calls = [one for one in three.bob.calls if one not in three.conference.parties]
        for call in calls:
            await three.conference.add(call)
        watch = await three.alice.watch(three.alices, "conference")
        names = {user.entity for user in watch.users} - set(EVERYBODY)
        assert len(names) == 2
        assert all(name.endswith("@anonymous.invalid") for name in names)
        assert all(
            user.endpoints[0].entity == user.entity for user in watch.users if user.entity in names
        )
        for call in hidden:
            await call.hangup()
        await watch.close()

    in_a_conference(main)


# ---------------------------------------------------------------- what parties may ask


@pytest.mark.rfc("4579", "5.5")
@pytest.mark.rfc("4579", "5.11")
@in_all_weathers
def test_F026_a_party_has_the_focus_call_somebody_and_let_somebody_go(
    loss: float, seed: int
) -> None:
    """RFC 4579 sections 5.5 and 5.11: REFER to the conference, INVITE or BYE by the focus."""
    scene = Scene(loss, seed)
    asked = []

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, to_carol = await scene.answering("carol", media=SOUND)
        bob.on_moderation(lambda request: asked.append(request) or True)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            with scene.bob.here():
                conference = await bob.conference(first)
            await alice.refer(alices, "carol", timeout=120)
            carols = await asyncio.wait_for(to_carol.get(), 40)
            await until(lambda: len(conference.parties) == 2)
            assert carols.is_focus
            voices = [(alices, 440), (conference, 700), (carols, 1200)]
            assert_each_hears_the_others(await matrix(voices), loss)
            await alice.refer(alices, "carol", method="BYE", timeout=120)
            await until(lambda: carols.ended is not None)
            assert conference.parties == [first]
            (refer, bye) = sent(scene, "10.0.0.2", "REFER")
            assert refer.to.tag is None and refer.uri == conference.uri
            assert "method=BYE" in (bye.headers.get("Refer-To") or "")
            assert [(one.action, one.target, one.by) for one in asked] == [
                ("add", aor("carol"), first), ("remove", aor("carol"), first),
            ]  # fmt: skip
            await conference.close()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


def test_nobody_is_called_or_let_go_unless_the_program_says_so() -> None:
    async def main(three: Three) -> None:
        async def refused(target: str, method: str = "INVITE") -> int | None:
            with pytest.raises(CallError) as failure:
                await three.alice.refer(three.alices, target, method=method)  # type: ignore[arg-type]
            return failure.value.status

        assert await refused("carol") == 403
        assert await refused("carol", "BYE") == 403
        three.bob.on_moderation(lambda request: False)
        assert await refused("carol") == 603
        three.bob.on_moderation(lambda request: True)
        assert await refused("nobody") == 404
        assert await refused("nobody", "BYE") == 404
        # who takes no part in it may ask for nothing, whatever its name
        await three.conference.remove(three.second)
        address = three.conference.uri
        with pytest.raises(CallError) as failure:
            await three.carol.refer(address, "alice")
        assert failure.value.status == 403
        assert three.conference.parties == [three.first]
        await three.carols.hangup()

    in_a_conference(main)


@pytest.mark.rfc("4579", "5.6")
def test_who_is_sent_to_a_conference_by_a_party_calls_it() -> None:
    """RFC 4579 section 5.6: REFER to the third party, with the conference's address."""

    async def main(three: Three) -> None:
        await three.conference.remove(three.second)
        await three.carols.hangup()
        three.bob.on_join(lambda request: request.new.remote == aor("carol"))
        three.carol.on_transfer(lambda request: request.target.startswith("sip:conf-"))
        await three.alice.refer("carol", three.conference.uri)
        await until(lambda: len(three.conference.parties) == 2)
        (carols,) = three.carol.calls
        assert carols.is_focus
        voices = [(three.alices, 440), (three.conference, 700), (carols, 1200)]
        assert_each_hears_the_others(await matrix(voices))

    in_a_conference(main)


@pytest.mark.rfc("4579", "5.5")
def test_what_a_party_asks_for_is_told_as_it_goes() -> None:
    """Whom the focus cannot get is reported with the status that it got."""

    async def main(three: Three) -> None:
        async def refused(target: str) -> int | None:
            with pytest.raises(CallError) as failure:
                await three.alice.refer(three.alices, target)
            return failure.value.status

        three.bob.on_moderation(lambda request: True)
        three.carol.answering = Answering(do_not_disturb=True)
        assert await refused("carol") == 486
        assert three.conference.parties == [three.first, three.second]

        @three.bob.on_moderation
        async def breaks(request: ModerationRequest) -> bool:
            raise ValueError("no")

        assert await refused("carol") == 603

    in_a_conference(main)


def test_a_bye_may_be_asked_for_in_the_party_s_call_and_a_call_is_transferred() -> None:
    """In a call REFER means that call, unless it says BYE; a focus that hangs up is never asked."""

    async def main(three: Three) -> None:
        asked = []
        three.bob.on_moderation(lambda request: asked.append(request.action) or True)
        stack, dialog = three.alice._stack, three.alices._session.dialog
        assert dialog is not None
        handle = stack.agent.subscriptions.refer(
            dialog, f"<{aor('carol')};method=BYE>", now=stack.signalling.now()
        )
        await follow(stack, handle, "Bob", timeout=60, tell=lambda _: None)
        assert three.carols.ended is not None
        await three.alices.transfer("carol")  # the conference has her now, and not Alice
        await until(lambda: [call.remote for call in three.conference.parties] == [aor("carol")])
        assert asked == ["remove"]
        await three.carol.calls[0].hangup()

    in_a_conference(main)


def test_a_phone_that_is_closed_says_that_its_conference_is_over() -> None:
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        bob.on_watch(lambda request: True)
        carol, _ = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            with scene.bob.here():
                conference = await bob.conference(first)
            address = conference.uri
            watches = [
                await alice.watch(alices, "conference"),
                await carol.watch(address, "conference"),
            ]
            await until(lambda: all(len(watch.users) == 2 for watch in watches))
            await conference.mute(first)  # a change that waits to be told
            await bob.close()
            for watch in watches:
                assert watch.state == "terminated"
                assert infos(watch)[-1].state == "deleted"
            await scene.settled(alice, carol)
        await carol.close()

    scene.run(main)


@pytest.mark.parametrize("limit", ["MAX_WATCHERS", "MAX_OF_PARTY"])
def test_a_conference_may_be_watched_by_so_many_and_no_more(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(roster, limit, 2)

    async def main(three: Three) -> None:
        watches = [await three.alice.watch(three.alices, "conference") for _ in range(2)]
        with pytest.raises(SubscriptionError) as failure:
            await three.alice.watch(three.alices, "conference")
        assert failure.value.status == 503
        if limit == "MAX_OF_PARTY":  # one party leaves room for the others
            await (await three.carol.watch(three.carols, "conference")).close()
        for watch in watches:
            await watch.close()
        await (await three.carol.watch(three.carols, "conference")).close()

    in_a_conference(main)


def test_a_refresh_is_answered_by_all_there_is() -> None:
    async def main(three: Three) -> None:
        watch = await three.alice.watch(three.alices, "conference", expires_s=90)
        await three.conference.mute(three.second)
        await until(lambda: told(watch)[aor("carol")] == "muted-via-focus")
        await asyncio.sleep(90)
        assert [one.state for one in infos(watch)] == ["full", "partial", "full"]
        assert told(watch)[aor("carol")] == "muted-via-focus"
        # asked once, all is told, and nothing more
        once = await three.carol.watch(three.carols, "conference", expires_s=0)
        assert [one.state for one in infos(once)] == ["full"]
        assert once.state == "terminated"
        await watch.close()

    in_a_conference(main)


# ---------------------------------------------------------------- handing over


@pytest.mark.rfc("4579", "5.10")
@in_all_weathers
@pytest.mark.parametrize("by", ["the parties", "the other focus"])
def test_F026_three_go_on_in_a_conference_elsewhere_when_their_host_leaves(
    loss: float, seed: int, by: str
) -> None:
    """Each is sent there (REFER); or the focus there calls it in our place (REFER, Replaces)."""
    scene = Scene(loss, seed)

    async def main() -> None:
        host = scene.world.host("10.0.0.6")
        dave, _ = await scene.answering("gateway", host, media=SOUND)
        dave.on_join(lambda request: by == "the parties" or request.new.remote == aor("bob"))
        dave.on_moderation(lambda request: request.attended)
        with host.here():
            theirs = await dave.conference()
        bob, to_bob = await scene.answering(media=SOUND)
        carol, _ = await scene.answering("carol", media=SOUND)
        eve, _ = await scene.answering("alice", scene.world.host("10.0.0.7"), media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            phones = (alice, carol, eve)
            ups = [await scene.up(phone, "bob", to_bob) for phone in phones]
            with scene.bob.here():
                conference = await bob.conference(*(ours for _, ours in ups))
                address = f"sip:{theirs.user}@10.0.0.6:5060"
                there = await bob.dial(address, timeout=80)
                await conference.hand_over(there, timeout=120)
            await until(lambda: len(theirs.parties) == 4)
            assert bob.calls == [there]
            await there.hangup()  # and the host is gone
            await until(lambda: len(theirs.parties) == 3)
            await until(lambda: all(len(phone.calls) == 1 for phone in phones))
            calls = [phone.calls[0] for phone in phones]
            assert all(call.is_focus for call in calls)
            called = sent(scene, "10.0.0.3", "INVITE")
            assert ("Replaces" in called[-1].headers) == (by == "the other focus")
            voices = list(zip(calls, (440, 1200, 1900), strict=True))
            assert_each_hears_the_others(await matrix([*voices, (theirs, 700)]), loss)
            await host.run(theirs.close())
            await scene.settled(*phones, bob, dave)
        for phone in (bob, carol, eve, dave):
            await phone.close()

    scene.run(main)

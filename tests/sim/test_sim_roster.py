"""Who takes part in a conference, as those are told who watch it (RFC 4575)."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from conference_scene import EVERYBODY, SOUND, Three, aor, in_a_conference, until
from flow_scene import Scene, in_all_weathers

from voip import SubscriptionError, roster
from voip.sip.events import Notified, SipEvent, SubscriptionEnded
from voip.sip.packages.conference_info import CONTENT_TYPE, ConferenceInfo
from voip.watching import Watch

pytestmark = pytest.mark.long

INSTANCE = "00000000-0000-1000-8000-000A95A0E128"


def told(watch: Watch) -> dict[str, str | None]:
    """Who takes part, and how, as a watcher knows it."""
    return {user.entity: user.endpoints[0].status for user in watch.users}


def infos(watch: Watch) -> list[ConferenceInfo]:
    return [one.value for one in watch._log if one.value is not None]


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


def test_giving_up_may_cross_with_news() -> None:
    """The last word is all that there is, even if another NOTIFY was on its way."""

    async def main(three: Three) -> None:
        watch = await three.alice.watch(three.alices, "conference")
        await three.conference.mute(three.second)
        await watch.close()
        states = [one.state for one in infos(watch)]
        assert states == ["full", "partial", "full"]
        assert watch.latest is not None and watch.latest.state == "terminated"
        assert told(watch)[aor("carol")] == "muted-via-focus"
        with pytest.raises(SubscriptionError) as failure:
            await three.alice.watch(three.alices, "conference", accept=["text/plain"])
        assert failure.value.status == 406

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


@pytest.mark.rfc("4538", "4")
def test_a_conference_behind_the_name_of_a_phone_is_found_by_the_call_in_it() -> None:
    """A GRUU says which phone, and not which conference: the party names its call."""
    scene = Scene(0.0)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND, outbound=True, instance=INSTANCE)
        bob.on_moderation(lambda request: True)
        carol, _ = await scene.answering("carol", media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            alices, first = await scene.up(alice, "bob", to_bob)
            with scene.bob.here():
                conference = await bob.conference(first)
            assert conference.uri == bob.gruu
            watch = await alice.watch(alices, "conference")
            await alice.refer(alices, "carol")
            await until(lambda: told(watch) == EVERYBODY)
            with pytest.raises(SubscriptionError) as failure:
                await alice.watch(conference.uri, "conference")
            assert failure.value.status == 404
            await conference.close()
            await scene.settled(alice, bob, carol)
        await bob.close()
        await carol.close()

    scene.run(main)


def test_a_party_may_watch_in_the_dialog_of_its_call() -> None:
    async def main(three: Three) -> None:
        stack, dialog = three.alice._stack, three.alices._session.dialog
        assert dialog is not None
        events: list[SipEvent] = []
        handle = stack.agent.subscriptions.subscribe_in(
            dialog, "conference", accept=(CONTENT_TYPE,), now=stack.signalling.now()
        )
        stack.watchers[handle] = events.append
        stack.signalling.flush()
        await until(lambda: events)
        await three.carols.hangup()
        await until(lambda: len(events) == 2)
        await three.alices.hangup()  # and with the dialog the subscription ends
        await until(lambda: isinstance(events[-1], SubscriptionEnded))
        said = [one.request.body for one in events if isinstance(one, Notified)]
        assert [ConferenceInfo.parse(one).state for one in said if one] == ["full", "partial"]
        del stack.watchers[handle]

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

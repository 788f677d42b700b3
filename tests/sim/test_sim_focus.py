"""What parties ask a conference for, and one that goes on elsewhere (RFC 4579)."""

from __future__ import annotations

import asyncio

import pytest
from conference_scene import (
    SOUND,
    Three,
    aor,
    assert_each_hears_the_others,
    in_a_conference,
    matrix,
    sent,
    until,
)
from flow_scene import Scene, in_all_weathers

from voip import Answering, CallError
from voip.desk import ModerationRequest
from voip.session.transfer import follow

pytestmark = pytest.mark.long

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


@in_all_weathers
def test_F026_a_party_holds_the_conference_from_now_on(loss: float, seed: int) -> None:
    """Alice makes one of her call to Bob, who hands his over to it: both mix for a moment."""
    scene = Scene(loss, seed)

    async def main() -> None:
        bob, to_bob = await scene.answering(media=SOUND)
        carol, _ = await scene.answering("carol", media=SOUND)
        dave, _ = await scene.answering("gateway", scene.world.host("10.0.0.6"), media=SOUND)
        async with scene.phone("alice", scene.alice, media=SOUND) as alice:
            phones = (alice, carol, dave)
            ups = [await scene.up(phone, "bob", to_bob) for phone in phones]
            alices, first = ups[0]
            with scene.bob.here():
                conference = await bob.conference(*(ours for _, ours in ups))
            theirs = await alice.conference(alices)
            alice.on_join(lambda request: request.new.remote in (aor("carol"), aor("gateway")))
            assert first.is_focus and alices.is_focus
            with scene.bob.here():
                await conference.hand_over(first, timeout=120)
            assert bob.calls == [first]
            await first.hangup()  # he was a party of hers in the end
            await until(lambda: len(theirs.parties) == 2)
            await until(lambda: len(carol.calls) == len(dave.calls) == 1)
            voices = [(theirs, 440), (carol.calls[0], 1200), (dave.calls[0], 1900)]
            assert_each_hears_the_others(await matrix(voices), loss)
            await theirs.close()
            await scene.settled(*phones, bob)
        for phone in (bob, carol, dave):
            await phone.close()

    scene.run(main)

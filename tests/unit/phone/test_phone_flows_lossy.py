"""Two of our calls with each other, where nothing or every fifth datagram is lost."""

from __future__ import annotations

import asyncio

import pytest
from callers import until
from phone_scene import SOUND_PORT, Network, dial, flow, hang_up, said, taking, up, without

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy
from voip.sip.message import Request
from voip.types import Address


async def early(call: Call) -> None:
    await call.progress()
    await asyncio.sleep(20)


@flow
async def test_F087_offer_in_the_invite_answer_in_the_200(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        mine, _ = await up(alice, bob)
        assert said(net, "INVITE")[0].body
        await hang_up(mine, alice, bob)


@flow
async def test_F088_offer_in_the_200_answer_in_the_ack(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        mine, _ = await up(alice, bob, late_offer=True)
        [ack] = said(net, "ACK")
        assert ack.body
        assert not said(net, "INVITE")[0].body
        await hang_up(mine, alice, bob)


@flow
async def test_F089_answer_in_a_reliable_183(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        calls = taking(bob, early)
        mine = await dial(alice, bob)
        await until(lambda: mine.state is CallState.EARLY)
        assert alice.sound.sends_to == Address(bob.host.address, SOUND_PORT)
        await until(lambda: mine._session.is_up and calls[0]._session.is_up)
        assert said(net, "PRACK") != []
        assert not said(net, "200 INVITE")[0].body
        await hang_up(mine, alice, bob)


@flow
async def test_F090_offer_in_a_reliable_183_answer_in_the_prack(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        calls = taking(bob, early)
        mine = await dial(alice, bob, late_offer=True)
        await until(lambda: mine.state is CallState.EARLY and calls[0].state is CallState.EARLY)
        assert bob.sound.sends_to == Address(alice.host.address, SOUND_PORT)
        await until(lambda: mine._session.is_up and calls[0]._session.is_up)
        assert said(net, "PRACK")[0].body
        assert not said(net, "ACK")[0].body
        await hang_up(calls[0], alice, bob)


@flow
async def test_F086_F092_hold_before_the_answer_goes_by_update(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        calls = taking(bob, early)
        mine = await dial(alice, bob)
        await until(lambda: mine.state is CallState.EARLY)
        await mine.hold()
        assert said(net, "UPDATE")[0].body
        assert said(net, "200 UPDATE")[0].body
        await until(lambda: mine.state is calls[0].state is CallState.HELD)
        assert bob.sound.sends_to is None
        await hang_up(mine, alice, bob)


@pytest.mark.parametrize("by_caller", [True, False], ids=["by caller", "by callee"])
@flow
async def test_F017_F094_hold_and_resume(net: Network, by_caller: bool) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        mine, theirs = await up(alice, bob)
        holding = mine if by_caller else theirs
        held, other = (bob, theirs) if by_caller else (alice, mine)
        await holding.hold()
        await until(lambda: other.state is CallState.HELD)
        assert held.sound.sends_to is None
        await holding.resume()
        await until(lambda: other.state is CallState.ACTIVE)
        assert held.sound.sends_to is not None
        await hang_up(holding, alice, bob)


@flow
async def test_F059_F093_both_hold_at_once(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        mine, theirs = await up(alice, bob)
        await asyncio.gather(mine.hold(), theirs.hold())
        await until(lambda: alice.sound.sends_to is bob.sound.sends_to is None)
        assert mine.state is theirs.state is CallState.HELD
        await hang_up(mine, alice, bob)


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"], ids=["by UPDATE", "by re-INVITE"])
@flow
async def test_F096_a_call_of_two_hours_is_refreshed_and_stays(net: Network, method: str) -> None:
    alice, bob = net.phone("alice"), net.phone("bob")
    if method != "UPDATE":
        without("UPDATE", bob)
    async with alice, bob:
        mine, theirs = await up(alice, bob)
        await asyncio.sleep(7100)
        assert mine.state is theirs.state is CallState.ACTIVE
        refreshes = [m for m in said(net, method) if isinstance(m, Request) and m.to.tag]
        assert len(refreshes) == 7
        await hang_up(mine, alice, bob)


@flow
async def test_F096_a_call_whose_other_side_has_died_ends(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        mine, _ = await up(alice, bob)
        net.silence(bob.host.address)
        await asyncio.sleep(2000)
        assert (mine.ended.by, mine.ended.status) == (EndedBy.FAILURE, 408)


@flow
async def test_F013_a_call_that_is_given_up_while_it_rings(net: Network) -> None:
    async def ring(call: Call) -> None:
        await call.ring()
        await asyncio.sleep(60)

    async with net.phone("alice") as alice, net.phone("bob") as bob:
        calls = taking(bob, ring)
        mine = await dial(alice, bob)
        await until(lambda: bool(calls) and calls[0].state is CallState.RINGING)
        await asyncio.sleep(5)
        await hang_up(mine, alice, bob)
        assert calls[0].ended.by is EndedBy.REMOTE


@flow
async def test_F014_a_call_that_is_refused(net: Network) -> None:
    async def refuse(call: Call) -> None:
        await call.reject(486)

    async with net.phone("alice") as alice, net.phone("bob") as bob:
        taking(bob, refuse)
        mine = await dial(alice, bob)
        await until(lambda: mine.state is CallState.ENDED)
        assert mine.ended.status == 486
        await hang_up(mine, alice, bob)


@flow
async def test_F015_a_call_to_a_phone_that_is_dead(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        net.silence(bob.host.address)
        mine = await dial(alice, bob)
        with pytest.raises(CallError, match="no response"):
            await mine.wait_answered()
        assert mine.ended.status == 408
        await hang_up(mine, alice, bob)

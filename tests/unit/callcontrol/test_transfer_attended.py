"""Transfers to whom one speaks with already, and Replaces (RFC 5589 section 7, RFC 3891)."""

from __future__ import annotations

import asyncio

import pytest
from callers import answering, told, transferred
from phone_scene import Network, flow, quiet, uri, without
from transfer_scene import consultation, losing_acks, up

from voip.call import Call
from voip.errors import CallError, CallStateError, NoAnswerError
from voip.events import (
    CallEnded,
    CallState,
    EndedBy,
    HeldByRemote,
    Replaced,
)
from voip.phone import Softphone


@flow
async def test_F018_consultation_hold(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, bobs, second, _ = await consultation(net, alice, bob, carol)
        assert first.state is bobs.state is CallState.HELD
        assert told(bobs, HeldByRemote)
        await second.hangup()
        await first.resume()
        assert first.state is CallState.ACTIVE
        await asyncio.sleep(5)
        assert bobs.state is CallState.ACTIVE
        await first.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F021_F040_F042_attended_transfer_the_target_s_call_is_replaced(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, bobs, second, carols = await consultation(net, alice, bob, carol)
        to_carol = answering(carol)
        await first.transfer(second)
        assert first.state is second.state is CallState.ENDED
        new, theirs = await transferred(bobs), await to_carol.get()
        assert theirs.replaces is carols
        await asyncio.sleep(5)
        assert carols.state is CallState.ENDED
        assert carols.replaced_by is theirs
        assert told(carols, Replaced) == [Replaced(theirs)]
        assert (new.state, theirs.state) == (CallState.ACTIVE, CallState.ACTIVE)
        (invite,) = net.requests("INVITE", to=carol)[1:]
        assert invite.headers.get("Replaces").startswith(
            net.requests("INVITE", to=carol)[0].call_id
        )
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F042_a_call_whose_place_was_taken_says_so_though_the_ack_comes_after_the_bye(
    net: Network,
) -> None:
    """The transferor hears of the answer and hangs up while the target waits for the ACK."""
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, bobs, second, carols = await consultation(net, alice, bob, carol)
        to_carol = answering(carol)
        losing_acks(net, bob, 12)
        await first.transfer(second, timeout=120)
        await carols.wait_ended()
        assert to_carol.empty()  # its ACK has not come
        *_, last_but_one, last = carols._events
        assert isinstance(last_but_one, Replaced)
        assert isinstance(last, CallEnded)
        new, theirs = await transferred(bobs), await to_carol.get()
        assert last_but_one.call is carols.replaced_by is theirs
        assert new.state is theirs.state is CallState.ACTIVE
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F042_a_call_that_takes_another_s_place_and_is_never_acknowledged_ends(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, bobs, second, carols = await consultation(net, alice, bob, carol)
        losing_acks(net, bob, 60)
        await first.transfer(second, timeout=120)
        await carols.wait_ended()
        theirs = carols.replaced_by
        assert theirs is not None
        end = await theirs.wait_ended()
        assert (end.by, end.status) == (EndedBy.FAILURE, 408)
        await (await transferred(bobs)).wait_ended()
        await quiet(alice, bob, carol)


@flow
async def test_F041_the_target_is_protected_the_target_is_referred_to_the_transferee(
    net: Network,
) -> None:
    """Carol is asked to replace Alice in Alice's call with Bob: Bob never learns her address."""
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, bobs, second, carols = await consultation(net, alice, bob, carol)
        to_bob = answering(bob)
        await second.transfer(first)
        new, theirs = await transferred(carols), await to_bob.get()
        assert theirs.replaces is bobs
        assert theirs.remote == uri(carol)
        assert all("carol" not in str(m.headers.get("Refer-To")) for m in net.requests("REFER"))
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F045_semi_attended_transfer_is_a_blind_one_while_the_target_rings(
    net: Network,
) -> None:
    """The call that rings cannot be replaced at the target: it is given up, and Bob refers."""
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol, after=5)
        first, bobs = await up(alice, bob, to_bob)
        await first.hold()
        ringing = await alice.dial(uri(carol), wait="ringing")
        with pytest.raises(CallStateError):
            await first.transfer(ringing)
        await ringing.cancel()
        await first.transfer(uri(carol))
        new = await transferred(bobs)
        await to_carol.get()
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F044_where_the_contact_leads_nowhere_the_address_of_record_is_tried(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, bobs, second, _ = await consultation(net, alice, bob, carol)
        to_carol = answering(carol)
        # Carol's Contact is one that Bob cannot reach
        second._session.dialog.remote_target = "sip:carol@192.0.2.99"
        net.silence("192.0.2.99")
        await first.transfer(second)
        new = await transferred(bobs)
        (await to_carol.get(), None)
        refers = net.requests("REFER")
        assert "192.0.2.99" in refers[0].headers.get("Refer-To")
        assert uri(carol) in refers[1].headers.get("Refer-To")
        assert "Require=replaces" in refers[1].headers.get("Refer-To")
        assert net.requests("INVITE", to=carol)[-1].headers.get("Require") == "replaces"
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F044_a_transferee_that_is_slow_is_not_asked_a_second_time(net: Network) -> None:
    """It may be calling still: silence does not mean that nobody was found."""
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, bobs, second, _ = await consultation(net, alice, bob, carol)
        second._session.dialog.remote_target = uri(carol).replace("carol", "desk")
        to_carol = answering(carol, after=50)
        with pytest.raises(NoAnswerError, match="in 30 s"):
            await first.transfer(second, timeout=30)
        assert len(net.requests("REFER")) == 1
        await to_carol.get()
        new = await transferred(bobs)
        await new.hangup()
        await second.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F043_who_does_not_support_refer_says_so_and_the_other_is_referred(
    net: Network,
) -> None:
    alice, bob, carol = net.phone("alice"), net.phone("bob"), net.phone("carol")
    without("REFER", bob)
    async with alice, bob, carol:
        first, bobs, second, carols = await consultation(net, alice, bob, carol)
        to_bob = answering(bob)
        with pytest.raises(CallError) as failure:
            await first.transfer(second)
        assert failure.value.status == 405
        await second.hold()
        await second.transfer(first)  # the other way round
        new = await transferred(carols)
        assert (await to_bob.get()).replaces is bobs
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F046_an_attended_transfer_falls_back_to_a_blind_one(net: Network) -> None:
    alice, bob, carol = net.phone("alice"), net.phone("bob"), net.phone("carol")
    without("replaces", carol)
    async with alice, bob, carol:
        first, bobs, second, _carols = await consultation(net, alice, bob, carol)
        second._session.dialog.remote_target = "sip:carol@192.0.2.99"
        net.silence("192.0.2.99")
        with pytest.raises(CallError) as failure:
            await first.transfer(second)
        assert failure.value.status == 420  # it was required, and is not understood there
        await second.hangup()
        to_carol = answering(carol)
        await first.transfer(uri(carol))
        new = await transferred(bobs)
        await to_carol.get()
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F047_F048_a_target_that_is_gone_by_then_is_reported_and_both_calls_are_told(
    net: Network,
) -> None:
    """The target hangs up while the transfer is asked for: 481 or 603, and nobody rings."""
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, _bobs, second, carols = await consultation(net, alice, bob, carol)
        to_carol = answering(carol)
        hanging_up = asyncio.ensure_future(carols.hangup())
        with pytest.raises(CallError) as failure:
            await first.transfer(second)
        assert failure.value.status in (481, 603)
        await hanging_up
        assert to_carol.empty()
        assert first.state is CallState.HELD
        await first.hangup()
        await quiet(alice, bob, carol)


# ---------------------------------------------------------------- Replaces, seen by applications


@flow
async def test_F099_a_call_that_was_dialled_is_replaced_without_asking(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol)
        theirs, alices = await up(bob, alice, answering(alice))  # Alice was called ...
        mine, carols = await up(carol, alice, answering(alice))  # ... twice
        await alices.transfer(await _other(alice, alices))
        await asyncio.sleep(5)
        # Carol had dialled: her call goes on as another, answered at once
        assert mine.replaced_by is not None
        assert mine.replaced_by.state is CallState.ACTIVE
        assert to_bob.empty()
        assert to_carol.empty()
        await mine.replaced_by.hangup()
        await quiet(alice, bob, carol)
        _ = theirs, carols


async def _other(phone: Softphone, call: Call) -> Call:
    return next(one for one in phone.calls if one is not call)


@flow
async def test_F099_a_replacement_that_is_refused_leaves_the_call_as_it_is(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        first, _, second, carols = await consultation(net, alice, bob, carol)

        @carol.on_incoming
        async def no(call: Call) -> None:
            assert call.replaces is carols
            await call.reject(486)

        with pytest.raises(CallError) as failure:
            await first.transfer(second)
        assert failure.value.status == 486
        assert carols.state is second.state is CallState.ACTIVE
        await first.hangup()
        await second.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F099_a_call_that_has_been_transferred_is_not_replaced_any_more(
    net: Network,
) -> None:
    """RFC 3891 section 3 declines for a call that is over (603); this one is as good as that."""
    phones = [net.phone(name) for name in ("alice", "bob", "carol", "dave")]
    alice, bob, carol, dave = phones
    async with alice, bob, carol, dave:
        to_bob, to_carol = answering(bob), answering(carol)
        call, bobs = await up(alice, bob, to_bob)
        place, dialog = call.place, call._session.dialog
        assert dialog is not None
        alice._agent.subscriptions.refer(dialog, f"<{uri(carol)}>", now=alice._transport.now())
        alice._transport.flush()
        new = await transferred(bobs)  # and Alice does not hang up yet
        await to_carol.get()
        with pytest.raises(CallError) as failure:
            await dave.dial(place)
        assert failure.value.status == 603
        assert bob.calls in ([bobs, new], [new])
        assert new.state is CallState.ACTIVE
        await new.hangup()
        await quiet(*phones)

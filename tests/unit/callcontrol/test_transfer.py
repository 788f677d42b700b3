"""Transfers between our own phones, all three roles (RFC 5359, RFC 5589)."""

from __future__ import annotations

import asyncio

import pytest
from callers import answering
from phone_scene import Network, flow, in_virtual_time, losing, quiet, uri, without

from voip.call import Call
from voip.errors import CallError, CallStateError, ConfigError, NoAnswerError
from voip.events import (
    CallEnded,
    CallState,
    EndedBy,
    HeldByRemote,
    Replaced,
    TransferProgress,
    Transferred,
    TransferRequested,
)
from voip.phone import Softphone
from voip.sip.message import Request
from voip.transfers import TransferRequest


def told(call: Call, kind: type) -> list:
    return [event for event in call._events if isinstance(event, kind)]


async def up(caller: Softphone, callee: Softphone, calls: asyncio.Queue[Call]) -> tuple[Call, Call]:
    call = await caller.dial(uri(callee))
    return call, await calls.get()


async def transferred(call: Call) -> Call:
    """The call that a transferee has made in place of `call`."""
    async with asyncio.timeout(120):
        while not told(call, Transferred):
            await asyncio.sleep(0.1)
    return told(call, Transferred)[0].call


# ---------------------------------------------------------------- unattended


@flow
async def test_F020_F035_F036_unattended_transfer_the_transferee_calls_the_target(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol, after=3)
        call, bobs = await up(alice, bob, to_bob)
        await call.transfer(uri(carol))
        assert call.state is CallState.ENDED
        new, carols = await transferred(bobs), await to_carol.get()
        assert new.state is carols.state is CallState.ACTIVE
        assert (await bobs.wait_ended()).by is EndedBy.REMOTE
        assert bob.calls == [new]
        assert told(bobs, TransferRequested)[0].target == uri(carol)
        if not net.loss:
            assert [p.status for p in told(call, TransferProgress)] == [100, 180, 200]
            (refer,) = net.requests("REFER")
            assert refer.call_id == net.requests("BYE")[0].call_id  # in the call's own dialog
        (invite,) = net.requests("INVITE", to=carol)
        assert invite.headers.get("Referred-By") == f"<{uri(alice)}>"
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F022_who_is_sent_our_place_in_a_text_takes_it(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob = answering(bob)
        texts: list[str] = []
        carol.on_message(lambda message: texts.append(message.text))
        call, bobs = await up(alice, bob, to_bob)
        await bob.message(uri(carol), f"Will you talk to her? {bobs.place}")
        mine = await carol.dial(texts[0].split()[-1])
        assert mine.state is CallState.ACTIVE
        assert (await bobs.wait_ended()).by is EndedBy.REMOTE
        new = call.replaced_by
        assert new is not None
        assert new.remote == uri(carol)
        assert new.state is CallState.ACTIVE
        await mine.hangup()
        with pytest.raises(CallStateError, match="ended"):
            _ = bobs.place
        await quiet(alice, bob, carol)


@flow
async def test_what_else_a_uri_would_have_in_the_invite_is_left_out(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        calls = answering(bob)
        more = "Subject=a%20word&From=%3Csip:eve%40x%3E&Route=%3Csip:y%3E&P-Asserted-Identity=z"
        call = await alice.dial(f"{uri(bob)}?{more}&body=x")
        (invite,) = net.requests("INVITE")
        assert invite.uri == uri(bob)
        assert invite.headers.get("Subject") == "a word"
        assert invite.from_.uri == uri(alice)
        assert not {"Route", "P-Asserted-Identity"} & {name for name, _ in invite.headers}
        with pytest.raises(ConfigError):
            await alice.dial(f"{uri(bob)}?Subject=a%0D%0AEvil:%20b")
        await calls.get()
        await call.hangup()
        await quiet(alice, bob)


@flow
async def test_F035_a_transferor_that_does_not_wait_is_followed_and_the_phone_told(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol, after=30)
        call, bobs = await up(alice, bob, to_bob)
        transfer = asyncio.create_task(call.transfer(uri(carol), timeout=120))
        await asyncio.sleep(20)  # until Bob has been asked
        await call.hangup()
        carols = await to_carol.get()
        await transfer  # is told all the same
        assert bobs.ended is not None
        assert told(bobs, Transferred) == []
        (event,) = [event for event in bob._events if isinstance(event, Transferred)]
        assert event.call.remote == uri(carol)
        assert event.call.state is CallState.ACTIVE
        await carols.hangup()
        await event.call.wait_ended()
        assert [event for event in bob._events if isinstance(event, Transferred)] == []
        await quiet(alice, bob, carol)


@flow
async def test_F100_the_target_sees_who_referred(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol)
        call, _ = await up(alice, bob, to_bob)
        await call.transfer(uri(carol))
        carols = await to_carol.get()
        assert carols.header("Referred-By") == f"<{uri(alice)}>"
        assert carols.remote == uri(bob)
        await carols.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F037_F038_a_transfer_to_a_busy_target_fails_and_the_call_goes_on(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob = answering(bob)

        @carol.on_incoming
        async def busy(call: Call) -> None:
            await call.reject(486)

        call, bobs = await up(alice, bob, to_bob)
        with pytest.raises(CallError, match="the transfer failed: Busy Here") as failure:
            await call.transfer(uri(carol))
        assert failure.value.status == 486
        assert call.state is bobs.state is CallState.ACTIVE
        await call.hold()  # the call still works
        await call.resume()
        await call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F037_F039_a_transfer_to_a_target_that_does_not_answer_fails(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob = answering(bob)

        @carol.on_incoming
        async def rings(call: Call) -> None:
            await call.ring()
            await asyncio.sleep(20)
            await call.reject(480)

        call, bobs = await up(alice, bob, to_bob)
        with pytest.raises(CallError) as failure:
            await call.transfer(uri(carol))
        assert failure.value.status == 480
        assert call.state is bobs.state is CallState.ACTIVE
        await call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F039_a_transferor_that_has_waited_long_enough_keeps_its_call(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol, after=100)
        call, bobs = await up(alice, bob, to_bob)
        with pytest.raises(NoAnswerError, match="has not said in 30 s"):
            await call.transfer(uri(carol), timeout=30)
        assert call.state is CallState.ACTIVE
        await asyncio.sleep(100)  # the reference is followed all the same (RFC 3515 2.4.4)
        new = await transferred(bobs)
        await to_carol.get()
        await asyncio.sleep(10)
        assert call.state is CallState.ENDED  # the transferee sees the old call off
        await new.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F097_a_transferee_may_refuse(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob = answering(bob)
        asked: list[TransferRequest] = []

        @bob.on_transfer
        async def no(request: TransferRequest) -> bool:
            asked.append(request)
            return False

        call, bobs = await up(alice, bob, to_bob)
        with pytest.raises(CallError) as failure:
            await call.transfer(uri(carol))
        assert failure.value.status == 603
        assert asked == [TransferRequest(uri(carol), bobs, f"<{uri(alice)}>", False)]
        assert net.requests("INVITE", to=carol) == []
        assert call.state is CallState.ACTIVE
        await call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F097_a_handler_that_raises_follows_no_transfer(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        to_bob = answering(bob)

        @bob.on_transfer
        def broken(request: TransferRequest) -> bool:
            raise ValueError("broken")

        call, _ = await up(alice, bob, to_bob)
        with pytest.raises(CallError) as failure:
            await call.transfer("sip:carol@192.0.2.77")
        assert failure.value.status == 603
        await call.hangup()
        await quiet(alice, bob)


# ---------------------------------------------------------------- attended


async def consultation(
    net: Network, alice: Softphone, bob: Softphone, carol: Softphone
) -> tuple[Call, Call, Call, Call]:
    """Alice holds Bob and speaks with Carol: both calls, from both sides."""
    to_bob, to_carol = answering(bob), answering(carol)
    first, bobs = await up(alice, bob, to_bob)
    await first.hold()
    second, carols = await up(alice, carol, to_carol)
    return first, bobs, second, carols


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


def losing_acks(net: Network, phone: Softphone, seconds: float) -> None:
    """Let no ACK of a phone arrive for a while."""
    until = net.world.elapsed + seconds
    losing(
        phone,
        lambda message: (
            isinstance(message, Request) and message.method == "ACK" and net.world.elapsed < until
        ),
    )


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


# ---------------------------------------------------------------- outside of a call


def target_dialog(call: Call) -> str:
    dialog = call._session.dialog
    return f"{dialog.call_id};local-tag={dialog.local.tag};remote-tag={dialog.remote.tag}"


async def referred_outside(phone: Softphone, whom: Softphone, target: str, **more: str) -> list:
    seen: list = []
    flow = await phone._transport.flow_to(whom.network.bind_host, 5060)
    handle = phone._agent.subscriptions.refer_outside(
        uri(whom), f"<{target}>", flow=flow, from_=f"<{uri(phone)}>", to=f"<{uri(whom)}>",
        contact=f"<{uri(phone)}>", headers=list(more.items()), now=phone._transport.now(),
    )  # fmt: skip
    phone._stack.watchers[handle] = seen.append
    phone._transport.flush()
    await asyncio.sleep(60)
    phone._stack.watchers.pop(handle)
    return seen


@flow
async def test_F035_a_refer_in_a_dialog_of_its_own_is_followed_where_it_names_the_call(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol)
        call, bobs = await up(alice, bob, to_bob)
        seen = await referred_outside(
            alice,
            bob,
            uri(carol),
            **{"Target-Dialog": target_dialog(call), "Require": "tdialog"},
        )
        assert seen[-2].request.body == b"SIP/2.0 200 OK\r\n"
        assert (await to_carol.get()).remote == uri(bob)
        assert told(bobs, Transferred)
        await call.hangup()
        await told(bobs, Transferred)[0].call.hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F097_a_refer_outside_of_any_call_is_declined_unless_a_handler_says_yes(
    net: Network,
) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_carol = answering(carol)
        seen = await referred_outside(alice, bob, uri(carol))
        assert [event.status for event in seen] == [603]
        assert net.requests("INVITE") == []
        bob.on_transfer(lambda request: request.call is None)
        seen = await referred_outside(alice, bob, uri(carol))
        assert seen[-2].request.body == b"SIP/2.0 200 OK\r\n"
        await (await to_carol.get()).hangup()
        await quiet(alice, bob, carol)


@flow
async def test_F098_a_transferee_that_is_asked_for_no_reports_makes_none(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_carol = answering(carol)
        bob.on_transfer(lambda request: True)
        seen = await referred_outside(alice, bob, uri(carol), **{"Refer-Sub": "false"})
        assert [(event.reason, event.status) for event in seen] == [("no subscription", 202)]
        assert net.requests("NOTIFY") == []
        await (await to_carol.get()).hangup()
        await quiet(alice, bob, carol)


@pytest.mark.parametrize(
    ("refer_to", "status"),
    [
        ("sip:carol@192.0.2.3;method=BYE", 501),
        ("sip:carol@192.0.2.3?Replaces=nonsense", 400),
        ("tel:+123", 416),
    ],
)
def test_F097_what_is_no_call_is_not_followed(refer_to: str, status: int) -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob:
            bob.on_transfer(lambda request: True)
            seen = await referred_outside(alice, bob, refer_to)
            assert [event.status for event in seen] == [status]
            assert net.requests("INVITE") == []
            await quiet(alice, bob)

    in_virtual_time(run)


def test_a_transfer_is_asked_for_in_a_call_that_is_up() -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob:
            call, _ = await up(alice, bob, answering(bob))
            with pytest.raises(CallStateError):
                await call.transfer(call)
            await call.hangup()
            with pytest.raises(CallStateError, match="the call is ended"):
                await call.transfer("sip:x@192.0.2.2")

    in_virtual_time(run)


def test_a_call_that_dies_with_the_transferee_ends_the_transfer() -> None:
    async def run(net: Network) -> None:
        async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol"):
            call, _ = await up(alice, bob, answering(bob))
            losing(bob, lambda message: message.cseq.method == "NOTIFY")
            with pytest.raises(CallError, match="no NOTIFY came") as failure:
                await call.transfer("sip:carol@192.0.2.3")
            assert failure.value.status == 408
            await call.hangup()

    in_virtual_time(run)


def test_F061_a_refer_that_overtakes_the_ack_is_followed() -> None:
    """The caller transfers at once, and his ACK is lost: the callee's 200 is still repeated."""

    async def run(net: Network) -> None:
        async with (
            net.phone("alice") as alice,
            net.phone("bob") as bob,
            net.phone("carol") as carol,
        ):
            losing(
                alice,
                lambda message: (
                    isinstance(message, Request)
                    and message.method == "ACK"
                    and net.world.elapsed < 1.0
                ),
            )
            to_bob, to_carol = answering(bob), answering(carol)
            call = await alice.dial(uri(bob))
            assert to_bob.empty()  # bob waits for the ACK
            await call.transfer(uri(carol))
            carols = await to_carol.get()
            assert carols.state is CallState.ACTIVE
            await carols.hangup()
            await quiet(alice, bob, carol)

    in_virtual_time(run)

"""Transfers between our own phones, all three roles (RFC 5359, RFC 5589 section 6)."""

from __future__ import annotations

import asyncio

import pytest
from callers import answering, told, transferred
from phone_scene import Network, flow, in_virtual_time, losing, quiet, uri
from transfer_scene import up

from voip.call import Call
from voip.errors import CallError, CallStateError, ConfigError, NoAnswerError
from voip.events import (
    CallState,
    EndedBy,
    TransferProgress,
    Transferred,
    TransferRequested,
)
from voip.sip.message import Request, Response
from voip.transfers import MAX_EXPECTED, TransferRequest


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


@flow
async def test_F097_whom_one_call_has_us_call_at_a_time_is_limited(net: Network) -> None:
    """Those of which no reports are wanted count as well (RFC 4488)."""
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, _ = answering(bob), answering(carol, after=400)
        call, _ = await up(alice, bob, to_bob)
        dialog, refused = call._session.dialog, []
        assert dialog is not None
        for _ in range(MAX_EXPECTED + 2):
            handle = alice._agent.subscriptions.refer(
                dialog, f"<{uri(carol)}>", subscribe=False, now=alice._transport.now()
            )
            alice._stack.watchers[handle] = refused.append
            alice._transport.flush()
            await asyncio.sleep(15)
        assert len(carol.calls) == MAX_EXPECTED
        assert [one.status for one in refused] == [202] * MAX_EXPECTED + [503, 503]
        await call.hangup()
        alice._stack.watchers.clear()
        await quiet(alice, bob, carol, seconds=500)


@flow
async def test_F097_nobody_more_is_called_where_there_are_too_many_calls(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        bob._desk.max_calls = 1
        to_carol = answering(carol)
        call, bobs = await up(alice, bob, answering(bob))
        with pytest.raises(CallError) as failure:
            await call.transfer(uri(carol))
        assert failure.value.status == 503
        assert bob.calls == [bobs]
        assert to_carol.empty()
        await call.hangup()
        await quiet(alice, bob, carol)


@pytest.mark.rfc("3892", "2.2")
@flow
async def test_who_called_anonymously_stays_so_when_transferred(net: Network) -> None:
    """Neither the referrer nor the target is told who it is."""
    async with net.phone("alice") as alice, net.phone("bob") as bob, net.phone("carol") as carol:
        to_bob, to_carol = answering(bob), answering(carol)
        call = await alice.dial(uri(bob), anonymous=True)
        await (await to_bob.get()).transfer(uri(carol))
        new, carols = await transferred(call), await to_carol.get()
        assert carols.remote == "sip:anonymous@anonymous.invalid"
        assert carols.header("Privacy") == "id"
        alices = [
            str(one.headers.get("Contact"))
            for _, one, _ in net.wire
            if (isinstance(one, Request) and one.via.host == alice.network.bind_host)
            or (isinstance(one, Response) and one.cseq.method == "REFER")
        ]
        assert alices
        assert not [contact for contact in alices if "alice" in contact]
        await new.hangup()
        await quiet(alice, bob, carol)


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

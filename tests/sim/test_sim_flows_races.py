"""The races of RFC 5407 between phones of ours that are far from each other.

Each message takes 0.4 s, so that what one side does at the time of the other's crosses it. With no
loss the race is seen to happen; with loss it ends as it has to, whatever came first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest
from bare_agents import BareAgent
from callers import until
from phone_scene import (
    Message,
    Network,
    Phone,
    dial,
    flow,
    hang_up,
    losing,
    quiet,
    said,
    taking,
    up,
)

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy
from voip.sim import Host, Path
from voip.sip.events import DialogEnded, Provisional, UpdateDone
from voip.sip.message import Request, Response

FAR_S = 0.4
OFFER = (
    b"v=0\r\no=agent 1 %d IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 49170 RTP/AVP 0\r\n"
)


def far(net: Network, one: Host, other: Host) -> None:
    """Let what they say to each other take its time."""
    net.world.link(one, other, Path(delay_s=FAR_S, loss=net.loss))


def no_acks_before(net: Network, caller: Phone, seconds: float) -> None:
    """Let the caller's ACKs be lost on purpose, until so long from now."""
    until_s = net.world.elapsed + seconds

    def lost(message: Message) -> bool:
        ack = isinstance(message, Request) and message.method == "ACK"
        return ack and net.world.elapsed < until_s

    losing(caller, lost)


def order(net: Network, *kinds: tuple[str, int]) -> list[int]:
    """Where messages, by their name and the number of CSeq, first stand in what was sent."""
    names = [
        (m.method if isinstance(m, Request) else f"{m.status} {m.cseq.method}", m.cseq.number)
        for _, m, _ in net.wire
    ]
    return [names.index(kind) for kind in kinds]


def ring_and_answer_when(ready: Callable[[], bool]) -> Callable[[Call], object]:
    async def before(call: Call) -> None:
        await call.ring()
        await until(ready)

    return before


# 3.1: the callee has answered, and has no ACK yet (moratorium).


@flow
async def test_F049_an_invite_that_is_repeated_after_the_200(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        far(net, alice.host, bob.host)
        calls = taking(bob)
        mine = await dial(alice, bob)
        await until(lambda: mine._session.is_up and bool(calls) and calls[0]._session.is_up)
        assert len(calls) == 1  # of two INVITEs or more
        if not net.loss:
            sent = [at for at, m, _ in net.wire if isinstance(m, Request) and m.method == "INVITE"]
            answered = next(
                at for at, m, _ in net.wire if isinstance(m, Response) and m.status == 200
            )
            assert sum(at > answered for at in sent) == 1
        await hang_up(mine, alice, bob)


@flow
async def test_F050_a_cancel_that_crosses_the_200(net: Network) -> None:
    now: list[bool] = []
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        far(net, alice.host, bob.host)
        calls = taking(bob, ring_and_answer_when(lambda: bool(now)))
        mine = await dial(alice, bob)
        await until(lambda: bool(calls) and calls[0].state is CallState.RINGING)
        await asyncio.sleep(3)
        now.append(True)
        await asyncio.sleep(0.1)  # he has answered, she has not heard of it
        await mine.hangup()
        await quiet(alice, bob)
        assert mine.ended.by is EndedBy.LOCAL
        assert calls[0].ended.by is EndedBy.REMOTE
        assert len(said(net, "BYE")) == 1  # the CANCEL came too late
        if not net.loss:
            cancel, answer, ack, bye = order(
                net, ("CANCEL", 1), ("200 INVITE", 1), ("ACK", 1), ("BYE", 2)
            )
            assert answer < cancel < ack < bye


@flow
async def test_F051_an_early_bye_that_crosses_the_200(net: Network) -> None:
    """Our phones send CANCEL; others may end an early dialog by BYE."""
    now: list[bool] = []
    agent = await BareAgent.of(net, required=("100rel",))  # so that the ringing is heard
    async with net.phone("bob") as bob:
        far(net, net.host_of(agent.server), bob.host)
        calls = taking(bob, ring_and_answer_when(lambda: bool(now)))
        await agent.begin(bob, OFFER % 1)
        dialog = (await agent.wait(Provisional, reliable=True)).dialog
        await asyncio.sleep(3)
        now.append(True)
        await asyncio.sleep(0.1)
        agent.act("bye", dialog)
        await agent.wait(DialogEnded, dialog=dialog)
        await quiet(bob)
        assert calls[0].ended.by is EndedBy.REMOTE
        assert len(said(net, "BYE")) == 1
        if not net.loss:
            [bye], [ack] = said(net, "BYE"), said(net, "ACK")
            answer, *others = order(
                net, ("200 INVITE", 1), ("BYE", bye.cseq.number), ("ACK", ack.cseq.number)
            )
            assert answer < min(others)
        assert agent.server.agent.dialogs == []


async def held_before_the_ack(net: Network, *, late_offer: bool) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        far(net, alice.host, bob.host)
        calls = taking(bob)
        no_acks_before(net, alice, 1.5)
        mine = await dial(alice, bob, late_offer=late_offer)
        await mine.wait_answered()
        await mine.hold()
        await until(lambda: calls[0]._session.is_up and calls[0].state is CallState.HELD)
        assert mine.state is CallState.HELD
        assert bob.sound.sends_to is None
        if not net.loss:
            names = [m.method if isinstance(m, Request) else m.status for _, m, _ in net.wire]
            (reinvite,) = order(net, ("INVITE", 2))
            assert reinvite < names.index("ACK")
            assert bool(said(net, "491 INVITE")) is late_offer
        await hang_up(mine, alice, bob)


@flow
async def test_F052_a_reinvite_that_comes_before_the_ack(net: Network) -> None:
    await held_before_the_ack(net, late_offer=False)


@flow
async def test_F053_a_reinvite_that_comes_before_the_ack_with_the_answer(net: Network) -> None:
    """It is refused (491) until the answer has come."""
    await held_before_the_ack(net, late_offer=True)


@flow
async def test_F054_a_bye_that_comes_before_the_ack(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        far(net, alice.host, bob.host)
        calls = taking(bob)
        no_acks_before(net, alice, 1.5)
        mine = await dial(alice, bob)
        await mine.wait_answered()
        await mine.hangup()
        await quiet(alice, bob)
        assert mine.ended.by is EndedBy.LOCAL
        assert calls[0].ended.by is EndedBy.REMOTE
        if not net.loss:
            assert len(said(net, "200 BYE")) == 1


# 3.2: a BYE has been sent and is not answered yet (mortal).


@flow
async def test_F055_two_byes_that_cross(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        far(net, alice.host, bob.host)
        mine, theirs = await up(alice, bob)
        await asyncio.gather(mine.hangup(), theirs.hangup())
        assert mine.state is theirs.state is CallState.ENDED
        assert len(said(net, "BYE")) == 2
        await quiet(alice, bob)
        if not net.loss:
            assert len(said(net, "200 BYE")) == 2


@flow
async def test_F056_a_reinvite_that_crosses_a_bye(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        far(net, alice.host, bob.host)
        mine, theirs = await up(alice, bob)
        outcome, _ = await asyncio.gather(mine.hold(), theirs.hangup(), return_exceptions=True)
        assert isinstance(outcome, CallError)
        await quiet(alice, bob)
        assert mine.state is theirs.state is CallState.ENDED
        if not net.loss:
            assert mine.ended.by is EndedBy.REMOTE
            assert theirs.ended.by is EndedBy.LOCAL
            assert len(said(net, "BYE")) == 1
            assert len(said(net, "481 INVITE")) == 1


@flow
async def test_F057_a_200_to_a_reinvite_that_crosses_our_bye(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        far(net, alice.host, bob.host)
        mine, theirs = await up(alice, bob)
        holding = asyncio.ensure_future(mine.hold())
        await asyncio.sleep(0.5)  # it has arrived, the 200 has not
        await mine.hangup()
        with pytest.raises(CallError):
            await holding
        await quiet(alice, bob)
        assert theirs.ended.by is EndedBy.REMOTE
        if not net.loss:
            answer, bye, ack = order(net, ("200 INVITE", 2), ("BYE", 3), ("ACK", 2))
            assert answer < bye < ack  # which is acknowledged all the same


@flow
async def test_F058_an_ack_after_the_callee_has_hung_up(net: Network) -> None:
    """Its BYE waits for the ACK."""
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        far(net, alice.host, bob.host)
        calls: list[Call] = []

        @bob.on_incoming
        async def leave_at_once(call: Call) -> None:
            calls.append(call)
            answering = asyncio.ensure_future(call.answer())
            await asyncio.sleep(0.1)
            await call.hangup()
            with suppress(CallError):
                await answering

        mine = await dial(alice, bob)
        await until(lambda: mine.state is CallState.ENDED)
        await quiet(alice, bob)
        assert mine.ended.by is EndedBy.REMOTE
        assert calls[0].ended.by is EndedBy.LOCAL
        [bye] = said(net, "BYE")
        ack, goodbye = order(net, ("ACK", 1), ("BYE", bye.cseq.number))
        assert ack < goodbye


# 3.3: changes that cross.


@flow
async def test_F060_an_update_that_crosses_a_reinvite(net: Network) -> None:
    """Our phones change calls by re-INVITE; others may by UPDATE."""
    agent = await BareAgent.of(net, answer=OFFER % 9)
    async with net.phone("bob") as bob:
        far(net, net.host_of(agent.server), bob.host)
        calls = taking(bob)
        dialog = (await agent.call(bob, OFFER % 1)).dialog
        await until(lambda: bool(calls) and calls[0]._session.is_up)
        holding = asyncio.ensure_future(calls[0].hold())
        update = agent.act("update", dialog, body=OFFER % 2)
        await holding
        done = await agent.wait(UpdateDone, handle=update)
        assert done.status == 200
        assert calls[0].state is CallState.HELD
        if not net.loss:
            assert said(net, "491 UPDATE")
            assert said(net, "491 INVITE")
        await agent.hang_up(dialog)
        await quiet(bob)


# RFC 6026: an INVITE that is answered.


@flow
async def test_F116_every_200_that_comes_again_is_acknowledged_and_told_once(net: Network) -> None:
    async with net.phone("alice") as alice, net.phone("bob") as bob:
        calls = taking(bob)
        no_acks_before(net, alice, 6)
        mine = await dial(alice, bob)
        await mine.wait_answered()
        await until(lambda: calls[0]._session.is_up)
        assert alice.calls == [mine]
        assert bob.calls == calls
        answers = [m for _, m, _ in net.wire if isinstance(m, Response) and m.cseq.number == 1]
        assert sum(m.status == 200 for m in answers) >= 4  # at 0, 0.5, 1.5, 3.5 s ...
        assert len(said(net, "200 INVITE")) == len(said(net, "ACK")) == 1
        await hang_up(mine, alice, bob)

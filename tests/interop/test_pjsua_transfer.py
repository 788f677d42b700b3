"""Transfers between a phone of ours and two of PJSIP's, each of them in each of the three roles.

A call that PJSIP makes or takes for a transfer has the number of the one that it came of there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from callers import told
from direct import Desk, desk
from peers.pjsua import Pjsua
from phones import ended, until

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy, TransferProgress, Transferred

StartPjsua = Callable[..., Awaitable[Pjsua]]


async def dial(us: Desk, peer: Pjsua) -> tuple[Call, int]:
    """Call PJSIP: the call, and its number there."""
    async with asyncio.TaskGroup() as group:
        dialling = group.create_task(us.phone.dial(peer.uri))
        number = await peer.incoming()
        await peer.answer(number)
    await peer.established(number)
    return dialling.result(), number


async def take(us: Desk, peer: Pjsua) -> tuple[int, Call]:
    """Let PJSIP call us: the call's number there, and the call."""
    number = await peer.call(us.uri())
    call = await us.incoming()
    await call.answer()
    await peer.established(number)
    return number, call


async def between(caller: Pjsua, callee: Pjsua) -> tuple[int, int]:
    """Let PJSIP call PJSIP: the call's numbers at both."""
    number = await caller.call(callee.uri)
    other = await callee.incoming()
    await callee.answer(other)
    await caller.established(number)
    return number, other


async def goes_on(peer: Pjsua, number: int) -> None:
    """Wait until the call is up that has taken another's place; that one's end may be told too."""
    await peer.wait_for("state", call=number, text="CONFIRMED")


async def happens(call: Call, kind: type) -> Call:
    """The call that an event of this kind brings."""
    await until(lambda: bool(told(call, kind)), kind.__name__)
    new = told(call, kind)[0].call
    assert isinstance(new, Call)
    return new


# ------------------------------------------------------------ unattended


async def test_F020_F035_F036_F097_pjsip_calls_whom_we_name(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    transferee, target = await pjsua(user="bob"), await pjsua(user="carol")
    async with desk(artifacts) as us:
        call, number = await dial(us, transferee)
        async with asyncio.TaskGroup() as group:
            transfer = group.create_task(call.transfer(target.uri))
            other = await target.incoming()
            await target.answer(other, 180)
            await asyncio.sleep(0.2)
            await target.answer(other)
        assert transfer.done()
        statuses = [event.status for event in told(call, TransferProgress)]
        assert statuses[-2:] == [180, 200]
        await goes_on(transferee, number)
        await target.established(other)
        await target.hangup(other)
        assert (await transferee.closed(number)).status == 200
        assert us.phone.calls == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        pytest.param(486, "Busy Here", marks=pytest.mark.rfc("5589", "6.3.1", "F038"), id="F038"),
        pytest.param(
            480, "Temporarily Un", marks=pytest.mark.rfc("5589", "6.3.2", "F039"), id="F039"
        ),
    ],
)
async def test_F037_pjsip_does_not_reach_the_target_and_stays_with_us(
    pjsua: StartPjsua, artifacts: Path, status: int, words: str
) -> None:
    transferee, target = await pjsua(user="bob"), await pjsua(user="carol")
    async with desk(artifacts) as us:
        call, number = await dial(us, transferee)
        transfer = asyncio.create_task(call.transfer(target.uri))
        other = await target.incoming()
        await target.answer(other, 180)
        await target.hangup(other, status)
        with pytest.raises(CallError, match=f"the transfer failed: {words}") as failure:
            await transfer
        assert failure.value.status == status
        await call.hold()
        await call.resume()
        assert call.state is CallState.ACTIVE
        assert (await transferee.closed(number)).status == status  # of the call it has tried
        await call.hangup()
        assert us.ladder.lines[-1] == "< 200 BYE"


async def test_F020_F035_F097_we_call_whom_pjsip_names(pjsua: StartPjsua, artifacts: Path) -> None:
    transferor, target = await pjsua(user="bob"), await pjsua(user="carol")
    async with desk(artifacts) as us:
        number, call = await take(us, transferor)
        await transferor.transfer(number, target.uri)
        other = await target.incoming()
        await target.answer(other, 180)
        await asyncio.sleep(0.2)
        await target.answer(other)
        new = await happens(call, Transferred)
        assert new.state is CallState.ACTIVE
        assert us.ladder.header("> INVITE", "Referred-By") == us.ladder.header(
            "< REFER", "Referred-By"
        )
        await until(lambda: us.ladder.lines.count("< 200 NOTIFY") == 3, "PJSIP to be told")
        assert us.ladder.header("> NOTIFY", "Subscription-State").startswith("terminated")
        assert "SIP/2.0 200 OK" in us.ladder.text("> NOTIFY")
        await transferor.hangup(number)
        assert (await ended(call)).by is EndedBy.REMOTE
        await new.hangup()
        assert (await target.closed(other)).status == 200


async def test_F100_who_is_called_for_pjsip_s_sake_hears_of_it(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    """We are the target: both others are PJSIP's."""
    transferor, transferee = await pjsua(user="bob"), await pjsua(user="carol")
    async with desk(artifacts) as us:
        number, other = await between(transferor, transferee)
        await transferor.transfer(number, us.uri())
        call = await us.incoming()
        await call.answer()
        assert f"sip:bob@{transferor.host}:{transferor.port}" in (call.header("Referred-By") or "")
        assert call.state is CallState.ACTIVE
        await goes_on(transferee, other)
        await call.hangup()
        await transferee.closed(other)


# ------------------------------------------------------------ attended


@pytest.mark.parametrize(
    "protected",
    [
        pytest.param(False, marks=pytest.mark.rfc("5589", "7.1", "F040"), id="F040"),
        pytest.param(True, marks=pytest.mark.rfc("5589", "7.2", "F041"), id="F041"),
    ],
)
async def test_F018_F021_F042_pjsip_takes_our_place_at_the_target(
    pjsua: StartPjsua, artifacts: Path, protected: bool
) -> None:
    """Its INVITE has the Replaces that we wrote, and the other, PJSIP as well, finds our call.

    A target that is to be protected is told who waits, and not the other way round.
    """
    transferee, target = await pjsua(user="bob"), await pjsua(user="carol")
    async with desk(artifacts) as us:
        first, his_first = await dial(us, transferee)
        await first.hold()
        second, her_second = await dial(us, target)
        await (second.transfer(first) if protected else first.transfer(second))
        assert first.state is second.state is CallState.ENDED
        await goes_on(transferee, his_first)
        await goes_on(target, her_second)
        assert us.phone.calls == []


async def test_F045_a_target_that_still_rings_is_called_by_pjsip_in_our_place(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    transferee, target = await pjsua(user="bob"), await pjsua(user="carol")
    async with desk(artifacts) as us:
        first, his_first = await dial(us, transferee)
        await first.hold()
        dialling = asyncio.create_task(us.phone.dial(target.uri, wait="ringing"))
        ours = await target.incoming()
        await target.answer(ours, 180)
        second = await dialling
        await second.cancel()  # what rings at the target cannot be replaced there
        assert (await target.closed(ours)).status == 487
        async with asyncio.TaskGroup() as group:
            group.create_task(first.transfer(target.uri))
            theirs = await target.incoming()
            await target.answer(theirs)
        await goes_on(transferee, his_first)
        await target.established(theirs)
        assert us.phone.calls == []


async def test_F021_F040_F042_we_take_pjsip_s_place_at_the_target(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    transferor, target = await pjsua(user="bob"), await pjsua(user="carol")
    async with desk(artifacts) as us:
        number, call = await take(us, transferor)
        await transferor.hold(number)
        await until(lambda: call.state is CallState.HELD, "the hold")
        consultation, other = await between(transferor, target)
        await transferor.replace(number, consultation)
        new = await happens(call, Transferred)
        assert new.state is CallState.ACTIVE
        await goes_on(target, other)
        await transferor.hangup(number)
        assert (await ended(call)).by is EndedBy.REMOTE
        await new.hangup()
        await target.closed(other)


async def test_F021_F042_F099_pjsip_takes_the_place_of_pjsip_in_a_call_of_ours(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    """We are the target: the INVITE with Replaces is one PJSIP's, the REFER another's."""
    transferor, transferee = await pjsua(user="bob"), await pjsua(user="carol")
    async with desk(artifacts) as us:
        number, other = await between(transferor, transferee)
        await transferor.hold(number)
        consultation, call = await take(us, transferor)
        await transferor.replace(number, consultation)
        new = await us.incoming()
        assert new.replaces is call
        await new.answer()
        assert (await ended(call)).by is EndedBy.LOCAL
        assert call.replaced_by is new
        await transferor.closed(consultation)
        await goes_on(transferee, other)
        await new.hangup()
        assert (await transferee.closed(other)).status == 200

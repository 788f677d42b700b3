"""The races of RFC 5407, with SIPp in the part of who is too early or too late: its verdict counts.

Of two messages that cross on the wire, SIPp's is sent when it has seen ours: to us it is as if it
had not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from direct import HOST, Desk, desk
from peers.sipp import Sipp
from sipp_flow import (
    ACKED,
    CONTACT,
    DESCRIBED,
    TAG,
    answered,
    asked,
    called,
    goodbye,
    invited,
    maybe,
    replied,
    scenario,
    sent,
)

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy

StartSipp = Callable[..., Awaitable[Sipp]]
Program = Callable[[Call], Awaitable[None]]
BRANCH = "z9hG4bK-[call_id]-1"

INVITED = invited(1, branch=BRANCH)
"""A call that is answered, and not acknowledged yet."""
ACK = sent("ACK", 1, tag=TAG, again=False)
UP = (*INVITED, ACK)


async def play(sipp: StartSipp, artifacts: Path, program: Program, *steps: str) -> Desk:
    """Have SIPp call us; return what crossed, once both sides are done."""
    ours: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with desk(artifacts) as us:

        @us.phone.on_incoming
        async def take(call: Call) -> None:
            try:
                await program(call)
            except Exception as error:
                ours.set_exception(error)
            else:
                ours.set_result(None)

        path = scenario(artifacts, "race", *steps)
        caller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1, timeout_s=30)
        (await caller.finished()).require(1)
        async with asyncio.timeout(5):
            await ours
        assert us.phone.calls == []
    return us


async def stay(call: Call) -> None:
    """Answer, and talk until the other side hangs up."""
    await call.answer()
    assert (await call.wait_ended()).by is EndedBy.REMOTE


async def leave(call: Call) -> None:
    """Answer, and hang up."""
    await call.answer()
    await call.hangup()
    assert call.state is CallState.ENDED


# 3.1: we have answered, and have no ACK yet.


async def test_F049_an_invite_that_is_repeated_after_our_200(
    sipp: StartSipp, artifacts: Path
) -> None:
    us = await play(
        sipp, artifacts, stay,
        *INVITED,
        sent("INVITE", 1, CONTACT, *DESCRIBED, branch=BRANCH, again=False),
        ACK,
        *goodbye(2),
    )  # fmt: skip
    assert us.ladder.lines == ["< INVITE", "> 200 INVITE", "< ACK", "< BYE", "> 200 BYE"]
    assert us.ladder.resent == 1  # the 200 once more, and no second call


async def test_F050_a_cancel_that_crosses_our_200(sipp: StartSipp, artifacts: Path) -> None:
    await play(
        sipp, artifacts, stay,
        *INVITED,
        sent("CANCEL", 1, branch=BRANCH),
        answered(200, ("CSeq:", "1 CANCEL")),
        ACK,
        *goodbye(2),
    )  # fmt: skip


async def test_F051_an_early_bye_that_crosses_our_200(sipp: StartSipp, artifacts: Path) -> None:
    async def ring(call: Call) -> None:
        await call.ring()
        await asyncio.sleep(0.3)
        with pytest.raises(CallError, match="hung up by the other side"):
            await call.answer()

    us = await play(
        sipp, artifacts, ring,
        sent("INVITE", 1, CONTACT, *DESCRIBED, branch=BRANCH),
        maybe(100),
        answered(180),
        answered(200, ("CSeq:", "1 INVITE")),
        *goodbye(2),
        ACK,
    )  # fmt: skip
    assert us.ladder.lines[:5] == [
        "< INVITE", "> 180 INVITE", "> 200 INVITE", "< BYE", "> 200 BYE",
    ]  # fmt: skip


async def test_F051_an_early_bye_that_comes_before_our_200(
    sipp: StartSipp, artifacts: Path
) -> None:
    """It ends the INVITE as well (RFC 3261 section 15.1.2)."""

    async def ring(call: Call) -> None:
        await call.ring()
        assert (await call.wait_ended()).by is EndedBy.REMOTE

    await play(
        sipp, artifacts, ring,
        sent("INVITE", 1, CONTACT, *DESCRIBED, branch=BRANCH),
        maybe(100),
        answered(180),
        sent("BYE", 2, tag=TAG, branch=f"{BRANCH}-2"),
        answered(200, ("CSeq:", "2 BYE")),
        answered(487, ("CSeq:", "1 INVITE")),
        sent("ACK", 1, tag=TAG, again=False, branch=BRANCH),
    )  # fmt: skip


async def test_F052_a_reinvite_before_the_ack(sipp: StartSipp, artifacts: Path) -> None:
    await play(
        sipp, artifacts, stay,
        *INVITED,
        *called(2, tag=TAG),
        ACK,
        *goodbye(3),
    )  # fmt: skip


async def test_F053_a_reinvite_before_the_ack_that_has_the_answer(
    sipp: StartSipp, artifacts: Path
) -> None:
    await play(
        sipp, artifacts, stay,
        *invited(1, branch=BRANCH, body=(), checks=(("Content-Type:", "application/sdp"),)),
        *called(2, tag=TAG, branch=f"{BRANCH}-2", status=491),
        sent("ACK", 1, *DESCRIBED, tag=TAG, again=False),
        *called(3, tag=TAG),
        *goodbye(4),
    )  # fmt: skip


async def test_F054_a_bye_before_the_ack(sipp: StartSipp, artifacts: Path) -> None:
    async def answer(call: Call) -> None:
        with pytest.raises(CallError, match="hung up by the other side"):
            await call.answer()  # waits for the ACK

    us = await play(sipp, artifacts, answer, *INVITED, *goodbye(2), ACK)
    assert us.ladder.lines[:4] == ["< INVITE", "> 200 INVITE", "< BYE", "> 200 BYE"]


# 3.2: we have hung up, and the BYE is not answered yet.


async def test_F055_two_byes_that_cross(sipp: StartSipp, artifacts: Path) -> None:
    await play(sipp, artifacts, leave, *UP, asked("BYE", 1), *goodbye(2), replied(200, 1))


async def test_F056_a_reinvite_that_crosses_our_bye(sipp: StartSipp, artifacts: Path) -> None:
    await play(
        sipp, artifacts, leave,
        *UP,
        asked("BYE", 1),
        *called(2, tag=TAG, branch=f"{BRANCH}-2", status=481),
        replied(200, 1),
    )  # fmt: skip


async def test_F057_a_200_to_our_reinvite_that_crosses_our_bye(
    sipp: StartSipp, artifacts: Path
) -> None:
    async def hold_and_leave(call: Call) -> None:
        await call.answer()
        holding = asyncio.ensure_future(call.hold())
        await asyncio.sleep(0.3)
        await call.hangup()
        with pytest.raises(CallError):
            await holding
        assert call.state is CallState.ENDED

    us = await play(
        sipp, artifacts, hold_and_leave,
        *UP,
        asked("INVITE", 1),
        asked("BYE", 5),
        replied(200, 1, CONTACT, *DESCRIBED, again=True),
        ACKED,
        replied(200, 5),
    )  # fmt: skip
    assert us.ladder.lines[-3:] == ["< 200 INVITE", "> ACK", "< 200 BYE"]


async def test_F061_a_refer_that_crosses_our_bye(sipp: StartSipp, artifacts: Path) -> None:
    us = await play(
        sipp, artifacts, leave,
        *UP,
        asked("BYE", 1),
        sent("REFER", 2, CONTACT, "Refer-To: <sip:carol@[local_ip]:[local_port]>", tag=TAG),
        answered(481, ("CSeq:", "2 REFER")),
        replied(200, 1),
    )  # fmt: skip
    assert "> INVITE" not in us.ladder.lines


async def test_F058_our_bye_waits_for_the_ack(sipp: StartSipp, artifacts: Path) -> None:
    async def leave_at_once(call: Call) -> None:
        answering = asyncio.ensure_future(call.answer())
        await asyncio.sleep(0.1)
        await call.hangup()
        with suppress(CallError):
            await answering

    us = await play(
        sipp, artifacts, leave_at_once,
        *INVITED,
        '<pause milliseconds="400"/>',  # a BYE that comes now fails the call
        ACK,
        asked("BYE", 1),
        replied(200, 1),
    )  # fmt: skip
    assert us.ladder.lines == ["< INVITE", "> 200 INVITE", "< ACK", "> BYE", "< 200 BYE"]


# 3.3: changes that cross.


async def hold(call: Call) -> None:
    """Answer, and put the other side on hold, which then hangs up."""
    await call.answer()
    await call.hold()
    assert (await call.wait_ended()).by is EndedBy.REMOTE


async def test_F059_F093_two_reinvites_that_cross(sipp: StartSipp, artifacts: Path) -> None:
    """Ours comes again, first, as the Call-ID is SIPp's; SIPp's would after 2 s."""
    await play(
        sipp, artifacts, hold,
        *UP,
        asked("INVITE", 1),
        *called(2, tag=TAG, branch=f"{BRANCH}-2", status=491),
        replied(491, 1),
        ACKED,
        asked("INVITE", 5),
        replied(200, 5, CONTACT, *DESCRIBED, again=True),
        ACKED,
        *goodbye(3),
    )  # fmt: skip


async def test_F060_F093_an_update_that_crosses_our_reinvite(
    sipp: StartSipp, artifacts: Path
) -> None:
    await play(
        sipp, artifacts, hold,
        *UP,
        asked("INVITE", 1),
        sent("UPDATE", 2, CONTACT, *DESCRIBED, tag=TAG),
        answered(491, ("CSeq:", "2 UPDATE")),
        replied(491, 1),
        ACKED,
        asked("INVITE", 5),
        replied(200, 5, CONTACT, *DESCRIBED, again=True),
        ACKED,
        *goodbye(3),
    )  # fmt: skip


# RFC 6026: an INVITE that is answered.


async def test_F116_our_200_is_repeated_until_the_ack_and_the_invite_absorbed_after_it(
    sipp: StartSipp, artifacts: Path
) -> None:
    us = await play(
        sipp, artifacts, stay,
        *INVITED,
        '<pause milliseconds="1700"/>',  # it comes again at 0.5 and 1.5 s
        ACK,
        sent("INVITE", 1, CONTACT, *DESCRIBED, branch=BRANCH, again=False),
        '<pause milliseconds="300"/>',
        *goodbye(2),
    )  # fmt: skip
    assert us.ladder.lines == ["< INVITE", "> 200 INVITE", "< ACK", "< BYE", "> 200 BYE"]
    assert us.ladder.resent == 3  # our 200 twice, their INVITE

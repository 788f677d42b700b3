"""Third party call control (RFC 3725): SIPp connects calls of ours that never hear of each other.

It passes each description on to the other side, byte for byte; what both say must be heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, Desk, desk
from peers.sipp import Sipp
from phones import ended
from sipp_flow import CONTACT, answered, maybe, scenario, sent

from voip.call import Call
from voip.events import CallState, EndedBy

StartSipp = Callable[..., Awaitable[Sipp]]

A, B, C = "a///[call_id]", "b///[call_id]", "c///[call_id]"
TAGS = {A: "71", B: "73", C: "75"}
"""The variables of our tags."""
SDP = "Content-Type: application/sdp"
NOWHERE = (
    SDP, "", "v=0", "o=- 7 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 0.0.0.0", "t=0 0",
    "m=audio 9 RTP/AVP 0", "a=inactive",
)  # fmt: skip
NO_MEDIA = (SDP, "", "v=0", "o=- 7 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 0.0.0.0", "t=0 0")


def of(variable: int) -> tuple[str, ...]:
    """The description that was kept."""
    return (SDP, "", f"[${variable}]")


def invite(call: str, number: int, *lines: str, keep: int) -> tuple[str, ...]:
    """INVITE or re-INVITE one of them, and keep what it says."""
    tag = f";tag=[${TAGS[call]}]" if number > 1 else ""
    kept = f'<ereg regexp=".*" search_in="body" check_it="true" assign_to="{keep}"/>'
    if number == 1:
        variable = int(TAGS[call])
        kept += (
            '<ereg regexp="tag=([^;]+)" search_in="hdr" header="To:" check_it="true"'
            f' assign_to="{variable - 1},{variable}"/>'
        )
    return (
        sent("INVITE", number, CONTACT, *lines, tag=tag, call_id=call),
        maybe(100),
        answered(200, more=kept),
    )


def ack(call: str, number: int, *lines: str) -> str:
    return sent("ACK", number, *lines, tag=f";tag=[${TAGS[call]}]", call_id=call, again=False)


def bye(call: str) -> tuple[str, str]:
    return sent("BYE", 9, tag=f";tag=[${TAGS[call]}]", call_id=call), answered(200)


FLOWS = {
    "F078": (
        *invite(A, 1, keep=60),
        *invite(B, 1, *of(60), keep=61),
        ack(B, 1),
        ack(A, 1, *of(61)),
    ),
    "F079": (
        *invite(A, 1, *NOWHERE, keep=60),
        ack(A, 1),
        *invite(B, 1, keep=61),
        *invite(A, 2, *of(61), keep=62),
        ack(B, 1, *of(62)),
        ack(A, 2),
    ),
    "F080": (
        *invite(A, 1, keep=60),
        ack(A, 1, *NOWHERE),
        *invite(B, 1, keep=61),
        *invite(A, 2, *of(61), keep=62),
        ack(B, 1, *of(62)),
        ack(A, 2),
    ),
    "F081": (
        *invite(A, 1, *NO_MEDIA, keep=60),
        ack(A, 1),
        *invite(B, 1, keep=61),
        *invite(A, 2, *of(61), keep=62),
        ack(B, 1, *of(62)),
        ack(A, 2),
    ),
}
PROVES = {
    "F078": [("4.1", "F078")],
    "F079": [("4.2", "F079")],
    "F080": [("4.3", "F080")],
    "F081": [("4.4", "F081"), ("10.1", "F082")],  # click-to-dial is flow IV
}
PAUSE = '<pause milliseconds="2000"/>'
"""While both talk."""


async def talk(first: Call, second: Call) -> None:
    """Each presses a key that the other must hear."""
    for speaker, listener in ((first, second), (second, first)):
        async with asyncio.timeout(5):
            while speaker.state is not CallState.ACTIVE:
                await asyncio.sleep(0.02)
        heard, _ = await asyncio.gather(listener.collect(1, timeout=5), speaker.send_dtmf("7"))
        assert heard == "7"


async def two(us: Desk) -> tuple[Call, Call]:
    """Both calls, as they come in; an answer waits for what the other side says."""
    first = await us.incoming()
    answering = asyncio.create_task(first.answer())
    second = await us.incoming()
    await asyncio.gather(answering, second.answer())
    return first, second


@pytest.mark.parametrize(
    "flow",
    [
        pytest.param(
            flow,
            marks=[pytest.mark.rfc("3725", *what) for what in proven],
            id="-".join(number for _, number in proven),
        )
        for flow, proven in PROVES.items()
    ],
)
async def test_sipp_connects_two_calls_of_ours(sipp: StartSipp, artifacts: Path, flow: str) -> None:
    path = scenario(artifacts, flow, *FLOWS[flow], PAUSE, *bye(A), *bye(B))
    async with desk(artifacts) as us:
        controller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        calls = await two(us)
        await talk(*calls)
        for call in calls:
            assert (await ended(call)).by is EndedBy.REMOTE
        (await controller.finished()).require(1)


async def test_F083_an_announcement_in_the_middle_of_a_call(
    sipp: StartSipp, artifacts: Path
) -> None:
    """The called party is put aside, the user hears a third, and both are connected again."""
    path = scenario(
        artifacts,
        "announcement",
        *FLOWS["F078"],
        PAUSE,
        *invite(B, 2, *NOWHERE, keep=62),
        ack(B, 2),
        *invite(A, 2, keep=63),
        *invite(C, 1, *of(63), keep=64),
        ack(C, 1),
        ack(A, 2, *of(64)),
        PAUSE,
        *bye(C),
        *invite(B, 3, keep=65),
        *invite(A, 3, *of(65), keep=66),
        ack(A, 3),
        ack(B, 3, *of(66)),
        PAUSE,
        *bye(A),
        *bye(B),
    )
    async with desk(artifacts) as us:
        controller = await sipp(path, remote=f"{HOST}:{us.phone.port}", calls=1)
        user, called = await two(us)
        await talk(user, called)
        server = await us.incoming()
        await server.answer()
        assert called.state is CallState.HELD
        await talk(user, server)
        assert (await ended(server)).by is EndedBy.REMOTE
        await talk(called, user)
        assert (await ended(user)).by is (await ended(called)).by is EndedBy.REMOTE
        (await controller.finished()).require(1)

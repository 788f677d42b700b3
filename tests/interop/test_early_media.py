"""Early media (RFC 3960): who rings where, while SIPp is called and has not answered yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import desk
from peers.sipp import Sipp
from phones import until
from sipp_flow import (
    ACKED,
    CONTACT,
    HUNG_UP_ON,
    OURS,
    SPEAKS,
    asked,
    plays,
    replied,
    scenario,
)

from voip.call import Call
from voip.events import CallState

StartSipp = Callable[..., Awaitable[Sipp]]

PAUSE = '<pause milliseconds="800"/>'


def sounds(artifacts: Path) -> str:
    """SIPp sends sound, over and over."""
    path = artifacts / "tone.ul"
    path.write_bytes(bytes((0x80, 0x00)) * 4000)
    return plays(path)


async def rings(call: Call) -> bool:
    """Whether we ring here, by what has come so far."""
    await call.measure()
    return call.rings_here


async def test_F119_we_ring_here_until_sound_comes_of_sipp(
    sipp: StartSipp, artifacts: Path
) -> None:
    path = scenario(
        artifacts,
        "rings-then-sounds",
        asked("INVITE", 1),
        replied(180, 1, CONTACT, tag=OURS),
        PAUSE,
        replied(183, 1, CONTACT, *SPEAKS, tag=OURS),
        PAUSE,
        sounds(artifacts),
        PAUSE,
        replied(200, 1, CONTACT, *SPEAKS, tag=OURS, again=True),
        ACKED,
        *HUNG_UP_ON,
    )
    peer = await sipp(path)
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri, wait="ringing")
        assert await rings(call)
        await until(lambda: call.state is CallState.EARLY, "SIPp to describe its sound")
        assert await rings(call)  # described, and silent so far (section 3.2)

        async def silent_here() -> bool:
            return not await rings(call)

        await until(silent_here, "SIPp to sound")
        assert call.state is CallState.EARLY
        assert call.stats.packets_received > 0
        await call.wait_answered()
        assert not await rings(call)
        await call.hangup()
        (await peer.finished()).require(1)


@pytest.mark.parametrize("described", [True, False], ids=["described", "not described"])
async def test_F119_who_has_never_said_that_it_rings_is_not_rung_for(
    sipp: StartSipp, artifacts: Path, described: bool
) -> None:
    """183 alone: it is the callee's to say what is heard, be it nothing."""
    path = scenario(
        artifacts,
        "progresses",
        asked("INVITE", 1),
        replied(183, 1, CONTACT, *(SPEAKS if described else ()), tag=OURS),
        PAUSE,
        replied(200, 1, CONTACT, *SPEAKS, tag=OURS, again=True),
        ACKED,
        *HUNG_UP_ON,
    )
    peer = await sipp(path)
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri, wait="started")
        await until(lambda: "< 183 INVITE" in us.ladder.lines, "SIPp's 183")
        assert not await rings(call)
        await call.wait_answered()
        await call.hangup()
        (await peer.finished()).require(1)

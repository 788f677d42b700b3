"""SIPp's own call flows, 200 calls each: its `uac` calls us, we call its `uas`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, Desk, desk
from peers.sipp import Sipp, SippResult
from phones import until

from voip.call import Call
from voip.events import CallEnded, EndedBy

StartSipp = Callable[..., Awaitable[Sipp]]

TRANSPORTS = ("udp", "tcp")
CALLS = 200
RATE = 50
"""Calls a second that `uac` makes."""
AT_ONCE = 20
"""Calls that we have up at once with `uas`."""
LASTING_S = 0.2
TOLERATED = 4
"""Messages that may be sent again, where a busy machine answers one after half a second."""


def require_clean(result: SippResult, us: Desk) -> None:
    """Every call went well on SIPp's side, and nothing came that its call flow does not have."""
    result.require(CALLS)
    assert result.reasons == {}
    assert result.unexpected_out_of_call == 0, result.errors
    sent_again = f"sent again: {result.retransmissions} by SIPp; {us.ladder.resent} crossed"
    print(sent_again)
    assert result.retransmissions + us.ladder.resent <= TOLERATED, sent_again


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_uac_calls_us(sipp: StartSipp, artifacts: Path, transport: str) -> None:
    ends: list[CallEnded] = []
    async with desk(artifacts) as us:

        @us.phone.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()
            ends.append(await call.wait_ended())

        caller = await sipp(
            "uac",
            remote=f"{HOST}:{us.phone.port}",
            transport=transport,
            calls=CALLS,
            rate=RATE,
            duration_ms=round(1000 * LASTING_S),
        )
        result = await caller.finished()
        await until(lambda: len(ends) == CALLS, "the end of the last call")
        assert us.phone.calls == []
    require_clean(result, us)
    assert Counter(end.by for end in ends) == {EndedBy.REMOTE: CALLS}
    assert Counter(us.ladder.lines) == {
        "< INVITE": CALLS,
        "> 200 INVITE": CALLS,
        "< ACK": CALLS,
        "< BYE": CALLS,
        "> 200 BYE": CALLS,
    }


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_we_call_uas(sipp: StartSipp, artifacts: Path, transport: str) -> None:
    callee = await sipp("uas", calls=CALLS, transport=transport)
    async with desk(artifacts) as us:
        room = asyncio.Semaphore(AT_ONCE)

        async def call() -> CallEnded | None:
            async with room:
                call = await us.phone.dial(callee.uri)
                await asyncio.sleep(LASTING_S)
                await call.hangup()
                return call.ended

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call()) for _ in range(CALLS)]
        assert us.phone.calls == []
        # `uas` keeps each call for 4 s after its BYE, and over TCP the connection must last as long
        result = await callee.finished()
    require_clean(result, us)
    ends = [end for task in calls if (end := task.result()) is not None]
    assert Counter((end.by, end.status) for end in ends) == {(EndedBy.LOCAL, 200): CALLS}
    assert Counter(us.ladder.lines) == {
        "> INVITE": CALLS,
        "< 180 INVITE": CALLS,
        "< 200 INVITE": CALLS,
        "> ACK": CALLS,
        "> BYE": CALLS,
        "< 200 BYE": CALLS,
    }


IPV6 = "::1"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ipv6_both_ways_with_sound(sipp: StartSipp, artifacts: Path, transport: str) -> None:
    """SIPp sends back what it hears when we call it."""
    async with desk(artifacts, host=IPV6) as us:
        caller = await sipp(
            "uac",
            host=IPV6,
            remote=f"[{IPV6}]:{us.phone.port}",
            transport=transport,
            calls=1,
            duration_ms=200,
        )
        call = await us.incoming()
        await call.answer()
        assert (await call.wait_ended()).by is EndedBy.REMOTE
        (await caller.finished()).require(1)
        assert "c=IN IP6 ::1" in us.ladder.text("> 200 INVITE")

        callee = await sipp("uas", host=IPV6, calls=1, transport=transport, rtp_echo=True)
        call = await us.phone.dial(callee.uri)

        async def sounds() -> bool:
            return (await call.measure()).packets_received > 10

        await until(sounds, "our sound to come back")
        assert call.stats.remote is not None
        assert call.stats.remote.host == IPV6
        await call.hangup()
        (await callee.finished()).require(1)


@pytest.mark.rfc("3261", "18.1.1")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_invite_that_is_too_long_for_udp_goes_by_tcp_where_there_is_tcp(
    sipp: StartSipp, artifacts: Path, transport: str
) -> None:
    callee = await sipp("uas", calls=1, transport=transport)
    async with desk(artifacts) as us:
        call = await us.phone.dial(
            callee.uri.partition(";")[0], headers={"Subject": "a long story " * 100}
        )
        dialog = call._session.dialog
        assert dialog is not None
        assert dialog.flow.transport == transport
        await call.hangup()
        (await callee.finished()).require(1)

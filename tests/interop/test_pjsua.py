"""PJSIP calls us and is called; it says again what it hears, so that our ear judges both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import HOST, Desk, desk
from peers.pjsua import Pjsua
from phones import CODECS, echo_of, ended, require_speech, shipped, until

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy

StartPjsua = Callable[..., Awaitable[Pjsua]]

SIDES = ("us", "pjsip")
DIGITS = "0123456789*#ABCD"


async def connect(us: Desk, peer: Pjsua, caller: str) -> tuple[Call, int]:
    """A call that is up on both sides and sounds: ours, and its number there."""
    if caller == "us":
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(us.phone.dial(peer.uri))
            number = await peer.incoming()
            await peer.answer(number, 180)
            await peer.answer(number)
        call = dialling.result()
    else:
        number = await peer.call(us.uri())
        call = await us.incoming()
        await call.ring()
        await call.answer()
    await peer.established(number)
    assert call.state is CallState.ACTIVE

    async def sounds() -> bool:
        return (await call.measure()).packets_received > 0

    # its SDP names another address of the machine than its packets come from
    await until(sounds, "sound from PJSIP")
    assert call.stats.remote is not None
    assert call.stats.remote.host == HOST
    return call, number


async def test_speech_comes_back_from_four_calls_at_once(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    speech = shipped("speech-8k.wav")
    peer = await pjsua()
    async with (
        desk(artifacts, name="pcmu", codecs=("pcmu",)) as pcmu,
        desk(artifacts, name="pcma", codecs=("pcma",)) as pcma,
    ):
        calls: dict[str, tuple[Call, int]] = {}
        for codec, us in zip(CODECS, (pcmu, pcma), strict=True):
            for caller in SIDES:
                call, number = await connect(us, peer, caller)
                assert (call.codec, peer.codec()) == (codec, codec.upper())
                calls[f"{codec}, {caller} called"] = call, number

        heard = await asyncio.gather(
            *(
                echo_of(call, speech, artifacts / f"heard-{number}.wav")
                for call, number in calls.values()
            )
        )
        for call, number in calls.values():
            await peer.hangup(number)
            assert (await ended(call)).by is EndedBy.REMOTE
    for name, sound in zip(calls, heard, strict=True):
        require_speech(speech, sound, what=name)
    for call, _ in calls.values():
        assert call.stats.packets_lost == 0
        assert call.stats.remote_packets_lost == 0
        assert call.stats.packets_received > 400


@pytest.mark.parametrize("caller", SIDES)
async def test_every_digit_goes_both_ways_at_once(
    pjsua: StartPjsua, artifacts: Path, caller: str
) -> None:
    peer = await pjsua()
    async with desk(artifacts) as us:
        call, number = await connect(us, peer, caller)
        await asyncio.gather(call.send_dtmf(DIGITS), peer.dtmf(number, DIGITS))
        assert await call.collect(len(DIGITS), timeout=3, terminator=None) == DIGITS
        await until(lambda: len(peer.digits(number)) >= len(DIGITS), "PJSIP to hear all digits")
        assert await call.collect(1, timeout=0.2, terminator=None) == ""
    assert peer.digits(number) == DIGITS


@pytest.mark.parametrize("holder", SIDES)
async def test_F017_F094_speech_comes_back_after_a_hold(
    pjsua: StartPjsua, artifacts: Path, holder: str
) -> None:
    prompt = shipped("prompt-8k.wav")
    peer = await pjsua()
    async with desk(artifacts) as us:
        call, number = await connect(us, peer, "us" if holder == "pjsip" else "pjsip")
        await (call.hold() if holder == "us" else peer.hold(number))
        await until(lambda: call.state is CallState.HELD, "the hold")
        before = await call.measure()
        await asyncio.sleep(0.5)
        after = await call.measure()
        if holder == "us":
            assert after.packets_received - before.packets_received <= 3
        else:
            assert after.packets_sent == before.packets_sent
        await (call.resume() if holder == "us" else peer.resume(number))
        await until(lambda: call.state is CallState.ACTIVE, "the end of the hold")
        await peer.wait_for("media", call=number, text="ACTIVE")
        heard = await echo_of(call, prompt, artifacts / "heard.wav")
        await call.hangup()
        assert (await peer.closed(number)).status == 200
    require_speech(prompt, heard)


async def test_F014_each_side_rejects_the_other(pjsua: StartPjsua, artifacts: Path) -> None:
    peer = await pjsua()
    async with desk(artifacts) as us:
        dialling = asyncio.create_task(us.phone.dial(peer.uri))
        number = await peer.incoming()
        await peer.hangup(number, 486)
        with pytest.raises(CallError, match=r"busy here \(486\)") as refused:
            await dialling
        assert refused.value.status == 486
        await peer.closed(number)

        number = await peer.call(us.uri())
        call = await us.incoming()
        await call.reject()
        told = await peer.closed(number)
        assert (told.status, told.reason) == (486, "Busy Here")


async def test_F013_each_side_gives_up_while_the_other_rings(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    peer = await pjsua()
    async with desk(artifacts) as us:
        dialling = asyncio.create_task(us.phone.dial(peer.uri, wait="ringing"))
        number = await peer.incoming()
        await peer.answer(number, 180)
        call = await dialling
        await call.hangup()
        assert (await peer.closed(number)).status == 487
        assert call.ended is not None
        assert (call.ended.by, call.ended.status) == (EndedBy.LOCAL, 487)

        number = await peer.call(us.uri())
        call = await us.incoming()
        await call.ring()
        await peer.wait_for("state", call=number, text="EARLY")
        await peer.hangup(number)
        end = await ended(call)
        assert (end.by, end.status) == (EndedBy.REMOTE, 487)
        assert (await peer.closed(number)).status == 487

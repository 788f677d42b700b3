"""baresip calls us and is called: an independent user agent with ears of its own."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from direct import Desk, desk
from peers.baresip import Baresip
from phones import CODECS, LEG_HZ, echo_of, ended, require_speech, shipped, until

from voip.call import Call
from voip.errors import CallError
from voip.events import CallState, EndedBy, HeldByRemote, ResumedByRemote
from voip.harness.audio import Sound

StartBaresip = Callable[..., Awaitable[Baresip]]

SIDES = ("us", "baresip")
DIGITS = "0123456789*#ABCD"
PAUSE_S = 0.8
"""How long a call is up before it is held, and how long it is held."""
CROSSING = 3
"""Packets that may be on their way when a call changes or ends."""


@pytest.fixture
def turned(artifacts: Path) -> Path:
    """The speech with its second half first: what baresip says, over and over, and we do not."""
    speech = shipped("speech-8k.wav").samples
    path = artifacts / "turned.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, LEG_HZ, 0, "NONE", ""))
        file.writeframes(np.roll(speech, len(speech) // 2).tobytes())
    return path


async def connect(us: Desk, peer: Baresip, caller: str, transport: str = "udp") -> Call:
    """A call that is up on both sides."""
    if caller == "us":
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(us.phone.dial(f"{peer.uri};transport={transport}"))
            await peer.incoming()
            await peer.accept()
        call = dialling.result()
    else:
        await peer.dial(us.uri(transport))
        call = await us.incoming()
        await call.ring()
        await call.answer()
    await peer.established()
    assert call.state is CallState.ACTIVE
    return call


async def require_we_heard(peer: Baresip, looped: Path, heard: Sound, seconds: float) -> None:
    """Judge our recording by what baresip gave to its encoder: `looped`, over and over."""
    spoken = Sound.read((await peer.recording()).sent)
    expected = np.resize(Sound.read(looped).samples, len(spoken.samples))
    assert np.array_equal(spoken.samples, expected), "baresip did not say what it was told to"
    grade = require_speech(spoken, heard, coverage=0, what="we heard")
    assert grade.seconds >= seconds, grade.explain()


async def require_same_counts(us: Desk, peer: Baresip, call: Call, changes: int = 1) -> None:
    """Let baresip end the call: what it says it sent and received is what we say.

    `changes`: how often the call began to be something else, the end included.
    """
    await peer.hangup()
    assert (await ended(call)).by is EndedBy.REMOTE
    text = us.ladder.header("< BYE", "X-RTP-Stat")
    counted = dict(figure.split("=") for figure in text.split(";"))
    assert counted["PL"] == "0,0", text
    stats = call.stats
    assert stats.packets_lost == 0
    assert stats.packets_from_strangers <= CROSSING  # it may speak before we have read its answer
    assert abs(stats.packets_sent - int(counted["PR"])) <= CROSSING * changes, text
    assert abs(stats.packets_received - int(counted["PS"])) <= CROSSING * changes, text
    assert stats.packets_sent > 50
    assert stats.packets_received > 50


async def require_media(us: Desk, peer: Baresip, call: Call, said: Path, artifacts: Path) -> None:
    """After a hold: we hear it, and digits and packets go both ways.

    Not what it hears: a re-INVITE makes baresip 1.0 take its recorder down.
    """
    heard = await echo_of(call, shipped("prompt-8k.wav"), artifacts / "heard.wav")
    await asyncio.gather(call.send_dtmf("12"), peer.dtmf("34"))
    assert await call.collect(2, timeout=2, terminator=None) == "34"
    await until(lambda: peer.digits() == "12", "baresip to hear the digits")
    await require_same_counts(us, peer, call, changes=3)
    await require_we_heard(peer, said, heard, 3)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("caller", SIDES)
async def test_both_sides_hear_what_the_other_says(
    baresip: StartBaresip, turned: Path, artifacts: Path, caller: str, codec: str
) -> None:
    peer = await baresip(codecs=[codec.upper()], play=turned)
    async with desk(artifacts) as us:
        call = await connect(us, peer, caller)
        assert call.codec == codec
        heard = await echo_of(call, shipped("speech-8k.wav"), artifacts / "heard.wav")
        await require_same_counts(us, peer, call)
    received = Sound.read((await peer.recording()).received)
    require_speech(shipped("speech-8k.wav"), received, what="baresip heard")
    await require_we_heard(peer, turned, heard, 8)


@pytest.mark.parametrize("caller", SIDES)
async def test_every_digit_goes_both_ways_at_once(
    baresip: StartBaresip, artifacts: Path, caller: str
) -> None:
    peer = await baresip()
    async with desk(artifacts) as us:
        call = await connect(us, peer, caller)
        await asyncio.gather(call.send_dtmf(DIGITS), peer.dtmf(DIGITS))
        assert await call.collect(len(DIGITS), timeout=2, terminator=None) == DIGITS
        await until(lambda: len(peer.digits()) >= len(DIGITS), "baresip to hear all digits")
        assert await call.collect(1, timeout=0.2, terminator=None) == ""
    assert peer.digits() == DIGITS


@pytest.mark.parametrize("caller", SIDES)
async def test_F017_F094_we_hold_and_resume(
    baresip: StartBaresip, turned: Path, artifacts: Path, caller: str
) -> None:
    peer = await baresip(play=turned)
    async with desk(artifacts) as us:
        call = await connect(us, peer, caller)
        await asyncio.sleep(PAUSE_S)
        await call.hold()
        assert call.state is CallState.HELD
        before = await call.measure()
        await asyncio.sleep(PAUSE_S)
        after = await call.measure()
        assert after.packets_received - before.packets_received <= CROSSING
        assert after.packets_sent - before.packets_sent > 40 * PAUSE_S

        await call.resume()
        assert call.state is CallState.ACTIVE
        await require_media(us, peer, call, turned, artifacts)
        assert us.ladder.directions()[2:] == [
            "> INVITE sendonly",
            "< 200 INVITE recvonly",
            "> INVITE sendrecv",
            "< 200 INVITE sendrecv",
        ]


@pytest.mark.parametrize("caller", SIDES)
async def test_F017_F094_baresip_holds_and_resumes(
    baresip: StartBaresip, turned: Path, artifacts: Path, caller: str
) -> None:
    peer = await baresip(play=turned)
    async with desk(artifacts) as us:
        call = await connect(us, peer, caller)
        await asyncio.sleep(PAUSE_S)
        await peer.hold()
        await until(lambda: call.state is CallState.HELD, "the hold")
        before = await call.measure()
        await asyncio.sleep(PAUSE_S)
        after = await call.measure()
        assert after.packets_sent - before.packets_sent <= CROSSING

        await peer.resume()
        await until(lambda: call.state is CallState.ACTIVE, "the end of the hold")
        await require_media(us, peer, call, turned, artifacts)
        kinds = [type(event) async for event in call.events()]
        assert us.ladder.directions()[2:] == [
            "< INVITE sendonly",
            "> 200 INVITE recvonly",
            "< INVITE sendrecv",
            "> 200 INVITE sendrecv",
        ]
    assert kinds.index(HeldByRemote) < kinds.index(ResumedByRemote)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("ends", SIDES)
@pytest.mark.parametrize("caller", SIDES)
async def test_either_side_hangs_up(
    baresip: StartBaresip, artifacts: Path, caller: str, ends: str, transport: str
) -> None:
    peer = await baresip(transport=transport)
    async with desk(artifacts) as us:
        call = await connect(us, peer, caller, transport)
        await (call if ends == "us" else peer).hangup()
        end = await ended(call)
        await peer.closed()
        assert us.phone.calls == []
    assert end.by is (EndedBy.LOCAL if ends == "us" else EndedBy.REMOTE)
    out, back = (">", "<") if caller == "us" else ("<", ">")
    bye, ok = (">", "<") if ends == "us" else ("<", ">")
    assert us.ladder.lines == [
        f"{out} INVITE",
        f"{back} 180 INVITE",
        f"{back} 200 INVITE",
        f"{out} ACK",
        f"{bye} BYE",
        f"{ok} 200 BYE",
    ]


async def test_F014_baresip_rejects_us(baresip: StartBaresip, artifacts: Path) -> None:
    peer = await baresip()
    async with desk(artifacts) as us:
        dialling = asyncio.create_task(us.phone.dial(peer.uri))
        await peer.incoming()
        await peer.hangup()
        with pytest.raises(CallError, match=r"\(486\)") as refused:
            await dialling
        await peer.closed()
    assert refused.value.status == 486
    assert us.ladder.lines == ["> INVITE", "< 180 INVITE", "< 486 INVITE", "> ACK"]


@pytest.mark.parametrize(("status", "told"), [(486, "486 Busy Here"), (603, "603 Decline")])
async def test_F014_we_reject_baresip(
    baresip: StartBaresip, artifacts: Path, status: int, told: str
) -> None:
    peer = await baresip()
    async with desk(artifacts) as us:
        await peer.dial(us.uri())
        call = await us.incoming()
        await call.ring()
        await call.reject(status)
        assert (await peer.closed()).param == told
        await until(lambda: us.ladder.lines[-1] == "< ACK", "the ACK")
    assert call.ended is not None
    assert (call.ended.by, call.ended.status) == (EndedBy.LOCAL, status)
    assert us.ladder.lines == ["< INVITE", "> 180 INVITE", f"> {status} INVITE", "< ACK"]


async def test_F013_we_give_up_while_baresip_rings(baresip: StartBaresip, artifacts: Path) -> None:
    peer = await baresip()
    async with desk(artifacts) as us:
        call = await us.phone.dial(peer.uri, wait="ringing")
        await peer.incoming()
        assert call.state is CallState.RINGING
        await call.hangup()
        await peer.closed()
    assert call.ended is not None
    assert (call.ended.by, call.ended.status) == (EndedBy.LOCAL, 487)
    assert us.ladder.lines == [
        "> INVITE",
        "< 180 INVITE",
        "> CANCEL",
        "< 200 CANCEL",
        "< 487 INVITE",
        "> ACK",
    ]


async def test_F013_baresip_gives_up_while_we_ring(baresip: StartBaresip, artifacts: Path) -> None:
    peer = await baresip()
    async with desk(artifacts) as us:
        await peer.dial(us.uri())
        call = await us.incoming()
        await call.ring()
        await peer.wait_for("CALL_RINGING")
        await peer.hangup()
        end = await ended(call)
        await peer.closed()
        await until(lambda: us.ladder.lines[-1] == "< ACK", "the ACK")
        with pytest.raises(CallError, match="gave up"):
            await call.answer()
    assert (end.by, end.status) == (EndedBy.REMOTE, 487)
    assert us.ladder.lines == [
        "< INVITE",
        "> 180 INVITE",
        "< CANCEL",
        "> 200 CANCEL",
        "> 487 INVITE",
        "< ACK",
    ]

"""Codecs that baresip has beside G.711: it calls us and is called, and both sides hear well.

baresip 1.0 codes G.722 by spandsp, Opus by libopus and GSM by libgsm.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from codec_floor import (
    G722,
    GSM,
    L16,
    L16_NARROW,
    OPUS,
    PTIMES,
    Ear,
    Spoken,
    chiefly,
    floor,
    require_floors,
    require_packets,
    write,
)
from direct import Desk, desk
from peers.baresip import Baresip
from phones import echo_of, ended, until
from stalls import repeated_after_stalls

from voip.call import Call
from voip.events import CallState, EndedBy
from voip.harness.audio import Sound

StartBaresip = Callable[..., Awaitable[Baresip]]

SIDES = ("us", "baresip")
DIGITS = "0123456789*#ABCD"
PAUSE_S = 0.8
CROSSING = 3
"""Packets that may be on their way when a call begins or ends."""
EARLY = 3
"""Those that may come before the answer has said where from."""
THEIR_NAMES = {
    "g722": "G722",
    "gsm": "GSM",
    "l16/16000": "L16/16000/1",
    "l16/8000": "L16/8000/1",
    "opus": "opus",
}
CODECS = [G722, OPUS, L16, L16_NARROW, GSM]


def id_of(codec: Spoken) -> str:
    return codec.name.replace("/", "-")


each_codec = pytest.mark.parametrize("codec", chiefly(CODECS, OPUS), ids=id_of)
pytestmark = pytest.mark.usefixtures("codec_judges")


async def start(baresip: StartBaresip, codec: Spoken, directory: Path, ptime_ms: int) -> Baresip:
    """A baresip that speaks one codec only, and says the speech with its second half first."""
    said = write(directory / f"{codec.rate_hz}.wav", codec.speech(turned=True))
    name = THEIR_NAMES[codec.name]
    return await baresip(codecs=[name], play=said, rate_hz=codec.rate_hz, ptime_ms=ptime_ms)


async def connect(us: Desk, peer: Baresip, caller: str) -> Call:
    """A call that is up on both sides."""
    if caller == "us":
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(us.phone.dial(peer.uri))
            await peer.incoming()
            await peer.accept()
        call = dialling.result()
    else:
        await peer.dial(us.uri())
        call = await us.incoming()
        await call.answer()
    await peer.established()
    assert call.state is CallState.ACTIVE
    return call


@asynccontextmanager
async def calling(
    baresip: StartBaresip, artifacts: Path, codec: Spoken, caller: str = "us", ptime_ms: int = 20
) -> AsyncIterator[tuple[Desk, Baresip, Call]]:
    """Both sides, and a call between them by one codec."""
    peer = await start(baresip, codec, artifacts, ptime_ms)
    async with desk(artifacts, codecs=(codec.name,), ptime_ms=ptime_ms) as us:
        call = await connect(us, peer, caller)
        assert call.codec == codec.encoding
        assert call.rate == codec.rate_hz
        yield us, peer, call


async def require_whole(us: Desk, peer: Baresip, call: Call) -> None:
    """Let baresip end the call: neither side has missed a packet."""
    await peer.hangup()
    assert (await ended(call)).by is EndedBy.REMOTE
    text = us.ladder.header("< BYE", "X-RTP-Stat")
    counted = dict(figure.split("=") for figure in text.split(";"))
    assert counted["PL"] == "0,0", text
    stats = call.stats
    assert stats.packets_lost == 0
    assert stats.packets_from_strangers <= EARLY
    assert abs(stats.packets_sent - int(counted["PR"])) <= CROSSING, text
    assert abs(stats.packets_received - int(counted["PS"])) <= CROSSING, text


@pytest.mark.parametrize("ptime_ms", PTIMES)
@pytest.mark.parametrize(
    "codec", chiefly([codec for codec in CODECS if codec is not GSM], G722, OPUS), ids=id_of
)
@repeated_after_stalls
async def test_both_sides_hear_speech_as_well_as_the_codec_allows(
    baresip: StartBaresip, artifacts: Path, codec: Spoken, ptime_ms: int
) -> None:
    await require_both_hear(baresip, artifacts, codec, ptime_ms)


@repeated_after_stalls
async def test_both_sides_hear_speech_as_well_as_gsm_allows(
    baresip: StartBaresip, artifacts: Path
) -> None:
    # baresip decodes the first frame of a packet only, and sends nothing by packets of 10 ms
    await require_both_hear(baresip, artifacts, GSM, 20)


async def require_both_hear(
    baresip: StartBaresip, artifacts: Path, codec: Spoken, ptime_ms: int
) -> None:
    """Two calls at once, one each way; each side's recording is held against the floor."""

    async def converse(caller: str) -> list[Ear]:
        directory = artifacts / caller
        directory.mkdir(exist_ok=True)
        async with calling(baresip, directory, codec, caller, ptime_ms) as (us, peer, call):
            heard = await echo_of(call, codec.speech(), directory / "heard.wav")
            await require_whole(us, peer, call)
            kept = await peer.recording()
        what, hz = f"{codec.name}, {ptime_ms} ms, {caller} called", codec.judged_hz
        received, said = Sound.read(kept.received), Sound.read(kept.sent)
        return [
            Ear(f"{what}, baresip heard", codec.speech(), received, hz, floors[0]),
            Ear(f"{what}, we heard", said, heard, hz, floors[1]),
        ]

    floors = floor(codec), floor(codec, turned=True)
    ears = await asyncio.gather(*map(converse, SIDES))
    for caller in SIDES:
        require_packets(artifacts / caller / "desk.pcap", codec, ptime_ms)
    require_floors(*itertools.chain(*ears))


@pytest.mark.parametrize("caller", chiefly(SIDES, "us"))
@each_codec
@repeated_after_stalls
@pytest.mark.rfc("4733", "2")
async def test_F017_F094_digits_go_both_ways_and_speech_comes_back_after_holds(
    baresip: StartBaresip, artifacts: Path, codec: Spoken, caller: str
) -> None:
    async with calling(baresip, artifacts, codec, caller) as (_, peer, call):
        await asyncio.gather(call.send_dtmf(DIGITS), peer.dtmf(DIGITS))
        assert await call.collect(len(DIGITS), timeout=2, terminator=None) == DIGITS
        await until(lambda: len(peer.digits()) >= len(DIGITS), "baresip to hear all digits")
        assert peer.digits() == DIGITS

        for holder in (call, peer):
            await holder.hold()
            await until(lambda: call.state is CallState.HELD, "the hold")
            await asyncio.sleep(PAUSE_S)
            await holder.resume()
            await until(lambda: call.state is CallState.ACTIVE, "the end of the hold")
        await asyncio.sleep(PAUSE_S)  # until there is sound again
        heard = await echo_of(call, codec.speech(), artifacts / "heard.wav")
        await asyncio.gather(call.send_dtmf("12"), peer.dtmf("34"))
        assert await call.collect(2, timeout=2, terminator=None) == "34"
        await until(lambda: peer.digits() == DIGITS + "12", "baresip to hear the digits")
        await peer.hangup()
        assert (await ended(call)).by is EndedBy.REMOTE
        spoken = Sound.read((await peer.recording()).sent)
    assert call.stats.packets_lost == 0
    assert call.stats.packets_from_strangers <= EARLY
    what = f"{codec.name}, {caller} called, after holds, we heard"
    require_floors(Ear(what, spoken, heard, codec.judged_hz, floor(codec, turned=True)))

"""PJSIP's codecs in calls with us: iLBC, for which it is the only peer, and others.

PJSIP plays and records, so that each direction is judged by itself. What iLBC should give is taken
from calls of PJSIP with PJSIP.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from codec_floor import (
    G722,
    GSM,
    ILBC,
    PCMU,
    PTIMES,
    SPEEX,
    SPEEX_WIDE,
    Ear,
    Spoken,
    chiefly,
    floor,
    quality,
    require_floors,
    require_packets,
    write,
)
from direct import Desk, desk
from peers.pjsua import Pjsua
from peers.tshark import rtp_streams
from phones import TAIL_S, echo_of, ended, part, until
from stalls import repeated_after_stalls

from voip.call import Call
from voip.events import CallState, EndedBy
from voip.harness.audio import Sound

StartPjsua = Callable[..., Awaitable[Pjsua]]

SIDES = ("us", "pjsip")
DIGITS = "0123456789*#ABCD"
PAUSE_S = 0.8
LEARNING = 20
"""Packets that are not heard after PJSIP has taken another port: 250 ms, and four more."""
ILBC_FLOOR = 3.9
"""Of frames of 20 ms or 30 ms: what two PJSIPs hear of each other where nothing disturbs them."""
THEIR_NAMES = {
    "g722": "G722/16000/1",
    "ilbc": "iLBC/8000/1",
    "gsm": "GSM/8000/1",
    "pcmu": "PCMU/8000/1",
    "speex/8000": "speex/8000/1",
    "speex/16000": "speex/16000/1",
}


def id_of(codec: Spoken) -> str:
    return codec.name.replace("/", "-")


pytestmark = pytest.mark.usefixtures("codec_judges")


async def start(pjsua: StartPjsua, codec: Spoken, directory: Path, **settings: Any) -> Pjsua:
    """A PJSIP that speaks one codec only, and says the speech with its second half first."""
    said = write(directory / "said.wav", codec.speech(turned=True))
    names = [THEIR_NAMES[codec.name]]
    return await pjsua(codecs=names, play=said, rate_hz=codec.rate_hz, **settings)


def over_and_over(codec: Spoken, *, turned: bool = True) -> Sound:
    """What PJSIP says, from wherever in it one listens for as long as the speech lasts."""
    said = codec.speech(turned=turned)
    return Sound(np.tile(said.samples, 3), said.rate_hz)


def what_we_say(codec: Spoken) -> Sound:
    """The speech; by G.722 half as loud.

    PJSIP 2.14 makes of G.722 twice what it is, until that clips, and from there on once: speech
    that becomes quieter within a word is no measure of the codec.
    """
    said = codec.speech()
    return Sound(said.samples // 2, said.rate_hz) if codec is G722 else said


async def connect(us: Desk, peer: Pjsua, caller: str) -> tuple[Call, int]:
    """A call that is up on both sides: ours, and its number there."""
    if caller == "us":
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(us.phone.dial(peer.uri))
            number = await peer.incoming()
            await peer.answer(number)
        call = dialling.result()
    else:
        number = await peer.call(us.uri())
        call = await us.incoming()
        await call.answer()
    await peer.established(number)

    async def sounds() -> bool:
        return (await call.measure()).packets_received > 5

    await until(sounds, "sound from PJSIP")
    await asyncio.sleep(PAUSE_S)  # until it comes out of the jitter buffers
    return call, number


async def converse(
    pjsua: StartPjsua,
    directory: Path,
    codec: Spoken,
    caller: str,
    floors: tuple[float, float],
    *,
    ptime_ms: int = 20,
    **settings: Any,
) -> list[Ear]:
    """A call in which both sides say the speech: what was heard, and our phone's directory."""
    directory.mkdir(exist_ok=True)
    peer = await start(pjsua, codec, directory, **settings)
    async with desk(directory, codecs=(codec.name,), ptime_ms=ptime_ms) as us:
        call, number = await connect(us, peer, caller)
        assert (call.codec, call.rate) == (codec.encoding, codec.rate_hz)
        heard = await echo_of(call, what_we_say(codec), directory / "heard.wav")
        await peer.hangup(number)
        assert (await ended(call)).by is EndedBy.REMOTE
        await peer.closed(number)
    assert call.stats.packets_lost == 0
    assert call.stats.remote_packets_lost in (0, None)
    received = Sound.read(peer.recordings(number)[-1])
    what, hz = f"{codec.name} {settings or ''} {ptime_ms} ms, {caller} called", codec.judged_hz
    return [
        Ear(f"{what}, PJSIP heard", codec.speech(), received, hz, floors[0]),
        Ear(f"{what}, we heard", over_and_over(codec), heard, hz, floors[1]),
    ]


async def among_themselves(
    pjsua: StartPjsua, directory: Path, codec: Spoken, **settings: Any
) -> tuple[float, float]:
    """What both recordings of a call of PJSIP with PJSIP score."""
    directory.mkdir(exist_ok=True)
    said = write(directory / "other.wav", codec.speech())
    names = [THEIR_NAMES[codec.name]]
    one = await pjsua(codecs=names, play=said, rate_hz=codec.rate_hz, **settings)
    other = await start(pjsua, codec, directory, **settings)
    there = await one.call(other.uri)
    here = await other.incoming()
    await other.answer(here)
    await asyncio.gather(one.established(there), other.established(here))
    await asyncio.sleep(codec.speech().seconds + TAIL_S)
    await one.hangup(there)
    await asyncio.gather(one.closed(there), other.closed(here))
    heard = [Sound.read(peer.recordings(n)[-1]) for peer, n in ((other, here), (one, there))]
    # not what comes before there is sound
    here_heard, there_heard = (part(sound, PAUSE_S, sound.seconds) for sound in heard)
    return (
        quality(over_and_over(codec, turned=False), here_heard, codec.judged_hz),
        quality(over_and_over(codec), there_heard, codec.judged_hz),
    )


# Frames of 30 ms if either side prefers them: octets of one, milliseconds (RFC 3952, section 2)
ILBC_MODES = [
    (20, 20, 38, 20),
    (30, 30, 50, 30),
    (20, 30, 50, 30),
    (30, 20, 50, 30),
    (40, 20, 38, 20),
    (60, 30, 50, 30),
]


@pytest.mark.parametrize(
    ("ours", "theirs", "octets", "frame_ms"), chiefly(ILBC_MODES, *ILBC_MODES[:3:2])
)
@repeated_after_stalls
@pytest.mark.rfc("3952", "5")
async def test_ilbc_is_heard_as_well_as_between_two_pjsips(
    pjsua: StartPjsua, artifacts: Path, ours: int, theirs: int, octets: int, frame_ms: int
) -> None:
    floors = await among_themselves(pjsua, artifacts / "theirs", ILBC, ilbc_mode=frame_ms)
    assert min(floors) > 3.7, floors

    async def speak(caller: str) -> list[Ear]:
        return await converse(
            pjsua, artifacts / caller, ILBC, caller, floors, ptime_ms=ours, ilbc_mode=theirs
        )

    ears = await asyncio.gather(*map(speak, SIDES))
    for caller in SIDES:
        streams = rtp_streams(artifacts / caller / "desk.pcap")
        assert len(streams) == 2, streams
        for stream in streams:
            assert (stream.name, stream.lost) == ("iLBC", 0), stream
            assert len(stream.packets) > 100
            # PJSIP puts two frames into a packet where it is asked for 30 ms and has 20 itself
            for size, ticks in stream.ticks():
                assert size % octets == 0, stream.sizes
                assert ticks == size // octets * frame_ms * 8, (size, ticks)
    require_floors(*itertools.chain(*ears))


@pytest.mark.parametrize("ptime_ms", PTIMES)
@pytest.mark.parametrize("codec", chiefly([G722, GSM, SPEEX, SPEEX_WIDE], G722), ids=id_of)
@repeated_after_stalls
async def test_both_sides_hear_speech_as_well_as_the_codec_allows(
    pjsua: StartPjsua, artifacts: Path, codec: Spoken, ptime_ms: int
) -> None:
    floors = floor(codec), floor(codec, turned=True)

    async def speak(caller: str) -> list[Ear]:
        return await converse(pjsua, artifacts / caller, codec, caller, floors, ptime_ms=ptime_ms)

    ears = await asyncio.gather(*map(speak, SIDES))
    for caller in SIDES:
        require_packets(artifacts / caller / "desk.pcap", codec, ptime_ms)
    require_floors(*itertools.chain(*ears))


@pytest.mark.parametrize("caller", chiefly(SIDES, "pjsip"))
@pytest.mark.parametrize("codec", chiefly([ILBC, G722, GSM, SPEEX], ILBC), ids=id_of)
@repeated_after_stalls
@pytest.mark.rfc("4733", "2")
async def test_F017_F094_digits_go_both_ways_and_speech_after_holds(
    pjsua: StartPjsua, artifacts: Path, codec: Spoken, caller: str
) -> None:
    peer = await start(pjsua, codec, artifacts)
    async with desk(artifacts, codecs=(codec.name,)) as us:
        call, number = await connect(us, peer, caller)
        await asyncio.gather(call.send_dtmf(DIGITS), peer.dtmf(number, DIGITS))
        assert await call.collect(len(DIGITS), timeout=3, terminator=None) == DIGITS
        await until(lambda: len(peer.digits(number)) >= len(DIGITS), "PJSIP to hear all digits")
        assert peer.digits(number) == DIGITS

        await call.hold()
        assert call.state is CallState.HELD
        await asyncio.sleep(PAUSE_S)
        await call.resume()
        await peer.hold(number)
        await until(lambda: call.state is CallState.HELD, "the hold")
        await asyncio.sleep(PAUSE_S)
        await peer.resume(number)
        await until(lambda: call.state is CallState.ACTIVE, "the end of the hold")
        await asyncio.sleep(PAUSE_S)  # until there is sound again
        heard = await echo_of(call, what_we_say(codec), artifacts / "heard.wav")
        await call.hangup()
        await peer.closed(number)
        received = Sound.read(peer.recordings(number)[-1])
    what, hz = f"{codec.name}, {caller} called, after holds", codec.judged_hz
    floors = (ILBC_FLOOR, ILBC_FLOOR)
    if codec is not ILBC:
        floors = floor(codec), floor(codec, turned=True)
    require_floors(
        Ear(f"{what}, PJSIP heard", codec.speech(), received, hz, floors[0]),
        Ear(f"{what}, we heard", over_and_over(codec), heard, hz, floors[1]),
    )


@repeated_after_stalls
@pytest.mark.rfc("3264", "8.3.2")
async def test_pjsip_changes_the_codec_while_we_talk(pjsua: StartPjsua, artifacts: Path) -> None:
    order = [G722, ILBC, PCMU, G722]
    peer = await start(pjsua, order[0], artifacts)
    async with desk(artifacts, codecs=("pcmu", "ilbc", "g722")) as us:
        call, number = await connect(us, peer, "pjsip")
        heard = []
        for codec in order:
            if heard:
                await peer.speak(THEIR_NAMES[codec.name], call=number)
                await until(lambda: call.codec == codec.name, f"{codec.name}")  # noqa: B023
                await peer.wait_for("media", call=number, text="ACTIVE")
                await asyncio.sleep(
                    PAUSE_S
                )  # until its new address, which it told wrongly, is learned
            assert call.rate == order[0].rate_hz
            path = artifacts / f"heard-{len(heard)}.wav"
            heard.append(await echo_of(call, what_we_say(order[0]), path))
        await peer.hangup(number)
        await ended(call)
        await peer.closed(number)
        received = [Sound.read(path) for path in peer.recordings(number)]
    assert call.stats.packets_lost <= LEARNING * (len(order) - 1)
    ears = []
    for codec, here, there in zip(order, heard, received, strict=True):
        floors = (ILBC_FLOOR, ILBC_FLOOR)
        if codec is not ILBC:
            floors = floor(codec), floor(codec, turned=True)
        what, hz = f"{codec.name} after a re-INVITE", codec.judged_hz
        ears += [
            Ear(f"{what}, PJSIP heard", order[0].speech(), there, hz, floors[0]),
            Ear(f"{what}, we heard", over_and_over(order[0]), here, hz, floors[1]),
        ]
    require_floors(*ears)

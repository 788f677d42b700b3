"""Troubles with sound that other people's programs make: each is told once, and is over when it is.

baresip and SIPp are silent, cut off, mute, far too loud, speak what was not agreed on, or send
sound to whom it is not for; SoX makes the files. What is no trouble is in the same calls: nothing
but what is expected may be told.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from direct import Desk, desk
from lossy_path import lossy_path
from peers.baresip import Baresip
from peers.sipp import Sipp
from phones import ended, require_speech, shipped, until
from sipp_flow import (
    ACKED,
    CONTACT,
    HUNG_UP_ON,
    OURS,
    SPEAKS,
    called,
    described,
    echoed,
    plays,
    scenario,
)
from stalls import repeated_after_stalls
from test_baresip import connect
from test_relayed import answered

from voip.call import Call
from voip.config import CallConfig, TroubleConfig
from voip.events import (
    Clipping,
    EndedBy,
    MediaTrouble,
    OneWayAudio,
    PeerSilent,
    Silence,
    TroubleOver,
    WrongCodec,
    WrongSource,
)
from voip.harness.audio import Sound
from voip.media.wav import WavWriter
from voip.sip.reason import Reason

StartBaresip = Callable[..., Awaitable[Baresip]]
StartSipp = Callable[..., Awaitable[Sipp]]

SHORT = TroubleConfig(one_way_s=2.0, silence_s=2.0)


def made(path: Path, *effects: str, source: Path | None = None) -> Path:
    """Let SoX write a file: of another one, or of nothing."""
    what = [source] if source else ["-n"]
    kind = ["-t", "ul"] if path.suffix == ".ul" else ["-t", "al"] if path.suffix == ".al" else []
    form = ["-r", "8000", "-c", "1", *(kind or ["-b", "16"])]
    subprocess.run(["sox", *what, *form, path, *effects], check=True)
    return path


def speech(artifacts: Path) -> Path:
    path = artifacts / "speech.wav"
    with WavWriter(path, 8000) as file:
        file.write(shipped("speech-8k.wav").samples)
    return path


class Told:
    """The troubles that a call has told of."""

    def __init__(self, call: Call) -> None:
        self.began: list[MediaTrouble] = []
        self.over: list[MediaTrouble] = []
        call.on_event(self._take)

    def _take(self, event: object) -> None:
        if isinstance(event, MediaTrouble):
            self.began.append(event)
        elif isinstance(event, TroubleOver):
            self.over.append(event.trouble)

    async def one(self, timeout: float = 8.0) -> MediaTrouble:
        """The first and only."""
        await until(lambda: bool(self.began), "a trouble", timeout)
        (trouble,) = self.began
        return trouble

    async def end(self, timeout: float = 8.0) -> None:
        """Wait until the only one is over."""
        await until(lambda: bool(self.over), f"the end of {self.began}", timeout)
        assert self.over == self.began and len(self.over) == 1


async def test_sound_of_baresip_that_does_not_arrive_is_one_way_until_it_does(
    baresip: StartBaresip, artifacts: Path
) -> None:
    """Its RTP is dropped on the way, its RTCP is not; it hears us all the time."""
    peer = await baresip(codecs=["PCMU"])
    async with desk(artifacts, troubles=SHORT) as us, lossy_path(peer.port) as path:
        path.to_us.loss = 1.0
        call = await answered(peer, us.phone.dial(path.uri("baresip")))
        told = Told(call)
        trouble = await told.one()
        assert isinstance(trouble, OneWayAudio) and trouble.direction == "in"
        assert "no RTP has ever come" in trouble.reason
        assert path.to_us.dropped > 50 and path.to_peer.passed > 50
        path.to_us.loss = 0.0
        await told.end()
        await call.hangup()


@pytest.mark.matrix  # baresip reports every five seconds, and three of its reports are waited for
async def test_sound_of_ours_that_baresip_never_reports_is_one_way(
    baresip: StartBaresip, artifacts: Path
) -> None:
    peer = await baresip(codecs=["PCMU"])
    async with desk(artifacts, troubles=SHORT) as us, lossy_path(peer.port) as path:
        path.to_peer.loss = 1.0
        call = await answered(peer, us.phone.dial(path.uri("baresip")))
        told = Told(call)
        trouble = await told.one(40)
        assert isinstance(trouble, OneWayAudio) and trouble.direction == "out"
        assert call.stats.packets_received > 300
        path.to_peer.loss = 0.0
        await told.end(20)
        await call.hangup()


async def test_a_path_that_is_cut_ends_the_call_and_baresip_is_told(
    baresip: StartBaresip, artifacts: Path
) -> None:
    """baresip answers our questions by SIP, which goes on, and has a BYE all the same."""
    peer = await baresip(codecs=["PCMU"])
    calling = CallConfig(media_timeout_s=4.0)
    async with desk(artifacts, calling=calling) as us, lossy_path(peer.port) as path:
        call = await answered(peer, us.phone.dial(path.uri("baresip")))
        silent: list[PeerSilent] = []
        call.on_event(lambda event: isinstance(event, PeerSilent) and silent.append(event))
        await until(lambda: path.to_us.passed > 25, "its sound")
        path.to_us.loss, path.to_us.rtcp = 1.0, False
        end = await ended(call)
        await peer.closed()
        assert end.by is EndedBy.FAILURE
        assert len(silent) == 1
        assert Reason.parse(us.ladder.header("> BYE", "Reason")).text == end.reason
        assert us.ladder.lines[-2:] == ["> BYE", "< 200 BYE"]


async def test_a_muted_microphone_is_silence_until_it_is_not(
    baresip: StartBaresip, artifacts: Path
) -> None:
    nothing = made(artifacts / "nothing.wav", "trim", "0", "5")
    loud = made(artifacts / "loud.wav", "synth", "55", "sine", "440", "gain", "-10")
    subprocess.run(["sox", nothing, loud, artifacts / "both.wav"], check=True)
    peer = await baresip(codecs=["PCMA"], play=artifacts / "both.wav")
    async with desk(artifacts, troubles=SHORT) as us:
        told = Told(call := await connect(us, peer, "us"))
        trouble = await told.one()
        assert isinstance(trouble, Silence)
        assert trouble.level_dbfs is None or trouble.level_dbfs < -70
        await told.end(12)
        assert call.stats.packets_received > 150
        await call.hangup()


async def test_speech_that_sox_makes_too_loud_is_clipping_and_speech_is_not(
    baresip: StartBaresip, artifacts: Path
) -> None:
    said = speech(artifacts)
    loud = made(artifacts / "loud.wav", "gain", "30", source=said)
    peers = [await baresip(codecs=["PCMU"], play=path) for path in (loud, said)]
    async with desk(artifacts, troubles=SHORT) as us:
        told = [Told(await connect(us, peer, "us")) for peer in peers]
        trouble = await told[0].one()
        assert isinstance(trouble, Clipping) and trouble.steps >= 3
        await asyncio.sleep(3)
        assert (told[0].began, told[1].began) == ([trouble], [])
        for call in us.phone.calls:
            await call.hangup()


@pytest.mark.parametrize(("suffix", "payload_type"), [("al", 8), ("ul", 18)], ids=["pcma", "g729"])
async def test_what_sipp_did_not_agree_on_is_a_wrong_codec(
    sipp: StartSipp, artifacts: Path, suffix: str, payload_type: int
) -> None:
    """It answers with PCMU alone, and sends what it likes: for SIPp a type is just a number."""
    file = made(artifacts / f"said.{suffix}", source=speech(artifacts))
    flow = scenario(artifacts, "speaker", *called(1, body=SPEAKS), plays(file, payload_type),
                    *HUNG_UP_ON)  # fmt: skip
    async with desk(artifacts, codecs=("pcmu",), troubles=SHORT) as us:
        run = await sipp(flow, remote=f"127.0.0.1:{us.phone.port}", service="desk")
        told = Told(call := await taken(us))
        await until(lambda: any(isinstance(one, WrongCodec) for one in told.began), "it", 8)
        (trouble,) = [one for one in told.began if isinstance(one, WrongCodec)]
        assert trouble.payload_type == payload_type
        assert 20 <= trouble.packets <= 110
        await call.hangup()
        (await run.finished()).require(1)


async def taken(us: Desk) -> Call:
    call = await us.incoming()
    await call.answer()
    return call


@repeated_after_stalls
async def test_another_baresip_that_sends_to_our_port_is_told_of_and_not_heard(
    baresip: StartBaresip, sipp: StartSipp, artifacts: Path
) -> None:
    """SIPp answers it with a description that names our port; who we speak with is heard on."""
    said = speech(artifacts)
    peer = await baresip(codecs=["PCMU"], play=said)
    stranger = await baresip(codecs=["PCMU"], tone_hz=1000)
    async with desk(artifacts, codecs=("pcmu",), troubles=SHORT) as us:
        call = await connect(us, peer, "us")
        told = Told(call)
        local = call._session.media.local_rtp
        assert local is not None
        flow = scenario(
            artifacts, "traitor", '<recv request="INVITE"/>',
            echoed(200, CONTACT, *described(local.port), tag=OURS, again=True),
            ACKED, *HUNG_UP_ON,
        )  # fmt: skip
        traitor = await sipp(flow)
        async with call.record(artifacts / "heard.wav"):
            await asyncio.sleep(1)
            await stranger.dial(traitor.uri)
            await stranger.established()
            trouble = await told.one()
            await asyncio.sleep(2)
            await stranger.hangup()
            await told.end(12)
        (await traitor.finished()).require(1)
        assert isinstance(trouble, WrongSource) and trouble.heard
        assert trouble.address.host == "127.0.0.1" and trouble.packets >= 10
        assert call.stats.packets_from_strangers > 100
        assert call.stats.packets_lost == 0
        await call.hangup()
    heard = Sound.read(artifacts / "heard.wav")
    sent = Sound.read((await peer.recording()).sent)
    grade = require_speech(sent, heard, coverage=0, what="the peer beside the stranger")
    assert grade.seconds > 5, grade.explain()

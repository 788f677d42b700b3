"""Everything that a conference does to its parties, by the ears of baresip and Asterisk.

All say chirps of their own the whole time (`coded_chirps`), so that each change shows in what each
of them records: who is heard, how loud, and who is not, its own voice first of all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from coded_chirps import require_heard, say, voice
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from phones import part, require_speech, shipped, softphone
from stalls import repeated_after_stalls

from voip.events import ActiveSpeaker, PartyJoined, PartyLeft
from voip.harness.audio import Sound

StartBaresip = Callable[..., Awaitable[Baresip]]

STAGE_S, SETTLED_S = 2.2, 0.5
"""How long things stay as they are, and how soon it is heard that they changed."""
HOST = 5
"""The code of the phone's own voice."""


@dataclass(slots=True)
class Stages:
    """What was to be heard when: by ear, the codes and their levels."""

    heard: list[tuple[str, float, float, dict[str, dict[int, float]]]] = field(default_factory=list)

    async def stage(self, name: str, **ears: dict[int, float] | set[int]) -> None:
        """Let it be so for a while. ears: what each hears."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.sleep(STAGE_S)
        wanted = {
            ear: codes if isinstance(codes, dict) else dict.fromkeys(codes, 0.0)
            for ear, codes in ears.items()
        }
        self.heard.append((name, begun, loop.time(), wanted))

    async def require(self, ended: float, a: Baresip, b: Baresip, c: Baresip, d: Asterisk) -> None:
        """Judge what they have recorded, which all ended then: by it marks of time are found."""
        sounds = {"d": Sound.read(await d.recording("614"))}
        for ear, peer in zip("abc", (a, b, c), strict=True):
            sounds[ear] = Sound.read((await peer.recording()).received)
        for ear, sound in sounds.items():
            for name, begun, over, wanted in self.heard:
                since = sound.seconds - (ended - begun) + SETTLED_S
                heard = part(sound, since, sound.seconds - (ended - over))
                require_heard(heard, wanted[ear], of=HOST + 1, who=f"{name}: {ear}")


@repeated_after_stalls
async def test_each_party_hears_what_it_is_to_hear_of_the_others(
    asterisk: Asterisk, baresip: StartBaresip, artifacts: Path
) -> None:
    """Mute, deafen, gain, coach and listen, one after the other; baresip, and Asterisk's 614."""
    rates = {0: ("PCMU", 8000), 1: ("PCMA", 8000), 2: ("G722", 16000)}
    peers = [
        await baresip(
            codecs=[codec], rate_hz=rate, answer="auto",
            play=say(artifacts / f"code-{code}.wav", code, rate),
        )
        for code, (codec, rate) in rates.items()
    ]  # fmt: skip
    stages = Stages()
    async with (
        softphone(asterisk, "1001", artifacts, codecs=("g722", "pcmu", "pcma")) as phone,
        await phone.conference(rate=8000) as room,
    ):
        a, b, c = [await room.add(peer.uri) for peer in peers]
        await room.add("614")
        speaking = asyncio.create_task(room.play(voice(HOST, 60)))
        await stages.stage("all", a={1, 2, HOST}, b={0, 2, HOST}, c={0, 1, HOST}, d={0, 1, 2, HOST})
        await room.mute(a)
        await stages.stage("a mute", a={1, 2, HOST}, b={2, HOST}, c={1, HOST}, d={1, 2, HOST})
        await room.unmute(a)
        await room.deafen(b)
        await stages.stage("b deaf", a={1, 2, HOST}, b=set(), c={0, 1, HOST}, d={0, 1, 2, HOST})
        await room.undeafen(b)
        await room.set_gain(a, -9)
        await room.set_gain(b, 4)
        louder = {0: -9.0, 1: 4.0, 2: 0.0, HOST: 0.0}
        await stages.stage(
            "a softer, b louder",
            **{
                ear: {code: db for code, db in louder.items() if code != own}
                for ear, own in (("a", 0), ("b", 1), ("c", 2), ("d", -1))
            },
        )
        for call in (a, b):
            await room.set_gain(call, 0)
        await room.coach(a, b)
        await stages.stage(
            "a coaches b", a={1, 2, HOST}, b={0, 2, HOST}, c={1, HOST}, d={1, 2, HOST}
        )
        await room.whisper(a)
        await room.listen(c, a)
        await stages.stage("c listens to a", a={1, 2, HOST}, b={0, 2, HOST}, c={0},
                           d={0, 1, 2, HOST})  # fmt: skip
        await room.listen(c)
        await stages.stage(
            "all again", a={1, 2, HOST}, b={0, 2, HOST}, c={0, 1, HOST}, d={0, 1, 2, HOST}
        )
        ended = asyncio.get_running_loop().time()
        speaking.cancel()
    await stages.require(ended, *peers, asterisk)


@repeated_after_stalls
async def test_the_two_loudest_are_heard_and_the_third_when_one_is_muted(
    asterisk: Asterisk, baresip: StartBaresip, artifacts: Path
) -> None:
    gains = (0.0, -6.0, -12.0)
    peers = [
        await baresip(
            codecs=["PCMU"], answer="auto",
            play=say(artifacts / f"code-{code}.wav", code, gain_db=gain),
        )
        for code, gain in enumerate(gains)
    ]  # fmt: skip
    stages = Stages()
    async with (
        softphone(asterisk, "1001", artifacts, codecs=("pcmu",)) as phone,
        await phone.conference(loudest=2) as room,
    ):
        speakers: list[set[object]] = []
        room.on_event(
            lambda event: isinstance(event, ActiveSpeaker) and speakers.append(set(event.calls))
        )
        a, b, c = [await room.add(peer.uri) for peer in peers]
        await room.add("614")
        await stages.stage("the third is not heard", a={1: -6.0}, b={0: 0.0},
                           c={0: 0.0, 1: -6.0}, d={0: 0.0, 1: -6.0})  # fmt: skip
        assert any({a, b} <= spoke for spoke in speakers), speakers
        await room.mute(a)
        await asyncio.sleep(0.5)  # a level is that of the last half a second
        await stages.stage("the first is mute", a={1: -6.0, 2: -12.0}, b={2: -12.0},
                           c={1: -6.0}, d={1: -6.0, 2: -12.0})  # fmt: skip
        await room.unmute(a)
        await room.set_gain(c, 12)
        await asyncio.sleep(0.5)
        await stages.stage("the third is as loud as the first", a={2: 0.0}, b={0: 0.0, 2: 0.0},
                           c={0: 0.0}, d={0: 0.0, 2: 0.0})  # fmt: skip
        ended = asyncio.get_running_loop().time()
    await stages.require(ended, *peers, asterisk)


@repeated_after_stalls
async def test_baresip_and_asterisk_hear_who_comes_and_who_goes(
    asterisk: Asterisk, baresip: StartBaresip, artifacts: Path
) -> None:
    """The announcements are speech, and graded."""
    prompt = shipped("prompt-8k.wav")
    farewell = Sound(np.ascontiguousarray(shipped("speech-8k.wav").samples[: 4 * 8000]), 8000)
    silent = artifacts / "silent.wav"
    say(silent, 0, gain_db=-200)
    peers = [await baresip(codecs=["PCMU"], answer="auto", play=silent) for _ in range(2)]

    def announce(event: PartyJoined | PartyLeft, rate: int) -> np.ndarray | None:
        assert rate == 8000
        if isinstance(event, PartyLeft):
            return farewell.samples
        return prompt.samples if len(room.parties) > 1 else None

    async with softphone(asterisk, "1001", artifacts, codecs=("pcmu",)) as phone:
        room = await phone.conference(announce=announce)
        async with room:
            await room.add(peers[0].uri)
            await room.add("614")
            await asyncio.sleep(prompt.seconds + 0.5)
            leaves = await room.add(peers[1].uri)
            await asyncio.sleep(prompt.seconds + 0.5)
            await room.kick(leaves)
            await asyncio.sleep(farewell.seconds + 0.8)
    recorded = Sound.read(await asterisk.recording("614"))
    at_first, at_last = [Sound.read((await peer.recording()).received) for peer in peers]
    for who, sound in (("baresip", at_first), ("Asterisk", recorded)):
        middle = prompt.seconds + 0.5
        second = part(sound, middle, middle + prompt.seconds + 1.0)
        require_speech(prompt, part(sound, 0, prompt.seconds + 0.6), coverage=0.95,
                       what=f"{who}: Asterisk comes")  # fmt: skip
        require_speech(prompt, second, coverage=0.9, what=f"{who}: another baresip comes")
        last = part(sound, sound.seconds - farewell.seconds - 1.0, sound.seconds)
        require_speech(farewell, last, what=f"{who}: it goes")
    require_speech(prompt, at_last, coverage=0.9, what="who comes hears it, too")

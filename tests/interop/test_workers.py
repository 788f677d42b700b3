"""Calls of other people's phones on a phone with two engines: who hears whom, and what is left.

baresip, PJSIP, Asterisk and SIPp say chirps of their own (`coded_chirps`); each records what it
hears, and that is what is judged. The engines are processes, and one is killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from callers import answering
from coded_chirps import require_heard, say
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from peers.pjsua import Pjsua
from peers.sipp import Sipp
from phones import JITTER_MS, ended, part, require_speech, shipped, until
from sipp_flow import CONTACT, SPEAKS, TAG, answered, asked, maybe, plays, replied, scenario, sent
from stalls import repeated_after_stalls

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.events import EndedBy
from voip.harness.audio import Sound
from voip.media.wav import WavWriter
from voip.net.process_driver import ProcessDriver
from voip.net.workers import Workers
from voip.phone import Softphone

HOST = "127.0.0.1"
SETTLED_S = 0.4
"""What is on its way when something has changed lasts less than this."""


@asynccontextmanager
async def spread(artifacts: Path, asterisk: Asterisk | None = None) -> AsyncIterator[Softphone]:
    """A phone whose calls are spread over two processes, which tick."""
    account = () if asterisk is None else (asterisk.uri("1001"),)
    async with Softphone(
        *account,
        register=False,
        password="" if asterisk is None else asterisk.password("1001"),
        network=NetworkConfig(bind_host=HOST, trusted=(HOST,)),
        media=MediaConfig(
            codecs=("pcmu",), engine="process", workers=2,
            jitter_min_ms=JITTER_MS, jitter_policy="fixed",
        ),
        pcap=artifacts / "spread.pcap",
    ) as phone:  # fmt: skip
        await ready(phone)
        yield phone


async def ready(phone: Softphone) -> Workers:
    """Wait until both engines tick."""
    workers = phone.driver
    assert isinstance(workers, Workers)

    def tick() -> bool:
        drivers = [one for one in workers.drivers if isinstance(one, ProcessDriver)]
        return sum(one.is_ready for one in drivers) == 2

    await until(tick, "two engines", 20)
    return workers


def engines(phone: Softphone, *calls: Call) -> list[int | None]:
    """Which engine each call's sound is in."""
    workers = phone.driver
    assert isinstance(workers, Workers)
    return [workers.engine_of(call._session.media.stream) for call in calls]


def address(phone: Softphone, user: str = "desk") -> str:
    return f"sip:{user}@{HOST}:{phone.port};transport=udp"


def speaker(artifacts: Path, target: str, file: Path) -> Path:
    """SIPp calls, says a file over and over, and is hung up on because an engine is gone."""
    to = f"<{target}>"
    return scenario(
        artifacts,
        "speaker",
        sent("INVITE", 1, CONTACT, *SPEAKS, uri=target, to=to),
        maybe(100),
        maybe(180),
        answered(200, routed=True),
        sent("ACK", 1, tag=TAG, again=False, uri="[next_url]", to=to),
        plays(file),
        asked("BYE", 80, ("Reason:", "cause=500.*SIGKILL")),
        replied(200, 80),
    )


@repeated_after_stalls
async def test_speech_is_whole_between_peers_in_two_engines(
    baresip: Callable[..., Awaitable[Baresip]],
    pjsua: Callable[..., Awaitable[Pjsua]],
    artifacts: Path,
) -> None:
    """baresip and PJSIP call, and are bridged: each records what the other says."""
    speech = shipped("speech-8k.wav")
    turned = Sound(np.roll(speech.samples, speech.samples.size // 2), speech.rate_hz)
    for name, sound in (("speech", speech), ("turned", turned)):
        with WavWriter(artifacts / f"{name}.wav", 8000) as file:
            file.write(sound.samples)
    one = await baresip(codecs=["PCMU"], play=artifacts / "speech.wav")
    other = await pjsua(codecs=("PCMU/8000/1",), play=artifacts / "turned.wav")
    async with spread(artifacts) as phone:
        calls = answering(phone)
        await one.dial(address(phone))
        first = await calls.get()
        number = await other.call(address(phone))
        second = await calls.get()
        await asyncio.gather(one.established(), other.established(number))
        assert engines(phone, first, second) == [0, 1]
        await first.bridge(second)
        await asyncio.sleep(7.0)
        await asyncio.gather(one.hangup(), other.hangup(number))
        await asyncio.gather(ended(first), ended(second))
    at_baresip = Sound.read((await one.recording()).received)
    at_pjsip = Sound.read(other.recordings(number)[-1])
    for said, heard, who in ((turned, at_baresip, "baresip"), (speech, at_pjsip, "PJSIP")):
        grade = require_speech(said, heard, coverage=0, what=f"{who} hears")
        assert grade.seconds > 4, grade.explain()


@repeated_after_stalls
async def test_who_hears_whom_in_a_conference_of_two_engines_of_which_one_is_killed(
    asterisk: Asterisk,
    baresip: Callable[..., Awaitable[Baresip]],
    pjsua: Callable[..., Awaitable[Pjsua]],
    sipp: Callable[..., Awaitable[Sipp]],
    artifacts: Path,
) -> None:
    """Those of the killed engine get a BYE that says why; the others hear each other on and on."""
    codes = range(5)
    files = [say(artifacts / f"code-{code}.wav", code) for code in codes]
    subprocess.run(["sox", files[3], "-t", "ul", artifacts / "code-3.ul"], check=True)
    peers = [await baresip(codecs=["PCMU"], play=files[code]) for code in (0, 1, 4)]
    lost, kept, other = peers
    third = await pjsua(codecs=("PCMU/8000/1",), play=files[2])
    loop = asyncio.get_running_loop()
    async with spread(artifacts, asterisk) as phone, await phone.conference() as conference:
        phone.on_join(lambda request: True)
        seats = address(phone, conference.user)

        async def seated(count: int) -> Call:
            await until(lambda: len(conference.parties) == count, f"{count} parties", 10)
            return conference.parties[-1]

        parties = []
        await lost.dial(seats)
        parties.append(await seated(1))
        await kept.dial(seats)
        parties.append(await seated(2))
        number = await third.call(seats)
        parties.append(await seated(3))
        parties.append(await conference.add("614"))
        flow = speaker(artifacts, seats, artifacts / "code-3.ul")
        fourth = await sipp(flow, remote=f"{HOST}:{phone.port}")
        parties.append(await seated(5))
        await other.dial(seats)
        parties.append(await seated(6))
        assert engines(phone, *parties) == [0, 1, 0, 1, 0, 1]
        begun = loop.time()
        await asyncio.sleep(3.0)

        workers = await ready(phone)
        killed = loop.time()
        os.kill(workers.pids[0], signal.SIGKILL)
        ends = [await ended(call, 5) for call in parties[::2]]
        assert [(end.by, end.status) for end in ends] == [(EndedBy.FAILURE, 500)] * 3
        await lost.closed()
        closed = await third.closed(number)
        assert closed.status in (0, 200), closed  # it was answered, and then hung up on
        (await fourth.finished()).require(1)  # it had its BYE, and the reason in it
        await asyncio.sleep(3.0)
        assert conference.parties == parties[1::2]
        finished = loop.time()

        # another engine is there by now, and a new party in it is heard
        await ready(phone)
        again = await baresip(codecs=["PCMU"], play=files[0])
        await again.dial(seats)
        newest = await seated(4)
        assert engines(phone, newest) == [0]
        await asyncio.sleep(2.5)
        over = loop.time()
        assert [call.ended for call in parties[1::2]] == [None] * 3
    recorded = Sound.read(await asterisk.recording("614"))
    ears = {
        "baresip, kept": (Sound.read((await kept.recording()).received), 1),
        "baresip, the other": (Sound.read((await other.recording()).received), 4),
        "Asterisk": (recorded, None),
    }
    for who, (sound, own) in ears.items():
        for when, (first_s, last_s), there in (
            ("before", (begun, killed), {0, 1, 2, 3, 4}),
            ("without the engine", (killed + SETTLED_S, finished), {1, 4}),
            ("with a new one", (finished + 1.0, over), {0, 1, 4}),
        ):
            before_end = [over - moment for moment in (first_s + SETTLED_S, last_s)]
            heard = part(sound, *(sound.seconds - one for one in before_end))
            require_heard(heard, there - {own}, of=5, who=f"{who}, {when},")
    for who, sound, own in (
        ("baresip, lost,", Sound.read((await lost.recording()).received), 0),
        ("PJSIP", Sound.read(third.recordings(number)[-1]), 2),
    ):
        require_heard(sound, {0, 1, 2, 3, 4} - {own}, of=5, who=who, last_s=2.8)
    require_heard(
        Sound.read((await again.recording()).received),
        (1, 4),
        of=5,
        who="who came last",
        last_s=1.5,
    )

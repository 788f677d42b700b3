"""We stand between baresip and another: its sound goes there and back through us, and is graded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from direct import desk
from dissector import fields
from peers.asterisk import Asterisk
from peers.baresip import Baresip
from peers.sipp import Sipp
from phones import require_speech, shipped, softphone
from stalls import repeated_after_stalls

from voip.call import Call
from voip.harness.audio import Sound
from voip.media.wav import WavWriter

TALK_S = 6.0
ADDED_MS = 2.0
"""What we may add to the delay of 99 of 100 packets."""
IN_TIME_MS = 1.0
"""A machine on which a thread is late by no more had time for us: then there is no excuse."""


def speech(artifacts: Path) -> Path:
    """Return a file of speech that baresip can say over and over."""
    path = artifacts / "said.wav"
    with WavWriter(path, 8000) as file:
        file.write(shipped("speech-8k.wav").samples)
    return path


async def require_echo(peer: Baresip, phone_call: Call, other: Call, *, relayed: bool) -> None:
    """Bridge baresip with one that echoes: it hears what it says, twice through us."""
    await phone_call.bridge(other)
    await asyncio.sleep(TALK_S)
    heard = [(await call.measure()).played_ms for call in (phone_call, other)]
    if relayed:
        assert max(heard) < 1000, f"{heard} ms were decoded"  # before they were bridged
    else:
        assert min(heard) > 1000 * (TALK_S - 1.5), f"only {heard} ms were decoded"
    await other.hangup()
    await phone_call.hangup()
    await peer.closed()
    recording = await peer.recording()
    said, echo = Sound.read(recording.sent), Sound.read(recording.received)
    grade = require_speech(said, echo, coverage=0, what="baresip hears its echo")
    assert grade.seconds > TALK_S - 3, grade.explain()


async def answered(peer: Baresip, dialling: Awaitable[Call]) -> Call:
    async with asyncio.TaskGroup() as group:
        call = group.create_task(_await(dialling))
        await peer.incoming()
        await peer.accept()
    await peer.established()
    return call.result()


async def _await(dialling: Awaitable[Call]) -> Call:
    return await dialling


class Lateness:
    """How late a thread is that does nothing but sleep a millisecond, over and over."""

    def __init__(self) -> None:
        self._late_ms: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lateness", daemon=True)

    def __enter__(self) -> Lateness:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def p99_ms(self) -> float:
        return float(np.percentile(self._late_ms, 99))

    def _watch(self) -> None:
        while not self._over.is_set():
            due = time.monotonic() + 0.001
            time.sleep(0.001)
            self._late_ms.append(1000 * (time.monotonic() - due))


def added_ms(pcap: Path, legs: tuple[int, int], since: float) -> npt.NDArray[np.float64]:
    """Milliseconds between what came for one leg and went out by the other: float64 (packets,).

    legs: our RTP ports; since: the time of day from which on. A packet is known by its payload.
    """
    columns = "frame.time_epoch", "udp.srcport", "udp.dstport", "udp.payload"
    rows = fields(pcap, *columns, options=("-Y", "udp"))
    came: dict[tuple[int, str], float] = {}
    found: list[float] = []
    other = {legs[0]: legs[1], legs[1]: legs[0]}
    for at, source, destination, payload in rows:
        sound = payload.replace(":", "")[24:]
        if not sound or len(set(bytes.fromhex(sound))) < 10:
            continue  # what is like another: silence
        if float(at) < since:
            continue
        if int(destination) in other:
            came.setdefault((int(destination), sound), float(at))
        elif int(source) in other:
            before = came.pop((other[int(source)], sound), None)
            if before is not None:
                found.append(1000 * (float(at) - before))
    return np.array(found)


def rtp_port(call: Call) -> int:
    local = call._session.media.local_rtp
    assert local is not None
    return local.port


@repeated_after_stalls
async def test_V03_baresip_and_sipp_through_the_relay(
    baresip: Callable[..., Awaitable[Baresip]],
    sipp: Callable[..., Awaitable[Sipp]],
    artifacts: Path,
) -> None:
    peer = await baresip(codecs=["PCMU"], play=speech(artifacts))
    echo = await sipp("uas", calls=1, rtp_echo=True)
    async with desk(artifacts, codecs=("pcmu",), engine="process") as us:
        first = await answered(peer, us.phone.dial(peer.uri))
        second = await us.phone.dial(echo.uri)
        begun = time.time()
        with Lateness() as lateness:
            await require_echo(peer, first, second, relayed=True)
        legs = rtp_port(first), rtp_port(second)
    added = added_ms(artifacts / "desk.pcap", legs, begun + 0.5)
    p50, p99, most = np.percentile(added, [50, 99, 100])
    late = lateness.p99_ms()
    told = f"{added.size} packets: median {p50:.2f} ms, p99 {p99:.2f} ms, at most {most:.2f} ms"
    told += f"; a thread that sleeps 1 ms is late by {late:.2f} ms in 1 of 100 times"
    print(told)
    assert added.size > 400, told
    assert p50 < ADDED_MS, told
    assert p99 < ADDED_MS + max(0.0, late - IN_TIME_MS), told


@repeated_after_stalls
async def test_baresip_and_asterisk_through_the_relay(
    baresip: Callable[..., Awaitable[Baresip]], asterisk: Asterisk, artifacts: Path
) -> None:
    peer = await baresip(codecs=["PCMU"], play=speech(artifacts))
    async with softphone(asterisk, "1001", artifacts, codecs=("pcmu",)) as phone:
        first = await answered(peer, phone.dial(peer.uri))
        second = await phone.dial("600")
        assert (first.codec, second.codec) == ("pcmu", "pcmu")
        await require_echo(peer, first, second, relayed=True)


@repeated_after_stalls
async def test_baresip_and_asterisk_through_the_transcoder(
    baresip: Callable[..., Awaitable[Baresip]], asterisk: Asterisk, artifacts: Path
) -> None:
    peer = await baresip(codecs=["PCMA"], play=speech(artifacts))
    codecs = ("pcmu", "pcma")
    async with softphone(asterisk, "1001", artifacts, codecs=codecs) as phone:
        first = await answered(peer, phone.dial(peer.uri))
        second = await phone.dial("600")
        assert (first.codec, second.codec) == ("pcma", "pcmu")
        await require_echo(peer, first, second, relayed=False)

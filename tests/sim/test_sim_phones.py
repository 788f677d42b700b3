"""Phones in a simulated world: unchanged, with sound, in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path as FilePath

import numpy as np
import pytest

from voip import Softphone
from voip.call import Call
from voip.config import NetworkConfig
from voip.dsp.tones import MILLIWATT
from voip.dsp.tones import play as sound_of
from voip.harness.audio import Sound
from voip.harness.grade import grade_waveform
from voip.harness.pbx import EmbeddedPbx
from voip.sim import GilbertElliott, Host, NatType, Path, World

RATE = 8000
BOB = NetworkConfig(bind_port=5060)


def tone(seconds: float) -> np.ndarray:
    return np.rint(16384 * sound_of(MILLIWATT, 0, round(seconds * RATE), RATE)).astype(np.int16)


async def echoing(host: Host, ready: asyncio.Event) -> None:
    """A phone at port 5060 that answers and sends back what it hears, for ever."""

    async def echo(call: Call) -> None:
        await call.answer()
        await call.echo()
        await call.wait_ended()

    async with Softphone(f"sip:bob@{host.address}", register=False, network=BOB) as phone:
        phone.on_incoming(echo)
        ready.set()
        await asyncio.Event().wait()


async def beside(host: Host) -> None:
    """Start the phone that echoes, and return when it is there."""
    ready = asyncio.Event()
    host.create_task(echoing(host, ready))
    await ready.wait()


def test_two_phones_call_each_other_and_hear_what_was_said(tmp_path: FilePath) -> None:
    world = World(1, path=Path(delay_s=0.04))
    alice, bob = world.host("10.0.0.1"), world.host("10.0.0.2")
    heard = tmp_path / "heard.wav"
    speech = np.random.default_rng(1).normal(0, 3000, 20 * RATE).astype(np.int16)

    async def main() -> None:
        await beside(bob)

        async def call() -> None:
            async with Softphone("sip:alice@10.0.0.1", register=False) as phone:
                one = await phone.dial("sip:bob@10.0.0.2")
                async with one, one.record(heard):
                    await one.play(speech)
                    await asyncio.sleep(0.5)
                    figures = await one.measure()
                assert figures.packets_received > 1000
                assert (figures.packets_lost, figures.concealed_ms) == (0, 0)
                assert figures.rtt_ms == pytest.approx(80, abs=0.1)

        await alice.run(call())

    world.run(main())
    assert 20 < world.elapsed < 22
    verdict = grade_waveform(Sound(speech, RATE), Sound.read(heard))
    assert verdict.passed, verdict
    assert verdict.seconds > 19


def lossy_call(seed: int, pcap: FilePath) -> World:
    """Register, call and talk behind NATs, through the PBX, over paths that do all they can."""
    path = Path(
        burst=GilbertElliott.of(0.03, 3), delay_s=0.03, jitter_s=0.02, reorder=0.01, duplicate=0.01
    )
    world = World(seed, path=path)
    pbx_host = world.host("203.0.113.1", name="pbx")
    homes = [world.nat(f"198.51.100.{n}", NatType.PORT_RESTRICTED) for n in (1, 2)]
    alice, bob = (world.host("192.168.1.2", behind=home) for home in homes)
    world.capture(pcap)

    async def bob_answers(ready: asyncio.Event, heard: list[str]) -> None:
        uri = "sip:1002@203.0.113.1"
        async with Softphone(uri, password="secret1002") as phone:

            @phone.on_incoming
            async def answer(call: Call) -> None:
                await call.ring()
                await asyncio.sleep(2)
                await call.answer()
                await call.echo()
                heard.append(await call.collect(4, timeout=30))
                await call.send_dtmf("77")

            ready.set()
            await asyncio.Event().wait()

    async def alice_calls() -> str:
        uri = "sip:1001@203.0.113.1"
        async with Softphone(uri, password="secret1001") as phone:
            call = await phone.dial("1002")
            async with call:
                playing = asyncio.ensure_future(call.play(tone(5), loop=True))
                await asyncio.sleep(3)
                figures = await call.measure()
                assert figures.packets_received > 100
                assert figures.level_received_dbfs == pytest.approx(figures.level_sent_dbfs, abs=1)
                await call.send_dtmf("4711")
                digits = await call.collect(2, timeout=30)
                playing.cancel()
            return digits

    async def main() -> None:
        with pbx_host.here():
            pbx = EmbeddedPbx("203.0.113.1", 5060)
            await pbx.__aenter__()
        heard: list[str] = []
        ready = asyncio.Event()
        bob.create_task(bob_answers(ready, heard))
        await ready.wait()
        assert await alice.run(alice_calls()) == "77"
        assert heard == ["4711"]
        await pbx.idle()
        await pbx.__aexit__(None, None, None)

    world.run(main())
    return world


def test_two_phones_behind_nats_talk_through_the_embedded_pbx(tmp_path: FilePath) -> None:
    world = lossy_call(1, tmp_path / "all.pcap")
    assert (tmp_path / "all.pcap").stat().st_size > 100_000
    assert world.elapsed > 6.5


DIGEST = "import sys; sys.path[:0] = sys.argv[3:]; import test_sim_phones as t; t.main()"


def main() -> None:
    lossy_call(int(sys.argv[1]), FilePath(sys.argv[2]))


@pytest.mark.long
def test_the_same_seed_is_the_same_capture_in_processes_that_hash_differently(
    tmp_path: FilePath,
) -> None:
    runs = []
    for seed, hashing in ((5, "1"), (5, "4242"), (6, "1")):
        pcap = tmp_path / f"{seed}-{hashing}.pcap"
        command = [
            sys.executable,
            "-c",
            DIGEST,
            str(seed),
            str(pcap),
            str(FilePath(__file__).parent),
        ]
        environment = {**os.environ, "PYTHONHASHSEED": hashing}
        runs.append((pcap, subprocess.Popen(command, env=environment)))
    assert [process.wait() for _, process in runs] == [0, 0, 0]
    one, again, other = (hashlib.sha256(pcap.read_bytes()).digest() for pcap, _ in runs)
    assert runs[0][0].stat().st_size > 100_000
    assert one == again
    assert one != other

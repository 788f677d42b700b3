"""Comfort noise (RFC 3389) between us and programs of others."""

from __future__ import annotations

import asyncio
import itertools
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from direct import HOST
from peers.asterisk import Asterisk
from peers.installed import Installed
from peers.pjsua import Pjsua
from peers.tshark import rtp_streams
from phones import ended, shipped, softphone
from stalls import repeated_after_stalls

from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.events import MediaTrouble
from voip.harness.audio import Sound, is_silence
from voip.media.answers import StreamStats
from voip.phone import Softphone

StartPjsua = Callable[..., Awaitable[Pjsua]]

RATE = 8000


@repeated_after_stalls
async def test_asterisk_sends_it_unasked_to_keep_a_way_open(
    asterisk: Asterisk, artifacts: Path
) -> None:
    """With the timestamp of what it sent before, or none, and a level that is no noise at all."""
    heard = artifacts / "heard.wav"
    stats = StreamStats(0)
    async with softphone(asterisk, "1007", artifacts) as phone, await phone.dial("619") as call:
        async with call.record(heard, channels="heard"):
            await asyncio.sleep(5.5)
            stats = await call.measure()
            await ended(call)
        last = await call.measure()
        told = [event async for event in call.events() if isinstance(event, MediaTrouble)]
    assert 3 <= stats.noise_packets_received <= 6
    assert stats.noise_packets_received == stats.packets_received
    assert stats.noise_played_ms > 3000
    assert (last.packets_lost, last.packets_discarded, last.dropped_frames) == (0, 0, 0)
    assert told == []
    sound = Sound.read(heard)
    assert is_silence(Sound(sound.samples[: 5 * 8000], 8000))
    assert not is_silence(Sound(sound.samples[7 * 8000 :], 8000))
    ours = range(10000, 20000)
    (theirs,) = (one for one in rtp_streams(artifacts / "1007.pcap") if one.port not in ours)
    kinds = [packet.payload_type for packet in theirs.packets]
    assert kinds.count(13) == last.noise_packets_received
    assert theirs.lost == 0


async def test_asterisk_that_takes_none_is_sent_everything(
    asterisk: Asterisk, artifacts: Path
) -> None:
    """And one that is asked to answers by what it knows."""
    media = MediaConfig(dtx=True)
    async with (
        Softphone(
            asterisk.uri("1001"),
            register=False,
            password=asterisk.password("1001"),
            media=media,
            pcap=artifacts / "1001.pcap",
        ) as phone,
        await phone.dial("600") as call,
    ):
        await asyncio.sleep(3)
        stats = await call.measure()
    assert stats.noise_packets_sent == 0
    assert stats.packets_sent > 130


@repeated_after_stalls
async def test_tshark_reads_what_we_send(peers: Installed, artifacts: Path) -> None:
    """Numbers without a gap, timestamps by the clock, and a mark where somebody speaks again."""
    room = np.random.default_rng(1).normal(0, 40, 6 * RATE)
    words = shipped("speech-8k.wav").samples[: 2 * RATE]
    said = np.concatenate([words, np.zeros(2 * RATE), words[RATE:], np.zeros(RATE)])
    said = np.clip(said + room, -32768, 32767).astype(np.int16)
    media = MediaConfig(codecs=("pcmu",), dtx=True)
    async with (
        Softphone(network=NetworkConfig(bind_host=HOST), media=media) as bob,
        Softphone(
            network=NetworkConfig(bind_host=HOST), media=media, pcap=artifacts / "alice.pcap"
        ) as alice,
    ):

        @bob.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()
            await call.wait_ended()

        async with await alice.dial(f"sip:bob@{HOST}:{bob.port}") as call:
            await call.play(said)
            stats = await call.measure()
    ours = next(one for one in rtp_streams(artifacts / "alice.pcap") if one.ssrc == stats.ssrc_sent)
    assert ours.lost == 0
    noise = [packet for packet in ours.packets if packet.payload_type == 13]
    assert 2 <= len(noise) == stats.noise_packets_sent
    assert {packet.octets for packet in noise} == {11}
    assert not any(packet.marker for packet in noise)
    assert "g711U" in ours.name
    for before, after in itertools.pairwise(ours.packets):
        passed = (after.timestamp - before.timestamp) & 0xFFFFFFFF
        spurt = (before.payload_type, after.payload_type) == (13, 0)
        assert after.marker == spurt
        assert passed % 160 == 0
        assert passed == 160 or 13 in (before.payload_type, after.payload_type)
    assert len(ours.packets) < 0.85 * 300


@repeated_after_stalls
async def test_pjsip_sends_nothing_in_silence_and_hears_our_words(
    pjsua: StartPjsua, artifacts: Path
) -> None:
    """It knows no comfort noise: in pauses of its own nothing comes, which is no trouble."""
    words = shipped("speech-8k.wav").samples[: 2 * RATE]
    said = np.concatenate([words, np.zeros(4 * RATE, np.int16), words, np.zeros(RATE, np.int16)])
    file = artifacts / "said.wav"
    with wave.open(str(file), "wb") as out:
        out.setparams((1, 2, RATE, said.size, "NONE", ""))
        out.writeframes(said.astype("<i2").tobytes())
    peer = await pjsua(vad=True, play=file, codecs=("PCMU/8000",))
    media = MediaConfig(codecs=("pcmu",), dtx=True)
    async with Softphone(
        network=NetworkConfig(bind_host=HOST), media=media, pcap=artifacts / "us.pcap"
    ) as us:
        dialling = asyncio.create_task(us.dial(peer.uri))
        await peer.answer(await peer.incoming())
        async with await dialling as call:
            await asyncio.sleep(8)
            stats = await call.measure()
    assert stats.noise_packets_sent == 0, "it did not agree on any"
    assert stats.packets_sent > 350
    theirs = next(
        one for one in rtp_streams(artifacts / "us.pcap") if one.ssrc == stats.ssrc_received
    )
    assert {packet.payload_type for packet in theirs.packets} == {0}
    assert stats.packets_received < 300
    assert stats.packets_lost == 0

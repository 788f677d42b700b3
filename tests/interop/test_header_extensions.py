"""Header extensions in live calls: tshark, GStreamer and baresip read ours, and we theirs."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from direct import HOST
from peers.baresip import Baresip
from peers.gstreamer import Pipeline, gst_launch
from phones import shipped
from stalls import repeated_after_stalls

from voip.call import Call
from voip.codecs.g711 import ULAW_DECODE
from voip.config import MediaConfig, NetworkConfig
from voip.media.answers import StreamStats
from voip.phone import Softphone
from voip.rtp.extensions import AUDIO_LEVEL, read_send_time
from voip.types import Address

pytestmark = [pytest.mark.rfc("6464", "3"), pytest.mark.rfc("8285", "4")]

HERE = NetworkConfig(bind_host=HOST)
LEVELS = MediaConfig(codecs=("pcmu",), header_extensions=("audio-level",))
BOTH = MediaConfig(codecs=("pcmu",), header_extensions=("audio-level", "abs-send-time"))
RATE = 8000


def level_of(pcm: np.ndarray) -> float:
    """-dBov of samples, 127 of silence: RFC 6464, section 3."""
    power = np.mean((pcm.astype(float) / 32768) ** 2)
    return -10 * math.log10(power) if power else 127.0


def dissected(capture: Path, ssrc: int) -> list[tuple[float, dict[int, bytes], bytes]]:
    """What tshark finds in packets of an SSRC: when they went, their extensions, the payload."""
    fields = ("frame.time_epoch", "rtp.ext.rfc5285.id", "rtp.ext.rfc5285.data", "rtp.payload")
    shown = [word for name in fields for word in ("-e", name)]
    command = ["tshark", "-r", str(capture), "-Y", f"rtp.ssrc == {ssrc} && rtp.p_type == 0"]
    done = subprocess.run(
        [*command, "-T", "fields", *shown], capture_output=True, text=True, check=True
    )
    found = []
    for line in done.stdout.splitlines():
        at, numbers, data, payload = line.split("\t")
        octets = [octets_of(one) for one in data.split(",") if one]
        named = dict(zip((int(one) for one in numbers.split(",") if one), octets, strict=True))
        found.append((float(at), named, octets_of(payload)))
    return found


def octets_of(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def answering(phone: Softphone, told: list[StreamStats]) -> None:
    """Let a phone answer whoever calls, and note its figures ten times a second."""

    @phone.on_incoming
    async def answer(call: Call) -> None:
        await call.answer()
        while call.ended is None:
            told.append(await call.measure())
            await asyncio.sleep(0.1)


@repeated_after_stalls
@pytest.mark.parametrize("asked", [False, True], ids=["listens", "asked"])
async def test_tshark_reads_the_levels_of_what_we_send(
    missing: Callable[[str], NoReturn], artifacts: Path, asked: bool
) -> None:
    """Of each packet that of its own sound, by another reckoning, and when it went."""
    if shutil.which("tshark") is None:
        missing("tshark is not installed (make peers)")
    words = shipped("speech-8k.wav").samples[: 3 * RATE]
    said = np.concatenate([words, np.zeros(RATE)]).astype(np.int16)
    capture, told = artifacts / "alice.pcap", list[StreamStats]()
    listens = BOTH if asked else MediaConfig(codecs=("pcmu",))
    async with (
        Softphone(network=HERE, media=listens) as bob,
        Softphone(network=HERE, media=BOTH, pcap=capture) as alice,
    ):
        answering(bob, told)
        async with await alice.dial(f"sip:bob@{HOST}:{bob.port}") as call:
            await call.play(said)
            stats = await call.measure()
    packets = dissected(capture, stats.ssrc_sent or 0)
    assert len(packets) > 180
    levels, voices, near, late = Counter[int](), 0, 0, list[float]()
    for at, named, payload in packets:
        assert set(named) == ({1, 2} if asked else {1}), "unasked, levels are taken, and no times"
        (octet,) = named[1]
        level = level_of(ULAW_DECODE[np.frombuffer(payload, np.uint8)])
        if level < 60:  # µ-law itself changes what is softer
            assert abs((octet & 127) - level) <= 0.7
            near += 1
        levels[octet & 127] += 1
        voices += octet > 127
        if asked:
            late.append((at - read_send_time(named[2]) + 32) % 64 - 32)
    assert near > 80
    assert levels[127] > 20
    assert len(levels) > 15
    assert 0.3 * len(packets) < voices < 0.9 * len(packets)
    heard = {one.level_told_dbov for one in told} - {None}
    assert len(heard) > 5
    assert heard <= {-level for level in levels}
    assert {one.voice_told for one in told} >= {True, False}
    if asked:
        assert -0.001 < min(late) < max(late) < 0.1
    else:
        assert stats.level_told_dbov is None, "he tells nothing unasked"


# ---------------------------------------------------------------- GStreamer


CAPS = (
    "application/x-rtp,media=audio,clock-rate=8000,encoding-name=PCMU,payload=0,"
    f'extmap-1=(string)<"","{AUDIO_LEVEL}","vad=on">'
)


def free_ports() -> Address:
    """An even port that nobody has, and the one after it."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind((HOST, 0))
            port: int = one.getsockname()[1]
        if port % 2 == 0:
            return Address(HOST, port)


@repeated_after_stalls
async def test_gstreamer_reads_the_levels_of_what_we_send(
    missing: Callable[[str], NoReturn], artifacts: Path
) -> None:
    """All of them, in order, as they stand in our own capture."""
    program = gst_launch(missing, "rtphdrextclientaudiolevel", "rtppcmudepay", "udpsrc")
    at, capture = free_ports(), artifacts / "alice.pcap"
    theirs = MediaConfig(codecs=("pcmu",), elsewhere=at, header_extensions=("audio-level",))
    pipeline = (f"udpsrc address={HOST} port={at.port} caps={CAPS}", "rtppcmudepay", "fakesink")
    async with (
        Pipeline.running(program, *pipeline) as gstreamer,
        Softphone(network=HERE, media=theirs) as bob,
        Softphone(network=HERE, media=LEVELS, pcap=capture) as alice,
    ):

        @bob.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()

        await gstreamer.listening(at)
        async with await alice.dial(f"sip:bob@{HOST}:{bob.port}") as call:
            await call.play(shipped("speech-8k.wav").samples[: 3 * RATE].astype(np.int16))
            stats = await call.measure()
        await asyncio.sleep(0.2)  # for what it has not written yet
    sent = [named[1][0] for _, named, _ in dissected(capture, stats.ssrc_sent or 0)]
    read = [level | voice << 7 for level, voice in gstreamer.levels]
    assert len(sent) > 140
    assert len(set(sent)) > 15
    assert read == sent[: len(read)]
    assert len(read) >= len(sent) - 2


@repeated_after_stalls
async def test_we_read_the_levels_that_gstreamer_sends(
    missing: Callable[[str], NoReturn], artifacts: Path
) -> None:
    """Loud noise and soft noise, a second each, twice; we were not told to ask for it."""
    program = gst_launch(missing, "rtphdrextclientaudiolevel", "level", "rtppcmupay", "udpsink")
    rng, raw = np.random.default_rng(1), artifacts / "noise.raw"
    scales = np.repeat([3000, 100] * 2, RATE)
    rng.normal(0, scales).astype("<i2").tofile(raw)
    at, told = free_ports(), list[StreamStats]()
    theirs = MediaConfig(codecs=("pcmu",), elsewhere=at, header_extensions=("audio-level",))
    async with (
        Softphone(network=HERE, media=theirs) as bob,
        Softphone(network=HERE, media=MediaConfig(codecs=("pcmu",))) as alice,
    ):

        @alice.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()

        async with await bob.dial(f"sip:alice@{HOST}:{alice.port}") as call:
            (ours,) = alice.calls
            agreed = call._session.media.agreed
            assert agreed is not None
            assert [(one.send, one.receive) for one in agreed.extensions] == [(True, False)]
            local = ours._session.media.local_rtp
            assert local is not None
            pipeline = (
                f"filesrc location={raw} blocksize=320", "queue",
                "rawaudioparse format=pcm pcm-format=s16le sample-rate=8000 num-channels=1",
                "level audio-level-meta=true", "mulawenc",
                "rtppcmupay pt=0 min-ptime=20000000 max-ptime=20000000 auto-header-extension=true",
                CAPS,
                f"udpsink host={HOST} port={local.port} bind-address={HOST} bind-port={at.port}",
            )  # fmt: skip
            async with Pipeline.running(program, *pipeline) as gstreamer:
                while gstreamer.is_running:
                    told.append(await ours.measure())
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)
            last = await ours.measure()
    written = Counter(level for level, _ in gstreamer.levels)
    assert sum(written.values()) == 200, gstreamer.log
    heard = Counter(one.level_told_dbov for one in told if one.level_told_dbov is not None)
    assert set(heard) <= {-level for level in written}
    for scale in (3000, 100):
        expected = -level_of(rng.normal(0, scale, RATE))
        near = sum(n for level, n in heard.items() if abs(level - expected) < 2)
        assert near > 20, heard
    assert (last.packets_received, last.packets_discarded) == (200, 0)
    assert last.voice_told is False, "its element knows of no voices"


# ---------------------------------------------------------------- baresip


@repeated_after_stalls
@pytest.mark.parametrize("calls", ["we", "baresip"])
async def test_baresip_and_we_tell_each_other_levels(
    baresip: Callable[..., Awaitable[Baresip]], calls: str
) -> None:
    peer = await baresip(audio_level=True)
    network = NetworkConfig(bind_host=HOST, trusted=(HOST,))
    came: asyncio.Queue[Call] = asyncio.Queue()
    async with Softphone(network=network, media=LEVELS) as phone:

        @phone.on_incoming
        async def answer(call: Call) -> None:
            await call.answer()
            came.put_nowait(call)

        async with asyncio.TaskGroup() as group:
            if calls == "we":
                dialling = group.create_task(phone.dial(f"{peer.uri};transport=udp"))
                await peer.incoming()
                await peer.accept()
                call = await dialling
            else:
                await peer.command("dial", f"sip:voip@{HOST}:{phone.port}")
                call = await came.get()
        tone = 12_000 * np.sin(np.arange(3 * RATE) * 0.3)
        playing = asyncio.create_task(call.play(tone.astype(np.int16)))
        await asyncio.sleep(2)
        stats, debug = await call.measure(), await peer.command("audio_debug")
        await playing
        await call.hangup()
    read = re.search(r"level (-?[0-9.]+) dBov", debug)
    assert read is not None, debug
    assert float(read[1]) == -round(level_of(tone))
    assert stats.level_told_dbov is not None
    assert stats.level_received_dbfs is not None
    assert stats.level_told_dbov == pytest.approx(stats.level_received_dbfs, abs=1)
    assert stats.packets_discarded == 0

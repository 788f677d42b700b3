"""Packets that repeat others (RFC 2198), as tshark and GStreamer have them."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from dissector import fields
from peers.asterisk import Asterisk
from peers.gstreamer import gst_launch, run_pipeline
from peers.pjsua import Pjsua

import voip
from voip import Softphone
from voip.call import Call
from voip.config import MediaConfig, NetworkConfig
from voip.media.answers import Applied, StreamStats
from voip.media.commands import AddSink, ConnectStream, OpenStream, PayloadFormat, ReadStats
from voip.media.engine import Engine
from voip.media.io import PacketBatch
from voip.sim import World
from voip.types import Address, SeededRandom

pytestmark = [pytest.mark.peer, pytest.mark.rfc("2198", "3")]

SPAN = {"pcmu": 160, "opus": 960}
TYPES = {"pcmu": 0, "opus": 96}


def capture(path: Path, codec: str, generations: int) -> None:
    """Keep a call between two phones in `path`, of which one repeats what it says."""
    world = World(3)
    alice, bob = world.host("10.0.0.1"), world.host("10.0.0.2")
    said = MediaConfig(codecs=(codec,), redundancy=generations)

    async def main() -> None:
        ready = asyncio.Event()

        async def answer(call: Call) -> None:
            await call.answer()
            await call.wait_ended()

        async def answers() -> None:
            network = NetworkConfig(bind_port=5060)
            media = MediaConfig(codecs=(codec,))
            async with Softphone(None, register=False, network=network, media=media) as phone:
                phone.on_incoming(answer)
                ready.set()
                await asyncio.Event().wait()

        async def calls() -> None:
            async with (
                Softphone(None, register=False, media=said, pcap=path) as phone,
                await phone.dial("sip:bob@10.0.0.2") as call,
            ):
                await call.play_tone("ringback", seconds=2)

        bob.create_task(answers())
        await ready.wait()
        await alice.run(calls())

    world.run(main())


def dissected(path: Path, *names: str) -> list[dict[str, list[str]]]:
    """What tshark finds in Alice's packets; several values where several headers are."""
    return [
        {
            name: [one for one in value.split(",") if one]
            for name, value in zip(names, row, strict=True)
        }
        for row in fields(path, *names, options=("-Y", "rtp && ip.src == 10.0.0.1"))
    ]


@pytest.mark.usefixtures("dissector")
@pytest.mark.parametrize(("codec", "generations"), [("pcmu", 1), ("pcmu", 3), ("opus", 2)])
def test_tshark_reads_the_blocks_that_we_write(
    tmp_path: Path, codec: str, generations: int
) -> None:
    path = tmp_path / "red.pcap"
    capture(path, codec, generations)
    told = "rtp.p_type", "rtp.follow", "rtp.timestamp-offset", "rtp.block-length"
    packets = dissected(path, *told)
    assert len(packets) > 80
    counts: dict[int, int] = defaultdict(int)
    for packet in packets:
        *repeated, last = packet["rtp.follow"] or ["0"]
        assert (set(repeated) <= {"1"}, last) == (True, "0")
        back = [str(SPAN[codec] * n) for n in range(len(repeated), 0, -1)]
        assert packet["rtp.timestamp-offset"] == back
        assert len(packet["rtp.block-length"]) == len(repeated)
        if codec == "pcmu":
            assert set(packet["rtp.block-length"]) <= {"160"}
        if repeated:  # the packet's own type, then one for each block
            assert packet["rtp.p_type"][1:] == [str(TYPES[codec])] * (len(repeated) + 1)
        counts[len(repeated)] += 1
    assert counts[generations] == len(packets) - generations, dict(counts)


# ---------------------------------------------------------------- GStreamer's rtpredenc, rtpreddec


def gstreamer(missing: Callable[[str], NoReturn], *pipeline: str) -> None:
    """Run a pipeline to its end; `missing` where GStreamer, or what it has of RED, is not there."""
    run_pipeline(gst_launch(missing, "rtpredenc", "rtpjitterbuffer", "rtppcmupay"), *pipeline)


def framed(path: Path) -> list[bytes]:
    """Packets of a file in the framing of RFC 4571: two octets of length before each."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return found


@pytest.mark.usefixtures("dissector")
def test_gstreamer_recovers_what_was_lost_of_our_packets(
    missing: Callable[[str], NoReturn], tmp_path: Path
) -> None:
    """All that was said, octet by octet, in its place: every tenth packet was lost."""
    path, kept = tmp_path / "red.pcap", tmp_path / "red.rtp"
    capture(path, "pcmu", 1)
    octets = [row["udp.payload"][0] for row in dissected(path, "udp.payload")]
    packets = [bytes.fromhex(one.replace(":", "")) for one in octets]
    lost = set(range(10, len(packets) - 2, 10))
    with kept.open("wb") as file:
        for n, packet in enumerate(packets):
            if n not in lost:
                file.write(len(packet).to_bytes(2, "big") + packet)
    number = next(packet[1] & 127 for packet in packets if packet[1] & 127)
    gstreamer(
        missing,
        f"filesrc location={kept}",
        "application/x-rtp-stream,media=audio,clock-rate=8000,encoding-name=PCMU",
        "rtpstreamdepay",
        "rtpjitterbuffer mode=none do-lost=true latency=100",
        f"rtpreddec pt={number}",
        "rtpstreampay",
        f"filesink location={tmp_path / 'out.rtp'}",
    )
    out = framed(tmp_path / "out.rtp")
    assert len(out) == len(packets) > len(lost) > 5
    for ours, theirs in zip(packets, out, strict=True):
        assert theirs[1] & 127 == 0
        assert (theirs[2:8], theirs[12:]) == (ours[2:8], ours[-160:])


def test_we_recover_what_was_lost_of_gstreamers_packets(
    missing: Callable[[str], NoReturn], tmp_path: Path
) -> None:
    speech = Path(voip.__file__).parent / "assets" / "speech-8k.wav"
    gstreamer(
        missing,
        f"filesrc location={speech}",
        "wavparse",
        "mulawenc",
        "rtppcmupay pt=0 min-ptime=20000000 max-ptime=20000000",
        "rtpredenc pt=96 distance=1",
        "rtpstreampay",
        f"filesink location={tmp_path / 'red.rtp'}",
    )
    packets = framed(tmp_path / "red.rtp")
    assert len(packets) > 100
    heard = []
    for lost in (set(), set(range(10, len(packets) - 2, 10))):
        heard.append(listen(packets, lost))
        assert heard[-1][1].packets_recovered == len(lost)
    assert heard[0][0].size > 2 * 8000
    assert np.array_equal(heard[0][0], heard[1][0])
    assert np.abs(heard[0][0]).max() > 5000


def listen(packets: list[bytes], lost: set[int]) -> tuple[np.ndarray, StreamStats]:
    """Let an engine hear packets, one every 20 ms, but those that are lost."""

    waiting = deque((1.0 + n * 0.02, one) for n, one in enumerate(packets) if n not in lost)

    class Wire:
        """`PacketIO` of one row, to which packets come when it is their time."""

        kernel_timestamps = True

        def open(self, row: int, host: str) -> tuple[Address, Address]:
            return Address(host, 10_000), Address(host, 10_001)

        def connect(self, row: int, rtp: Address | None, rtcp: Address | None) -> None: ...

        def close(self, row: int) -> None: ...

        def receive(self, batch: PacketBatch, now: float) -> int:
            count = 0
            while waiting and waiting[0][0] <= now:
                at, packet = waiting.popleft()
                batch.data[count, : len(packet)] = np.frombuffer(packet, np.uint8)
                batch.slots[count], batch.rows[count] = count, 0
                batch.lengths[count], batch.arrival[count] = len(packet), at
                batch.rtcp[count], batch.source[count] = False, -1
                count += 1
            return count

        def send(self, rows: np.ndarray, packets: np.ndarray, lengths: np.ndarray) -> int:
            return rows.size

        def send_one(self, row: int, packet: bytes, *, rtcp: bool) -> bool:
            return True

    engine = Engine(Wire(), random=SeededRandom(1))
    ring = engine.arena.allocate(len(packets) * 160 + 8000)
    pcmu = PayloadFormat(0, "pcmu")
    engine.submit(OpenStream(1, "127.0.0.1", "a@b", jitter_min_ms=60))
    engine.submit(
        ConnectStream(1, None, None, None, (pcmu,), receive_redundancy=(PayloadFormat(96, "red"),))
    )
    engine.submit(AddSink(1, ring))
    now = 0.99
    engine.tick(now, now)
    while (due := engine.next_due()) is not None and due < 1.5 + len(packets) * 0.02:
        now = max(now, due)
        engine.tick(now, now)
    engine.submit(ReadStats(1))
    engine.tick(now, now)
    answers = [one.result for one in engine.events() if isinstance(one, Applied)]
    stats = answers[-1]
    assert isinstance(stats, StreamStats)
    return engine.arena.ring(ring).read(len(packets) * 160 + 8000), stats


# ---------------------------------------------------------------- others, who have none


async def test_who_has_no_redundancy_passes_over_our_offer_of_it(
    asterisk: Asterisk, pjsua: Callable[..., Awaitable[Pjsua]], artifacts: Path
) -> None:
    """Asterisk has it for text only, PJSIP none: calls are as they would be."""
    media = MediaConfig(codecs=("pcmu", "pcma", "opus"), redundancy=2)
    async with (
        Softphone(
            asterisk.uri("1001"), password=asterisk.password("1001"), register=False, media=media
        ) as phone,
        await phone.dial("600") as call,
    ):
        await plain(call)
    peer = await pjsua()
    async with Softphone(register=False, media=media) as phone:
        async with asyncio.TaskGroup() as group:
            dialling = group.create_task(phone.dial(peer.uri))
            number = await peer.incoming()
            await peer.answer(number)
        async with dialling.result() as call:
            await plain(call)


async def plain(call: Call) -> None:
    """Say something, and see that packets go both ways and nothing is repeated."""
    await call.play_tone("ringback", seconds=1)
    stats = await call.measure()
    assert stats.packets_sent > 40
    assert stats.bytes_sent == 160 * stats.packets_sent
    assert stats.packets_received > 20
    assert (stats.packets_discarded, stats.packets_recovered) == (0, 0)

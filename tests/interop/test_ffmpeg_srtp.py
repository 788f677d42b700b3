"""SRTP with FFmpeg at the other end, over loopback: its packets are heard, and it hears ours."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers.ffmpeg_srtp import FfmpegListener, FfmpegSender
from peers.turned_engine import TurnedEngine, noise, ulaw

from voip.media.answers import Opened, StreamStats
from voip.media.commands import (
    AddSink,
    ConnectStream,
    OpenStream,
    PayloadFormat,
    ProtectStream,
    ReadStats,
    SetSource,
)
from voip.rtp.packet import pack_header
from voip.rtp.srtp.keys import SrtpKeys
from voip.types import Address, SecureRandom

HOST = "127.0.0.1"
PCMU = PayloadFormat(0, "pcmu")
SUITES = ("AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32")  # all that FFmpeg has


@pytest.fixture
def bench() -> Iterator[TurnedEngine]:
    one = TurnedEngine()
    yield one
    one.close()


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind((HOST, 0))
        port: int = one.getsockname()[1]
        return port


def keys(suite: str) -> SrtpKeys:
    return SrtpKeys.generate(suite, SecureRandom())


def connect(bench: TurnedEngine, stream: int, protection: ProtectStream, port: int) -> None:
    bench.do(protection)
    bench.do(ConnectStream(stream, Address(HOST, port), None, PCMU, (PCMU,)))


@pytest.mark.rfc("3711", "3.1")
@pytest.mark.parametrize("suite", SUITES)
def test_what_ffmpeg_sends_is_heard(bench: TurnedEngine, suite: str) -> None:
    theirs, sent, port = keys(suite), noise(1.2), free_port()
    opened = bench.do(OpenStream(1, HOST, "a@b"))
    assert isinstance(opened, Opened)
    sender = FfmpegSender(opened.rtp.port, theirs, port)
    connect(bench, 1, ProtectStream(1, send=keys(suite), receive=theirs), port)
    sink = bench.engine.arena.allocate(16_000)
    bench.do(AddSink(1, sink))
    for n in range(60):  # over a rollover
        payload = ulaw(sent[160 * n : 160 * n + 160])
        sender.send(pack_header(0, 65_500 + n & 0xFFFF, 160 * n, 0xF00D, marker=n == 0) + payload)
        bench.step()
    for _ in range(10):
        bench.step()
    sender.close()
    assert ulaw(sent) in ulaw(bench.engine.arena.ring(sink).read(16_000))
    stats = bench.do(ReadStats(1))
    assert isinstance(stats, StreamStats)
    assert (stats.packets_received, stats.packets_forged, stats.packets_replayed) == (60, 0, 0)


@pytest.mark.rfc("3711", "3.1")
@pytest.mark.parametrize("suite", SUITES)
def test_ffmpeg_hears_what_is_sent(bench: TurnedEngine, tmp_path: Path, suite: str) -> None:
    ours, said, port = keys(suite), noise(60.0), free_port()
    listener = FfmpegListener(port, ours, tmp_path, packets=40)
    listener.start()
    bench.do(OpenStream(1, HOST, "a@b"))
    connect(bench, 1, ProtectStream(1, send=ours, receive=None), port)
    source = bench.engine.arena.allocate(said.size)
    bench.engine.arena.ring(source).push(said)
    bench.do(SetSource(1, source))
    until = time.monotonic() + 30.0
    while listener.is_alive() and time.monotonic() < until:
        bench.step()
        listener.join(0.005)  # it opens its socket when it comes to it
    assert len(listener.heard) == 40
    assert b"".join(listener.heard[:20]) in ulaw(said), "FFmpeg heard something else"


def test_ffmpeg_hears_nothing_by_another_key_and_all_by_its_own(
    bench: TurnedEngine, tmp_path: Path
) -> None:
    port, ours = free_port(), keys(SUITES[0])
    listener = FfmpegListener(port, ours, tmp_path, packets=20)
    listener.start()
    bench.do(OpenStream(1, HOST, "a@b"))
    connect(bench, 1, ProtectStream(1, send=keys(SUITES[0]), receive=None), port)
    for _ in range(100):
        bench.step()
        listener.join(0.005)
    assert listener.heard == []
    bench.do(ProtectStream(1, send=ours, receive=None))
    until = time.monotonic() + 30.0
    while listener.is_alive() and time.monotonic() < until:
        bench.step()
        listener.join(0.005)
    assert listener.heard == [b"\xff" * 160] * 20

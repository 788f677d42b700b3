"""SRTP with rtpengine: it decrypts what a stream of ours sends, and encrypts what it is to hear.

rtpengine stands between a protected stream and a plain socket, as a gateway does, and reads and
writes all suites, MKIs and SRTCP by a program that is none of libsrtp's.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from peers.ports import HOST
from peers.rtpengine import Leg, RtpEngine
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
from voip.rtp.rtcp import ReceiverReport, ReportBlock, SenderReport, build_compound, parse_compound
from voip.rtp.srtp.keys import SrtpKeys
from voip.rtp.srtp.suites import SUITES
from voip.types import Address, SecureRandom

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("rtpengine")]
PCMU = PayloadFormat(0, "pcmu")
THEIRS = 0xF00D


@pytest.fixture(scope="module")
def rtpengine(
    missing: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RtpEngine]:
    program = shutil.which("rtpengine") or missing("rtpengine is not installed (make peers)")
    with RtpEngine(Path(program), tmp_path_factory.mktemp("rtpengine")) as one:
        yield one


class PlainEnd:
    """The party behind rtpengine, which knows nothing of SRTP."""

    def __init__(self) -> None:
        self.rtp, self.rtcp = (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            for _ in range(2)
        )
        for one in (self.rtp, self.rtcp):
            one.bind((HOST, 0))
        self.heard: list[bytes] = []
        self.reports: list[bytes] = []
        self.peer: Leg | None = None
        self._sequence = 65_400  # over a rollover

    @property
    def ports(self) -> tuple[int, int]:
        return self.rtp.getsockname()[1], self.rtcp.getsockname()[1]

    def say(self, payload: bytes) -> None:
        assert self.peer is not None
        n = self._sequence
        self.rtp.sendto(
            pack_header(0, n & 0xFFFF, 160 * n, THEIRS) + payload, (HOST, self.peer.rtp)
        )
        self._sequence += 1

    def report(self, block: ReportBlock) -> None:
        assert self.peer is not None
        self.rtcp.sendto(build_compound([ReceiverReport(THEIRS, (block,))]), (HOST, self.peer.rtcp))

    def listen(self) -> None:
        for one, found in ((self.rtp, self.heard), (self.rtcp, self.reports)):
            while True:
                try:
                    found.append(one.recv(2048))
                except BlockingIOError:
                    break

    def close(self) -> None:
        self.rtp.close(), self.rtcp.close()


class Gateway:
    """A stream of an engine, and a party that speaks plain RTP, through rtpengine."""

    def __init__(self, rtpengine: RtpEngine) -> None:
        self.rtpengine, self.bench, self.plain = rtpengine, TurnedEngine(), PlainEnd()
        opened = self.bench.do(OpenStream(1, HOST, "a@b"))
        assert isinstance(opened, Opened) and opened.rtcp is not None
        self._ports = opened.rtp.port, opened.rtcp.port
        self._call = f"call-{self._ports[0]}"
        arena = self.bench.engine.arena
        self.said, self.sent = noise(20.0), noise(20.0, seed=4)
        source, self._sink = arena.allocate(self.said.size), arena.allocate(self.sent.size)
        arena.ring(source).push(self.said)
        self.bench.do(AddSink(1, self._sink))
        self.bench.do(SetSource(1, source))
        self._steps = 0

    def agree(self, ours: SrtpKeys) -> SrtpKeys:
        """Offer our keys, and use those rtpengine answers with; return these."""
        self.plain.peer = self.rtpengine.offer(self._call, *self._ports, ours)
        leg = self.rtpengine.answer(self._call, *self.plain.ports)
        assert leg.keys is not None and leg.keys.suite == ours.suite
        self.bench.do(ProtectStream(1, send=ours, receive=leg.keys))
        self.bench.do(
            ConnectStream(1, Address(HOST, leg.rtp), Address(HOST, leg.rtcp), PCMU, (PCMU,))
        )
        return leg.keys

    def run(self, steps: int) -> None:
        """Let so many packets go each way; each is waited for, as the engine's clock is ours."""
        for _ in range(steps):
            at = 160 * self._steps
            self.plain.say(ulaw(self.sent[at : at + 160]))
            self.bench.step()
            self._steps += 1
            self.plain.rtp.setblocking(True)
            self.plain.rtp.settimeout(1.0)
            self.plain.heard.append(self.plain.rtp.recv(2048))
            self.plain.rtp.setblocking(False)
            self.plain.listen()

    def stats(self) -> StreamStats:
        stats = self.bench.do(ReadStats(1))
        assert isinstance(stats, StreamStats)
        return stats

    def pieces_heard(self) -> int:
        """How many packets' sound came through to the bit: when they come is not told by the clock
        that is turned, so that some are stretched, and others heard a little slower or faster."""
        heard = ulaw(self.bench.engine.arena.ring(self._sink).read(self.sent.size))
        sent = ulaw(self.sent)
        return sum(sent[160 * n : 160 * n + 160] in heard for n in range(self._steps))

    def close(self) -> None:
        self.rtpengine.delete(self._call)
        self.bench.close()
        self.plain.close()


@pytest.fixture
def gateway(rtpengine: RtpEngine) -> Iterator[Gateway]:
    one = Gateway(rtpengine)
    yield one
    one.close()


def keys(suite: str, mki: bytes = b"") -> SrtpKeys:
    return SrtpKeys.generate(suite, SecureRandom(), mki)


@pytest.mark.rfc("3711", "3.1")
@pytest.mark.rfc("3711", "3.4")
@pytest.mark.rfc("6188", "2")
@pytest.mark.parametrize("mki", [b"", b"\x05", b"\0\0\1\7"], ids=["", "mki", "mki of 4"])
@pytest.mark.parametrize("suite", SUITES)
def test_rtpengine_reads_and_writes_what_we_do(gateway: Gateway, suite: str, mki: bytes) -> None:
    gateway.agree(keys(suite, mki))
    gateway.run(400)

    assert b"".join(packet[12:] for packet in gateway.plain.heard[:390]) in ulaw(gateway.said)
    assert len(gateway.plain.heard) >= 400
    assert gateway.pieces_heard() > 200
    reports = [parse_compound(packet)[0] for packet in gateway.plain.reports]
    assert reports and all(isinstance(one, SenderReport) for one in reports)
    gateway.plain.report(ReportBlock(reports[0].ssrc, 64, 5, 0, 80, 0, 0))
    gateway.run(40)
    stats = gateway.stats()
    assert (stats.packets_forged, stats.packets_replayed, stats.packets_withheld) == (0, 0, 0)
    assert stats.remote_packets_lost == 5


@pytest.mark.rfc("3711", "3.3.1")
@pytest.mark.parametrize("suite", ["AES_CM_128_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_80"])
def test_rtpengine_follows_a_change_of_keys(gateway: Gateway, suite: str) -> None:
    gateway.agree(keys(suite))
    gateway.run(100)
    gateway.agree(keys(suite))  # of what we send; it goes on with its own
    gateway.run(300)
    assert b"".join(packet[12:] for packet in gateway.plain.heard[:390]) in ulaw(gateway.said)
    assert gateway.pieces_heard() > 200
    assert gateway.plain.reports
    assert gateway.stats().packets_forged == 0


def test_rtpengine_hears_nothing_by_another_key(gateway: Gateway) -> None:
    suite = "AES_256_CM_HMAC_SHA1_80"
    theirs = gateway.agree(keys(suite))
    gateway.run(20)
    gateway.bench.do(ProtectStream(1, send=keys(suite), receive=theirs))
    count = len(gateway.plain.heard)
    for _ in range(20):
        gateway.bench.step()
    with pytest.raises(TimeoutError):
        gateway.plain.rtp.settimeout(0.2)
        gateway.plain.rtp.recv(2048)
    assert len(gateway.plain.heard) == count

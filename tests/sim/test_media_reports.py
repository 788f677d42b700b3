"""RTCP reports of a call: when they come, and what they say, as another dissector reads them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from dissector import as_protocol, fields, streams
from world import START, WALL, Host, World, joined

from voip.media.answers import StreamEnded
from voip.media.commands import CloseStream
from voip.pcap import PcapWriter
from voip.rtp import ntp
from voip.rtp.packet import pack_header
from voip.rtp.rtcp import (
    Bye,
    ReceiverReport,
    SenderReport,
    SourceDescription,
    build_compound,
    parse_compound,
)
from voip.sim.path import Path as NetworkPath
from voip.types import Address

pytestmark = pytest.mark.rfc("3550", "6")

RATE = 8000
TIMES = (START, WALL)


@dataclass(frozen=True)
class Taken:
    """A packet that arrived somewhere."""

    at: float
    source: Address
    destination: Address
    packet: bytes


@dataclass
class Wire:
    """Everything that arrived anywhere, in order."""

    packets: list[Taken]

    @classmethod
    def of(cls, world: World) -> Wire:
        wire = cls([])
        world.network.taps.append(lambda _, *taken: wire.packets.append(Taken(*taken)))
        return wire

    def reports(self, source: Address) -> list[tuple[float, list[object]]]:
        return [
            (one.at, parse_compound(one.packet)) for one in self.packets if one.source == source
        ]

    def write(self, path: Path, *, until: float = np.inf) -> Path:
        with PcapWriter(path) as capture:
            for one in sorted(self.packets, key=lambda taken: taken.at):
                if one.at <= until:
                    at = WALL + one.at - START
                    capture.udp(at, one.source, one.destination, one.packet)
        return path


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 3000, int(seconds * RATE)).astype(np.int16)


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_another_program_reads_the_same_loss_and_jitter(tmp_path):
    path = NetworkPath(delay_s=0.04, loss=0.05)
    world = World(7, path)
    wire = Wire.of(world)
    a, b = joined(world)
    world.set_path(b, a, NetworkPath(delay_s=0.04))  # reports are not lost
    world.feed(a, noise(26))
    world.run(12)
    assert world.stats(a).rtt_ms == pytest.approx(80, abs=3)
    assert world.stats(b).rtt_ms == pytest.approx(80, abs=3)
    jittery = NetworkPath(delay_s=0.04, loss=0.05, jitter_s=0.02)
    world.set_path(a, b, jittery)
    world.run(14)
    rtp, rtcp = a.opened[1].rtp, b.opened[1].rtcp
    sent_at, last = wire.reports(rtcp)[-1]
    capture = wire.write(tmp_path / "call.pcap", until=sent_at - 0.04)
    block = last[0].blocks[0]

    told_of = streams(capture, *as_protocol("rtp", 10000))
    (stream,) = [one for one in told_of if (one.host, one.port) == rtp]
    assert stream.packets > 1000
    assert stream.lost == block.packets_lost > 20
    assert stream.ssrc == block.ssrc

    columns = ("frame.time_epoch", "rtcp.senderssrc", "rtcp.ssrc.identifier", "rtcp.ssrc.fraction",
               "rtcp.ssrc.cum_nr", "rtcp.ssrc.ext_high", "rtcp.ssrc.jitter", "rtcp.ssrc.lsr",
               "rtcp.ssrc.dlsr", "rtcp.pt", "rtcp.sdes.text", "rtcp.timestamp.rtp",
               "rtcp.sender.packetcount")  # fmt: skip
    everything = wire.write(tmp_path / "all.pcap")
    from_b = "-Y", f"ip.src == {rtcp.host} && rtcp"
    rows = fields(everything, *columns, options=(*as_protocol("rtcp", 10001), *from_b))
    ours = wire.reports(rtcp)
    assert len(rows) == len(ours) >= 4
    jitters = []
    for row, (_, packets_of) in zip(rows, ours, strict=True):
        told = dict(zip(columns, row, strict=True))
        report = packets_of[0]
        assert told["rtcp.pt"].split(",") == ["200", "202"]
        assert told["rtcp.sdes.text"] == "1@10.0.0.2"
        assert int(told["rtcp.senderssrc"].split(",")[0], 16) == report.ssrc
        assert int(told["rtcp.timestamp.rtp"]) == report.rtp_timestamp
        assert int(told["rtcp.sender.packetcount"]) == report.packet_count
        (block,) = report.blocks
        assert int(told["rtcp.ssrc.identifier"].split(",")[0], 16) == block.ssrc
        assert int(told["rtcp.ssrc.fraction"]) == block.fraction_lost
        assert int(told["rtcp.ssrc.cum_nr"]) == block.packets_lost
        assert int(told["rtcp.ssrc.ext_high"]) == block.highest_sequence
        assert int(told["rtcp.ssrc.jitter"]) == block.jitter
        assert int(told["rtcp.ssrc.lsr"]) == block.last_sr
        jitters.append(block.jitter / 8)
    assert jitters[0] == 0
    # every packet's delay is drawn evenly from 20 ms, and none overtakes another
    assert 3 < max(jitters) < 9
    assert 0.2 * max(jitters) < stream.mean_jitter_ms < 1.5 * max(jitters)


@pytest.mark.long
def test_reports_come_in_the_times_of_the_rfc_and_never_in_step():
    world = World(3)
    wire = Wire.of(world)
    a, b = joined(world, streams=10)
    world.run(60)
    first, gaps = [], []
    for host in (a, b):
        for stream in host.opened:
            times = [at for at, _ in wire.reports(host.opened[stream].rtcp)]
            first.append(times[0] - START)
            gaps += [later - earlier for earlier, later in pairwise(times)]
    assert len(gaps) > 200
    # 2.5 s, times 0.5 to 1.5, over e - 3/2; drawn again when it is over, until one is no longer
    assert all(1.02 <= gap <= 3.2 for gap in first)
    assert all(2.05 <= gap <= 6.3 for gap in gaps)
    assert np.std(gaps) > 0.8
    assert np.mean(gaps) == pytest.approx(5, rel=0.04)


def test_sender_reports_stop_two_intervals_after_the_last_packet():
    world = World(3)
    wire = Wire.of(world)
    a, b = joined(world)
    world.run(12)
    world.connect(a, b.opened[1], send=False)
    held = world.now
    world.run(22)
    reports = [(at, packets[0]) for at, packets in wire.reports(a.opened[1].rtcp)]
    assert all(isinstance(report, SenderReport) for at, report in reports if at < held)
    after = [report for at, report in reports if at > held]
    assert len(after) >= 4
    assert all(isinstance(report, ReceiverReport) for report in after[2:])


def test_the_report_says_which_sample_went_at_which_time():
    world = World(3, NetworkPath(delay_s=0.02))
    wire = Wire.of(world)
    a, _ = joined(world)
    world.run(15)
    packets = [one for one in wire.packets if one.source == a.opened[1].rtp]
    first = packets[0]
    began = int.from_bytes(first.packet[4:8], "big")
    reports = [packets[0] for _, packets in wire.reports(a.opened[1].rtcp)]
    assert len(reports) >= 3
    for report in reports:
        wall = ntp.to_wall(report.ntp)
        elapsed = wall - (WALL + first.at - 0.02 - START)
        assert (report.rtp_timestamp - began) & 0xFFFFFFFF == pytest.approx(
            elapsed * RATE, abs=0.02 * RATE
        )


def said_at_the_end(world: World, wire: Wire, host: Host) -> list[object]:
    mark = len(wire.packets)
    world.do(host, CloseStream(1))
    said = [one for one in wire.packets[mark:] if one.source == host.opened[1].rtcp]
    assert len(said) <= 1
    return parse_compound(said[0].packet) if said else []


def test_bye_is_a_whole_compound_packet_and_is_heard():
    world = World()
    wire = Wire.of(world)
    a, b = joined(world)
    world.run(1)
    report, description, bye = said_at_the_end(world, wire, a)
    assert isinstance(report, ReceiverReport | SenderReport)
    assert isinstance(description, SourceDescription)
    assert description.chunks[0].cname == "1@10.0.0.1"
    assert bye == Bye((report.ssrc,))
    world.run(0.1)
    assert [event.stream for event in b.events if isinstance(event, StreamEnded)] == [1]


def test_who_only_listens_says_goodbye_if_it_ever_reported():
    world = World()
    wire = Wire.of(world)
    a, b = joined(world)
    for host, other in ((a, b), (b, a)):
        world.connect(host, other.opened[1], send=False)
    world.run(5)
    assert [type(packet) for packet in said_at_the_end(world, wire, a)] == [
        ReceiverReport, SourceDescription, Bye,
    ]  # fmt: skip


def test_who_has_never_said_anything_says_no_goodbye():
    world = World()
    wire = Wire.of(world)
    a = world.host("10.0.0.1")
    opened = world.open(a)
    world.connect(a, type(opened)(Address("10.0.0.9", 1), Address("10.0.0.9", 2)), send=False)
    world.run(0.5)
    assert said_at_the_end(world, wire, a) == []


def test_a_peer_that_starts_anew_is_reported_on_anew():
    world = World()
    wire = Wire.of(world)
    a, b = joined(world)
    world.connect(a, b.opened[1], send=False)
    peer, control = a.opened[1].rtp, a.opened[1].rtcp

    def speak(ssrc: int, numbers: list[int]) -> None:
        for n in numbers:
            packet = pack_header(0, n, n * 160, ssrc) + b"\x30" * 160
            world.inject(peer, b.opened[1].rtp, packet)
            world.run(0.02)

    speak(0x111, [n for n in range(300) if n % 10])
    report = SenderReport(0x111, 0x1122334455667788, 0, 300, 48_000)
    world.inject(control, b.opened[1].rtcp, build_compound([report]))
    world.run(7)
    (block,) = wire.reports(b.opened[1].rtcp)[-1][1][0].blocks
    assert (block.ssrc, block.packets_lost, block.last_sr) == (0x111, 29, 0x33445566)
    assert block.delay_since_last_sr > 0
    speak(0x222, list(range(5000, 5400)))
    (block,) = wire.reports(b.opened[1].rtcp)[-1][1][0].blocks
    assert (block.ssrc, block.packets_lost, block.fraction_lost) == (0x222, 0, 0)
    assert (block.last_sr, block.delay_since_last_sr) == (0, 0)
    assert 5000 < block.highest_sequence < 5400
    bye = [ReceiverReport(0x111, ()), Bye((0x111,))]
    world.inject(control, b.opened[1].rtcp, build_compound(bye))
    world.run(0.1)
    assert not [event for event in b.events if isinstance(event, StreamEnded)]  # an old source
    assert world.stats(b).packets_lost == 29

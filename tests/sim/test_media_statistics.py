"""What reports say of a call over a bad path, both ways: against the path, and against tshark."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from dissector import as_protocol, fields, streams
from world import START, WALL, Host, World, joined

from voip.media.answers import AppReceived, SsrcChanged, XrReceived
from voip.media.commands import SendApp, SendXr
from voip.pcap import PcapWriter
from voip.rtp.packet import pack_header
from voip.rtp.rtcp import Bye, ReceiverReport, SenderReport, parse_compound
from voip.rtp.xr import ReferenceTime, StatisticsSummary, VoipMetrics
from voip.sim.path import Path as NetworkPath
from voip.types import Address

pytestmark = pytest.mark.rfc("3550", "6.4")


@dataclass(frozen=True)
class Taken:
    """A packet that arrived somewhere."""

    at: float
    source: Address
    destination: Address
    packet: bytes


def taken(world: World) -> list[Taken]:
    wire: list[Taken] = []
    world.network.taps.append(lambda _, *one: wire.append(Taken(*one)))
    return wire


def jitters_of(host: Host) -> list[float]:
    """What a host's engine makes of jitter after every packet, in ms."""
    told: list[float] = []
    tick, receiver = host.engine.tick, host.engine._table.receiver

    def watched(now: float, wall: float) -> bool:
        news = tick(now, wall)
        came = int(receiver.received[0]) - len(told)
        told.extend([float(receiver.jitter[0]) / 8] * came)
        return news

    host.engine.tick = watched  # type: ignore[method-assign]
    return told


def written(wire: list[Taken], path: Path, until: float) -> Path:
    with PcapWriter(path) as capture:
        for one in sorted(wire, key=lambda one: one.at):
            if one.at <= until:
                capture.udp(WALL + one.at - START, one.source, one.destination, one.packet)
    return path


@pytest.mark.parametrize("seed", [5, pytest.param(6, marks=pytest.mark.long)])
def test_round_trip_and_loss_are_those_of_the_path(seed: int) -> None:
    world = World(seed, NetworkPath(delay_s=0.04, loss=0.05))
    wire = taken(world)
    a, b = joined(world)
    world.run(100)
    for host, other in ((a, b), (b, a)):
        assert world.stats(host).rtt_ms == pytest.approx(80, abs=3)
        came = [one for one in wire if one.destination == host.opened[1].rtp]
        numbers = [int.from_bytes(one.packet[2:4], "big") for one in came]
        reports = [parse_compound(one.packet)[0] for one in wire
                   if one.destination == other.opened[1].rtcp]  # fmt: skip
        blocks = [report.blocks[0] for report in reports]
        compared = 0
        # reports are lost, too: of those that lie behind each other one interval is known
        for before, after in pairwise(blocks):
            first, last = before.highest_sequence & 0xFFFF, after.highest_sequence & 0xFFFF
            span = range(first + 1, last + 1)
            if 100 < len(span) < 310:
                lost = 1 - sum(number in span for number in numbers) / len(span)
                assert after.fraction_lost / 256 == pytest.approx(lost, abs=0.01)
                compared += 1
        assert compared >= 10
        stats = world.stats(host)
        share = stats.packets_lost / (stats.packets_lost + stats.packets_received)
        assert share == pytest.approx(0.05, abs=0.01)


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_tshark_measures_both_directions_alike(tmp_path: Path) -> None:
    world = World(9, NetworkPath(delay_s=0.04, loss=0.03, jitter_s=0.012))
    wire = taken(world)
    a, b = joined(world)
    told = {host.name: jitters_of(host) for host in (a, b)}
    world.run(30)
    for host in (a, b):
        world.stats(host)  # lets it take what has come since its last tick
    capture = written(wire, tmp_path / "call.pcap", world.now)
    read = {one.host: one for one in streams(capture, *as_protocol("rtp", 10000))}
    assert len(read) == 2
    for host, other in ((a, b), (b, a)):
        theirs, stats = read[other.opened[1].rtp.host], world.stats(host)
        assert theirs.packets == stats.packets_received == len(told[host.name]) > 1400
        assert theirs.lost == stats.packets_lost > 20
        assert 1 < theirs.mean_jitter_ms < theirs.max_jitter_ms
        # two packets in one tick are one figure here, and two there
        assert np.max(told[host.name]) == pytest.approx(theirs.max_jitter_ms, rel=0.02)
        assert np.mean(told[host.name]) == pytest.approx(theirs.mean_jitter_ms, rel=0.01)


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
@pytest.mark.rfc("3550", "8.2")
def test_a_packet_with_our_ssrc_changes_it_and_the_call_goes_on(tmp_path: Path) -> None:
    world = World(3, NetworkPath(delay_s=0.02))
    wire = taken(world)
    a, b = joined(world)
    world.run(8)
    before = world.stats(a).ssrc_sent
    assert before is not None
    packet = pack_header(0, 4711, 815, before) + bytes(160)
    world.inject(Address("198.51.100.66", 4000), a.opened[1].rtp, packet)
    summary = StatisticsSummary(1, 0, 9, 1, 0, (0, 4, 2, 1), (60, 64, 61, 1))
    world.do(a, SendXr(1, (VoipMetrics(1, mos_lq=42), ReferenceTime(), summary)))
    world.do(a, SendApp(1, b"test", b"okay"))
    world.run(15)
    after = world.stats(a).ssrc_sent
    assert [event for event in a.events if isinstance(event, SsrcChanged)] == [
        SsrcChanged(1, before, after)  # type: ignore[arg-type]
    ]
    goodbyes = [packet for one in wire if one.source == a.opened[1].rtcp
                for packet in parse_compound(one.packet) if isinstance(packet, Bye)]  # fmt: skip
    assert goodbyes == [Bye((before,))]
    heard = world.stats(b)
    assert heard.ssrc_received == after != before
    assert [source.ssrc for source in heard.sources] == [before, after]
    # the first packet of the new source proves nothing, the second does
    assert sum(source.packets_received for source in heard.sources) >= 23 * 50 - 5
    assert heard.packets_lost == 0
    assert heard.rtt_ms == pytest.approx(40, abs=3)
    assert [event.name for event in b.events if isinstance(event, AppReceived)] == [b"test"]
    asked, answered = (
        [event for event in host.events if isinstance(event, XrReceived)] for host in (b, a)
    )
    assert len(asked) == len(answered) == 1
    reports = [parse_compound(one.packet)[0] for one in wire if one.source == a.opened[1].rtcp]
    assert {report.ssrc for report in reports} == {before, after}
    assert all(isinstance(report, SenderReport | ReceiverReport) for report in reports)
    # another program reads all of it
    capture = written(wire, tmp_path / "call.pcap", world.now)
    columns = ("rtcp.pt", "rtcp.length_check", "_ws.malformed", "_ws.expert.message")
    rows = fields(capture, *columns, options=(*as_protocol("rtcp", 10001), "-Y", "rtcp"))
    assert len(rows) == sum(one.destination.port == 10001 and one.at <= world.now for one in wire)
    kinds = {int(kind) for row in rows for kind in row[0].split(",")}
    assert kinds == {200, 201, 202, 203, 204, 207}
    for row in rows:
        assert row[1:3] == ["1", ""], row


@pytest.mark.parametrize(
    "ppm", [-500, *(pytest.param(ppm, marks=pytest.mark.long) for ppm in (-50, 0, 200))]
)
def test_the_clock_of_the_sender_is_told_within_ten_ppm(ppm: int) -> None:
    world = World(2, NetworkPath(delay_s=0.02))
    host = world.host("10.0.0.2")
    opened = world.open(host)
    peer = Address("10.9.9.9", 7000)
    world.connect(host, type(opened)(peer, Address(peer.host, 7001)), send=False)
    rng = np.random.default_rng(1)
    assert world.stats(host).clock_drift_ppm is None
    for n in range(150 * 50):
        made = START + 0.1 + n * 0.02 / (1 + ppm * 1e-6)
        packet = pack_header(0, n % 65536, n * 160, 77) + b"\x40" * 160
        at = made + rng.uniform(0, 0.004)
        world.at(at, world.inject, peer, opened.rtp, packet)
    world.run(150)
    assert world.stats(host).clock_drift_ppm == pytest.approx(ppm, abs=10)

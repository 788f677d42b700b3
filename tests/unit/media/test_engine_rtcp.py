"""RTCP beyond reports, and our SSRC in others' packets: on a desk, packet by packet."""

from __future__ import annotations

import random

import pytest
from engine_desk import Desk, assert_heard, describe, peer, speech

from voip.media.answers import AppReceived, SourceFigures, SsrcChanged, StreamEnded, XrReceived
from voip.media.commands import CloseStream, SendApp, SendXr
from voip.media.extras import MAX_EVENTS_PER_S, MAX_WAITING_OCTETS
from voip.rtp import ntp
from voip.rtp.collision import MAX_CONFLICTS
from voip.rtp.rtcp import (
    App,
    Bye,
    ExtendedReport,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SdesChunk,
    SenderReport,
    SourceDescription,
    build_compound,
    parse_compound,
)
from voip.rtp.xr import DelaySinceReference, ReferenceDelay, ReferenceTime, VoipMetrics
from voip.types import Address

PEER = 0xABCD
CONTROL = Address(peer(1).host, peer(1).port + 1)
STRANGER = Address("198.51.100.7", 9000)


def reports(desk: Desk, row: int = 0) -> list[list[RtcpPacket]]:
    return [parse_compound(packet, reduced_size=True) for _, at, packet in desk.io.reports
            if at == row]  # fmt: skip


def put(desk: Desk, *packets: RtcpPacket, **more: object) -> None:
    desk.put(build_compound(packets, reduced_size=True), rtcp=True, **more)  # type: ignore[arg-type]


def of(kind: type, packets: list[list[RtcpPacket]]) -> list:
    return [packet for compound in packets for packet in compound if isinstance(packet, kind)]


# ---------------------------------------------------------------- XR and APP


@pytest.mark.rfc("3611", "2")
def test_xr_and_app_go_with_the_next_report(desk: Desk) -> None:
    desk.call()
    metrics = VoipMetrics(PEER, r_factor=82)
    desk.do(SendXr(1, (metrics, ReferenceTime())), SendApp(1, b"test", b"okay", 5))
    desk.run(4)
    (compound,) = reports(desk)[:1]
    report, description, extended, app = compound
    assert isinstance(report, SenderReport) and isinstance(description, SourceDescription)
    assert isinstance(extended, ExtendedReport)
    assert extended.ssrc == app.ssrc == report.ssrc
    assert extended.blocks == (metrics, ReferenceTime(report.ntp))
    assert app == App(report.ssrc, b"test", b"okay", 5)
    desk.run(10)
    assert not of(ExtendedReport, reports(desk)[1:]), "once"


def test_what_does_not_fit_is_refused(desk: Desk) -> None:
    desk.call()
    assert "APP" in desk.refused(SendApp(1, b"long name"))
    desk.do(SendApp(1, b"test", bytes(MAX_WAITING_OCTETS - 12)))
    assert "would wait" in desk.refused(SendApp(1, b"test"))
    desk.run(7)
    desk.do(SendApp(1, b"test"))


@pytest.mark.rfc("5506", "4")
def test_reduced_size_goes_at_once_and_comes_only_where_it_was_agreed_on(desk: Desk) -> None:
    desk.call(1)
    desk.call(2, rtcp_rsize=True)
    for stream in (1, 2):
        desk.do(SendApp(stream, b"soon"))
        put(desk, App(PEER, b"gone"), stream=stream)
    desk.run(0.5)
    assert [event.stream for event in desk.of(AppReceived)] == [2]
    assert desk.engine._reporter.invalid == 1
    assert reports(desk, desk.row(1)) == []
    ((app,),) = reports(desk, desk.row(2))
    assert app == App(desk.io.sent[-1].ssrc, b"soon")
    for _ in range(20):
        desk.do(SendApp(2, b"soon"))
        desk.run(0.05)
    assert 1 < len(reports(desk, desk.row(2))) < 5, "not more often than once a second"


@pytest.mark.rfc("3611", "4.5")
def test_a_reference_time_is_answered_with_the_next_report(desk: Desk) -> None:
    desk.call()
    asked = 0x1234_5678_9ABC_DEF0
    put(desk, ReceiverReport(PEER), ExtendedReport(PEER, (ReferenceTime(asked),)))
    came = desk.now
    desk.run(4)
    at, _, _ = desk.io.reports[0]
    (answer,) = of(ExtendedReport, reports(desk))
    (block,) = answer.blocks
    (delay,) = block.delays
    assert (delay.ssrc, delay.last_reference) == (PEER, 0x5678_9ABC)
    assert delay.delay / 65536 == pytest.approx(at - came, abs=0.021)


@pytest.mark.rfc("3611", "4.4")
def test_who_sends_nothing_learns_the_round_trip_by_xr(desk: Desk) -> None:
    desk.call(send=False, rtcp_ask_round_trip=True)
    desk.run(4)
    (asked,) = of(ExtendedReport, reports(desk))
    (reference,) = asked.blocks
    answered = desk.io.reports[0][0] + 0.250
    answer = ReferenceDelay(asked.ssrc, ntp.middle(reference.ntp), round(0.100 * 65536))
    packets = ReceiverReport(PEER), ExtendedReport(PEER, (DelaySinceReference((answer,)),))
    put(desk, *packets, at=answered)
    desk.run(0.1)
    assert desk.stats().rtt_ms == pytest.approx(150, abs=1)


def test_a_flood_of_app_is_told_of_within_bounds(desk: Desk) -> None:
    desk.call()
    for n in range(1000):
        put(desk, ReceiverReport(PEER), App(PEER, b"many"), at=desk.now + n / 500)
    desk.run(12)
    assert 2 * MAX_EVENTS_PER_S <= len(desk.of(AppReceived)) <= 4 * MAX_EVENTS_PER_S
    assert desk.engine._reporter.extras.dropped + len(desk.of(AppReceived)) == 1000
    assert desk.stats().rtcp_packets_received == 1000
    put(desk, ReceiverReport(PEER), ExtendedReport(PEER, (VoipMetrics(1),)))
    desk.run(0.1)
    assert desk.of(XrReceived) == [XrReceived(1, PEER, (VoipMetrics(1),))]


def test_large_packets_make_reports_rarer(desk: Desk) -> None:
    desk.call(1)
    desk.call(2)
    for n in range(400):
        for compound, stream in (
            ([ReceiverReport(PEER)], 1),
            ([App(PEER, b"big!", bytes(1400))], 2),
        ):
            put(desk, ReceiverReport(PEER), *compound, stream=stream, at=desk.now + n / 4)
    desk.run(100)
    few, many = (len(reports(desk, desk.row(stream))) for stream in (2, 1))
    assert few < 0.85 * many


def test_reports_tell_how_the_senders_clock_goes_by_its_own_time_of_day(desk: Desk) -> None:
    desk.call()
    desk.say(speech(1))
    for n in range(30):  # as if they were 5 s apart
        seconds = 3_900_000_000 + 5 * n
        ticks = round(1e9 + 5 * n * 8000 * (1 + 120e-6)) & 0xFFFFFFFF
        put(desk, SenderReport(PEER, seconds << 32, ticks, n, n), at=desk.now + 0.5 * n)
        put(desk, SenderReport(77, 1, n << 20, n, n), at=desk.now + 0.5 * n)  # somebody else's
    desk.run(4)
    assert desk.stats().report_drift_ppm is None, "of too little"
    desk.run(12)
    assert desk.stats().report_drift_ppm == pytest.approx(120, abs=2)


# ---------------------------------------------------------------- one port


@pytest.mark.rfc("5761", "5.1")
def test_rtcp_takes_the_way_of_rtp_where_that_was_agreed_on(desk: Desk) -> None:
    desk.call(rtcp=peer(1), rtcp_mux=True)
    sent, report = speech(3), [SenderReport(PEER, 1 << 40, 0, 1, 160)]
    desk.say(sent)
    for n in range(3):
        desk.put(build_compound(report), at=desk.now + n + 0.5)
    desk.put(build_compound(report), at=desk.now + 0.7, source=STRANGER)
    ours = []
    keep = desk.io._keep

    def keep_rtp(row: int, packet: bytes) -> None:
        if packet[1] in (200, 201):
            ours.append(parse_compound(packet))
        else:
            keep(row, packet)

    desk.io._keep = keep_rtp  # type: ignore[method-assign]
    desk.run(7)
    assert_heard(desk, sent)
    assert desk.io.reports == []
    assert len(ours) >= 1
    assert ours[0][0].blocks[0].last_sr == 1 << 24
    stats = desk.stats()
    assert (stats.rtcp_packets_received, stats.packets_discarded) == (3, 0)


def test_a_flood_of_rtcp_by_that_port_is_read_within_bounds(desk: Desk) -> None:
    desk.call(rtcp=peer(1), rtcp_mux=True)
    desk.run(0.1)
    for _ in range(30):
        desk.put(build_compound([ReceiverReport(PEER)]))
    desk.run(0.02)
    stats = desk.stats()
    assert (stats.rtcp_packets_received, stats.packets_discarded) == (4, 26)


# ---------------------------------------------------------------- SSRC


@pytest.mark.rfc("3550", "8.2")
@pytest.mark.parametrize("whence", [None, STRANGER], ids=["the peer", "a stranger"])
@pytest.mark.parametrize("native", [False, None])
def test_a_packet_with_our_ssrc_makes_us_another_source(
    whence: Address | None, native: bool | None
) -> None:
    desk = Desk(native)
    desk.call()
    sent = speech(6)
    desk.say(sent)
    desk.run(3)
    before = desk.io.sent[-1].ssrc
    packets = len(desk.io.sent)
    desk.io.reports.clear()
    desk.rtp(77, 5, bytes(160), ssrc=before, source=whence)
    desk.run(0.02)
    (goodbye,) = reports(desk)
    report, description, bye = goodbye
    assert report.ssrc == description.chunks[0].ssrc == before
    assert bye == Bye((before,))
    (changed,) = desk.of(SsrcChanged)
    assert changed.before == before != changed.ssrc
    desk.run(4)
    after = {packet.ssrc for packet in desk.io.sent if packet.at > desk.now - 3}
    assert after == {changed.ssrc}
    assert_heard(desk, sent)
    stats = desk.stats()
    assert stats.ssrc_sent == changed.ssrc
    assert stats.packets_sent == len(desk.io.sent) > packets
    assert stats.ssrc_conflicts == 1
    new = [packet for packet in desk.io.sent if packet.ssrc == changed.ssrc]
    assert [one.sequence for one in new] == [new[0].sequence + n for n in range(len(new))]
    assert new[0].marker and new[0].timestamp == desk.io.sent[packets].timestamp
    desk.run(6)
    last = of(SenderReport, reports(desk))[-1]
    sent_by_then = [one for one in new if one.at <= desk.io.reports[-1][0]]
    assert last.ssrc == changed.ssrc and len(sent_by_then) <= last.packet_count < 700


def test_our_ssrc_in_a_report_counts_as_well(desk: Desk) -> None:
    desk.call()
    desk.run(1)
    before = desk.io.sent[-1].ssrc
    put(desk, ReceiverReport(before), Bye((before,)))
    desk.run(0.1)
    assert [event.before for event in desk.of(SsrcChanged)] == [before]
    assert not desk.of(StreamEnded)


@pytest.mark.rfc("3550", "8.2")
def test_a_mirror_is_heard_and_makes_us_change_once_for_each_of_its_ports(desk: Desk) -> None:
    desk.call()
    sent = speech(8)
    desk.feed(sent)
    seen = 0
    for _ in range(500):
        desk.run(0.02)
        for one in desk.io.sent[seen:]:
            desk.rtp(one.sequence, one.timestamp, one.payload, ssrc=one.ssrc, marker=one.marker)
        seen = len(desk.io.sent)
        for _, _, packet in desk.io.reports:
            desk.put(packet, rtcp=True)
        desk.io.reports.clear()
    assert 1 <= len(desk.of(SsrcChanged)) <= 2
    assert not desk.of(StreamEnded)
    assert desk.stats().ssrc_conflicts > 0
    second = desk.heard()
    assert (second != 0).sum() > 0.5 * 8 * 8000, "most of it is heard"


def test_forged_addresses_make_us_change_so_often_and_no_more(desk: Desk) -> None:
    desk.call()
    desk.run(0.1)
    for n in range(40):
        ours = desk.io.sent[-1].ssrc
        desk.rtp(n, n, bytes(160), ssrc=ours, source=Address("198.51.100.9", 1000 + n))
        desk.run(0.1)
    assert len(desk.of(SsrcChanged)) == MAX_CONFLICTS
    assert desk.stats().ssrc_conflicts == 40
    desk.run(60)
    desk.rtp(1, 1, bytes(160), ssrc=desk.io.sent[-1].ssrc, source=STRANGER)
    desk.run(0.1)
    assert len(desk.of(SsrcChanged)) == MAX_CONFLICTS + 1, "forgotten by then"


def test_figures_are_kept_of_every_source(desk: Desk) -> None:
    desk.call()
    for n in range(10):
        desk.say(speech(1, n), ssrc=100 + n, begin=desk.now)
        desk.run(1.1)
    sources = desk.stats().sources
    assert [source.ssrc for source in sources] == [*range(102, 110)]
    # the first packet of a new source is not believed before the second
    assert sources[-1] == SourceFigures(109, 49, 0)
    assert desk.stats().packets_received == 50 + 9 * 49


@pytest.mark.rfc("3550", "6.3.4")
def test_a_peer_that_leaves_makes_reports_come_sooner_once(desk: Desk) -> None:
    desk.call()
    desk.say(speech(1))
    desk.run(8)
    reporter, row = desk.engine._reporter, desk.row()
    left = reporter.due[row] - desk.now
    for _ in range(3):
        put(desk, ReceiverReport(PEER), Bye((PEER,)))
    desk.tick()
    assert reporter.due[row] - desk.now == pytest.approx(left / 2, abs=1e-6)


def test_a_stream_that_is_opened_anew_knows_nothing_of_it(desk: Desk) -> None:
    desk.call(rtcp_mux=True, rtcp_rsize=True)
    desk.run(0.1)
    desk.rtp(1, 1, bytes(160), ssrc=desk.io.sent[-1].ssrc, source=STRANGER)
    desk.do(SendApp(1, b"test"))
    desk.do(CloseStream(1))
    reporter = desk.engine._reporter
    assert not reporter.multiplexer.used and not reporter.extras.rows and not reporter.conflicts
    desk.call(1)
    assert desk.stats().ssrc_conflicts == 0


def test_bad_rtcp_of_every_kind_is_counted_and_harms_nothing(desk: Desk) -> None:
    desk.call(rtcp_rsize=True)
    whole = build_compound(
        [ReceiverReport(PEER), ExtendedReport(PEER, (VoipMetrics(1), ReferenceTime(1))),
         App(PEER, b"test", b"okay")]
    )  # fmt: skip
    pieces = [whole[:n] for n in range(len(whole))]
    for n, piece in enumerate(pieces):
        desk.put(piece, rtcp=True, at=desk.now + n / 10)
    desk.run(len(pieces) / 10 + 1)
    good = desk.stats().rtcp_packets_received
    assert good + desk.engine._reporter.invalid == len(pieces)
    assert good == 2  # those that end where a packet of the compound does


def test_what_is_nearly_right_by_either_port_and_from_anybody_harms_nothing() -> None:
    chance = random.Random(5)
    desk = Desk()
    desk.io._keep = lambda row, packet: None  # type: ignore[method-assign]
    desk.call(1, rtcp=peer(1), rtcp_mux=True, rtcp_rsize=True)
    desk.call(2, rtcp_rsize=True, rtcp_ask_round_trip=True)
    for _ in range(800):
        ours = [int(desk.stats(stream).ssrc_sent or 0) for stream in (1, 2)]
        block = ReportBlock(ours[1], 1, 2, 3, 4, 5, 6)
        asked = (ReferenceTime(5), DelaySinceReference((ReferenceDelay(ours[1], 1, 1),)))
        whole = [SenderReport(PEER, 1 << 40, 5, 5, 5, (block,)), ExtendedReport(PEER, asked),
                 App(PEER, b"abcd"), Bye((PEER,)), SenderReport(ours[0], 1, 1, 1, 1),
                 SourceDescription((SdesChunk(ours[1], ((1, "x"),)),))]  # fmt: skip
        for stream in (1, 2):
            packets = chance.sample(whole, chance.randint(1, 4))
            octets = bytearray(build_compound(packets, reduced_size=True))
            for _ in range(chance.choice((0, 1, 2, 5))):
                octets[chance.randrange(len(octets))] = chance.randrange(256)
            del octets[chance.choice((len(octets), 4 * chance.randint(1, 20))) :]
            source = chance.choice((None, None, CONTROL, STRANGER, Address(CONTROL.host, 9)))
            desk.put(bytes(octets), stream=stream, rtcp=stream == 2, source=source)
        desk.rtp(1, 1, b"", ssrc=chance.choice((PEER, *ours)), payload_type=chance.choice((0, 99)))
        desk.run(0.02)
    counted = [desk.stats(stream).rtcp_packets_received for stream in (1, 2)]
    assert all(100 < count < 800 for count in counted)


def test_only_unknown_types_from_another_port_are_nobodys(desk: Desk) -> None:
    desk.call(rtcp_rsize=True)
    desk.say(speech(0.1))
    desk.run(0.2)
    desk.put(bytes.fromhex("80d10001 00000001"), rtcp=True, source=Address(CONTROL.host, 9))
    desk.run(0.1)
    assert desk.stats().rtcp_packets_received == 0


def test_the_description_of_a_held_call_keeps_reports_going(desk: Desk) -> None:
    desk.call()
    desk.do(describe(send=False, receive=False))
    desk.run(20)
    assert len(reports(desk)) >= 3

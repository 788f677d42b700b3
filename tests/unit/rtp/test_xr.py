"""XR and APP: by hand from RFC 3611's figures, by another dissector, and by rubbish."""

from __future__ import annotations

from pathlib import Path

import pytest
from dissector import as_protocol, fields
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import RtpError
from voip.pcap import PcapWriter
from voip.rtp.rtcp import App, ExtendedReport, ReceiverReport, build_compound, parse_compound
from voip.rtp.xr import (
    DelaySinceReference,
    ReceiptTimes,
    ReferenceDelay,
    ReferenceTime,
    RunLengths,
    StatisticsSummary,
    UnknownBlock,
    VoipMetrics,
    XrBlock,
    pack_runs,
    unpack_runs,
)
from voip.types import Address

pytestmark = pytest.mark.rfc("3611", "4")

BLOCKS: list[XrBlock] = [
    RunLengths(0x11111111, 100, 124, pack_runs([True] * 20 + [False] * 4)),
    RunLengths(0x11111111, 100, 103, (0x4003,), 2, duplicates=True),
    ReceiptTimes(0x11111111, 5, 7, (160, 320), 1),
    ReferenceTime(0xB44DB70520000000),
    DelaySinceReference((ReferenceDelay(0x22222222, 0xB7052000, 0x54000),)),
    StatisticsSummary(0x11111111, 1, 500, 7, 2, (0, 90, 14, 12), (57, 64, 60, 3)),
    StatisticsSummary(0x11111111, 1, 500, jitter=(0, 90, 14, 12), hop_limit=False),
    VoipMetrics(0x11111111, 13, 5, 64, 2, 120, 4000, 80, 60, -18, -70, 55, 16, 82, 127, 41, 40,
                0x70, 40, 80, 400),
    UnknownBlock(200, 3, b"else"),
]  # fmt: skip

# Written out field by field after RFC 3611, sections 2, 4.4 and 4.7, and RFC 3550, 6.7.
BY_HAND = bytes.fromhex(
    "80c90001 deadbeef"  # RR without blocks
    "80cf000d deadbeef"  # XR
    "04000002 b44db705 20000000"  # receiver reference time
    "07000008 11111111 0d054002 00780fa0 0050003c eeba3710 527f2928 70000028 00500190"
    "85cc0003 deadbeef 74657374 6f6b6179"  # APP 5, "test", "okay"
)


def test_hand_written_blocks_are_read_and_built() -> None:
    packets = [
        ReceiverReport(0xDEADBEEF),
        ExtendedReport(0xDEADBEEF, (BLOCKS[3], BLOCKS[7])),
        App(0xDEADBEEF, b"test", b"okay", 5),
    ]
    assert parse_compound(BY_HAND) == packets
    assert build_compound(packets) == BY_HAND


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: type(block).__name__)
def test_a_block_of_every_type_survives(block: XrBlock) -> None:
    packets = [ExtendedReport(7, (block,))]
    assert parse_compound(build_compound(packets, reduced_size=True), reduced_size=True) == packets


@given(st.lists(st.booleans(), max_size=300) | st.lists(st.just(True), max_size=40_000))
def test_runs_survive(came: list[bool]) -> None:
    chunks = pack_runs(came)
    assert unpack_runs(chunks, len(came)) == came
    assert len(chunks) <= len(came) // 15 + 1


def test_long_runs_are_short() -> None:
    assert pack_runs([True] * 16_383 + [False] * 20) == (0x7FFF, 20)
    assert pack_runs([True, False] * 7 + [True]) == (0b1101010101010101,)
    with pytest.raises(RtpError, match="do not fit"):
        pack_runs([True] * 65_535)


def test_a_packet_of_many_blocks_is_refused() -> None:
    many = ExtendedReport(1, (UnknownBlock(99, 0, b""),) * 65)
    with pytest.raises(RtpError, match="more than 64"):
        parse_compound(build_compound([many], reduced_size=True), reduced_size=True)


@given(st.binary(max_size=120))
def test_anything_is_blocks_or_an_error(body: bytes) -> None:
    words = len(body) // 4
    packet = bytes([0x80, 207, 0, words + 1]) + bytes(4) + body[: 4 * words]
    try:
        found = parse_compound(packet, reduced_size=True)
    except RtpError:
        return
    assert parse_compound(build_compound(found, reduced_size=True), reduced_size=True) == found


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (App(1, b"abc"), "four octets"),
        (App(1, b"abcd", b"xyz"), "words of four"),
        (App(1, b"abcd", subtype=32), "at most 31"),
        (ExtendedReport(1, (RunLengths(1, 0, 1, (), 16),)), "0 to 15"),
        (ExtendedReport(1, (ReferenceTime(1 << 64),)), ""),
    ],
)
def test_what_does_not_fit_is_refused(packet: App | ExtendedReport, why: str) -> None:
    with pytest.raises(RtpError) as caught:
        build_compound([packet], reduced_size=True)
    assert why in caught.value.hint


@pytest.mark.peer
@pytest.mark.usefixtures("dissector")
def test_tshark_reads_the_same(tmp_path: Path) -> None:
    report = ExtendedReport(0xDEADBEEF, tuple(BLOCKS[:8]))
    packets = [ReceiverReport(0xDEADBEEF), report, App(0xDEADBEEF, b"test", b"okay", 5)]
    capture = tmp_path / "xr.pcap"
    with PcapWriter(capture) as file:
        ends = Address("10.0.0.1", 10001), Address("10.0.0.2", 10001)
        file.udp(1e9, *ends, build_compound(packets))
    wanted = {
        "rtcp.pt": "201,207,204",
        "rtcp.xr.bt": "1,2,3,4,5,6,6,7",
        "rtcp.xr.tf": "0,2,1",
        "rtcp.xr.beginseq": "100,100,5,1,1",
        "rtcp.xr.endseq": "124,103,7,500,500",
        "rtcp.xr.stats.lost": "7,0",
        "rtcp.xr.stats.meanjitter": "14,14",
        "rtcp.xr.lrr": str(0xB7052000),
        "rtcp.xr.dlrr": str(0x54000),
        "rtcp.xr.voipmetrics.burstdensity": "64",
        "rtcp.xr.voipmetrics.signallevel": "-18",
        "rtcp.xr.voipmetrics.gmin": "16",
        "rtcp.xr.voipmetrics.rfactor": "82",
        "rtcp.xr.voipmetrics.moslq": "4.1",
        "rtcp.xr.voipmetrics.jbabsmax": "400",
        "rtcp.app.name": "test",
    }
    (row,) = fields(capture, *wanted, options=as_protocol("rtcp", 10001))
    assert dict(zip(wanted, row, strict=True)) == wanted

"""Reports of many streams at once, judged by those that are built one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.rtp.report_batch import (
    ReceptionFigures,
    SenderFigures,
    build_reports,
    fractions_lost,
)
from voip.rtp.rtcp import ReceiverReport, ReportBlock, SenderReport, build_compound

pytestmark = pytest.mark.rfc("3550", "6.4")

WORD = st.integers(0, 0xFFFFFFFF)
BLOCK = st.builds(
    ReportBlock,
    ssrc=WORD,
    fraction_lost=st.integers(0, 255),
    packets_lost=st.integers(-0x800000, 0x7FFFFF),
    highest_sequence=WORD,
    jitter=WORD,
    last_sr=WORD,
    delay_since_last_sr=WORD,
)
NTP = 0x83AA7E80_40000000
BLOCKS = st.one_of(st.just(()), st.tuples(BLOCK))
REPORT = st.one_of(
    st.builds(SenderReport, WORD, st.just(NTP), WORD, WORD, WORD, BLOCKS),
    st.builds(ReceiverReport, WORD, BLOCKS),
)
_NOTHING = ReportBlock(7, 7, 7, 7, 7, 7, 7)  # what is not told must not be looked at


def _built(reports: list[SenderReport | ReceiverReport]) -> list[bytes]:
    senders = [one if isinstance(one, SenderReport) else None for one in reports]
    blocks = [one.blocks[0] if one.blocks else _NOTHING for one in reports]

    def of_sender(name: str) -> np.ndarray:
        return np.array([9 if one is None else getattr(one, name) for one in senders], np.int64)

    def of_block(name: str) -> np.ndarray:
        return np.array([getattr(one, name) for one in blocks], np.int64)

    return build_reports(
        SenderFigures(
            ssrc=np.array([one.ssrc for one in reports], np.int64),
            sent=np.array([one is not None for one in senders]),
            ntp=NTP,
            timestamp=of_sender("rtp_timestamp"),
            packets=of_sender("packet_count"),
            octets=of_sender("octet_count"),
        ),
        ReceptionFigures(
            heard=np.array([bool(one.blocks) for one in reports]),
            ssrc=of_block("ssrc"),
            fraction=of_block("fraction_lost"),
            lost=of_block("packets_lost"),
            highest=of_block("highest_sequence"),
            jitter=of_block("jitter"),
            last_sr=of_block("last_sr"),
            delay=of_block("delay_since_last_sr"),
        ),
    )


@given(st.lists(REPORT, min_size=1, max_size=8))
def test_they_are_what_single_reports_are(reports: list[SenderReport | ReceiverReport]) -> None:
    assert _built(reports) == [build_compound([one]) for one in reports]


def test_loss_since_the_beginning_is_clamped_and_not_wrapped() -> None:
    for lost, told in ((1 << 25, 0x7FFFFF), (-(1 << 25), -0x800000)):
        block = ReportBlock(1, 0, lost, 0, 0)
        (report,) = _built([ReceiverReport(1, (block,))])
        assert int.from_bytes(report[13:16], "big", signed=True) == told


def test_fraction_lost_follows_appendix_a3() -> None:
    counts = {
        (0, 0): 0,
        (100, 100): 0,
        (100, 102): 0,  # duplicates are no negative loss
        (100, 95): 12,  # 5 * 256 / 100 = 12.8, its integer part
        (256, 255): 1,
        (100, 0): 255,  # all lost does not wrap to none
    }
    expected, received = np.array(list(counts), np.int64).T
    assert fractions_lost(expected, received).tolist() == list(counts.values())

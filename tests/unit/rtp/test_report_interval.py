"""The RTCP interval of RFC 3550, sections 6.2 and 6.3, by the RFC's own arithmetic."""

from __future__ import annotations

import math

import pytest

from voip.rtp.report_interval import (
    average_size,
    deterministic_interval,
    reconsider,
    report_interval,
)
from voip.types import SeededRandom

pytestmark = pytest.mark.rfc("3550", "6.2")


def test_a_call_reports_every_five_seconds_and_first_after_half_of_that() -> None:
    assert deterministic_interval() == 5.0
    assert deterministic_interval(initial=True) == 2.5
    assert deterministic_interval(minimum_s=1.0) == 1.0


def test_senders_share_a_quarter_of_the_bandwidth_in_large_sessions() -> None:
    size, bandwidth = 100.0, 200.0
    sender = deterministic_interval(
        members=1000, senders=100, we_sent=True, bandwidth=bandwidth, average_octets=size
    )
    receiver = deterministic_interval(
        members=1000, senders=100, we_sent=False, bandwidth=bandwidth, average_octets=size
    )
    assert sender == pytest.approx(100 * size / (0.25 * bandwidth))
    assert receiver == pytest.approx(900 * size / (0.75 * bandwidth))
    together = [
        deterministic_interval(
            members=1000, senders=251, we_sent=we, bandwidth=bandwidth, average_octets=size
        )
        for we in (True, False)
    ]
    assert together == [pytest.approx(1000 * size / bandwidth)] * 2


def test_intervals_are_spread_over_half_to_one_and_a_half_and_compensated() -> None:
    random = SeededRandom(3550)
    drawn = [report_interval(5.0, random) for _ in range(20_000)]
    factor = math.e - 1.5
    assert min(drawn) == pytest.approx(2.5 / factor, abs=0.01)
    assert max(drawn) == pytest.approx(7.5 / factor, abs=0.01)
    assert sum(drawn) / len(drawn) == pytest.approx(5.0 / factor, abs=0.02)
    for share in (0.25, 0.5, 0.75):
        below = sum(t * factor < 2.5 + 5.0 * share for t in drawn)
        assert below / len(drawn) == pytest.approx(share, abs=0.02)


def test_timer_is_reconsidered_when_it_expires() -> None:
    assert reconsider(10.0, 4.0, 14.0) == (True, 14.0)
    assert reconsider(10.0, 4.0, 15.0) == (True, 15.0)
    assert reconsider(10.0, 6.0, 14.0) == (False, 16.0)


def test_average_size_moves_by_a_sixteenth() -> None:
    assert average_size(128.0, 128) == 128.0
    assert average_size(128.0, 288) == 138.0

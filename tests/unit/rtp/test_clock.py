"""RTP timestamps as time: across their wrap, across 2036, and to the microsecond."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.errors import RtpError
from voip.rtp import ntp
from voip.rtp.clock import RtpClock, wrap

pytestmark = pytest.mark.rfc("3550", "6.4.1")

SPAN = 1 << 32
RATES = st.sampled_from([8000, 11_025, 16_000, 44_100, 48_000, 90_000])
US_2036 = 2_085_978_496_000_000  # 7 February 2036, 06:28:16 UTC


@given(
    st.integers(0, SPAN - 1),
    st.lists(st.integers(-(1 << 30), (1 << 30) - 1), min_size=1, max_size=40),
)
def test_timestamps_are_followed_across_any_number_of_wraps(first: int, steps: list[int]) -> None:
    clock = RtpClock(8000)
    assert clock.extend(first) == first
    furthest = true = first
    for step in steps:
        true = furthest + step
        assert clock.extend(wrap(true)) == true
        furthest = max(furthest, true)


@given(
    RATES,
    st.integers(0, SPAN - 1),
    st.integers(0, 4_000_000_000 * 1_000_000),
    st.integers(-(1 << 31) + 1, (1 << 31) - 1),
)
def test_a_report_tells_the_time_of_every_sample(
    rate: int, timestamp: int, us: int, ticks: int
) -> None:
    clock = RtpClock(rate)
    clock.synchronise(ntp.from_us(us), timestamp)
    exact = us + Fraction(ticks * 1_000_000, rate)
    found = clock.to_wall_clock(wrap(timestamp + ticks))
    assert found is not None and abs(found - exact) < 1.01
    back = clock.from_wall_clock(found)
    assert back is not None and abs(back - (timestamp + ticks)) <= 1


@given(RATES, st.integers(0, SPAN - 1))
def test_the_sample_of_the_report_is_exact_to_the_last_bit(rate: int, timestamp: int) -> None:
    clock = RtpClock(rate)
    clock.synchronise(0xB44DB705_20000001, timestamp)
    assert clock.to_ntp(timestamp) == 0xB44DB705_20000001
    assert clock.to_ntp(wrap(timestamp + rate)) == 0xB44DB706_20000001


def test_an_hour_passes_the_era_of_2036_and_the_wrap_without_a_jump() -> None:
    clock = RtpClock(90_000)
    begin = US_2036 - 1_800_000_000
    clock.synchronise(ntp.from_us(begin), SPAN - 100)
    for minute in range(60):
        timestamp = wrap(SPAN - 100 + minute * 60 * 90_000)
        assert clock.to_wall_clock(timestamp) == begin + minute * 60_000_000


def test_without_a_report_the_quickest_packet_is_the_clock() -> None:
    clock = RtpClock(8000)
    assert clock.to_wall_clock(0) is None and clock.from_wall_clock(0) is None
    begin = 1_700_000_000_000_000
    for n, late_us in enumerate((9000, 4000, 700, 12_000, 3000)):
        clock.guess(n * 160, begin + n * 20_000 + late_us)
    assert not clock.reported
    for n in range(5):
        told = clock.to_wall_clock(n * 160)
        assert told is not None and abs(told - (begin + n * 20_000)) < 1000
    clock.synchronise(ntp.from_us(begin), 0)
    clock.guess(160, begin + 20_000 - 5_000)
    assert clock.reported and clock.to_wall_clock(160) == begin + 20_000


def test_a_clock_that_stands_still_is_refused() -> None:
    with pytest.raises(RtpError):
        RtpClock(0)

"""NTP time stamps: the RFC's worked round trip, exactness, and the year 2036."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voip.rtp import ntp

pytestmark = pytest.mark.rfc("3550", "4")

MILLION = 1_000_000


def wall(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp())  # type: ignore[misc, arg-type]


def test_round_trip_of_rfc_3550_figure_2() -> None:
    sent = ntp.from_wall(wall(1995, 11, 10, 11, 33, 25) + 0.125)
    assert sent == 0xB44DB70520000000
    assert ntp.middle(sent) == 0xB7052000
    arrival = ntp.from_wall(wall(1995, 11, 10, 11, 33, 36) + 0.5)
    assert ntp.middle(arrival) == 0xB7108000
    assert ntp.round_trip(0xB7052000, 0x00054000, arrival) == 6.125


def test_round_trip_across_the_wrap_of_the_middle_bits() -> None:
    # the 16 bits of seconds in LSR wrap every 18 hours
    sent = ntp.from_us(ntp.to_us(0xB44DFFFF_F0000000))
    arrival = sent + (3 << 32)
    assert ntp.middle(arrival) < ntp.middle(sent)
    assert ntp.round_trip(ntp.middle(sent), 2 * 65536, arrival) == pytest.approx(1.0)


def test_round_trip_is_absent_where_it_cannot_be_known() -> None:
    arrival = 0xB44DB705_20000000
    now = ntp.middle(arrival)
    assert ntp.round_trip(0, 0, arrival) is None, "no SR received yet"
    assert ntp.round_trip(now, 65536, arrival) is None, "held longer than it was away"
    assert ntp.round_trip(now - 3600 * 65536, 0, arrival) is None, "an hour"
    assert ntp.round_trip(now, 10, arrival) == 0.0, "negative by rounding only"


@given(st.integers(wall(1968, 1, 21) * MILLION, wall(2104, 2, 26) * MILLION))
def test_microseconds_survive_exactly(us: int) -> None:
    assert ntp.to_us(ntp.from_us(us)) == us


@given(st.floats(0, 4.0e9))
def test_seconds_survive_to_the_precision_of_the_stamp(seconds: float) -> None:
    stamp = ntp.from_wall(seconds)
    assert abs(ntp.to_wall(stamp) - seconds) <= max(2.0**-32, seconds * 2**-52)
    assert abs(ntp.to_us(stamp) - round(seconds * MILLION)) <= 1


def test_the_era_of_2036_begins_without_a_jump() -> None:
    edge = wall(2036, 2, 7, 6, 28, 16)
    assert ntp.from_us(edge * MILLION) == 0
    assert ntp.from_us(edge * MILLION - 1) >> 32 == 0xFFFFFFFF
    assert ntp.to_us(0) == edge * MILLION
    assert ntp.to_us((1 << 64) - 1) == edge * MILLION
    assert ntp.to_wall(1 << 32) - ntp.to_wall(0xFFFFFFFF << 32) == 2.0
    assert ntp.round_trip(ntp.middle(0xFFFFFFFF << 32), 65536, 1 << 32) == 1.0

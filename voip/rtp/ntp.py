"""NTP time stamps of RTCP: 64 bits, seconds since 1900 with a binary point in the middle.

Exact integer arithmetic. The 32 bits of seconds overflow in 2036; stamps are read as lying between
1968 and 2104, by their first bit (RFC 4330, section 3).
"""

from __future__ import annotations

__all__ = ["MAX_ROUND_TRIP_S", "from_us", "from_wall", "middle", "round_trip", "to_us", "to_wall"]

MAX_ROUND_TRIP_S = 60.0
"""A round trip longer than this is a peer's mistake."""

_NTP_1970 = 2_208_988_800  # seconds from 1900 to 1970
_ERA = 1 << 64


def from_us(wall_us: int) -> int:
    """Return the 64-bit NTP time stamp (32.32 bits) of microseconds since 1970, rounded."""
    return (((wall_us + _NTP_1970 * 1_000_000) << 32) + 500_000) // 1_000_000 % _ERA


def to_us(ntp: int) -> int:
    """Return microseconds since 1970, rounded; 0 to 2^63 is the era that begins in 2036."""
    era = 0 if ntp >> 63 else _ERA
    return ((ntp + era) * 1_000_000 + (1 << 31) >> 32) - _NTP_1970 * 1_000_000


def from_wall(wall_s: float) -> int:
    """Return the 64-bit NTP time stamp of seconds since 1970, exact to its last bit."""
    numerator, denominator = wall_s.as_integer_ratio()
    return ((numerator + _NTP_1970 * denominator) << 32) // denominator % _ERA


def to_wall(ntp: int) -> float:
    """Return seconds since 1970 of a 64-bit NTP time stamp between 1968 and 2104."""
    era = 0 if ntp >> 63 else _ERA
    return (ntp + era - (_NTP_1970 << 32)) / (1 << 32)


def middle(ntp: int) -> int:
    """Return the middle 32 bits, the unit of LSR: 1/65536 s (section 4)."""
    return ntp >> 16 & 0xFFFFFFFF


def round_trip(last_sr: int, delay_since_last_sr: int, arrival_ntp: int) -> float | None:
    """Return the round trip in seconds that a report block on us tells: A - LSR - DLSR (6.4.1).

    `arrival_ntp`: 64-bit NTP time of its arrival, by the clock our SRs are stamped with. None
    before the peer has had an SR of ours, and where the peer's figures are impossible.
    """
    if last_sr == 0:
        return None
    units = middle(arrival_ntp) - last_sr - delay_since_last_sr & 0xFFFFFFFF
    seconds = (units - (1 << 32) if units >> 31 else units) / 65536
    if -0.001 < seconds < 0:  # LSR and DLSR are cut off to 15 us
        return 0.0
    return seconds if 0 <= seconds <= MAX_ROUND_TRIP_S else None

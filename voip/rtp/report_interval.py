"""When to send RTCP: the transmission interval of RFC 3550, sections 6.2 and 6.3 (appendix A.7)."""

from __future__ import annotations

from voip.types import Random

__all__ = [
    "MINIMUM_INTERVAL_S",
    "average_size",
    "deterministic_interval",
    "reconsider",
    "report_interval",
]

MINIMUM_INTERVAL_S = 5.0
"""Tmin of section 6.2; half of it before the first report."""
_COMPENSATION = 1.21828  # e - 3/2, section 6.3.1


def deterministic_interval(
    *,
    members: int = 2,
    senders: int = 2,
    we_sent: bool = True,
    bandwidth: float = 400.0,
    average_octets: float = 128.0,
    initial: bool = False,
    minimum_s: float = MINIMUM_INTERVAL_S,
) -> float:
    """Return Td in seconds (section 6.3.1, steps 1 to 3).

    `bandwidth`: octets per second for all of RTCP, 5 % of the session's (400: of 64 kbit/s);
    `average_octets`: smoothed size of compound packets with their UDP and IP headers.
    """
    n, share = members, 1.0
    if senders <= members * 0.25:
        n, share = (senders, 0.25) if we_sent else (members - senders, 0.75)
    least = minimum_s / 2 if initial else minimum_s
    return max(least, n * average_octets / (share * bandwidth))


def report_interval(deterministic_s: float, random: Random) -> float:
    """Return T: Td spread over 0.5 to 1.5 and divided by e - 3/2 (steps 4 and 5)."""
    return deterministic_s * random.uniform(0.5, 1.5) / _COMPENSATION


def reconsider(last: float, interval: float, now: float) -> tuple[bool, float]:
    """Decide at the expiry of the timer whether to send, and when to look again (6.3.6).

    `last`: time of the previous report (tp); `interval`: a T drawn anew for this decision.
    (True, now) asks for the report to be sent and the next expiry set to now plus another T;
    (False, when) for the timer to be set to `when`.
    """
    due = last + interval
    return (True, now) if due <= now else (False, due)


def average_size(average_octets: float, packet_octets: int) -> float:
    """Return the smoothed compound packet size after one more packet (section 6.3.3, 6.3.6)."""
    return average_octets + (packet_octets - average_octets) / 16

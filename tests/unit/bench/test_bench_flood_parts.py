"""What a report about floods holds to be too much."""

from __future__ import annotations

from dataclasses import replace

import pytest

from voip.errors import ConfigError
from voip.harness.bench.flood import CALLS, FloodReport, run_floods

GOOD = FloodReport(
    seconds=10.0,
    rate=10_000.0,
    sent=800_000,
    dropped=760_000,
    calls=CALLS,
    rtp_received=100_000,
    rtp_lost=0,
    options=9000,
    unanswered=0,
    options_ms_max=20.0,
    growth_bytes=2_000_000,
    rss_kept_mb=1.5,
    rss_added_mb=0.2,
    blocks_left=3000,
    transactions_left=0,
)


def failed(**changed: float) -> list[str]:
    bars = replace(GOOD, **changed).bars()  # type: ignore[arg-type]
    return [name for name, bar in bars.items() if not bar["met"]]


@pytest.mark.parametrize(
    ("changed", "bar"),
    [
        ({"rtp_lost": 1}, "flood_rtp_lost"),
        ({"rtp_received": 0}, "flood_rtp_lost"),
        ({"calls": CALLS - 1}, "flood_rtp_lost"),
        ({"options_ms_max": 1001.0}, "flood_options_ms_max"),
        ({"unanswered": 1}, "flood_options_ms_max"),
        ({"options": 0}, "flood_options_ms_max"),
        ({"growth_bytes": 20_000_000}, "flood_growth_bytes"),
        ({"rss_kept_mb": 5.9}, "flood_rss_kept_mb"),  # as it was with ways and calls without limit
        ({"rss_added_mb": 1.5}, "flood_rss_added_mb"),
        ({"blocks_left": 14_600}, "flood_blocks_left"),  # of 1,000 ways and buckets
        ({"transactions_left": 1}, "flood_transactions_left"),
    ],
)
def test_each_bar_is_missed_by_what_it_is_for(changed: dict[str, float], bar: str) -> None:
    assert failed() == []
    assert failed(**changed) == [bar]


@pytest.mark.parametrize("seconds", [0, -1, 61])
def test_a_flood_of_no_time_or_too_much_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigError, match="a flood of"):
        run_floods(seconds)

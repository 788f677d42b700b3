"""A short flood against a phone that has calls: what is counted must be right, nothing is timed."""

from __future__ import annotations

import pytest

from voip.harness.bench.flood import CALLS, GROWTH_BAR, KINDS, ROUNDS, run_floods

SECONDS = 0.5


@pytest.mark.bench
def test_calls_lose_nothing_while_their_phone_is_flooded() -> None:
    report = run_floods(SECONDS, settle_s=0.0)
    assert report.calls == CALLS
    assert report.sent > 500 * len(KINDS) * ROUNDS
    assert report.dropped > report.sent // 20  # the kernel drops some too, where others work
    assert report.rtp_received > 10 * CALLS
    assert report.rtp_lost == 0
    assert report.options > CALLS
    assert report.unanswered == 0
    assert report.growth_bytes < GROWTH_BAR

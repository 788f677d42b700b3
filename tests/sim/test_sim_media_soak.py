"""Calls with sound that come and go: the soak of the media in short, in virtual time."""

from __future__ import annotations

import pytest

from voip.harness.soak.media import MediaSoakPlan, MediaSoakReport, Slope, soak_media

PLAN = MediaSoakPlan(seconds=90.0, calls_per_s=0.4, mean_s=12.0, virtual=True, loss=0.01)


@pytest.mark.long
def test_calls_with_sound_come_and_go_and_nothing_is_left() -> None:
    seen: list[int] = []
    report = soak_media(PLAN, seed=3, progress=lambda so_far: seen.append(so_far.begun))
    assert report.wrong == []
    assert report.left == {}
    assert report.passed
    assert report.begun == report.ended >= 25
    assert report.most_at_once >= 3
    assert set(report.deeds) >= {"recorded", "held", "digits", "listened", "in a conference"}
    assert len(seen) == 60 and seen == sorted(seen)
    assert report.to_json()["passed"] is True


def with_memory(*kb_per_call: float) -> MediaSoakReport:
    report = MediaSoakReport(PLAN, begun=600, ended=600)
    grown = 0.0
    for n in range(60):
        grown += 10 * kb_per_call[n % len(kb_per_call)]
        report.samples.append(
            (1.5 * (n + 1), 10 * n, 20 + n % 3, 80 + (grown + 100 * (n % 3)) / 1000)
        )
    return report


def test_memory_that_grows_with_the_calls_fails_and_that_of_calls_that_are_up_does_not() -> None:
    assert with_memory(0.0).passed
    assert with_memory(-5.0, 5.0).passed
    growing = with_memory(2.0)
    assert growing.slope is not None
    assert growing.slope.kb_per_call == pytest.approx(2.0, rel=0.05)
    assert not growing.passed
    assert Slope(1.0, 0.5).is_zero and not Slope(1.0, 0.1).is_zero


def test_what_went_wrong_or_is_left_does_not_pass() -> None:
    assert not MediaSoakReport(PLAN).passed
    assert not MediaSoakReport(PLAN, begun=2, ended=1).passed
    assert not MediaSoakReport(PLAN, begun=1, ended=1, wrong=["call 1 heard 20 %"]).passed
    assert not MediaSoakReport(PLAN, begun=1, ended=1, left={"alice": {"streams": 1}}).passed
    assert MediaSoakReport(PLAN, begun=1, ended=1).passed

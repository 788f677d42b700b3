"""Calls with sound that come and go: the soak of the media in short, in virtual time."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from voip.harness.soak.media import soak_media
from voip.harness.soak.media_report import (
    REAL,
    Growth,
    Look,
    MediaSoakPlan,
    MediaSoakReport,
    Sample,
    Slope,
)

PLAN = MediaSoakPlan(90.0, calls_per_s=0.4, mean_s=12.0, most=8, virtual=True, loss=0.01)


@pytest.mark.long
def test_calls_with_sound_come_and_go_and_nothing_is_left() -> None:
    seen: list[int] = []
    report = soak_media(PLAN, seed=3, progress=lambda so_far: seen.append(so_far.begun))
    assert report.wrong == []
    assert report.left == {}
    assert report.passed
    assert report.begun == report.ended >= 25
    assert report.most_at_once == PLAN.most
    assert report.samples[0].begun == PLAN.most, "as many as there may be come at the beginning"
    assert max(one.up for one in report.samples) <= PLAN.most
    assert set(report.deeds) >= {"recorded", "held", "digits", "listened", "in a conference"}
    assert len(seen) == 60 and seen == sorted(seen)
    assert report.to_json()["passed"] is True


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    return soak_counted()


def soak_counted(*arguments: str) -> dict[str, Any]:
    """By a process of its own: in this one other tests keep things, and give them back."""
    program = Path(__file__).with_name("soak_counted.py")
    done = subprocess.run([sys.executable, program, *arguments], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["wrong"] == [] and found["left"] == {}
    assert len(found["looks"]) == 4
    assert found["looks"][-1]["calls"] - found["looks"][0]["calls"] > 150
    return found


@pytest.mark.long
@pytest.mark.xdist_group("media soak")
def test_nothing_is_left_of_a_call_that_first_ones_did_not_leave(counted: dict[str, Any]) -> None:
    """In so short a run not all is there yet that is kept: a call that leaks leaves more."""
    assert counted["looks"][0]["heap_kb"] > 1000, "the C library says how much is taken of its heap"
    assert counted["growth"]["kb_per_call"] < 0.5
    assert counted["growth"]["blocks_per_call"] < 4


@pytest.mark.long
@pytest.mark.xdist_group("media soak")
def test_a_leak_of_a_kilobyte_in_every_call_is_found(counted: dict[str, Any]) -> None:
    leaking = soak_counted("leak")
    assert leaking["kept"] == leaking["begun"]
    more = leaking["growth"]["kb_per_call"] - counted["growth"]["kb_per_call"]
    assert more == pytest.approx(1.0, abs=0.3)
    more = leaking["growth"]["blocks_per_call"] - counted["growth"]["blocks_per_call"]
    assert more == pytest.approx(4, abs=2)
    assert not leaking["passed"]


def with_memory(*kb_per_call: float, taken_kb_per_call: float = 2.0) -> MediaSoakReport:
    report = MediaSoakReport(PLAN, begun=600, ended=600)
    grown = 0.0
    for n in range(60):
        grown += 10 * kb_per_call[n % len(kb_per_call)]
        resident_mb = 80 + (grown + 100 * (n % 3)) / 1000
        taken_mb = 200 + taken_kb_per_call * n / 100 + n % 5
        report.samples.append(Sample(1.5 * (n + 1), 10 * n, 20 + n % 3, resident_mb, taken_mb))
    return report


def test_memory_that_grows_with_the_calls_fails_and_that_of_calls_that_are_up_does_not() -> None:
    assert with_memory(0.0).passed
    assert with_memory(-5.0, 5.0).passed
    growing = with_memory(2.0)
    assert growing.slope is not None
    assert growing.slope.kb_per_call == pytest.approx(2.0, rel=0.05)
    assert not growing.passed
    assert Slope(1.0, 0.5).is_zero and not Slope(1.0, 0.1).is_zero


def looked_at(kb: float, blocks: float, taken_kb: float = 0.0) -> list[Look]:
    """Looks between which each call leaves so much."""
    return [
        Look(n, 90_000 + round(blocks * n), 5000 + kb * n, 90_000 + taken_kb * n)
        for n in range(100, 700, 100)
    ]


def test_what_is_counted_where_there_is_no_call_is_judged_by_the_call() -> None:
    def grown(kb: float, blocks: float) -> MediaSoakReport:
        return MediaSoakReport(PLAN, begun=600, ended=600, looks=looked_at(kb, blocks))

    approx = pytest.approx
    assert grown(0.1, 0.1).growth == Growth(approx(0.1), approx(0.1), approx(0.0))
    assert grown(0.1, 0.1).passed
    assert not grown(1.0, 0.0).passed
    assert not grown(0.0, 2.0).passed
    one = MediaSoakReport(PLAN, begun=1, ended=1, looks=looked_at(0.0, 0.0)[:1])
    assert one.growth is None
    few = [replace(look, calls=look.calls // 10) for look in looked_at(9.0, 9.0)]
    assert MediaSoakReport(PLAN, begun=60, ended=60, looks=few).growth is None, "40 calls"


def test_pages_that_become_resident_are_no_growth_where_none_were_taken_and_nothing_is_left() -> (
    None
):
    """Holes between what lives are bounded by what was taken; without looks nobody knows."""
    creeping = with_memory(2.0)
    assert not creeping.passed
    creeping.looks = looked_at(0.0, 0.0)
    assert creeping.passed
    for kb, blocks, taken_kb in ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 2.0, 0.0)):
        creeping.looks = looked_at(kb, blocks, taken_kb)
        assert not creeping.passed


def test_where_nobody_looks_few_pages_may_become_resident_if_none_are_taken() -> None:
    assert with_memory(1.0, taken_kb_per_call=0.0).passed
    assert not with_memory(1.0, taken_kb_per_call=20.0).passed
    assert not with_memory(3.0, taken_kb_per_call=0.0).passed


def test_memory_is_judged_once_the_rush_at_the_beginning_is_over_and_in_short_runs_too() -> None:
    def leaking(seconds: float) -> MediaSoakReport:
        plan = replace(REAL, seconds=seconds)
        report = MediaSoakReport(plan, begun=5000, ended=5000)
        for n in range(1, 61):
            at = seconds * n / 60
            mb = 300 + 0.05 * 5 * at
            report.samples.append(Sample(at, 500 + int(5 * at), 500, mb, mb))
        return report

    for seconds in (150.0, 300.0, 600.0):
        slope = leaking(seconds).slope
        assert slope is not None and slope.kb_per_call == pytest.approx(50, rel=0.02)
        assert not leaking(seconds).passed
    settling = leaking(600.0)
    settling.samples = [
        one._replace(resident_mb=300 + min(one.seconds, 390) / 100) for one in settling.samples
    ]
    assert settling.passed, "what the first calls leave is filled by then"


def test_memory_that_grows_in_steps_is_judged_by_fewer_samples() -> None:
    """300 kB more now and then is no slope; the same 300 kB again and again are one."""

    def stairs(every: int) -> MediaSoakReport:
        report = MediaSoakReport(PLAN, begun=600, ended=600)
        for n in range(60):
            mb = 80 + 0.3 * (n // every)
            report.samples.append(Sample(1.5 * (n + 1), 10 * n, 20 + n % 3, mb, mb))
        return report

    assert stairs(50).passed
    assert not stairs(5).passed


def test_what_went_wrong_or_is_left_does_not_pass() -> None:
    assert not MediaSoakReport(PLAN).passed
    assert not MediaSoakReport(PLAN, begun=2, ended=1).passed
    assert not MediaSoakReport(PLAN, begun=1, ended=1, wrong=["call 1 heard 20 %"]).passed
    assert not MediaSoakReport(PLAN, begun=1, ended=1, left={"alice": {"streams": 1}}).passed
    assert not MediaSoakReport(PLAN, begun=1, ended=1, interrupted=True).passed
    assert MediaSoakReport(PLAN, begun=1, ended=1).passed

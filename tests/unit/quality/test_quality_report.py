"""A report tells what is known, and None for what is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from voip.quality.emodel import call_mos
from voip.quality.report import QualityReport


def report(**changed: Any) -> QualityReport:
    figures = {"codec": "pcmu", "packets_sent": 500, "packets_received": 490, "packets_lost": 10}
    return QualityReport.of(**(figures | changed))


def test_a_clean_call_on_a_short_path_has_the_best_mos() -> None:
    clean = report(packets_received=500, packets_lost=0, rtt_ms=0.0)
    assert clean.mos == pytest.approx(4.41, abs=0.005)
    assert clean.r_factor == pytest.approx(93.2, abs=0.05)
    assert clean.loss_fraction == 0.0


def test_loss_lateness_round_trip_and_buffer_are_counted() -> None:
    figures = report(packets_discarded=15, rtt_ms=80.0, jitter_buffer_ms=40.0, jitter_ms=3.0)
    assert figures.loss_fraction == pytest.approx(0.05)
    assert figures.delay_ms == 80.0
    assert figures.mos == call_mos(codec="pcmu", loss_fraction=0.05, one_way_delay_ms=80.0)
    assert (figures.jitter_ms, figures.rtt_ms) == (3.0, 80.0)


def test_what_was_heard_from_a_later_packet_is_no_loss_to_the_ear() -> None:
    figures = report(packets_recovered=8)
    assert figures.packets_lost == 10
    assert figures.loss_fraction == pytest.approx(2 / 500)


def test_duplicates_are_no_negative_loss() -> None:
    assert report(packets_received=510, packets_lost=-10).loss_fraction == 0.0


@pytest.mark.parametrize(
    "absent",
    [
        {"packets_received": 0, "packets_lost": 0},
        {"packets_received": 0, "packets_lost": 500},
        {"codec": None},
        {"codec": "speex"},
    ],
)
def test_nothing_heard_or_nothing_known_gives_no_mos(absent: dict[str, Any]) -> None:
    figures = report(**absent)
    assert (figures.mos, figures.r_factor) == (None, None)


def test_without_rtcp_round_trip_and_delay_are_absent_and_the_mos_is_of_what_is_known() -> None:
    figures = report()
    assert (figures.rtt_ms, figures.delay_ms) == (None, None)
    assert figures.mos == call_mos(codec="pcmu", loss_fraction=0.02, one_way_delay_ms=0.0)


def test_it_is_plain_json() -> None:
    fields = json.loads(json.dumps(report().to_dict()))
    assert fields["packets_lost"] == 10
    assert fields["rtt_ms"] is None
    assert {"codec", "packets_sent", "jitter_ms", "mos", "r_factor"} < fields.keys()

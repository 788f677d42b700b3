"""The page about codecs says what its result says, and its plots are of that result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from codec_quality import CLEAN_PLOT, LOSS_PLOT, PAGE, digest, draw, last_result, page

HINT = "python tests/codec_quality.py --pages, or make codec-quality"


def test_page_and_plots_are_made_of_the_last_result() -> None:
    result = last_result()
    assert PAGE.read_text() == page(result), HINT
    for plot in (CLEAN_PLOT, LOSS_PLOT):
        assert digest(result) in plot.read_text(), f"{plot.name} is of another result: {HINT}"


def test_what_is_asked_of_codecs_is_met_by_the_last_result() -> None:
    bars = last_result()["bars"]
    for name in (
        "clean_mean",
        "clean_recording",
        "redundancy_from_10_percent",
        "own_concealment_of_ilbc",
    ):
        assert bars[name]["met"] is True, name


def test_the_page_shows_every_score_and_a_missed_bar() -> None:
    result = last_result()
    shown = page(result)
    for one in result["clean"]:
        assert re.search(rf"^\| {re.escape(one['codec'])} .* {one['ours']:.2f} \|", shown, re.M)
    for one in result["lossy"]:
        for kind in ("random", "burst"):
            scores = " | ".join(f"{score:.2f}" for score in one[kind].values())
            assert f"| {one['codec']} | {one['remedy']} | {one['band']} | {kind} | " in shown
            assert len(one[kind]) == 6, scores
    missed = {**result, "bars": {"clean_mean": {"figure": -0.1, "bar": -0.03, "met": False}}}
    assert "| -0.100 | at least -0.03 | **missed** |" in page(missed)


@pytest.mark.long
def test_a_result_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="make quality installs it")
    result = last_result()
    paths = [tmp_path / name for name in ("a.svg", "b.svg", "c.svg", "d.svg")]
    draw(result, paths[0], paths[1])
    draw(result, paths[2], paths[3])
    assert paths[0].read_bytes() == paths[2].read_bytes()
    assert paths[1].read_bytes() == paths[3].read_bytes()
    committed = CLEAN_PLOT.read_text()
    if f"Matplotlib v{matplotlib.__version__}," in committed:
        assert paths[0].read_text() == committed, HINT
        assert paths[1].read_text() == LOSS_PLOT.read_text(), HINT

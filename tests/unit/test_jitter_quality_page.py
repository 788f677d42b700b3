"""The page about the jitter buffer says what its result says, and its plots are of that result."""

from __future__ import annotations

from pathlib import Path

import pytest
from jitter_quality import GRID_PLOT, PAGE, POLICY_PLOT, digest, draw, last_result, page, verdicts

HINT = "python tests/jitter_quality.py --pages, or make jitter-quality"


def test_page_and_plots_are_made_of_the_last_result() -> None:
    result = last_result()
    assert PAGE.read_text() == page(result), HINT
    for plot in (GRID_PLOT, POLICY_PLOT):
        assert digest(result) in plot.read_text(), f"{plot.name} is of another result: {HINT}"


def test_all_named_paths_are_at_or_above_their_bars_in_less_time() -> None:
    for which in ("named", "others"):
        met = verdicts(last_result(), which)
        assert len(met) == 5
        assert all(met.values()), (which, met)


def test_policies_are_ordered_by_delay_and_by_what_they_miss() -> None:
    policies = last_result()["policies"]
    careful = [policies[name] for name in ("conservative", "balanced", "aggressive")]
    delays, gaps = ([one[what] for one in careful] for what in ("delay_ms", "gap_ms"))
    assert delays == sorted(delays, reverse=True)
    assert gaps == sorted(gaps)


@pytest.mark.long
def test_a_result_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="make quality installs it")
    result = last_result()
    paths = [tmp_path / name for name in ("a.svg", "b.svg", "c.svg", "d.svg")]
    draw(result, paths[0], paths[1])
    draw(result, paths[2], paths[3])
    assert paths[0].read_bytes() == paths[2].read_bytes()
    assert paths[1].read_bytes() == paths[3].read_bytes()
    if f"Matplotlib v{matplotlib.__version__}," in (committed := GRID_PLOT.read_text()):
        assert paths[0].read_text() == committed, HINT

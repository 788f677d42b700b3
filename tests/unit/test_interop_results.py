"""The pages about peers say what the last run with them has said."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest
from interop_results import (
    BEGIN,
    END,
    PEERS_PAGE,
    PLAYED,
    SCENARIOS_PAGE,
    last_results,
    outcome_of,
    results_table,
    scenarios_page,
    with_results,
)
from sipp_catalogue import COLLECTIONS, LEFT_OUT, SCENARIOS

HINT = "python tests/interop_results.py, or make interop"


def test_both_pages_are_made_of_the_last_result() -> None:
    results = last_results()
    page = PEERS_PAGE.read_text()
    assert page == with_results(page, results), HINT
    assert SCENARIOS_PAGE.read_text() == scenarios_page(results["tests"]), HINT


def test_nothing_in_the_last_result_has_failed_and_every_scenario_is_in_it() -> None:
    results = last_results()
    assert len(results["tests"]) > 100
    assert {test["outcome"] for test in results["tests"].values()} <= {"passed", "skipped"}
    assert [one.name for one in SCENARIOS if outcome_of(one, results["tests"]) != "passed"] == []


def test_the_table_counts_outcomes_by_file_and_says_what_was_tested() -> None:
    results = {
        "commit": "0123456789abcdef",
        "changed": False,
        "peers": {"sipp": "3.6.1"},
        "tests": {
            "tests/interop/test_sipp.py::test_x": {"outcome": "passed", "seconds": 1.2},
            "tests/interop/test_sipp.py::test_y": {"outcome": "failed", "seconds": 2.4},
            "tests/interop/test_baresip.py::test_z": {"outcome": "skipped", "seconds": 0.0},
        },
    }
    table = results_table(results)
    assert table.startswith("Commit 0123456789ab; sipp 3.6.1.\n")
    assert "| [test_sipp](../tests/interop/test_sipp.py) | 1 | 1 | 0 | 4 |" in table
    assert "| all | 1 | 1 | 1 | 4 |" in table
    assert with_results(f"a\n{BEGIN}old\n{END}b\n", results) == f"a\n{BEGIN}{table}{END}b\n"


def test_a_scenario_is_shown_with_its_outcome_and_why_it_is_played_otherwise() -> None:
    page = scenarios_page({f"{PLAYED}[uas-auth]": {"outcome": "passed", "seconds": 1.0}})
    (line,) = [line for line in page.splitlines() if line.startswith("| `uas-auth` |")]
    assert "| make test | passed | played otherwise: its challenge has no nonce" in line
    assert f"1 of {len(SCENARIOS)} that are played have passed." in page
    (slow,) = [line for line in page.splitlines() if line.startswith("| `uas-timer-update` |")]
    assert "| make interop | not run yet |" in slow


@pytest.mark.reference
def test_every_scenario_of_both_collections_is_played_or_left_out_for_a_reason(
    reference_data: Path,
) -> None:
    played = {one.file.removesuffix(".xml") for one in SCENARIOS}
    assert len(played) == len(SCENARIOS)
    there = {
        str(path.relative_to(reference_data)).removesuffix(".xml")
        for collection in COLLECTIONS
        for path in (reference_data / collection).rglob("*.xml")
    }
    assert len([name for name in there if "sipp-pjproject" in name]) == 80
    left_out = {name for name in there if any(fnmatch(name, one) for one in LEFT_OUT)}
    assert there == played | left_out
    assert not played & left_out
    assert [one for one in LEFT_OUT if not any(fnmatch(name, one) for name in there)] == []

"""The table of RFCs says what the tests say."""

from __future__ import annotations

import re
from pathlib import Path

from rfc_status import Item, flow_tests, flows, peers_of, render

TABLE = Path(__file__).resolve().parents[2] / "docs" / "rfc-status.md"


def listed() -> set[str]:
    """The tests that the table names."""
    links = re.findall(r"\[(test_\w+)\]\(\.\./([\w/.]+)\)", TABLE.read_text())
    return {f"{path}::{name}" for name, path in links}


def test_the_table_names_every_test_of_a_flow_and_none_that_is_gone() -> None:
    there = flow_tests()
    assert len(there) > 10
    assert {test for test in listed() if "::test_F" in test} == there, "make rfc-status"


def test_nothing_in_the_table_has_failed() -> None:
    assert "**failed**" not in TABLE.read_text()


def test_every_numbered_flow_has_a_line() -> None:
    text = TABLE.read_text()
    assert len(flows()) == 136
    assert [number for number in flows() if f"| {number} " not in text] == []


def test_a_line_is_proven_only_where_all_its_tests_have_passed() -> None:
    one, two = flows()["F085"], Item("4475", "3.1")
    text = render(
        {
            one: {"tests/unit/a.py::test_F085_x": True, "tests/interop/test_sipp.py::test_y": True},
            two: {"tests/unit/a.py::test_z": True, "tests/unit/a.py::test_q": False},
        },
        {"tests/interop/test_sipp.py::test_y": ["sipp"]},
    )
    (prack,) = [line for line in text.splitlines() if "| F085 " in line]
    assert "| proven | sipp | [test_y]" in prack
    (torture,) = [line for line in text.splitlines() if line.startswith("| 4475 | 3.1 |")]
    assert "| **failed** |" in torture
    assert "| 8898 |  | F136 OAuth bearer (optional) | not yet |  |  |" in text


def test_the_other_sides_are_those_that_a_test_asks_for() -> None:
    assert peers_of(["pjsua", "artifacts", "peers", "baresip"]) == ["baresip", "pjsua"]
    assert peers_of(["tmp_path"]) == []

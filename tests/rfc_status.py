"""Which part of which RFC is proven by which test: `docs/rfc-status.md`, written by a test run.

A test says what it proves by its name, `test_F085_...` (`flows.csv` knows flow F085's RFC and
section), or by a mark, `pytest.mark.rfc("4475", "3.1.1")`. `make rfc-status` runs all of these and
writes the table: what it says of a test is what has just become of it.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

FLOWS = Path(__file__).with_name("flows.csv")
TESTS = Path(__file__).parent
_FLOWS = re.compile(r"test_((?:F\d{3}_)+)")
_SECTION = re.compile(r"\d+|\D+")
_PROPERTY, _OTHERS = "rfc", "others"
_PEERS = {
    **{name: name for name in ("asterisk", "baresip", "kamailio", "pjsua", "sipp")},
    "under_way": "sipp",
}
"""Whose software a test calls that asks for such a fixture."""
_HEAD = """# What of which RFC is there, and which test shows it

Written by `make rfc-status`, which runs the tests named here; nothing in it is written by hand. A
line is *proven* when every one of its tests has passed, and *against others* names the software
that played the other side in some of them. Lines without a test are not there yet, or belong to
nothing this software does.

"""


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """A line of the table: something that an RFC describes. `flow` is "" where it is no flow."""

    rfc: str
    section: str
    flow: str = ""
    title: str = ""


def flows() -> dict[str, Item]:
    """The numbered flows a SIP agent must pass, by number."""
    with FLOWS.open(newline="") as file:
        return {
            row["flow"]: Item(row["rfc"], row["section"], row["flow"], row["title"])
            for row in csv.DictReader(file)
        }


def flows_of(name: str) -> list[str]:
    """The numbers of the flows that a test's name begins with."""
    found = _FLOWS.match(name)
    return found[1].rstrip("_").split("_") if found else []


@dataclass(eq=False)
class RfcStatus:
    """The pytest plugin: notes what tests prove and what became of them; `path` "": no file."""

    path: str
    outcomes: dict[Item, dict[str, bool]] = field(default_factory=lambda: defaultdict(dict))
    others: dict[str, list[str]] = field(default_factory=dict)

    @pytest.hookimpl(tryfirst=True)  # before any are chosen by their marks
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark the tests of flows like those that name an RFC themselves."""
        known = flows()
        for item in items:
            for number in flows_of(item.name):
                if number not in known:
                    raise pytest.UsageError(f"{item.nodeid}: flows.csv has no {number}")
                flow = known[number]
                item.add_marker(pytest.mark.rfc(flow.rfc, flow.section, number))
            item.user_properties.append((_OTHERS, peers_of(getattr(item, "fixturenames", ()))))
            for mark in item.iter_markers("rfc"):
                item.user_properties.append((_PROPERTY, list(mark.args)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an outcome; a test that was skipped has none."""
        if report.when != "call" and not report.failed:
            return
        path, _, name = report.nodeid.partition("@")[0].partition("::")  # @: its group
        test = f"{path}::{name.partition('[')[0]}"
        known = flows()
        for kind, arguments in report.user_properties:
            if kind == _OTHERS:
                self.others[test] = list(arguments)
            if kind != _PROPERTY:
                continue
            rfc, section, flow = [*map(str, arguments), "", ""][:3]
            item = known[flow] if flow else Item(rfc, section)
            passed = self.outcomes[item].get(test, True) and report.passed
            self.outcomes[item][test] = passed

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table, unless this is one of several processes of a run."""
        if self.path and not hasattr(session.config, "workerinput"):
            Path(self.path).write_text(render(self.outcomes, self.others))


def render(outcomes: Mapping[Item, Mapping[str, bool]], others: Mapping[str, Iterable[str]]) -> str:
    """The table as Markdown. `others`: whose software each test calls."""
    lines = [*_HEAD.splitlines(), "| RFC | section | what | status | against others | tests |"]
    lines.append("|---|---|---|---|---|---|")
    items = {*flows().values(), *outcomes}
    for item in sorted(items, key=_order):
        tests = outcomes.get(item, {})
        status = "not yet" if not tests else "proven" if all(tests.values()) else "**failed**"
        what = f"{item.flow} {item.title}".strip()
        peers = sorted({peer for test in tests for peer in others.get(test, ())})
        cells = [item.rfc, item.section, what, status, ", ".join(peers), _links(tests)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def peers_of(fixtures: Iterable[str]) -> list[str]:
    """Whose software a test calls that asks for these fixtures."""
    return sorted({_PEERS[name] for name in fixtures if name in _PEERS})


def _links(tests: Iterable[str]) -> str:
    """Every test by name, as a link to its file."""
    parts = (test.partition("::") for test in sorted(tests))
    return "<br>".join(f"[{name}](../{path})" for path, _, name in parts)


def _order(item: Item) -> tuple[int, list[tuple[int, str]], str]:
    numbers = [
        (int(part), "") if part.isdigit() else (0, part) for part in _SECTION.findall(item.section)
    ]
    return int(item.rfc.partition("/")[0]), numbers, item.flow


def flow_tests() -> set[str]:
    """Every test in this tree whose name begins with a flow's number, as the table names it."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for name in re.findall(
            r"^(?:async )?def (test_F\d{3}_\w+)", path.read_text(), re.MULTILINE
        ):
            found.add(f"{path.relative_to(TESTS.parent)}::{name}")
    return found

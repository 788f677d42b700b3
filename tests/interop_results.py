"""What the last `make interop` came to: kept as JSON, and shown in the documentation.

The run writes `docs/interop-results.json`; the table in `docs/peers.md` and all of
`docs/sipp-scenarios.md` are made of it and of the catalogue of scenarios. `python
tests/interop_results.py` makes them anew without a run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sipp_catalogue import COLLECTIONS, LEFT_OUT, MENDED, SCENARIOS, By, Scenario

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "interop-results.json"
PEERS_PAGE = ROOT / "docs" / "peers.md"
SCENARIOS_PAGE = ROOT / "docs" / "sipp-scenarios.md"
TESTS = "tests/interop/"
PLAYED = f"{TESTS}test_sipp_scenarios.py::test_scenario"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
_PROPERTY = "seconds"
_PAGE = """# Call flows written by others for SIPp

Written by `make interop`; nothing in it is written by hand. PJSIP's developers and SIPp's wrote
these scenarios, SIPp plays them against a phone of ours, and its exit status is the verdict.
`tests/sipp_catalogue.py` says what our side does in each. Where a scenario asks for what an RFC
does not allow, or is at odds with itself, it is played otherwise there, or not at all, and the
table says why.

"""


@dataclass(eq=False)
class InteropResults:
    """The pytest plugin: notes what becomes of tests with peers; `path` "": nothing is written."""

    path: str
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    commit: str = ""
    changed: bool = False

    def pytest_sessionstart(self) -> None:
        """Note what it is that is tested."""
        if self.path:
            self.commit = _git("rev-parse", "HEAD")
            self.changed = _git("status", "--porcelain", "--", "voip", "tests") != ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an outcome; what its set-up came to counts where there was no test."""
        if not report.nodeid.startswith(TESTS) or (report.when != "call" and report.passed):
            return
        properties = dict(report.user_properties)
        seconds = float(properties.get(_PROPERTY, report.duration))  # type: ignore[arg-type]
        self.tests[report.nodeid.partition("@")[0]] = {
            "outcome": report.outcome,
            "seconds": round(seconds, 1),
        }

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write what has been noted, unless this is one of several processes of a run."""
        if not self.path or hasattr(session.config, "workerinput"):
            return
        results = {
            "commit": self.commit,
            "changed": self.changed,
            "peers": _versions(),
            "tests": dict(sorted(self.tests.items())),
        }
        Path(self.path).write_text(json.dumps(results, indent=1) + "\n")
        if Path(self.path).resolve() == RESULTS:
            write_pages()


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    """The versions that `make peers` has noted."""
    sys.path.insert(0, str(ROOT / TESTS))
    try:
        from peers.installed import installed

        return installed().versions
    finally:
        sys.path.remove(str(ROOT / TESTS))


def last_results() -> dict[str, Any]:
    """The committed result."""
    results: dict[str, Any] = json.loads(RESULTS.read_text())
    return results


def write_pages() -> None:
    """Make both pages anew."""
    results = last_results()
    PEERS_PAGE.write_text(with_results(PEERS_PAGE.read_text(), results))
    SCENARIOS_PAGE.write_text(scenarios_page(results["tests"]))


# ------------------------------------------------------------ docs/peers.md


def with_results(page: str, results: Mapping[str, Any]) -> str:
    """The page with the table of results between its marks."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + results_table(results) + END + tail


def results_table(results: Mapping[str, Any]) -> str:
    """A line for each file of tests."""
    files: dict[str, list[Mapping[str, Any]]] = {}
    for name, test in results["tests"].items():
        files.setdefault(name.partition("::")[0], []).append(test)
    peers = ", ".join(f"{name} {version}" for name, version in results["peers"].items())
    changed = " and changes not committed then" if results["changed"] else ""
    lines = [f"Commit {results['commit'][:12]}{changed}; {peers}.", ""]
    lines += ["| tests | passed | failed | skipped | seconds |", "|---|---|---|---|---|"]
    for path, tests in sorted(files.items()):
        name = Path(path).stem  # a file may have moved since the run
        link = f"[{name}](../{path})" if (ROOT / path).exists() else name
        lines.append(f"| {link} | {_figures(tests)} |")
    everything = [test for tests in files.values() for test in tests]
    lines.append(f"| all | {_figures(everything)} |")
    return "\n".join(lines) + "\n"


def _figures(tests: list[Mapping[str, Any]]) -> str:
    counts = [
        sum(test["outcome"] == outcome for test in tests)
        for outcome in ("passed", "failed", "skipped")
    ]
    return " | ".join(map(str, [*counts, round(sum(test["seconds"] for test in tests))]))


# ------------------------------------------------------------ docs/sipp-scenarios.md


def scenarios_page(tests: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, with what became of each scenario."""
    parts = [_PAGE + _summary(tests)]
    for collection, title in COLLECTIONS.items():
        lines = [f"\n## {title}\n", "| scenario | begins | our side | flows | in | result | |"]
        lines.append("|---|---|---|---|---|---|---|")
        lines += [_line(one, tests) for one in SCENARIOS if one.collection == collection]
        lines += ["\nNot played:\n", "| scenario | why |", "|---|---|"]
        lines += [
            f"| {_plain(name.removeprefix(f'{collection}/'))} | {why} |"
            for name, why in LEFT_OUT.items()
            if name.startswith(collection)
        ]
        parts.append("\n".join(lines) + "\n")
    everywhere = [mend.why for mend in MENDED]
    parts.append(f"\nIn all of them: {'; '.join(everywhere)}.\n")
    return "".join(parts)


def outcome_of(scenario: Scenario, tests: Mapping[str, Mapping[str, Any]]) -> str:
    """What became of a scenario in the last run."""
    return str(tests.get(f"{PLAYED}[{scenario.name}]", {}).get("outcome", "not run yet"))


def _summary(tests: Mapping[str, Mapping[str, Any]]) -> str:
    passed = sum(outcome_of(one, tests) == "passed" for one in SCENARIOS)
    return f"{passed} of {len(SCENARIOS)} that are played have passed.\n"


def _line(scenario: Scenario, tests: Mapping[str, Mapping[str, Any]]) -> str:
    why = "; ".join(mend.why for mend in scenario.mends if mend.why)
    cells = [
        _plain(scenario.name),
        "SIPp" if scenario.by is By.SIPP else "we",
        scenario.role.value,
        ", ".join(scenario.flows),
        "make interop" if scenario.slow else "make test",
        outcome_of(scenario, tests),
        f"played otherwise: {why}" if why else "",
    ]
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """A name as it is, without Markdown's meaning."""
    return f"`{text}`"


if __name__ == "__main__":
    write_pages()

"""Ctrl-C, pressed on a soak with sound: calls are hung up, and what was seen is reported."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

PATIENCE_S = 60.0


@pytest.mark.long
@pytest.mark.realtime
@pytest.mark.parametrize("kind", ["real", "virtual"])
def test_a_soak_that_is_interrupted_reports_what_there_was(kind: str) -> None:
    options = ("--media", kind, "--at-once", "3", "--seconds", "40", "--json")
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "voip.harness.soak", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        stdout, more = process.communicate(timeout=PATIENCE_S)
    assert "3 calls begun, 3 up" in first
    assert [line for line in more.splitlines() if "calls begun" not in line] == []
    assert process.returncode == 1
    report = json.loads(stdout)
    assert report["interrupted"] is True and report["passed"] is False
    assert (report["wrong"], report["left"]) == ([], {})
    assert report["begun"] == report["ended"] >= 3
    assert report["deeds"]["cut short at the end"] >= 1
    assert len(report["rss_mb"]) >= 6 and min(report["rss_mb"]) > 10
    assert 4 <= report["seconds"] < 320  # of which 240 are quiet

"""One short run of the SIP benchmark with everything real. Nothing in it is timed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from voip.cli.bench_sip import bench_sip
from voip.harness.bench import sip
from voip.harness.bench.comparison import compare, read_earlier

SHORT = ["--seconds", "1", "--held", "400", "--registrations", "30", "--json"]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(sip, "WARM_UP_S", 0.2)
    monkeypatch.setattr(sip, "EXPIRES_S", 4)
    monkeypatch.setattr(sip, "ATTACK_TRIES", 1)
    one = typer.Typer()
    one.command()(bench_sip)
    return one


@pytest.mark.bench
def test_a_run_prints_one_json_object_and_loses_no_call(cli: typer.Typer, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text('{"calls_per_second": 2.0}')
    result = CliRunner().invoke(cli, [*SHORT, "--compare", str(earlier)])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["peer"] == "own"
    assert report["calls"] > 5 and report["failed"] == 0
    assert report["parse_route_per_s"] > 0 and report["cpu_us_per_call"] > 0
    assert report["bytes_per_dialog"] > 0 and report["machine_factor"] > 0
    held = report["registrations"]
    assert held["held"] == held["refreshed"] == held["wanted"] == 30 and held["failed"] == 0
    assert report["attacks"] > 200 and report["attack_cost_ratio"] > 1
    assert report["bars"]["failed"]["met"] is True

    speed = report["calls_per_second"]
    assert report["compared"] == {
        "calls_per_second": {"earlier": 2.0, "now": speed, "ratio": speed / 2}
    }
    earlier.write_text(result.stdout)  # what is printed can be compared with
    assert len(compare(report, read_earlier(earlier))) > 10


@pytest.mark.peer
@pytest.mark.bench
def test_sipp_calls_and_no_call_fails(cli: typer.Typer, missing: Callable[[str], None]) -> None:
    if shutil.which("sipp") is None:
        missing("SIPp is not installed")
    result = CliRunner().invoke(cli, [*SHORT, "--peer", "sipp"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["peer"] == "sipp"
    assert report["calls"] > 5 and report["failed"] == 0 and report["reasons"] == {}


def test_a_missing_sipp_ends_it_with_one_line(
    cli: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voip.harness.bench.sip_peer.shutil.which", lambda _: None)
    result = CliRunner().invoke(cli, [*SHORT, "--peer", "sipp"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["code"] == "config"
    assert result.stderr.count("\n") == 1 and "there is no sipp" in result.stderr

"""A short run of the simulator's benchmark, with everything real. Nothing in it is timed."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from voip.cli.bench_sim import bench_sim
from voip.harness.bench import sim


@pytest.mark.bench
def test_both_calls_last_and_their_figures_are_one_json_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sim, "SESSION_S", 90)  # the least there is (RFC 4028 section 4)
    one = typer.Typer()
    one.command()(bench_sim)
    result = CliRunner().invoke(one, ["--minutes", "2", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    signalling, media = report["signalling"], report["media"]
    assert signalling["refreshes"] == media["refreshes"] == 2
    assert signalling["datagrams_sent"] >= 3 + 2 * 2 + 2
    for side in ("caller", "callee"):
        assert media[side]["packets_sent"] > 5_900
        assert media[side]["packets_received"] > 5_500
        assert 0.01 < media[side]["packets_lost"] / media[side]["packets_sent"] < 0.06
    assert media["datagrams_lost"] > 100
    assert all(bar["met"] is None for bar in report["bars"].values())
    assert report["machine_factor"] > 0

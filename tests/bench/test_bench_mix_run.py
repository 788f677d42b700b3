"""The whole benchmark of conferences, shortly. Nothing in it is timed."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from voip.cli.bench_mix import bench_mix
from voip.codecs.registry import default_registry
from voip.errors import ConfigError
from voip.harness.bench.mix import run
from voip.harness.bench.mix_load import formats_of


@pytest.mark.bench
def test_a_room_of_several_codecs_has_figures() -> None:
    one = typer.Typer()
    one.command()(bench_mix)
    options = ["--parties", "9", "--codec", "pcmu,g722,ilbc", "--seconds", "0.3", "--rounds", "2"]
    result = CliRunner().invoke(one, [*options, "--loudest", "3", "--speakers", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["parties"], report["codecs"]) == (9, ["pcmu", "g722", "ilbc"])
    assert (report["loudest"], report["speakers"], report["rounds"]) == (3, True, 2)
    assert 0 < report["mix_us_per_tick"] < report["tick_us"]
    assert report["cpu_us_per_leg_20ms"] == pytest.approx(2 * report["tick_us"] / 9, rel=0.01)
    assert report["packets_sent"] > 9 * 0.6 * 50
    assert report["bars"]["mix_us_per_tick"]["met"] is None  # it is for a room of G.711


@pytest.mark.bench
def test_the_bar_is_for_a_hundred_parties_of_g711() -> None:
    report = run(100, ("pcmu", "pcma"), 0.2, 1, calibrations=1)
    assert report.bars()["mix_us_per_tick"]["met"] is not None
    assert report.sent >= 100 * 20


@pytest.mark.parametrize(
    "options", [{"parties": 1}, {"parties": 5000}, {"rounds": 0}, {"seconds": 0}, {"codecs": ()},
                {"codecs": ("nothing",)}],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        run(**options)  # type: ignore[arg-type]


def test_formats_are_found_by_name() -> None:
    found = formats_of(default_registry(), ["g722", "pcmu"])
    assert [one.name for one in found] == ["g722", "pcmu"]

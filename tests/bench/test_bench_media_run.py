"""One short round of the media benchmark with everything real. Nothing in it is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from voip.cli.bench_media import bench_media
from voip.errors import ConfigError
from voip.harness.bench import media, media_growth


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setattr(media, "WARM_UP_S", 0.3)
    monkeypatch.setattr(media, "CALIBRATION_REPEATS", 1)
    one = typer.Typer()
    one.command()(bench_media)
    return one


@pytest.mark.bench
def test_a_round_prints_one_json_object_and_loses_nothing(cli: typer.Typer) -> None:
    arguments = ["--calls", "12", "--seconds", "1.5", "--rounds", "1", "--busy", "1", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["calls"] == 12 and report["busy"] == 1
    assert report["packets_lost"] == report["kernel_drops"] == 0
    (one,) = report["rounds"]
    assert one["load"]["sent"] == one["engine"]["seen"] > 12 * 50
    assert one["engine"]["sent"] == one["load"]["seen"] > 12 * 50
    assert one["load"]["withheld"] > 0
    assert one["load"]["reports_sent"] > 0
    assert one["engine"]["failures"] == one["engine"]["strangers"] == 0
    if not report["late_ticks"] and one["load"]["behind_ms_max"] < 100:  # nobody was starved
        assert report["payloads"]["wrong"] == 0 and report["payloads"]["equal"] > 100
    assert one["busy_cpu_s"] > 0
    assert (report["engine"], report["workers"], report["readers"]) == ("thread", 1, 0)
    assert report["cpu_us_per_call_tick"] > 0 and report["machine_factor"] > 0
    assert report["rss_kb_per_call"] > 0
    assert report["tick_lateness_ms"]["done"]["max"] > 0


@pytest.mark.bench
def test_protected_calls_lose_nothing_either(cli: typer.Typer) -> None:
    arguments = ["--calls", "8", "--seconds", "1", "--rounds", "1", "--json"]
    result = CliRunner().invoke(cli, [*arguments, "--srtp", "aes_cm_128_hmac_sha1_80"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["srtp"] == "AES_CM_128_HMAC_SHA1_80"
    assert report["packets_lost"] == report["kernel_drops"] == 0
    (one,) = report["rounds"]
    assert one["load"]["sent"] == one["engine"]["seen"] > 8 * 40
    if not report["late_ticks"] and one["load"]["behind_ms_max"] < 100:
        assert report["payloads"]["wrong"] == 0 and report["payloads"]["equal"] > 50
    assert report["bars"]["srtp_more_us_per_call_tick"]["bar"] == 4.0


@pytest.mark.bench
def test_processes_and_an_application_that_reads_and_sends_lose_nothing(cli: typer.Typer) -> None:
    arguments = ["--calls", "12", "--seconds", "1.5", "--rounds", "1", "--json"]
    more = ["--engine", "process", "--workers", "2", "--readers", "6", "--busy", "1"]
    result = CliRunner().invoke(cli, arguments + more)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["engine"], report["workers"], report["readers"]) == ("process", 2, 6)
    assert report["packets_lost"] == report["kernel_drops"] == 0
    (one,) = report["rounds"]
    assert one["load"]["sent"] == one["engine"]["seen"] > 12 * 50
    assert one["engine"]["ticks"] > 2 * 70  # of both
    assert one["engine"]["failures"] == 0
    if not report["late_ticks"] and not one["engine"]["readers_lost_ms"]:
        assert report["payloads"]["wrong"] == 0 and report["payloads"]["equal"] > 100
    assert 0 < report["control_cpu_us_per_call_tick"] < report["cpu_us_per_call_tick"]
    assert report["reader_cpu_us_per_call_tick"] == pytest.approx(
        2 * report["control_cpu_us_per_call_tick"], rel=0.01
    )
    assert report["bars"]["done_p99_ms"]["bar"] == 15


@pytest.mark.parametrize("more", [["--readers", "13"], ["--engine", "thread", "--workers", "2"]])
def test_what_cannot_be_measured_is_refused(cli: typer.Typer, more: list[str]) -> None:
    result = CliRunner().invoke(cli, ["--calls", "12", "--json", *more])
    assert result.exit_code == 1 and json.loads(result.stdout)["code"] == "config"


@pytest.mark.bench
@pytest.mark.parametrize("codec", ["g722", "opus"])
def test_other_codecs_are_measured_beside_what_they_cost_barely(
    cli: typer.Typer, codec: str
) -> None:
    arguments = ["--calls", "4", "--seconds", "1", "--rounds", "1", "--codec", codec, "--profile"]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    (one,) = report["rounds"]
    assert report["codec"] == codec and report["bare_codec_us"] > 1
    assert 0.2 < report["bare_sockets_us"] < 1000
    assert report["packets_lost"] == 0
    assert one["engine"]["sent"] == one["load"]["seen"] > 4 * 30
    assert one["engine"]["failures"] == one["engine"]["discarded"] == 0
    assert report["bars"]["cpu_us_per_call_tick"]["bar"] > 5
    assert {"receive", "play out", "encode", "send"} <= set(report["phase_us"])


@pytest.mark.bench
def test_a_codec_without_a_bar_is_measured_too(cli: typer.Typer) -> None:
    arguments = ["--calls", "2", "--seconds", "1", "--rounds", "1", "--codec", "ilbc"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "the bare codec" in result.stdout and "all / machine factor" in result.stdout


@pytest.mark.bench
def test_growth_is_a_table_in_a_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(media, "WARM_UP_S", 0.2)
    monkeypatch.setattr(media, "CALIBRATION_REPEATS", 1)
    monkeypatch.setattr(media_growth, "WARM_UP_S", 0.2)
    monkeypatch.setattr(media_growth, "SWELL_S", 0.2)
    grown = media_growth.growth(1.0, 1, calls=(3, 6), beside=2, added=30)
    page = tmp_path / "page.md"
    marks = "<!-- voip bench media --growth: begin -->", "<!-- end -->"
    page.write_text(f"before\n{marks[0]}\nold\n{marks[1]}\nafter\n")
    media_growth.write_into(page, grown.markdown())
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")] == [
        "calls", "---", "3", "6",
    ]  # fmt: skip
    assert media_growth.machine() in text
    assert grown.swelling.added == 30 and grown.ratios[0] == 1.0
    assert set(grown.to_json()["bars"]) == {"cpu_growth", "late_ticks_of_added_rows"}
    with pytest.raises(ConfigError, match="no place"):
        page.write_text("nothing")
        media_growth.write_into(page, "table")


def test_too_few_open_files_end_it_with_one_line(
    cli: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media.resource, "getrlimit", lambda _: (100, 100))
    result = CliRunner().invoke(cli, ["--calls", "500", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["code"] == "config"
    assert result.stderr.count("\n") == 1 and "the hard limit is 100" in result.stderr

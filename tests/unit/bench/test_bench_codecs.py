"""The benchmark of codecs by a clock of its own: nothing here is timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import typer
from typer.testing import CliRunner

from voip.cli.bench_codecs import bench_codecs
from voip.codecs.core import Codec, CodecFormat, CodecInfo, Ways
from voip.codecs.registry import CodecEntry, Registry, default_registry
from voip.errors import CodecError, ConfigError, MediaError
from voip.harness.bench import codecs
from voip.harness.bench.codec_sides import Material, alone, formats, together
from voip.harness.bench.codecs import CodecCosts, CodecReport, run
from voip.harness.bench.comparison import compare, slower


class Clock:
    """Time that passes only when somebody says that something took some."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class TimedCodec:
    """A codec whose frames take as long as it is told, by the clock of the test."""

    def __init__(self, info: CodecInfo, clock: Clock, encode_us: float, decode_us: float) -> None:
        self.info = info
        self._clock, self._encode_us, self._decode_us = clock, encode_us, decode_us

    def encode_into(self, pcm: npt.NDArray[np.int16], out: npt.NDArray[np.uint8]) -> int:
        assert pcm.any() and pcm.flags.c_contiguous
        self._clock.now += self._encode_us / 1e6
        out[: pcm.size] = 1
        return pcm.size

    def decode_into(self, payload: npt.NDArray[np.uint8], out: npt.NDArray[np.int16]) -> int:
        assert payload.size == out.size
        self._clock.now += self._decode_us / 1e6
        return payload.size


INFO = next(iter(default_registry()))
"""PCMU's, of which others are made."""


def entry(clock: Clock, name: str, encode_us: float, decode_us: float, **info: Any) -> CodecEntry:
    known = replace(INFO, name=name, **info)
    return CodecEntry(known, lambda _: TimedCodec(known, clock, encode_us, decode_us))  # type: ignore[arg-type,return-value]


def measured(*entries: Callable[[Clock], CodecEntry]) -> CodecReport:
    clock = Clock()
    registry = Registry([make(clock) for make in entries])
    return run(registry, rounds=3, frames=40, batch_frames=10, progress=lambda _: None, clock=clock)


def test_a_codec_costs_what_its_frames_take_alone_and_each_of_64() -> None:
    report = measured(
        lambda clock: entry(clock, "one", 100, 30),
        lambda clock: entry(clock, "other", 7, 5, sample_rate=16000),
    )
    figures = report.to_json()["codecs"]
    one = figures["one"]
    assert one["encode_us"] == one["batch_encode_us"] == pytest.approx(100)
    assert one["decode_us"] == one["batch_decode_us"] == pytest.approx(30)
    assert one["native_encode_us"] is one["native_decode_us"] is one["native"] is None
    assert one["real_time_factor"] == {"encode": 200.0, "decode": pytest.approx(666.7)}
    assert figures["other"]["encode_us"] == pytest.approx(7)


def test_longer_frames_are_counted_by_what_20_ms_of_them_cost() -> None:
    report = measured(lambda clock: entry(clock, "long", 300, 60, frame_samples=240))
    assert report.codecs["long"].us["encode_us"] == pytest.approx(200)
    assert report.codecs["long"].us["batch_decode_us"] == pytest.approx(40)


def test_the_median_of_the_rounds_counts_whatever_else_the_machine_does() -> None:
    clock = Clock()
    spikes = iter([*[0.0] * 10, *[5.0] * 20, *[0.0] * 200])
    plain = entry(clock, "one", 100, 30)
    build = plain.build

    def disturbed(format_: CodecFormat) -> Codec:
        codec = build(format_)
        encode_into = codec.encode_into

        def slow(pcm: npt.NDArray[np.int16], out: npt.NDArray[np.uint8]) -> int:
            clock.now += next(spikes, 0.0)
            return encode_into(pcm, out)

        codec.encode_into = slow  # type: ignore[method-assign]
        return codec

    report = run(
        Registry([replace(plain, build=disturbed)]),
        rounds=5,
        frames=20,
        batch_frames=10,
        progress=lambda _: None,
        clock=clock,
    )
    assert report.codecs["one"].us["encode_us"] == pytest.approx(100)


# ---------------------------------------------------------------- what is slower shows


@pytest.mark.long
def test_a_slowed_codec_shows_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def report_of(encode_us: float) -> CodecReport:
        return measured(
            lambda clock: entry(clock, "one", encode_us, 30),
            lambda clock: entry(clock, "other", 7, 5),
        )

    reports = iter([report_of(100), report_of(250), report_of(250)])
    monkeypatch.setattr(codecs, "run", lambda **_: replace(next(reports), machine_factor=1.0))
    cli = typer.Typer()
    cli.command()(bench_codecs)
    before = CliRunner().invoke(cli, ["--json"])
    assert before.exit_code == 0, before.output
    file = tmp_path / "before.json"
    file.write_text(before.stdout)
    after = CliRunner().invoke(cli, ["--json", "--compare", str(file)])
    assert after.exit_code == 0, after.output
    compared = json.loads(after.stdout)
    assert compared["slower"] == ["codecs.one.encode_us", "codecs.one.batch_encode_us"]
    assert compared["compared"]["codecs.one.encode_us"]["ratio"] == pytest.approx(2.5)
    assert compared["compared"]["codecs.other.encode_us"]["ratio"] == pytest.approx(1.0)
    table = CliRunner().invoke(cli, ["--compare", str(file)]).stdout
    assert "codecs.one.encode_us: 100 -> 250  x 2.50  slower\n" in table
    assert "codecs.other.encode_us: 7 -> 7  x 1.00\n" in table


def test_a_slower_machine_is_no_slower_codec() -> None:
    before = {"codecs": {"pcmu": {"encode_us": 2.0, "decode_us": 2.0}}, "machine_factor": 1.0}
    now = {"codecs": {"pcmu": {"encode_us": 4.2, "decode_us": 6.0}}, "machine_factor": 2.0}
    assert slower(compare(now, before)) == ["codecs.pcmu.decode_us"]
    assert slower(compare({**now, "machine_factor": 1.0}, before)) == [
        "codecs.pcmu.encode_us",
        "codecs.pcmu.decode_us",
    ]


def test_another_benchmark_s_file_is_not_compared() -> None:
    with pytest.raises(ConfigError, match="none of these figures"):
        compare({"codecs": {"pcmu": {"encode_us": 2.0}}}, {"calls_per_second": 600.0})


# ---------------------------------------------------------------- the report


def report_of(machine_factor: float = 1.0, **us: dict[str, float]) -> CodecReport:
    costs = {name: CodecCosts(CodecFormat(name), None, of) for name, of in us.items()}
    return CodecReport(costs, 5, machine_factor)


def met(report: CodecReport) -> dict[str, bool | None]:
    return {name: bar["met"] for name, bar in report.bars().items() if bar["met"] is not None}


@pytest.mark.parametrize(
    ("codec", "us", "bar", "expected"),
    [
        ("pcmu", {"batch_encode_us": 0.29}, "pcmu_batch_encode_us", True),
        ("pcma", {"batch_decode_us": 0.31}, "pcma_batch_decode_us", False),
        ("ilbc", {"encode_us": 1999}, "ilbc_encode_us", True),
        ("ilbc", {"decode_us": 1001}, "ilbc_decode_us", False),
        ("ilbc", {"batch_encode_us": 201}, "ilbc_batch_encode_us", False),
        ("ilbc", {"batch_decode_us": 59}, "ilbc_batch_decode_us", True),
        ("opus", {"encode_us": 104, "native_encode_us": 100}, "opus_encode_over_native", True),
        ("opus", {"encode_us": 106, "native_encode_us": 100}, "opus_encode_over_native", False),
        ("opus", {"decode_us": 33, "native_decode_us": 30}, "opus_decode_over_native_us", True),
        ("opus", {"decode_us": 35, "native_decode_us": 30}, "opus_decode_over_native_us", False),
        (
            "g722",
            {"encode_us": 111, "native_encode_us": 100},
            "g722_encode_over_1.1_native_us",
            True,
        ),
        (
            "g722",
            {"decode_us": 113, "native_decode_us": 100},
            "g722_decode_over_1.1_native_us",
            False,
        ),
    ],
)
def test_bars(codec: str, us: dict[str, float], bar: str, expected: bool) -> None:
    assert met(report_of(**{codec: us})) == {bar: expected}


def test_a_bar_is_for_the_reference_machine_unless_a_library_is_beside_it() -> None:
    assert met(report_of(2.0, ilbc={"decode_us": 1900.0})) == {"ilbc_decode_us": True}
    assert met(report_of(0.5, ilbc={"decode_us": 600.0})) == {"ilbc_decode_us": False}
    opus = {"decode_us": 38.0, "native_decode_us": 30.0}
    assert met(report_of(2.0, opus=opus)) == {"opus_decode_over_native_us": False}


def test_where_nothing_could_be_measured_there_is_no_report() -> None:
    def refuse(_: CodecFormat) -> Codec:
        raise CodecError("its library is missing")

    missing = CodecEntry(replace(INFO, name="gone"), refuse)
    with pytest.raises(MediaError, match="no codec could be measured"):
        run(Registry([missing]), progress=lambda _: None)
    clock = Clock()
    report = run(
        Registry([missing, entry(clock, "there", 10, 10)]),
        rounds=1, frames=10, batch_frames=10, progress=lambda _: None, clock=clock,
    )  # fmt: skip
    assert report.to_json()["codecs"]["gone"]["encode_us"] is None
    assert report.codecs["there"].us["encode_us"] == pytest.approx(10)


# ---------------------------------------------------------------- what is coded


@pytest.mark.parametrize("name", list(formats(default_registry())))
def test_what_is_measured_is_speech_that_is_coded(name: str) -> None:
    registry = default_registry()
    format_ = formats(registry)[name]
    if registry.ways(format_) is not Ways.BOTH:
        pytest.skip(f"{name} is not coded both ways here")
    codec = registry.create(format_)
    material = Material(codec.info, frames=20, streams=3)
    assert material.frame_ms == pytest.approx(20)
    assert len({frame.tobytes() for frame in material.pcm.reshape(60, -1)}) == 60
    assert np.abs(material.pcm.astype(int)).max() > 2000
    heard = np.concatenate(
        [
            codec.decode(payload.tobytes())
            for payload in material.payloads(registry.create(format_), 1)
        ]
    )
    sent = material.pcm[:, 1].reshape(-1)
    assert heard.size == sent.size
    spectra = [np.abs(np.fft.rfft(pcm.astype(float)))[: heard.size // 8] for pcm in (sent, heard)]
    assert np.corrcoef(*spectra)[0, 1] > 0.9
    for sides in (
        alone(material, lambda: registry.create(format_)),
        together(material, lambda: registry.create(format_), format_),
    ):
        assert sides.encode is not None and sides.decode is not None
        sides.encode(slice(0, 20))
        sides.decode(slice(0, 20))


def test_codecs_of_one_name_are_told_apart_by_their_formats() -> None:
    clock = Clock()
    registry = Registry(
        [
            entry(clock, "l16", 1, 1, clock_rate=44100),
            entry(clock, "l16", 1, 1, clock_rate=44100, channels=2),
            entry(clock, "one", 1, 1),
        ]
    )
    assert list(formats(registry)) == ["l16/44100", "l16/44100/2", "one"]

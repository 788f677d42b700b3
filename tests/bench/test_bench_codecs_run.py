"""The whole benchmark of codecs, one short round. Nothing in it is timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import NoReturn

import pytest
import typer
from typer.testing import CliRunner

from voip.cli.bench_codecs import bench_codecs
from voip.codecs.core import Ways
from voip.codecs.opus.binding import libopus
from voip.codecs.registry import default_registry
from voip.errors import CodecError
from voip.harness.bench import codecs
from voip.harness.bench.codec_sides import formats


@pytest.mark.bench
def test_every_codec_has_figures_and_opus_is_beside_the_bare_call(
    monkeypatch: pytest.MonkeyPatch, missing: Callable[[str], NoReturn]
) -> None:
    try:
        libopus()
    except CodecError as error:
        missing(str(error))
    short = {"frames": 40, "batch_frames": 10}
    run = codecs.run
    monkeypatch.setattr(codecs, "run", lambda **options: run(**options, **short))
    one = typer.Typer()
    one.command()(bench_codecs)
    result = CliRunner().invoke(one, ["--rounds", "1", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    registry = default_registry()
    assert len(report["codecs"]) == len(registry)
    for name, format_ in formats(registry).items():
        if registry.ways(format_) is not Ways.BOTH:
            continue
        figures = report["codecs"][name]
        for figure in codecs.FIGURES[:4]:
            assert 0.01 < figures[figure] < 1e5, (name, figure)
    opus, ilbc = report["codecs"]["opus"], report["codecs"]["ilbc"]
    assert opus["native"].startswith("libopus ")
    assert opus["native_encode_us"] > opus["native_decode_us"] > 1
    assert ilbc["native_encode_us"] is None, "FFmpeg decodes only"
    assert ilbc["batch_encode_us"] < ilbc["encode_us"], "of many at once each is cheaper"
    assert report["machine_factor"] > 0
    assert report["bars"]["opus_encode_over_native"]["met"] is not None

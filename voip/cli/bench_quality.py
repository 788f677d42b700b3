"""`voip bench quality`: print what `voip.harness.codec_quality` found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from voip.cli import options
from voip.cli.bench_report import Measured, Progress, bar, show
from voip.sounds import asset_path

__all__ = ["bench_quality"]

_SHIPPED = "speech-16k.wav"


def bench_quality(
    speech: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Judge by the WAV files here; may stand several times."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="Passes over each lossy path.")
    ] = 8,
    ilbc_program: Annotated[
        Path | None,
        typer.Option(metavar="F", help="RFC 3951's program as a library: another iLBC."),
    ] = None,
    as_json: options.JsonFlag = False,
) -> None:
    """Judge the codecs by PESQ: on a clean path beside other programs, and where packets are lost.

    The first folder is for lossy paths too; without any it is the speech that ships.
    """
    from voip.harness.codec_quality.grid import run  # here: no other command needs it
    from voip.harness.codec_quality.speech import SpeechSet

    def measure(progress: Progress) -> Measured:
        with ExitStack() as stack:
            sets = [SpeechSet.of(folder) for folder in speech or ()] or [
                SpeechSet("shipped", (stack.enter_context(asset_path(_SHIPPED)),))
            ]
            report = run(sets, seeds=seeds, program=ilbc_program, progress=progress).to_json()
        return report, "MOS-LQO by PESQ", list(_lines(report))

    show(measure, as_json=as_json, earlier=None)


def _lines(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield what is heard on a clean path, what is heard at each loss, and the bars."""
    for one in report["clean"]:
        other = "" if one["theirs"] is None else f"{one['theirs']:.2f} by {one['by']}"
        yield f"{one['codec']}, {one['set']} ({one['band']})", f"{one['ours']:.2f}", other
    for one in report["lossy"]:
        for kind in ("random", "burst"):
            scores = ", ".join(f"{loss} % {score:.2f}" for loss, score in one[kind].items())
            yield f"{one['codec']}, {one['remedy']}, {kind}", scores, ""
    for name, figures in report["bars"].items():
        shown = "-" if figures["figure"] is None else f"{figures['figure']:.3f}"
        yield name.replace("_", " "), shown, bar(figures, "at least")

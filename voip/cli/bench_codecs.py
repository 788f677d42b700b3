"""`voip bench codecs`: print what `voip.harness.bench.codecs` measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from voip.cli import options
from voip.cli.bench_report import CompareFile, Measured, Progress, bar, show

if TYPE_CHECKING:
    from voip.harness.bench.codecs import CodecReport

__all__ = ["bench_codecs"]


def bench_codecs(
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="Rounds; figures are their median.")
    ] = 5,
    as_json: options.JsonFlag = False,
    earlier: CompareFile = None,
) -> None:
    """Measure the codecs: microseconds for 20 ms, alone, of 64 streams, and by native libraries."""
    from voip.harness.bench.codecs import run  # here: no other command needs it

    def measure(progress: Progress) -> Measured:
        report = run(rounds=rounds, progress=progress)
        return report.to_json(), "microseconds for 20 ms of one stream", list(_lines(report))

    show(measure, as_json=as_json, earlier=earlier)


def _lines(report: CodecReport) -> Iterator[tuple[str, str, str, str]]:
    """Yield (codec, encode, decode, what is compared), then the bars."""
    yield "codec", "encode", "decode", ""
    for name, costs in report.codecs.items():
        for kind, label in (
            ("", "alone"),
            ("batch_", "of 64"),
            ("native_", costs.native or "no native library"),
        ):
            encode, decode = (_us(costs.us.get(f"{kind}{way}_us")) for way in ("encode", "decode"))
            yield name, encode, decode, label
    for name, figures in report.bars().items():
        yield name.replace("_", " "), _us(figures["figure"]), "", bar(figures, "at most")
    yield "machine factor", f"{report.machine_factor:.2f}", "", "1 is the reference machine"


def _us(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.2f}"

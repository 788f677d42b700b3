"""`voip bench mix`: print what `voip.harness.bench.mix` measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from voip.cli import options
from voip.cli.bench_report import CompareFile, Measured, Progress, bar, show

if TYPE_CHECKING:
    from voip.harness.bench.mix import MixReport

__all__ = ["bench_mix"]


def bench_mix(
    parties: Annotated[int, typer.Option(metavar="N", help="Parties in one room.")] = 100,
    codec: Annotated[
        str, typer.Option(metavar="NAMES", help="Their codecs, in turn: pcmu,opus ...")
    ] = "pcmu",
    seconds: Annotated[float, typer.Option(metavar="S", help="Sound in a round.")] = 5.0,
    rounds: Annotated[
        int, typer.Option(metavar="N", help="Rounds; the report has their median.")
    ] = 5,
    talking: Annotated[
        int | None, typer.Option(metavar="N", help="How many speak; the others are silent.")
    ] = None,
    loudest: Annotated[
        int | None, typer.Option(metavar="K", help="Let only the K loudest be heard.")
    ] = None,
    speakers: Annotated[bool, typer.Option("--speakers", help="Have told who speaks.")] = False,
    as_json: options.JsonFlag = False,
    earlier: CompareFile = None,
) -> None:
    """Measure a conference: what mixing costs a tick, and each party, packets from memory."""
    from voip.harness.bench.mix import run  # here: no other command needs it

    def measure(progress: Progress) -> Measured:
        names = tuple(name.strip().lower() for name in codec.split(",") if name.strip())
        report = run(
            parties,
            names,
            seconds,
            rounds,
            talking=talking,
            loudest=loudest,
            speakers=speakers,
            progress=progress,
        )
        title = f"{report.parties} parties of {', '.join(report.codecs)} in one room"
        return report.to_json(), title, _lines(report)

    show(measure, as_json=as_json, earlier=earlier)


def _lines(report: MixReport) -> list[tuple[str, str, str]]:
    """Return (name, figure, what the bar says of it)."""
    figures = report.to_json()
    mix = figures["bars"]["mix_us_per_tick"]
    return [
        ("mixing, a tick of 10 ms", f"{figures['mix_us_per_tick']:.0f} us", ""),
        ("the same / machine factor", f"{mix['figure']:.0f} us", bar(mix, "us at most")),
        ("the same, p99", f"{figures['mix_us_p99']:.0f} us", ""),
        ("the whole tick", f"{figures['tick_us']:.0f} us", "without the network"),
        ("CPU per party and 20 ms", f"{figures['cpu_us_per_leg_20ms']:.1f} us", ""),
        ("machine factor", f"{figures['machine_factor']:.2f}", "1 is the reference machine"),
    ]

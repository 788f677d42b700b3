"""`voip bench sim`: print what `voip.harness.bench.sim` measured."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voip.cli import options
from voip.cli.report import print_table
from voip.cli.run import print_json, telling

if TYPE_CHECKING:
    from voip.harness.bench.sim import SimReport

__all__ = ["bench_sim"]


def bench_sim(
    minutes: Annotated[
        float, typer.Option(metavar="M", min=1, max=1440, help="Length of the call.")
    ] = 30.0,
    seed: Annotated[int, typer.Option(metavar="N", help="What the world's chances follow.")] = 1,
    drift_ppm: Annotated[
        float, typer.Option(metavar="PPM", help="How fast the caller's clock is, in millionths.")
    ] = 0.0,
    as_json: options.JsonFlag = False,
) -> None:
    """Measure the simulator: a long call over a lossy path, signalling alone and with media."""
    from voip.harness.bench.sim import run  # here: no other command needs it

    watched = sys.stdout.isatty() and sys.stderr.isatty() and not as_json
    with telling(as_json=as_json):
        report = run(
            minutes,
            seed,
            drift_ppm,
            progress=lambda text: print(text, file=sys.stderr) if watched else None,
        )
    if as_json:
        print_json(report.to_json())
    else:
        print_table(f"a call of {report.minutes:g} minutes, simulated", _lines(report))


def _lines(report: SimReport) -> list[tuple[str, str, str]]:
    """Return (name, figure, what the bar says of it)."""
    figures = report.to_json()
    signalling, media, bars = figures["signalling"], figures["media"], figures["bars"]
    caller = media["caller"]
    return [
        ("signalling alone", _times(signalling), _bar(bars["signalling_cpu_s"])),
        ("refreshes of the session", str(signalling["refreshes"]), ""),
        ("datagrams, of them lost", _two(signalling), ""),
        ("with G.711 both ways", _times(media), _bar(bars["media_cpu_s"])),
        ("datagrams, of them lost", _two(media), ""),
        ("packets heard, and lost", f"{caller['packets_received']}, {caller['packets_lost']}", ""),
        ("machine factor", f"{figures['machine_factor']:.2f}", "1 is the reference machine"),
    ]


def _times(figures: dict[str, Any]) -> str:
    return f"{figures['cpu_s']:.2f} s of CPU, {figures['real_s']:.2f} s by the clock"


def _two(figures: dict[str, Any]) -> str:
    return f"{figures['datagrams_sent']}, {figures['datagrams_lost']}"


def _bar(bar: dict[str, Any]) -> str:
    verdict = {True: "met", False: "missed", None: "is for 30 minutes"}[bar["met"]]
    return f"{bar['bar']:g} s of CPU: {verdict}"

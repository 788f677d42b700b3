"""`voip bench media`: print what `voip.harness.bench.media` measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from voip.cli import options
from voip.cli.bench_report import CompareFile, Measured, Progress, bar, show

if TYPE_CHECKING:
    from voip.harness.bench.media import MediaReport

__all__ = ["bench_media"]


def bench_media(
    calls: Annotated[int, typer.Option(metavar="N", help="Calls at the same time.")] = 500,
    seconds: Annotated[float, typer.Option(metavar="S", help="Length of a round.")] = 10.0,
    busy: Annotated[
        int,
        typer.Option(
            metavar="N", help="Threads that run plain Python in the process the engine belongs to."
        ),
    ] = 0,
    rounds: Annotated[
        int, typer.Option(metavar="N", help="Rounds; the report has their median.")
    ] = 5,
    engine: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="thread, process, or auto: what a phone with so many calls has."
        ),
    ] = "auto",
    workers: Annotated[
        int, typer.Option(metavar="N", help="Processes that the calls are spread over.")
    ] = 1,
    readers: Annotated[
        int, typer.Option(metavar="N", help="Calls whose sound an application reads and sends.")
    ] = 0,
    srtp: Annotated[
        str | None,
        typer.Option(
            metavar="SUITE", help="Protect the calls by SRTP, each round beside one without."
        ),
    ] = None,
    as_json: options.JsonFlag = False,
    earlier: CompareFile = None,
) -> None:
    """Measure the media engine: G.711 calls over loopback, both ways, each sent back an echo."""
    from voip.harness.bench.media import run  # here: no other command needs it

    def measure(progress: Progress) -> Measured:
        report = run(
            calls, seconds, busy, rounds,
            engine=engine, workers=workers, readers=readers, srtp=srtp, progress=progress,
        )  # fmt: skip
        title = f"{report.calls} calls, {len(report.rounds)} rounds of {report.seconds:g} s"
        title += f", {_engines(report)}"
        return report.to_json(), title, _lines(report)

    show(measure, as_json=as_json, earlier=earlier)


def _engines(report: MediaReport) -> str:
    if report.engine == "thread":
        return "the engine in a thread"
    return f"{report.workers} processes" if report.workers > 1 else "the engine in a process"


def _lines(report: MediaReport) -> list[tuple[str, str, str]]:
    """Return (name, figure, what the bar says of it)."""
    figures = report.to_json()
    late = figures["tick_lateness_ms"]
    bars = figures["bars"]
    payloads = figures["payloads"]
    cpu, done = bars["cpu_us_per_call_tick"], bars["done_p99_ms"]
    return [
        ("CPU per call and 20 ms", f"{figures['cpu_us_per_call_tick']:.1f} us", ""),
        ("the same / machine factor", f"{cpu['figure']:.1f} us", bar(cpu, "us at most")),
        ("machine factor", f"{figures['machine_factor']:.2f}", "1 is the reference machine"),
        ("tick begins late, p50 / p99 / max", _three(late["start"]), ""),
        ("tick is done after, p50 / p99 / max", _three(late["done"]), ""),
        ("p99 / machine factor", f"{done['figure']:.1f} ms", bar(done, "ms at p99")),
        ("late ticks", str(figures["late_ticks"]), ""),
        ("packets lost", str(figures["packets_lost"]), bar(bars["lost_by_us"], "by us")),
        ("dropped by the kernel", str(figures["kernel_drops"]), ""),
        (
            "payloads equal / beside a loss / wrong",
            f"{payloads['equal']} / {payloads['concealed']} / {payloads['wrong']}",
            bar(bars["payloads_wrong"], "wrong"),
        ),
        (
            "CPU of who controls it, per call and 20 ms",
            f"{figures['control_cpu_us_per_call_tick']:.2f} us",
            ""
            if report.reader_cpu_us is None
            else f"{report.reader_cpu_us:.0f} us for each that is read and sent",
        ),
        *_srtp_lines(report),
        ("memory per call", f"{figures['rss_kb_per_call']:.0f} kB", ""),
    ]


def _srtp_lines(report: MediaReport) -> list[tuple[str, str, str]]:
    found = report.bars().get("srtp_more_us_per_call_tick")
    if found is None:
        return []
    judged = "" if found["bar"] is None else bar(found, "us at most")
    return [(f"more by {report.srtp} / machine factor", f"{found['figure']:.1f} us", judged)]


def _three(figures: dict[str, float]) -> str:
    return " / ".join(f"{figures[name]:.2f}" for name in ("p50", "p99", "max")) + " ms"

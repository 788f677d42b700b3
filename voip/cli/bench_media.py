"""`voip bench media`: print what `voip.harness.bench.media` measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voip.cli import options
from voip.cli.bench_report import CompareFile, Measured, Progress, bar, show

if TYPE_CHECKING:
    from voip.harness.bench.media import MediaReport
    from voip.harness.bench.media_growth import GrowthReport

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
    codec: Annotated[
        str, typer.Option(metavar="NAME", help="What calls speak; Opus: 24 kbit/s, complexity 5.")
    ] = "pcmu",
    profile: Annotated[
        bool, typer.Option("--profile", help="Say what each phase of a tick costs.")
    ] = False,
    grows: Annotated[
        bool, typer.Option("--growth", help="Measure 100 to 2000 calls, and rows that are added.")
    ] = False,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="F", help="With --growth: put the table into this page."),
    ] = None,
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

    def measure_growth(progress: Progress) -> Measured:
        from voip.harness.bench.media_growth import growth, write_into

        grown = growth(seconds, rounds, progress=progress)
        if page is not None:
            write_into(page, grown.markdown())
        return grown.to_json(), "what a call costs among others", _growth_lines(grown)

    if grows:
        show(measure_growth, as_json=as_json, earlier=earlier)
        return

    def measure(progress: Progress) -> Measured:
        report = run(
            calls, seconds, busy, rounds, codec, engine=engine, workers=workers, readers=readers,
            profile=profile, srtp=srtp, progress=progress,
        )  # fmt: skip
        rounds_of = f"{len(report.rounds)} rounds of {report.seconds:g} s"
        title = f"{report.calls} calls of {report.codec}, {rounds_of}, {_engines(report)}"
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
    payloads, most = figures["payloads"], figures["phase_ms_max"]
    cpu, done = bars["cpu_us_per_call_tick"], bars["done_p99_ms"]
    return [
        ("CPU per call and 20 ms", f"{figures['cpu_us_per_call_tick']:.1f} us", ""),
        ("of it outside the kernel", f"{figures['user_us_per_call_tick']:.1f} us", ""),
        (
            "the bare codec",
            f"{figures['bare_codec_us']:.1f} us",
            "decoding and encoding 20 ms of as many streams",
        ),
        ("the bare sockets", f"{figures['bare_sockets_us']:.1f} us", "a packet sent, one read"),
        ("all / machine factor", f"{cpu['figure']:.1f} us", bar(cpu, "us at most")),
        *(
            (f"  {phase}", f"{us:.2f} us", f"{most[phase]:.1f} ms at most, of one group or tick")
            for phase, us in figures["phase_us"].items()
        ),
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
        (
            "memory per call",
            f"{figures['rss_kb_per_call']:.0f} kB",
            bar(bars["rss_kb_per_call"], "kB"),
        ),
    ]


def _growth_lines(grown: GrowthReport) -> list[tuple[str, str, str]]:
    figures = grown.to_json()
    bars, rows = figures["bars"], grown.swelling
    return [
        *(
            (
                f"{one['calls']} calls",
                f"{one['cpu_us_per_call_tick']:.1f} us",
                f"/ machine factor {one['bars']['cpu_us_per_call_tick']['figure']:.1f} us, "
                f"{one['ratio']:.2f} of the first",
            )
            for one in figures["growth"]
        ),
        ("the dearest by the first", f"{max(grown.ratios):.2f}", bar(bars["cpu_growth"], "times")),
        (
            f"late ticks while {rows.added} rows came and went",
            f"{rows.late_adding} / {rows.late_closing}",
            bar(bars["late_ticks_of_added_rows"], "ticks"),
        ),
        (
            "memory before / with them / after",
            f"{rows.rss_before_kb / 1000:.0f} / {rows.rss_most_kb / 1000:.0f} "
            f"/ {rows.rss_after_kb / 1000:.0f} MB",
            "",
        ),
    ]


def _srtp_lines(report: MediaReport) -> list[tuple[str, str, str]]:
    found = report.bars().get("srtp_more_us_per_call_tick")
    if found is None:
        return []
    judged = "" if found["bar"] is None else bar(found, "us at most")
    return [(f"more by {report.srtp} / machine factor", f"{found['figure']:.1f} us", judged)]


def _three(figures: dict[str, float]) -> str:
    return " / ".join(f"{figures[name]:.2f}" for name in ("p50", "p99", "max")) + " ms"

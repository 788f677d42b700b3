"""`voip bench sip`: print what `voip.harness.bench.sip` measured."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from voip.cli import options
from voip.cli.bench_report import CompareFile, Measured, Progress, bar, show

__all__ = ["bench_sip"]


def bench_sip(
    peer: Annotated[
        str, typer.Option(metavar="own|sipp", help="Who calls: a process of ours, or SIPp.")
    ] = "own",
    seconds: Annotated[float, typer.Option(metavar="S", help="How long calls are made.")] = 40.0,
    held: Annotated[int, typer.Option(metavar="N", help="Calls held to be weighed.")] = 5000,
    registrations: Annotated[
        int, typer.Option(metavar="N", help="Accounts kept registered by one process.")
    ] = 10_000,
    flood: Annotated[
        float,
        typer.Option(metavar="S", min=0, max=60, help="Flood a phone for so long, in four ways."),
    ] = 0.0,
    as_json: options.JsonFlag = False,
    earlier: CompareFile = None,
) -> None:
    """Measure the signalling: parsing, complete calls over loopback, memory, registrations."""
    from voip.harness.bench.sip import run  # here: no other command needs it

    def measure(progress: Progress) -> Measured:
        report = run(
            seconds,
            peer=peer,
            held=held,
            registrations=registrations,
            flood_s=flood,
            progress=progress,
        )
        return report.to_json(), f"calls by {peer} for {seconds:g} s", _lines(report.to_json())

    show(measure, as_json=as_json, earlier=earlier)


def _lines(figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (name, figure, what the bar says of it)."""
    bars = figures["bars"]
    held = figures["registrations"]
    parse, calls = bars["parse_route_per_s"], bars["calls_per_second"]
    return [
        ("INVITEs parsed and routed", f"{figures['parse_route_per_s']} /s", ""),
        ("the same x machine factor", f"{parse['figure']:.0f} /s", bar(parse, "/s at least")),
        ("complete calls", f"{figures['calls_per_second']:.0f} /s", ""),
        ("a whole core x machine factor", f"{calls['figure']:.0f} /s", bar(calls, "/s at least")),
        ("machine factor", f"{figures['machine_factor']:.2f}", "1 is the reference machine"),
        ("CPU per call", f"{figures['cpu_us_per_call']:.0f} us", ""),
        ("share of a core", f"{100 * figures['core_share']:.0f} %", ""),
        ("longest collection of cycles", f"{figures['collector_ms_max']:.0f} ms of CPU", ""),
        ("calls", str(figures["calls"]), ""),
        ("failed", str(figures["failed"]), bar(bars["failed"], "calls")),
        ("sent again", str(figures["retransmissions"]), bar(bars["retransmissions"], "messages")),
        (
            "memory per dialog",
            f"{figures['bytes_per_dialog'] / 1000:.1f} kB",
            bar(bars["bytes_per_dialog"], "bytes at most"),
        ),
        (
            "memory per call",
            f"{figures['bytes_per_call'] / 1000:.1f} kB",
            bar(bars["bytes_per_call"], "bytes at most"),
        ),
        (
            "registrations held / refreshed",
            f"{held['held']} / {held['refreshed']}",
            bar(bars["registrations_refreshed"], "at least"),
        ),
        (
            f"64 KiB over 32 KiB, worst of {figures['attacks']} attacks",
            f"{figures['attack_cost_ratio']:.2f} ({figures['attack_worst']})",
            bar(bars["attack_cost_ratio"], "at most"),
        ),
        ("dearest attack", f"{figures['attack_dearest_ms']:.1f} ms", figures["attack_dearest"]),
        *(_flood_lines(figures["flood"], bars) if figures["flood"] else ()),
    ]


def _flood_lines(flood: dict[str, Any], bars: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        ("flood", f"{flood['rate']:.0f} /s", f"{flood['dropped']} of {flood['sent']} unread"),
        (
            f"RTP lost meanwhile, of {flood['rtp_received']}",
            str(flood["rtp_lost"]),
            bar(bars["flood_rtp_lost"], "packets"),
        ),
        (
            f"slowest of {flood['options']} OPTIONS in calls",
            f"{flood['options_ms_max']:.0f} ms",
            bar(bars["flood_options_ms_max"], "ms at most"),
        ),
        (
            "memory of the flooded, at most",
            f"{flood['growth_bytes'] / 1e6:.1f} MB",
            bar(bars["flood_growth_bytes"], "bytes at most"),
        ),
        (
            "what of it stays",
            f"{flood['rss_kept_mb']:.1f} MB",
            bar(bars["flood_rss_kept_mb"], "MB at most"),
        ),
        (
            "what the same floods add to it",
            f"{flood['rss_added_mb']:.1f} MB",
            bar(bars["flood_rss_added_mb"], "MB at most"),
        ),
        (
            "blocks of memory in use after all",
            str(flood["blocks_left"]),
            bar(bars["flood_blocks_left"], "more than before"),
        ),
    ]

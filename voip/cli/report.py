"""What is said of a finished call: one dictionary for machines, one table for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from voip.call import Call

__all__ = ["call_report", "print_call"]


def call_report(
    call: Call,
    *,
    setup_s: float | None,
    dtmf_sent: str = "",
    dtmf_heard: str = "",
    recording: Path | None = None,
) -> dict[str, Any]:
    """Return the figures of a call; absent ones are None."""
    stats, quality, end = call.stats, call.quality, call.ended
    return {
        "answered": setup_s is not None,
        "remote": call.remote,
        "codec": call.codec,
        "setup_ms": None if setup_s is None else round(1000 * setup_s, 1),
        "duration_s": round(stats.played_ms / 1000, 2),
        "packets_sent": stats.packets_sent,
        "packets_received": stats.packets_received,
        "packets_lost": stats.packets_lost,
        "jitter_ms": _rounded(stats.jitter_ms),
        "rtt_ms": _rounded(stats.rtt_ms),
        "mos": _rounded(quality.mos),
        "dtmf_sent": dtmf_sent,
        "dtmf_heard": dtmf_heard,
        "recording": None if recording is None else str(recording),
        "ended_by": None if end is None else end.by.value,
        "reason": None if end is None else end.reason,
        "status": None if end is None else end.status,
    }


def print_call(report: Mapping[str, Any], title: str) -> None:
    """Print the figures as a table on stdout."""
    units = {"setup_ms": "ms", "jitter_ms": "ms", "rtt_ms": "ms", "duration_s": "s"}
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in report.items():
        label = name.removesuffix("_ms").removesuffix("_s").replace("_", " ")
        shown = "-" if value is None or value == "" else str(value)
        if shown != "-" and name in units:
            shown += f" {units[name]}"
        table.add_row(label, shown)
    Console(soft_wrap=True).print(table)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)

"""What is said of a finished call: one dictionary for machines, one table for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from voip.call import Call
from voip.cli.run import printable

__all__ = ["call_report", "print_call", "print_table"]

_LABELS: Final = {
    "answered": ("answered", ""),
    "remote": ("other side", ""),
    "codec": ("codec", ""),
    "setup_ms": ("set-up time", " ms"),
    "duration_s": ("sound heard", " s"),
    "packets_sent": ("packets sent", ""),
    "packets_received": ("packets received", ""),
    "packets_lost": ("packets lost", ""),
    "packets_late": ("packets too late", ""),
    "jitter_ms": ("jitter", " ms"),
    "rtt_ms": ("round trip", " ms"),
    "mos": ("MOS", ""),
    "dtmf_sent": ("digits sent", ""),
    "dtmf_heard": ("digits heard", ""),
    "recording": ("recording", ""),
    "ended_by": ("ended by", ""),
    "reason": ("reason", ""),
    "status": ("SIP status", ""),
}
"""Name of a figure, and its unit, as people read them."""


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
        "packets_late": stats.packets_late,
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
    """Print the figures on stdout, for people."""
    print_table(title, _rows(report))


def print_table(title: str, rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows on stdout: a table on a terminal, else a line for each and nothing of rich."""
    if not sys.stdout.isatty():
        print(printable(title))
        for first, *rest in rows:
            print(f"  {printable(first)}: {'  '.join(map(printable, filter(None, rest)))}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title)), title_justify="left", show_header=False)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console(soft_wrap=True).print(table)


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in report.items():
        label, unit = _LABELS.get(name, (name.replace("_", " "), ""))
        yield label, _shown(value, unit)


def _shown(value: Any, unit: str) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value}{unit}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)

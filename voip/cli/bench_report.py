"""How a benchmark is run and shown: progress, errors, JSON or a table, an earlier run beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from voip.cli.report import print_table
from voip.cli.run import print_json, telling

__all__ = ["CompareFile", "Measured", "Progress", "bar", "show"]

CompareFile = Annotated[
    Path | None,
    typer.Option("--compare", metavar="F", help="Compare with what --json printed to this file."),
]
Progress: TypeAlias = Callable[[str], None]
Measured: TypeAlias = tuple[dict[str, Any], str, Sequence[tuple[str, ...]]]
"""The report as JSON, a title and the lines of its table."""


def show(measure: Callable[[Progress], Measured], *, as_json: bool, earlier: Path | None) -> None:
    """Measure and print; with `earlier` the ratio to that run too, and what has become slower."""
    from voip.harness.bench.comparison import compare, read_earlier, slower

    watched = sys.stdout.isatty() and sys.stderr.isatty() and not as_json
    with telling(as_json=as_json):
        before = None if earlier is None else read_earlier(earlier)
        report, title, lines = measure(
            lambda text: print(text, file=sys.stderr) if watched else None
        )
        compared = None if before is None else compare(report, before)
    if as_json:
        more = {} if compared is None else {"compared": compared, "slower": slower(compared)}
        print_json({**report, **more})
        return
    print_table(title, lines)
    if compared is not None:
        grown = set(slower(compared))
        rows = [
            (
                name,
                f"{one['earlier']:g} -> {one['now']:g}",
                f"x {one['ratio']:.2f}",
                "slower" if name in grown else "",
            )
            for name, one in compared.items()
        ]
        print_table(f"compared with {earlier}", rows)


def bar(figures: dict[str, Any], unit: str) -> str:
    """Say whether a bar is met; nothing, where there is none."""
    if figures["bar"] is None:
        return ""
    verdict = {True: "met", False: "missed", None: "cannot be told here"}[figures["met"]]
    return f"{figures['bar']:g} {unit}: {verdict}"

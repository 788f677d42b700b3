"""`voip jitter`: draw what `call.jitter_log` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voip.cli import options
from voip.cli.run import print_json, telling
from voip.errors import ConfigError

__all__ = ["jitter"]


def jitter(
    log: Annotated[Path, typer.Argument(metavar="LOG.csv", help="What call.jitter_log() wrote.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="F", help="PNG, SVG or PDF by its suffix; else LOG.png."
        ),
    ] = None,
    as_json: options.JsonFlag = False,
) -> None:
    """Draw what a jitter buffer did: delay, target, depth, gaps, late packets, along the time.

    Needs Matplotlib: pip install 'voip-softphone[quality]'.
    """
    from voip.harness.jitter_plot import JitterTimeline, draw  # here: no other command needs it

    with telling(as_json=as_json):
        timeline = JitterTimeline.read(log)
        figure = draw(timeline, log.name)
        path = output or log.with_suffix(".png")
        suffixes = figure.canvas.get_supported_filetypes()
        if path.suffix[1:].lower() not in suffixes:
            raise ConfigError(f"{path} cannot be drawn", hint=f"one of {', '.join(suffixes)}")
        try:
            figure.savefig(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    seconds, lines = float(timeline.columns["time_s"][-1]), timeline.columns["time_s"].size
    if as_json:
        print_json({"ok": True, "picture": str(path), "lines": lines, "seconds": round(seconds, 3)})
        return
    print(f"{path}: {lines} event{'s' if lines != 1 else ''} in {seconds:.1f} s")
